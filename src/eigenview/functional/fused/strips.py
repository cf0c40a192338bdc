"""Large matrices computed a strip of rows at a time: lengths of strips, and the squared norm of a Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

NUM_STRIPS = 8
"""Of a symmetric matrix cut into k strips, (k + 1) / 2k is computed: 0.56 for 8. More strips gain little."""
SHORTEST = {"cpu": 128, "cuda": 512}
"""Rows below which a product loses more speed than symmetry saves; where they hold more than `LARGEST`, they win."""
LARGEST = {"cpu": 1 << 20, "cuda": 1 << 24}
"""Entries of a strip: 4 MB of float32 stay in a processor's cache; a GPU wants fewer and larger products."""


def strips(rows: int, columns: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """(start, stop) of successive strips of a matrix of `rows` by `columns`; the last may be shorter."""
    kind = "cpu" if device.type == "cpu" else "cuda"
    length = max(SHORTEST[kind], min(-(-rows // NUM_STRIPS), LARGEST[kind] // max(columns, 1)))
    for start in range(0, rows, length):
        yield start, min(start + length, rows)


def blocks(count: int, across: int, device: torch.device, least: int = 256) -> Iterator[slice]:
    """Slices of an axis of `count` entries, so that a piece of a matrix `across` wide on its other axis stays small.

    Below `least` entries a matrix product with the piece would be slow; sums alone may take smaller ones.
    """
    entries = LARGEST["cpu" if device.type == "cpu" else "cuda"] // 16
    length = max(least, entries // max(across, 1))
    for start in range(0, count, length):
        yield slice(start, min(start + length, count))


def symmetric_sq_norm(strip: Float[Tensor, "r c"], own: Float[Tensor, "r r"]) -> Float[Tensor, ""]:
    """What a strip on and above the diagonal adds to ||M||_F^2: right of its diagonal block each entry counts twice.

    In float64, so that adding strips and subtracting the diagonal's part add no rounding error.
    """
    return 2 * strip.square().sum().double() - own.square().sum().double()


def gram(
    x: Float[Tensor, "R C"], scale: float, *, keep_diagonal: bool, is_kept: bool
) -> tuple[Float[Tensor, "R R"] | None, Float[Tensor, ""]]:
    """(M, ||M||_F^2 in float64) of M = scale x x^T; without `is_kept` M exists strip by strip and None stands for it.

    With `keep_diagonal=False` the diagonal of M is zero, in both. No graph: call it without autograd. Each strip begins
    at the diagonal; what lies below is its mirror image. R^2 C multiply-adds, less what `NUM_STRIPS` saves.
    """
    rows = x.shape[0]
    whole = torch.empty(rows, rows, dtype=x.dtype, device=x.device) if is_kept else None
    sq_norm = torch.zeros((), dtype=torch.float64, device=x.device)
    for start, stop in strips(rows, rows, x.device):
        strip = (x[start:stop] @ x[start:].mT).mul_(scale)
        own, right = strip[:, : stop - start], strip[:, stop - start :]
        if not keep_diagonal:
            own.diagonal().zero_()
        sq_norm += symmetric_sq_norm(strip, own)
        if whole is not None:
            whole[start:stop, start:] = strip
            whole[stop:, start:stop] = right.mT
    return whole, sq_norm
