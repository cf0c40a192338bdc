"""`eigenview diagnose`: a collapse verdict on a run, an embeddings file, or any encoder with images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from eigenview import runfiles
from eigenview.commands.options import parse
from eigenview.commands.represent import encoder_and_images
from eigenview.diagnostics.worth import from_summary
from eigenview.diagnostics.worth_sentence import COLOURS, first_sentence, tone_of
from eigenview.hub import TIMM_FILES
from eigenview.progress import counting, loading
from eigenview.terminal import Console, styled, write

# measures of the verdict in the order in which people read them, with what they mean
MEASURES = {
    "std": "mean standard deviation per dimension",
    "std_l2": "the same of unit-length rows, times sqrt(width): 1 is isotropic",
    "mean_to_spread": "length of the mean / distance to it",
    "rankme": "RankMe",
    "rankme_centred": "RankMe of centred rows",
    "participation_ratio": "participation ratio of the covariance",
    "alpha": "alpha-ReQ: decay of the spectrum",
    "correlation": "mean |correlation| between dimensions",
    "cosine_others": "mean cosine of two different images",
    "uniformity": "uniformity",
    "bias_ratio": "plug-in bias ratio, participation ratio / (n - 1)",
}
MOST_IMAGES = 2000  # enough for the rank at the widths in use; seconds on a CPU


@dataclass(frozen=True, kw_only=True)
class Diagnose:
    """Collapse verdict for a run, an embeddings file (.npy, .npz, .parquet), or weights of any origin with images."""

    what: tyro.conf.Positional[str]
    """Run directory, embeddings file, or weights: a file, a folder of timm, timm:NAME, hf:OWNER/NAME."""
    data: str | None = None
    """Images for a run or weights; default for weights: the built-in digits."""
    encoder: str = "auto"
    """Architecture of weights that do not name theirs: timm:NAME, torchvision:NAME, or one of eigenview's own."""
    image_size: int | None = None
    """Side in pixels to which images are brought; default: that of the run or of the weights."""
    column: str | None = None
    """Array of a .npz or column of a .parquet; default: the only one that fits."""
    json: bool = False
    """Print JSON instead of a table."""


def main(args: list[str]) -> int:
    """Print the verdict and its measures."""
    options: Diagnose = parse(Diagnose, args, "diagnose")
    result = diagnose(
        options.what,
        options.data,
        options.column,
        Console(stderr=True),
        architecture=options.encoder,
        image_size=options.image_size,
    )
    if options.json:
        write(json.dumps(runfiles.json_ready(result), indent=2))
    else:
        print_verdict(result, Console())
    return 0


def diagnose(
    what: str,
    data: str | None,
    column: str | None,
    console: Console,
    *,
    architecture: str = "auto",
    image_size: int | None = None,
) -> dict[str, Any]:
    """Verdict and measures: of a finished run from its files, of an embeddings file, or of a model on images."""
    path = Path(what)
    if path.is_dir() and data is None and not any((path / name).exists() for name in TIMM_FILES):
        summary = runfiles.read_summary(path)
        rows = runfiles.read_diagnostics(path)
        measures = rows[-1].get("z", {}) if rows else {}
        kept = {k: summary[k] for k in ("verdict", "since_epoch", "reason", "remedies", "notes")}
        kept["warnings"] = summary.get("warnings", [])  # of runs of earlier versions, which have no second verdict
        kept["worth"] = summary.get("worth")
        return {"what": what, "of": "embedding z, held-out batch", **kept, "measures": measures}
    with loading(console, "PyTorch"):
        from eigenview.diagnostics.diagnose import diagnose_blocks
        from eigenview.embeddings_file import SUFFIXES, open_embeddings
        from eigenview.probes.features import feature_blocks

    if path.suffix.lower() in SUFFIXES:
        table = open_embeddings(path, column)
        rows, width, of = table.rows, table.width, f"{table.rows:,} rows, {table.width} wide"
        measures, verdict = diagnose_blocks(table.blocks(), rows, width)
    else:
        encoder, images = encoder_and_images(
            what, data or "digits", console, most=MOST_IMAGES, least=2, architecture=architecture, image_size=image_size
        )
        rows, width = len(images), encoder.width
        of = f"representation of {rows:,} images of {data or 'digits'}, {width} wide"
        with counting(console, "embedding") as progress:
            blocks = feature_blocks(encoder.embed, images, progress=progress)
            measures, verdict = diagnose_blocks(blocks, rows, width)
    values = asdict(verdict)
    known = {"verdict": values.pop("label"), **values, "warnings": [], "worth": None}
    return {"what": what, "of": of, **known, "measures": measures}


def print_verdict(result: dict[str, Any], console: Console) -> None:
    """The verdict, why, what to try, and the measures, for a person; for a run, the second verdict comes first."""
    worth = None if result["worth"] is None else from_summary(result["worth"])
    colour = COLOURS[tone_of(result["verdict"], None if worth is None else worth.word)]
    if worth is not None:
        text = first_sentence(result["verdict"], worth, run=result["what"]).text
        console.print(styled((text, f"bold {colour}")))
    console.print(styled(f"{'verdict':9} ", (result["verdict"], f"bold {colour}"), f": {result['reason']}"))
    lists = (("warning", result["warnings"]), ("try", result["remedies"]), ("note", result["notes"]))
    for label, lines in lists:
        for line in lines:
            console.print(f"{label:9} {line}")
    console.print(f"{'of':9} {result['of']}")
    for name, text in MEASURES.items():
        value = result["measures"].get(name)
        if value is not None:
            console.print(f"{value:12.4g}  {text}")
