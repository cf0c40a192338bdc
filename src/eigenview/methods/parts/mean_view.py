"""The multi-view statistics of Ghosh et al. as their program computes them: each view beside the mean of the others.

They are providers in place of `batch_moments`, `cross_moments` and `contrast`, chosen by `multiview="mean-view"` of
VICReg, Barlow Twins and SimCLR, and are other estimators than our average over pairs. For two views VICReg's is the
same, SimCLR's differs by the 1e-9 below, and Barlow Twins' has one mean and deviation for both views. On several
processes every process gathers the whole batch.

The forms were checked against numbers of that program (tests/test_golden.py, family multiview_fastssl), with a tiny
`eps`, since the program has none, and for Barlow Twins with `normalise=True`, since it takes rows of unit length. For
unit rows eps matters: the variance of a feature is 1/D, 0.00012 at D = 8192, and the default 1e-5 keeps c_ii at 0.92 or
below.

Reference: Ghosh, Agrawal, Sodhani, Oberman, Richards 2023, arXiv 2312.10725; code: kumarkrishna/fastssl, commit
96dfa37.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional import moments
from eigenview.functional.batch_moments import BatchMoments
from eigenview.functional.contrast import Contrast
from eigenview.functional.cross_moments import CrossMoments
from eigenview.functional.similarity import unit
from eigenview.functional.whole_batch import whole_batch
from eigenview.records import ALONE, Processes

FLOOR = 1e-9
"""Share of a row's largest term, itself included, that the program adds to its denominator."""


def mean_of_others(z: Float[Tensor, "V N D"]) -> Float[Tensor, "V N D"]:
    """For each view the mean of the V - 1 others, from their sum: V subtractions."""
    return (z.sum(dim=0) - z) / (z.shape[0] - 1)


def jointly_standardised(z: Float[Tensor, "V N D"], eps: float) -> Float[Tensor, "V N D"]:
    """Features less ONE mean over ONE unbiased standard deviation, both over all V N rows."""
    rows = z.flatten(0, 1)
    return (z - rows.mean(dim=0)) / (moments.in_range(moments.variances(rows)) + eps).sqrt()


def cross_moments(z: Float[Tensor, "V n D"], eps: float, processes: Processes = ALONE) -> CrossMoments:
    """Diagonals and off-diagonal sum of the Barlow Twins form, s the jointly standardised views.

    V = 2: c = s_1^T s_2 / N; diagonals (1 D) are c_ii, off_diagonal = sum over i != j of c_ij^2.
    V > 2: b = mean over views of s; diagonals (V D) are the means over samples of s_ai b_i; off_diagonal is that of
    b^T b / N. The view itself is in b, so that (c_ii - 1)^2 reaches 0 only where all views agree, and off_diagonal is
    the redundancy of the mean view: the value jumps between V = 2 and V = 3.
    """
    s = jointly_standardised(whole_batch(z, processes), eps)
    samples = s.shape[1]
    if len(s) == 2:
        diagonal = (s[0] * s[1]).mean(dim=0)
        return CrossMoments(diagonal[None], _sq_norm(s[0], s[1]) / samples**2 - diagonal.square().sum())
    mean = s.mean(dim=0)
    off_diagonal = _sq_norm(mean, mean) / samples**2 - mean.square().mean(dim=0).square().sum()
    return CrossMoments((s * mean).mean(dim=1), off_diagonal)


def _sq_norm(a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """||a^T b||_F^2 through the smaller of two products."""
    if 2 * a.shape[0] < a.shape[1]:
        return ((a @ a.T) * (b @ b.T)).sum()
    return (a.T @ b).square().sum()


def batch_moments(z: Float[Tensor, "V n D"], processes: Processes = ALONE) -> BatchMoments:
    """Moments of the VICReg form, m_a the mean of the other views: (|z_a - m_a|^2 per element, variances and
    off-diagonal squared norms of the 2 V tensors z_a and m_a).

    For V = 2 they are the two-view moments. For more, m_a varies less than a view does, so that its hinge is more
    active.
    """
    z = whole_batch(z, processes)
    others = mean_of_others(z)
    both = torch.cat([z, others])
    return BatchMoments((z - others).square().mean(), moments.variances(both), moments.off_diagonal_sq_norm(both))


def contrast(z: Float[Tensor, "V n D"], temperature: float, processes: Processes = ALONE) -> Contrast:
    """Similarities of the SimCLR form: NT-Xent of each view's unit rows beside the mean of the others' unit rows, which
    is not normalised again, over the 2 N rows of both; then the mean over views.

    The program adds `FLOOR` times a row's largest term, itself included, to its denominator; so does this.
    """
    u = unit(whole_batch(z, processes))
    others = mean_of_others(u)
    rows = torch.cat([u, others], dim=1)  # (V 2N D)
    logits = rows @ rows.mT / temperature
    itself = torch.eye(logits.shape[-1], dtype=torch.bool, device=z.device)
    floor = logits.detach().amax(dim=-1) + math.log(FLOOR)
    logs = torch.logaddexp(logits.masked_fill(itself, -torch.inf).logsumexp(dim=-1), floor)
    return Contrast((u * others).sum(dim=-1).mean() / temperature, logs.mean())
