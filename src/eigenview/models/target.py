"""The target network: a slowly moving average of encoder and projector that no gradient reaches."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn


class TargetNetwork(nn.Module):
    """Encoder and projector whose parameters are an exponential moving average of the online ones.

    **Definition** - at the start an exact copy; then once per step theta_target <- tau theta_target + (1 - tau) theta.

    **Normalisation** - tau is the fraction kept (BYOL's convention). Only parameters are averaged: as in BYOL's code
    the target's batch norms run on the statistics of their own batch in training, and their running buffers follow
    by themselves.

    **Shapes** - V images batches, each (N 3 S S) -> z_target (V N D), without gradient.

    **Reference** - Grill et al. 2020, arXiv 2006.07733, eq. 1.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.projector = copy.deepcopy(projector)
        self.requires_grad_(False)
        self.chunk: int | None = None  # images that the encoder takes at once

    @torch.no_grad()
    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Each view is one pass, as in the online network: batch norm sees one view at a time."""
        return torch.stack([self.projector(self._encode(view)) for view in views])

    def _encode(self, view: Tensor) -> Tensor:
        return torch.cat([self.encoder(each) for each in view.split(self.chunk or len(view))])

    @torch.no_grad()
    def update(self, encoder: nn.Module, projector: nn.Module, momentum: float) -> None:
        """Move towards the online networks; `momentum` is tau, between 0 (become them) and 1 (stay).

        **Raises** - ValueError if the networks are not those of the copy (parameter names or shapes differ).
        """
        ours = [*_named_parameters((self.encoder, self.projector))]
        theirs = [*_named_parameters((encoder, projector))]
        if [(name, p.shape) for name, p in ours] != [(name, p.shape) for name, p in theirs]:
            raise ValueError("the online networks' parameters differ in name or shape from the target's copies.")
        # lerp adds (1 - tau)(theta - theta_target): equal parameters stay equal to the bit, whatever tau.
        torch._foreach_lerp_([p for _, p in ours], [p.detach() for _, p in theirs], 1.0 - momentum)  # pyright: ignore


def _named_parameters(networks: Iterable[nn.Module]) -> Iterable[tuple[str, nn.Parameter]]:
    for network in networks:
        yield from network.named_parameters()


def target_momentum(
    step: int, steps: int, start: float, end: float, shape: Literal["cosine", "linear"] = "cosine"
) -> float:
    """Fraction of the target network kept at `step`, from `start` at 0 to `end` at `steps` and after.

    cosine: end - (end - start) (1 + cos(pi step / steps)) / 2, Grill et al. 2020, arXiv 2006.07733, section 3.2.
    """
    progress = min(1.0, step / max(1, steps))
    left = (1 + math.cos(math.pi * progress)) / 2 if shape == "cosine" else 1 - progress
    return end - (end - start) * left
