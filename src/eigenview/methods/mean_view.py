"""The multi-view losses of Ghosh et al. as their program has them: each view beside the mean of the others.

They are options of BarlowTwins, VICReg and SimCLR (`multiview="mean-view"`), and other estimators than our pairs. For
two views VICReg's is the same, SimCLR's differs by the 1e-9 below, and Barlow Twins' has one mean and deviation for
both views. What is said here of the program was checked against numbers it gave (tests/test_golden.py, family
multiview_fastssl), with our guard `eps` as good as off, since the program has none, and for Barlow Twins with
`normalise=True`, since it takes rows of unit length. There eps matters: of unit rows the features' variance is 1/D,
0.00012 at D = 8192, beside which the default 1e-5 keeps c_ii at 0.92 or below.

Reference: Ghosh, Agrawal, Sodhani, Oberman, Richards 2023, arXiv 2312.10725; code: kumarkrishna/fastssl, commit
96dfa37.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.moments import in_range, off_diagonal_sq_norm, standard_deviations, variances
from eigenview.functional.similarity import unit

FLOOR = 1e-9


def mean_of_others(z: Float[Tensor, "V N D"]) -> Float[Tensor, "V N D"]:
    """For each view the mean of the V - 1 others, from their sum: V subtractions."""
    return (z.sum(dim=0) - z) / (z.shape[0] - 1)


def jointly_standardised(z: Float[Tensor, "V N D"], eps: float) -> Float[Tensor, "V N D"]:
    """Features less ONE mean over ONE unbiased standard deviation, both over all V N rows."""
    rows = z.flatten(0, 1)
    return (z - rows.mean(dim=0)) / (in_range(variances(rows)) + eps).sqrt()


def correlation_terms(z: Float[Tensor, "V N D"], eps: float) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(on, off) of the Barlow Twins form, s the jointly standardised views.

    V = 2: c = s_1^T s_2 / N, on = sum_i (c_ii - 1)^2, off = sum over i != j of c_ij^2.
    V > 2: b = mean over views of s; on = (1/V) sum_a sum_i (mean over samples of s_ai b_i - 1)^2; off of b^T b / N. The
    view itself is in b, so that on reaches 0 only where all views agree, and off is the mean view's own redundancy: the
    value jumps between V = 2 and V = 3.
    """
    s = jointly_standardised(z, eps)
    samples = z.shape[1]
    if len(z) == 2:
        diagonal = (s[0] * s[1]).mean(dim=0)
        return (diagonal - 1).square().sum(), _energy(s[0], s[1]) / samples**2 - diagonal.square().sum()
    mean = s.mean(dim=0)
    on = ((s * mean).mean(dim=1) - 1).square().sum(dim=1).mean()
    return on, _energy(mean, mean) / samples**2 - mean.square().mean(dim=0).square().sum()


def _energy(a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """||a^T b||_F^2 through the smaller of two products."""
    if 2 * a.shape[0] < a.shape[1]:
        return ((a @ a.T) * (b @ b.T)).sum()
    return (a.T @ b).square().sum()


def regularised_terms(
    z: Float[Tensor, "V N D"], gamma: float, eps: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """(invariance, variance, covariance) of the VICReg form, m_a the mean of the other views.

    Means over views a of: |z_a - m_a|^2 per element; half the sum of both hinges; the sum of both off-diagonal energies
    over D. For V = 2 it is the two-view formula. For more, m_a varies less than a view does, so that its hinge is more
    active.
    """
    others = mean_of_others(z)
    hinges = [(gamma - standard_deviations(x, eps)).clamp_min(0.0).mean() for x in (z, others)]
    energies = [off_diagonal_sq_norm(x).mean() / z.shape[-1] for x in (z, others)]
    return (z - others).square().mean(), torch.stack(hinges).mean(), torch.stack(energies).sum()


def nt_xent_terms(z: Float[Tensor, "V N D"], temperature: float) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(alignment, logsumexp) of the SimCLR form: NT-Xent of each view's unit rows beside the mean of the others' unit
    rows, which is not brought back to unit length, over the 2 N rows of both; then the mean over views.

    The program adds 1e-9 of a row's largest term, itself included, to its denominator; so does this.
    """
    u = unit(z)
    others = mean_of_others(u)
    rows = torch.cat([u, others], dim=1)  # (V 2N D)
    logits = rows @ rows.mT / temperature
    itself = torch.eye(logits.shape[-1], dtype=torch.bool, device=z.device)
    alignment = -(u * others).sum(dim=-1).mean() / temperature
    floor = logits.detach().amax(dim=-1) + math.log(FLOOR)
    spread = torch.logaddexp(logits.masked_fill(itself, -torch.inf).logsumexp(dim=-1), floor)
    return alignment, spread.mean()
