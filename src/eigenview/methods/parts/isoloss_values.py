"""The published values of IsoLoss, whose gradients are those of methods/isoloss.py. For comparison with its program.

Reference: Halvagal, Laborieux, Zenke 2023, arXiv 2212.04858; numbers: fmi-basel/implicit-var-reg, commit 2e8d364.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.predictors import eigh


def euclidean_value(z: Float[Tensor, "N D"], p: Float[Tensor, "N D"], t: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """(1/N) sum_i |z_i - sg(t_i + z_i - p_i)|^2: the value of |p - t|^2, with the gradient 2 (p - t)/N for z."""
    return (z - (t + z - p).detach()).square().sum(dim=-1).mean()


def cosine_value(
    z: Float[Tensor, "N D"], p: Float[Tensor, "N D"], t: Float[Tensor, "N D"], root: Float[Tensor, "D D"]
) -> Float[Tensor, ""]:
    """-(2/N) sum_i [z_i . sg(t_i / (|p_i| |t_i|)) - (1/2) sg(p_i . t_i / (|p_i|^3 |t_i|)) |W_p^(1/2) z_i|^2].

    Its gradient for z is that of 2 - 2 cos(p, t) for p. Its value is not a cosine.
    """
    p, t = p.detach(), t.detach()
    tiny = torch.finfo(z.dtype).tiny ** 0.25  # its cube is still a number
    p_norm, t_norm = (x.square().sum(dim=-1).sqrt().clamp_min(tiny) for x in (p, t))
    pull = (z * t).sum(dim=-1) / (p_norm * t_norm)
    push = (p * t).sum(dim=-1) / (p_norm**3 * t_norm) * (z @ root.mT).square().sum(dim=-1) / 2
    return -2 * (pull - push).mean()


def root(W: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    """W_p^(1/2) of a symmetric positive semi-definite predictor."""
    p, U = eigh((W + W.mT) / 2)
    return (U * p.clamp_min(0.0).sqrt()[None, :]) @ U.mT
