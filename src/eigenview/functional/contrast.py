"""Similarities of all rows of a global batch with each other: the statistics of NT-Xent.

Provider: own rows and processes in, statistics of the global batch out, the same on every process. Hand-written
backward passes (`fused/nt_xent.py`) and collectives (`sharded/nt_xent.py`) are behind it. Differentiable once.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.nt_xent import nt_xent
from eigenview.functional.sharded.nt_xent import sharded_nt_xent
from eigenview.records import ALONE, Processes


class Contrast(NamedTuple):
    """Means over the V N unit rows u of z, with S_ik = u_i . u_k / temperature."""

    positive: Float[Tensor, ""]
    """Mean over rows i and their V - 1 positives j (the other views of the same image) of S_ij."""
    log_denominator: Float[Tensor, ""]
    """Mean over rows i of log sum over k != i of exp S_ik, over all V N - 1 other rows; nats."""


def contrast(
    z: Float[Tensor, "V n D"],
    temperature: float,
    processes: Processes = ALONE,
    *,
    positives: Literal["outside", "inside"] = "outside",
) -> Contrast:
    """Attraction and repulsion of NT-Xent. `positives="inside"` averages log sum over positives of exp S_ij instead of
    the mean over positives of S_ij, as solo-learn does; the same for two views.

    A row shorter than 1e-12 has no direction and receives no gradient. Any temperature: below 0.029 in float32, where
    exp(1/temperature) is too large, each row's maximum is subtracted first, at about half more time. Memory: the
    gradient, three more tensors of the size of z and one or two strips of the similarities. Several processes send
    V N (D + 1) numbers, all in the forward pass.

    Raises: UserError for fewer than 2 views or samples, a temperature of 0 or less, unknown positives, and where it is
    differentiated twice.
    """
    samples = z.shape[1] * processes.size
    require(len(z) >= 2, "views", len(z), "2 or more", "One view has no positive.")
    require(samples >= 2, "samples in the batch", samples, "2 or more", "Use a larger batch.")
    require(temperature > 0, "temperature", temperature, "above 0")
    require(positives in ("outside", "inside"), "positives", positives, "outside, inside")
    is_inside = positives == "inside"
    if processes.size == 1:
        pull, log_denominator = nt_xent(z, temperature, is_inside)
    else:
        pull, log_denominator = sharded_nt_xent(z, temperature, is_inside, processes)
    return Contrast(-pull, log_denominator)
