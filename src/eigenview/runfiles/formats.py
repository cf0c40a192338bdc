"""One reader for each file of a run: kinds, ranges and lengths are declared here, and checked before they are used.

Everything that looks into a run directory (resume, report, diagnose, probe, embed, export, check) reads through these.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from eigenview.runfiles.names import (
    CONFIG,
    DIAGNOSTICS,
    ENVIRONMENT,
    GALLERY,
    METRICS,
    PROBES,
    SPECTRA,
    SPECTRA_ROWS,
    SUMMARY,
)
from eigenview.runfiles.reading import damaged, read_arrays, read_object, read_rows
from eigenview.runfiles.schema import (
    FLAG,
    NUMBERS,
    OBJECT,
    PLAIN,
    TEXT,
    Either,
    Fields,
    ListOf,
    Maybe,
    TableOf,
    integer,
    number,
    one_of,
)

Row = dict[str, Any]
Arrays = dict[str, np.ndarray]
MODES = ("F", "W_p", "alignment")
"""The arrays of spectra.npz that runs with a predictor have."""

STEP = integer(0, 10**15)
OPTION = Either(ListOf(PLAIN), PLAIN)
SECTION = TableOf(OPTION)
SECTIONS = ("network", "optim", "loader", "monitor", "probe")
CONFIG_KIND = Fields(
    optional={
        "method": Either(Fields(required={}, optional={"name": TEXT}), TEXT),
        "objective": SECTION,  # versions before November 2026
        "data": TEXT,
        "epochs": integer(),
        "seed": integer(),
        **dict.fromkeys(SECTIONS, SECTION),
    }
)
READING = Fields(
    optional={
        "range": TEXT,
        "low": ListOf(number()),
        "high": ListOf(number()),
        "channels": integer(1),
        "pages": TEXT,
        "fit": TEXT,
    }
)
"""config/reading.py's record, in encoder.json, environment.json and the manifest of a pack."""
SESSION = Fields(required={"step": STEP}, optional=dict.fromkeys(("started", "commit", "torch", "device"), Maybe(TEXT)))
ENVIRONMENT_KIND = Fields(
    optional={
        **dict.fromkeys(("eigenview", "python", "torch", "platform", "device", "commit", "started"), Maybe(TEXT)),
        "threads": Maybe(integer(1)),
        "command": Maybe(ListOf(TEXT)),
        "defaults": Maybe(CONFIG_KIND),
        "pixels": Maybe(READING),
        "resumed": Maybe(ListOf(SESSION)),
        **dict.fromkeys(("estimated_memory_gb", "measured_memory_gb", "estimated_seconds"), Maybe(number())),
    }
)
METRICS_KIND = Fields(
    required={"step": STEP},
    optional={
        **dict.fromkeys(("epoch", "seconds", "lr", "loss", "images_per_second", "target_momentum"), Maybe(number())),
        "terms": NUMBERS,
    },
)
DIAGNOSTICS_KIND = Fields(
    required={"step": STEP},
    optional={
        "epoch": Maybe(number(0)),
        "h": NUMBERS,
        "z": NUMBERS,
        "predictor": Maybe(NUMBERS),
        "verdict": Maybe(TEXT),
    },
)
VERDICT_FIELDS = {
    "verdict": TEXT,
    "since_epoch": Maybe(number(0)),
    "reason": TEXT,
    "remedies": ListOf(TEXT),
    "notes": ListOf(TEXT),
}
INTERVAL = Fields(
    required={
        **dict.fromkeys(("ours", "theirs", "difference", "low", "high"), number()),
        **dict.fromkeys(("images", "draws"), integer(1)),
    }
)
WORD = one_of("better", "no different", "worse", "mixed", "unknown")
WORTH_KIND = Fields(
    required={
        "word": WORD,
        "against": TableOf(Fields(required={"word": WORD, "probes": TableOf(INTERVAL)})),
    },
    optional={
        "why": TEXT,
        "labels_per_class": Maybe(integer(1)),
        "resamples": integer(1),
        "level": number(0),
    },
)
SUMMARY_KIND = Fields(
    required=VERDICT_FIELDS,
    optional={
        **dict.fromkeys(("method", "data", "encoder"), Maybe(TEXT)),
        **dict.fromkeys(("seed", "epochs", "images", "parameters"), Maybe(integer(0))),
        **dict.fromkeys(("knn", "linear", "linear_few", "seconds", "images_per_second"), Maybe(number())),
        "baselines": TableOf(NUMBERS),
        "quality": NUMBERS,
        "finished": FLAG,
        "warnings": ListOf(TEXT),
        "worth": WORTH_KIND,
    },
)
PROBES_KIND = Fields(
    required={"columns": ListOf(TEXT), "rows": ListOf(Fields(required={"features": TEXT}))},
    optional={
        "protocols": TableOf(TEXT),
        "note": Maybe(TEXT),
        "class_names": Maybe(ListOf(TEXT)),
        "per_class": FLAG,
    },
)
SPECTRA_KIND = Fields(required={"step": STEP, "spectra": TableOf(TEXT)})
OBJECTS = {CONFIG: CONFIG_KIND, ENVIRONMENT: ENVIRONMENT_KIND, SUMMARY: SUMMARY_KIND, PROBES: PROBES_KIND}
ROWS = {METRICS: METRICS_KIND, DIAGNOSTICS: DIAGNOSTICS_KIND}


def read_config(directory: Path) -> Row:
    """config.json: sections are objects of plain values. `RunConfig` itself checks each option."""
    return read_object(directory / CONFIG, CONFIG_KIND)


def read_environment(directory: Path) -> Row:
    """environment.json."""
    return read_object(directory / ENVIRONMENT, ENVIRONMENT_KIND)


def read_summary(directory: Path) -> Row:
    """summary.json; a second verdict other than "unknown" has the comparison that it follows from."""
    summary = read_object(directory / SUMMARY, SUMMARY_KIND)
    worth = summary.get("worth")
    if worth is not None and worth["word"] != "unknown":
        against = worth["against"].values()
        if not any(each["word"] == worth["word"] for each in against):
            raise damaged(
                directory / SUMMARY, f"worth.word is {worth['word']!r}; no comparison in worth.against has it"
            )
        if not all("linear" in each["probes"] for each in against):
            raise damaged(directory / SUMMARY, "a comparison in worth.against has no linear probe")
    return summary


def read_probes(directory: Path) -> Row:
    """probes.json; each row has a number or null in each column."""
    probes = read_object(directory / PROBES, PROBES_KIND)
    for k, row in enumerate(probes["rows"]):
        for column in probes["columns"]:
            if not (row.get(column) is None or number().accepts(row[column])):
                reason = f"rows[{k}].{column} is {str(row[column])[:60]!r}; expected a number, or null"
                raise damaged(directory / PROBES, reason)
    return probes


def read_metrics(directory: Path) -> list[Row]:
    """The rows of metrics.jsonl; none if there is no such file."""
    return read_rows(directory / METRICS, METRICS_KIND)


def read_diagnostics(directory: Path) -> list[Row]:
    """The rows of diagnostics.jsonl; none if there is no such file."""
    return read_rows(directory / DIAGNOSTICS, DIAGNOSTICS_KIND)


def spectra_row(step: int, spectra: dict[str, np.ndarray]) -> Row:
    """A row of spectra.jsonl: of each array, of one axis, the kind of its numbers and their bytes in base 64."""
    return {"step": step, "spectra": {name: _as_text(values) for name, values in spectra.items()}}


def _as_text(values: np.ndarray) -> str:
    kind = "f8" if values.dtype == np.float64 else "f4"
    return f"{kind}:{base64.b64encode(values.astype('<' + kind).tobytes()).decode()}"


def _from_text(text: str) -> np.ndarray:
    kind, _, content = text.partition(":")
    if kind not in ("f4", "f8"):
        raise ValueError(kind)
    return np.frombuffer(base64.b64decode(content, validate=True), "<" + kind)


def read_spectra(directory: Path) -> Arrays:
    """spectra.npz, and behind it the rows of spectra.jsonl, which a run that has not ended adds to.

    Raises: UserError naming the file if an array does not have a row for each step.
    """
    whole, rows = _spectra_archive(directory / SPECTRA), read_rows(directory / SPECTRA_ROWS, SPECTRA_KIND)
    path = directory / SPECTRA_ROWS
    known = {int(step) for step in whole.get("step", ())}
    rows = [row for row in rows if row["step"] not in known]  # killed between writing the archive and deleting the rows
    if not rows:
        return whole
    steps = np.array([row["step"] for row in rows])
    added: Arrays = {"step": steps}
    for name in rows[0]["spectra"]:
        try:
            added[name] = np.stack([_from_text(row["spectra"][name]) for row in rows])
        except (KeyError, ValueError):  # binascii.Error is a ValueError
            raise damaged(path, f"{name} does not have as many values in each row") from None
    if not whole:
        return _checked_spectra(added, path)
    try:
        return _checked_spectra({name: np.concatenate([values, added[name]]) for name, values in whole.items()}, path)
    except (KeyError, ValueError):
        raise damaged(path, f"its rows do not fit those of {SPECTRA}") from None


def _spectra_archive(path: Path) -> Arrays:
    return _checked_spectra(read_arrays(path), path)


def _checked_spectra(arrays: Arrays, path: Path) -> Arrays:
    if not arrays:
        return arrays
    steps = arrays.get("step")
    if steps is None or steps.ndim != 1 or steps.dtype.kind not in "iu":
        raise damaged(path, "it needs the array step of whole numbers")
    for name, values in arrays.items():
        if name != "step" and (values.ndim != 2 or len(values) != len(steps) or values.dtype.kind != "f"):
            raise damaged(path, f"{name} is {values.dtype} of shape {values.shape}; expected a row of numbers per step")
    shapes = [arrays[name].shape for name in MODES if name in arrays]
    if shapes and shapes != [shapes[0]] * len(MODES):
        raise damaged(path, f"it needs {', '.join(MODES)} of one shape; it has {shapes}")
    return arrays


IMAGES = {"originals": 4, "views": 5, "queries": 4, "neighbours": 5}
"""Arrays of images in gallery.npz, with their number of axes."""


def read_gallery(directory: Path) -> Arrays:
    """gallery.npz; empty if there is none. Raises UserError naming it if its arrays do not fit each other."""
    path = directory / GALLERY
    arrays = read_arrays(path)
    for name, axes in IMAGES.items():
        images = arrays.get(name)
        is_odd = images is not None and (images.ndim != axes or images.dtype != np.uint8)
        if images is not None and (is_odd or 0 in images.shape[-3:]):
            reason = (
                f"{name} is {images.dtype} of shape {images.shape}; expected uint8 with {axes} axes, the last three "
            )
            raise damaged(path, reason + "channels, height, width")
    shape = {name: values.shape for name, values in arrays.items()}
    if len({shape[name][-3] for name in IMAGES if name in shape}) > 1:
        raise damaged(path, "its arrays of images have different numbers of channels")
    originals, views = shape.get("originals"), shape.get("views")
    if (originals is None) != (views is None) or (originals and views and originals[0] != views[1]):
        raise damaged(path, "it needs originals and views of the same number of images")
    rows = {name: shape[name][:2] for name in ("neighbours", "cosines") if name in shape}
    if "queries" in shape and (
        len(rows) < 2 or len({*rows.values()}) > 1 or rows["cosines"][:1] != shape["queries"][:1]
    ):
        raise damaged(path, "it needs neighbours and cosines for each of its queries")
    if "cosines" in arrays and (arrays["cosines"].dtype.kind != "f" or arrays["cosines"].ndim != 2):
        raise damaged(
            path, f"cosines is {arrays['cosines'].dtype} of shape {shape['cosines']}; expected two axes of numbers"
        )
    for name, of in (("query_labels", shape.get("queries", ())[:1]), ("neighbour_labels", shape.get("cosines", ()))):
        labels = arrays.get(name)
        if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != of):
            raise damaged(
                path, f"{name} is {labels.dtype} of shape {labels.shape}; expected whole numbers of shape {of}"
            )
    return arrays


CARD_KIND = Fields(
    required={
        "format": integer(1),
        "encoder": TEXT,
        "stem": TEXT,
        "size": integer(1),
        "width": integer(1),
        "mean": ListOf(number()),
        "std": ListOf(number()),
    },
    optional={
        "norm": TEXT,
        "interpolation": TEXT,
        "weights": Maybe(TEXT),
        "source_size": Maybe(integer(1, 65536)),
        "method": Maybe(TEXT),
        "run": Maybe(OBJECT),
        "eigenview": Maybe(TEXT),
        "sha256": Maybe(TEXT),
        "pixels": Maybe(READING),
    },
)
"""encoder.json, which models/saved.py reads."""
