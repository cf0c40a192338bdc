"""Our docstrings as Markdown.

A paragraph such as "Definition" or "Normalisation" with indented lines below becomes a heading in bold and a paragraph;
the lines of a Definition keep their breaks and are monospaced. Characters of formulas that start markup in Markdown are
escaped outside `code`.
"""

from __future__ import annotations

import re
import textwrap

HEADED = re.compile(r"[A-Z][A-Za-z ,]*\w")
"""A heading, if the next line is indented and not empty."""
SECTION = re.compile(r"\s*[A-Z]\w*:")  # Google's own: Args: and its kind, which griffe reads
FORMULAS = {"Definition", "Legend"}


def markdown(text: str) -> str:
    """A docstring as Markdown."""
    lines, blocks = text.expandtabs().splitlines(), [""]
    while lines:
        line = lines.pop(0)
        is_headed = HEADED.fullmatch(line) and not blocks[-1] and bool(lines) and lines[0].startswith("    ")
        body: list[str] = []
        if is_headed or SECTION.fullmatch(line):
            while lines and (not lines[0].strip() or lines[0].startswith(" ")):
                body.append(lines.pop(0))
        inside = textwrap.dedent("\n".join(body)).strip("\n")
        if is_headed:
            shown = _formulas(inside) if line in FORMULAS else escaped(inside)
            blocks += [f"**{line}**", "{ .headed }", "", shown, ""]
        elif raised := re.match(r"Raises: ", line):
            blocks.append(f"**Raises** {escaped(line[raised.end() :])}")
        else:
            blocks += [line if body or line.startswith("    ") else escaped(line), *body]
    return "\n".join(blocks).strip("\n")


def _formulas(text: str) -> str:
    """A block whose lines keep their breaks and wrap on a narrow screen (site.css)."""
    return f"``` {{ .text .formulas }}\n{text}\n```"


def escaped(text: str) -> str:
    """Plain text whose stars, underscores, angle and square brackets are no markup; code stays as it is."""
    pieces = re.split(r"(`+[^`]*`+)", text)
    return "".join(piece if piece.startswith("`") else _escaped(piece) for piece in pieces)


def _escaped(text: str) -> str:
    return re.sub(r"([*_\[\]])", r"\\\1", text).replace("<", "&lt;")
