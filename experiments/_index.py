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
    "comparison counts as seen only beyond the spread over seeds (`~`: no difference was published).\n\n"
    "First the question of each and how many of the published comparisons (or of its theory's) were seen; "
    "`result` where none is counted."
)
SEEN = re.compile(r"\bseen: (\d+ of \d+)", re.IGNORECASE)
PARTS = ("Question", "Prediction")
SCALES = ("tiny", "cpu", "gpu")


def sources(experiments: Path) -> list[Path]:
    """The experiments' files; files with a leading underscore are shared code."""
    return [path for path in sorted(experiments.glob("*.py")) if not path.name.startswith("_")]


def described(source: Path) -> tuple[str, dict[str, str]]:
    """Title of an experiment's file, and the paragraphs of its docstring that start with a label and a colon."""
    title, _, body = (ast.get_docstring(ast.parse(source.read_text())) or source.stem).partition("\n")
    parts = re.split(r"^([A-Z][a-z]+)(?:,[^:\n]*)?: ", body, flags=re.MULTILINE)
    return title, {label: " ".join(text.split()) for label, text in zip(parts[1::2], parts[2::2], strict=True)}


def concluded(source: Path, results: Path) -> dict[str, dict[str, Any]]:
    """Scale -> content of results.json, for the grids of an experiment that have a conclusion."""
    paths = {scale: results / source.stem / scale / "results.json" for scale in SCALES}
    contents = {scale: runfiles.read_json(path) for scale, path in paths.items() if path.exists()}
    return {scale: content for scale, content in contents.items() if content.get("conclusion")}


def overview(grids: dict[Path, dict[str, dict[str, Any]]]) -> str:
    """A table with one row per experiment: its question, and at each scale how many published comparisons were seen."""
    scales = [scale for scale in SCALES if any(scale in found for found in grids.values())]
    lines = [["experiment", "question", *scales], ["---"] * (2 + len(scales))]
    for source, found in grids.items():
        seen = {scale: SEEN.search(content["conclusion"]) for scale, content in found.items()}
        links = {s: f"[{m[1] if m else 'result'}]({source.stem}/{s}/table.md)" for s, m in seen.items()}
        question = described(source)[1].get("Question", "").replace("|", r"\|")  # a bar would end the cell
        lines.append([source.stem, question, *(links.get(scale, "") for scale in scales)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def section(source: Path, found: dict[str, dict[str, Any]]) -> str:
    """One experiment's part of the page."""
    title, parts = described(source)
    paragraphs = [f"**{label}.** {parts[label]}" for label in PARTS if label in parts]
    for scale, content in found.items():
        counts = sorted({len(runs) for runs in content["results"].values()})
        seeds = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
        many = len(content["results"])
        cells = f"{many} cell{'' if many == 1 else 's'}, {seeds} seed{'' if counts[-1] == 1 else 's'}"
        paragraphs.append(f"**[{scale}]({source.stem}/{scale}/table.md)**, {cells}. {content['conclusion']}")
    return "\n\n".join((f"## {source.stem}: {title}", *paragraphs))


def write_index(experiments: Path) -> None:
    """Write the page from all results that have a conclusion."""
    results = experiments / "results"
    grids = {path: found for path in sources(experiments) if (found := concluded(path, results))}
    parts = (INTRODUCTION, overview(grids), *(section(path, found) for path, found in grids.items()))
    runfiles.write_bytes(results / "README.md", ("\n\n".join(parts) + "\n").encode())
