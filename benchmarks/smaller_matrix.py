"""The losses in plain autograd through the smaller of two equal matrices, of stacked views z (2 N D).

What a reader would write who knows that Y^T Y and Y Y^T have the same norm: no hand-written backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eigenview.functional.moments import (
    off_diagonal_sq_norm,
    pair_diagonals,
    pair_sq_norms,
    standard_deviations,
    standardised,
    unbiased_off_diagonal_sq_norm,
)
from eigenview.functional.similarity import unit


def invariance_and_variance(z: Tensor) -> Tensor:
    """25 times VICReg's invariance plus 25 times its hinge, gamma 1, eps 1e-4."""
    invariance = (z[0] - z[1]).square().mean()
    variance = (1 - standard_deviations(z, 1e-4)).clamp_min(0.0).mean()
    return 25 * invariance + 25 * variance


def vicreg(z: Tensor) -> Tensor:
    """VICReg with the authors' 25, 25, 1, the covariance summed over both views."""
    return invariance_and_variance(z) + off_diagonal_sq_norm(z).sum() / z.shape[-1]


def unbiased_vicreg(z: Tensor) -> Tensor:
    """The unbiased VICReg at its defaults: the covariance by U-statistics, weight 4."""
    return invariance_and_variance(z) + 4 * unbiased_off_diagonal_sq_norm(z).sum() / z.shape[-1]


def barlow_twins(z: Tensor) -> Tensor:
    """Barlow Twins with the authors' 0.005."""
    s = standardised(z, 1e-5)
    diagonal = pair_diagonals(s)
    off_diagonal = pair_sq_norms(s) - diagonal.square().sum(dim=1)
    return ((diagonal - 1).square().sum(dim=1) + 0.005 * off_diagonal).mean()


def nt_xent(z: Tensor) -> Tensor:
    """NT-Xent at temperature 0.5."""
    u = unit(z)
    rows = u.flatten(0, 1) / 0.5**0.5
    log_denominator = (rows @ rows.T).fill_diagonal_(-torch.inf).logsumexp(dim=1).mean()
    return log_denominator - (u[0] * u[1]).sum(dim=1).mean() / 0.5
