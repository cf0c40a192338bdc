"""What is trained: encoder, projector and, where the method asks for one, predictor; and the target network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eigenview.config import NetworkConfig
from eigenview.models.encoders import build_encoder
from eigenview.models.heads import embedding_width, predictor, projector
from eigenview.models.target import TargetNetwork


@dataclass(frozen=True)
class Outputs:
    """What the network gives for one batch of V views: h (V N H), z (V N D), p (V N D) or None."""

    h: Tensor
    z: Tensor
    p: Tensor | None


class Network(nn.Module):
    """Encoder, projector, predictor. Each view is a forward pass of its own: batch norm sees one view, as published."""

    def __init__(self, encoder: nn.Module, projector: nn.Module, predictor: nn.Module | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.predictor = predictor

    def embed(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """h (N H) and z (N D) of one view."""
        h = self.encoder(view)
        return h, self.projector(h)

    def forward(self, views: Sequence[Tensor]) -> Outputs:
        """All views, each (N 3 S S)."""
        pairs = [self.embed(view) for view in views]
        z = [pair[1] for pair in pairs]
        p = torch.stack([self.predictor(each) for each in z]) if self.predictor is not None else None
        return Outputs(torch.stack([pair[0] for pair in pairs]), torch.stack(z), p)


def build_network(
    encoder: str, size: int, config: NetworkConfig, reads: frozenset[str], *, seed: int
) -> tuple[Network, TargetNetwork | None, int, int]:
    """Network and target for an objective that reads the given fields of Views; also the widths H and D.

    The initial weights are a function of `seed` alone, so that the untrained encoder can be built again for the probes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, width = build_encoder(encoder, size=size, stem=config.stem)
        head = projector(width, config)
        embedding = embedding_width(width, config)
        guess = predictor(embedding, config.predictor_hidden) if "p" in reads else None
    network = Network(body, head, guess).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    target = TargetNetwork(network.encoder, network.projector) if "z_target" in reads else None
    return network, target, width, embedding
