"""One diagnosis: from tensors to the row of diagnostics.jsonl and its spectra, or to a verdict on a set of features."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigenview.diagnostics.measures import measure, measure_and_spectrum
from eigenview.diagnostics.verdict import Verdict, judge_features
from eigenview.errors import require
from eigenview.runfiles import json_ready

MOST_ROWS = 4096
"""Larger sets of features are subsampled to this many rows: cosines need rows^2 memory, ranks rows x width^2 time."""

OF_TWO_VIEWS = ("alignment", "cosine_views")


def diagnose(h: Tensor, z: Tensor, step: int, epoch: float) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(row, spectra) of representations h (V N H) and embeddings z (V N D) of the same images; pure.

    The row has all fields except "verdict", which depends on earlier rows too. Measures that are not finite are None.
    """
    require(h.shape[:2] == z.shape[:2], "h and z", (tuple(h.shape), tuple(z.shape)), "the same views and images")
    (of_h, h_spectrum), (of_z, z_spectrum) = measure_and_spectrum(h), measure_and_spectrum(z)
    return json_ready({"step": step, "epoch": epoch, "h": of_h, "z": of_z}), {"h": h_spectrum, "z": z_spectrum}


def diagnose_embeddings(x: Tensor | np.ndarray) -> tuple[dict[str, float | None], Verdict]:
    """(measures, verdict) of features x (N D) of any origin, without the measures of two views; None if not finite.

    Of more than 4096 rows, 4096 drawn with a fixed seed are measured, and a note is added to the verdict.

    Raises: UserError unless x has two axes, at least two rows and two columns.
    """
    if isinstance(x, np.ndarray):
        require(x.dtype.kind in "fiu", "embeddings", f"an array of {x.dtype}", "numbers")
        x = torch.from_numpy(np.asarray(x, dtype=np.float32))
    require(x.ndim == 2, "embeddings", tuple(x.shape), "two axes: rows, width")
    total = len(x)
    require(total >= 2, "embeddings", f"{total} row(s)", "2 rows or more")
    require(x.shape[1] >= 2, "embeddings", f"{x.shape[1]} column(s)", "2 columns or more")
    if not x.isfinite().all():
        broken = int((~x.isfinite().all(dim=1)).sum())
        note: str | None = f"{broken:,} of {total:,} rows contain nan or infinity."
    elif total > MOST_ROWS:
        x = x[torch.randperm(total, generator=torch.Generator().manual_seed(0))[:MOST_ROWS].to(x.device)]
        note = f"measured on {MOST_ROWS:,} of {total:,} rows, drawn at random."
    else:
        note = None
    measures = {name: value for name, value in measure(x[None]).items() if name not in OF_TWO_VIEWS}
    verdict = judge_features(measures, x.shape[1])
    if note is not None:
        verdict = replace(verdict, notes=(*verdict.notes, note))
    return json_ready(measures), verdict
