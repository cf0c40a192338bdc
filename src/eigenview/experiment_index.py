"""experiments/results/README.md: what every experiment asked, what was predicted, and what came out, on one page."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from eigenview import runfiles

INTRODUCTION = (
    "# What the experiments say\n\n"
    "Written by `eigenview experiment NAME --scale SCALE`, from the files beside it; figures are in the folders. A "
    "comparison counts as seen only beyond the spread over seeds (`~`: no difference was published)."
)
PARTS = ("Question", "Prediction")
SCALES = ("tiny", "cpu", "gpu")


def sources(experiments: Path) -> list[Path]:
    """The experiments' files; those with a leading underscore are what they share."""
    return [path for path in sorted(experiments.glob("*.py")) if not path.name.startswith("_")]


def described(source: Path) -> tuple[str, dict[str, str]]:
    """Title of an experiment's file, and the paragraphs of its docstring that start with a label and a colon."""
    title, _, body = (ast.get_docstring(ast.parse(source.read_text())) or source.stem).partition("\n")
    parts = re.split(r"^([A-Z][a-z]+)(?:,[^:\n]*)?: ", body, flags=re.MULTILINE)
    return title, {label: " ".join(text.split()) for label, text in zip(parts[1::2], parts[2::2], strict=True)}


def section(source: Path, results: Path) -> str | None:
    """One experiment's part of the page; None where no grid of it has been concluded."""
    found: dict[str, dict[str, Any]] = {}
    for scale in SCALES:
        path = results / source.stem / scale / "results.json"
        content = runfiles.read_json(path) if path.exists() else {}
        if content.get("conclusion"):
            found[scale] = content
    if not found:
        return None
    title, parts = described(source)
    said = [f"**{label}.** {parts[label]}" for label in PARTS if label in parts]
    for scale, content in found.items():
        counts = sorted({len(runs) for runs in content["results"].values()})
        seeds = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
        many = len(content["results"])
        cells = f"{many} cell{'' if many == 1 else 's'}, {seeds} seed{'' if counts[-1] == 1 else 's'}"
        said.append(f"**[{scale}]({source.stem}/{scale}/table.md)**, {cells}. {content['conclusion']}")
    return "\n\n".join((f"## {source.stem}: {title}", *said))


def write_index(experiments: Path) -> None:
    """Write the page anew, from all concluded results."""
    results = experiments / "results"
    sections = [text for path in sources(experiments) if (text := section(path, results)) is not None]
    runfiles.write_bytes(results / "README.md", ("\n\n".join((INTRODUCTION, *sections)) + "\n").encode())
