"""One diagnosis: from tensors to the row of diagnostics.jsonl and its spectra, or to a verdict on a set of features."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigenview.diagnostics.measures import MEASURES, measure, measure_and_spectrum
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
    require(x.ndim == 2, "embeddings", tuple(x.shape), "two axes: rows, width")
    return diagnose_blocks((x[first : first + MOST_ROWS] for first in range(0, len(x), MOST_ROWS)), *x.shape)


def diagnose_blocks(
    blocks: Iterable[Tensor | np.ndarray], total: int, width: int
) -> tuple[dict[str, float | None], Verdict]:
    """`diagnose_embeddings` of `total` rows that come in blocks (n, width): those measured are in memory, and a block.

    All blocks are read, since nan in any row is a finding. NumPy arrays are measured in float32.
    """
    require(total >= 2, "embeddings", f"{total} row(s)", "2 rows or more")
    require(width >= 2, "embeddings", f"{width} column(s)", "2 columns or more")
    drawn = torch.arange(total)
    if total > MOST_ROWS:
        drawn = torch.randperm(total, generator=torch.Generator().manual_seed(0))[:MOST_ROWS]
    ascending, place = drawn.sort()
    first, broken = 0, 0
    x: Tensor | None = None
    for block in blocks:
        if isinstance(block, np.ndarray):
            block = torch.from_numpy(np.array(block, dtype=np.float32))
        if x is None:
            x = block.new_empty(len(drawn), width)
        broken += int((~block.isfinite().all(dim=1)).sum())
        low, high = (int(torch.searchsorted(ascending, first + k)) for k in (0, len(block)))
        x[place[low:high].to(x.device)] = block[(ascending[low:high] - first).to(x.device)]
        first += len(block)
    assert x is not None  # there are rows
    note: str | None = None
    if broken:
        note = f"{broken:,} of {total:,} rows contain nan or infinity."
    elif total > MOST_ROWS:
        note = f"measured on {MOST_ROWS:,} of {total:,} rows, drawn at random."
    found = dict.fromkeys(MEASURES, math.nan) if broken else measure(x[None])
    measures = {name: value for name, value in found.items() if name not in OF_TWO_VIEWS}
    verdict = judge_features(measures, width)
    if note is not None:
        verdict = replace(verdict, notes=(*verdict.notes, note))
    return json_ready(measures), verdict
