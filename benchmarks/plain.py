"""The losses in plain torch as the papers write them, two views a and b (N D) to a scalar; no trick, no library."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    """VICReg (Bardes et al. 2022, eq. 1 to 6) with its D x D covariances, and a mask for their diagonals."""
    n, d = a.shape
    loss = 25 * nn.functional.mse_loss(a, b)
    off_diagonal = ~torch.eye(d, dtype=torch.bool, device=a.device)
    for z in (a, b):
        z = z - z.mean(dim=0)
        loss = loss + 25 * torch.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean() / 2
        loss = loss + (z.T @ z / (n - 1))[off_diagonal].pow(2).sum() / d
    return loss


def barlow_twins(a: Tensor, b: Tensor) -> Tensor:
    """Barlow Twins (Zbontar et al. 2021, algorithm 1) with its D x D cross-correlation."""
    a, b = ((z - z.mean(dim=0)) / torch.sqrt(z.var(dim=0, unbiased=False) + 1e-5) for z in (a, b))
    difference = (a.T @ b / len(a) - torch.eye(a.shape[1], device=a.device)).pow(2)
    diagonal = torch.eye(a.shape[1], dtype=torch.bool, device=a.device)
    return torch.where(diagonal, difference, 0.005 * difference).sum()


def nt_xent(a: Tensor, b: Tensor) -> Tensor:
    """NT-Xent (Chen et al. 2020, eq. 1) at temperature 0.5 with its 2N x 2N similarities, as a cross-entropy."""
    u = nn.functional.normalize(torch.cat([a, b]), dim=1)
    itself = torch.eye(len(u), dtype=torch.bool, device=u.device)
    logits = (u @ u.T / 0.5).masked_fill(itself, -torch.inf)
    partner = torch.arange(len(u), device=u.device).roll(len(a))
    return nn.functional.cross_entropy(logits, partner)
