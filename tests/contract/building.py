"""Small networks without normalisation, from which any method's config builds its method: for tests that need one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from eigenview.methods import card, config_class
from eigenview.methods.parts.building import Parts, Widths
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Method, Objective
from eigenview.models.network import Network
from eigenview.models.target import TargetNetwork
from eigenview.records import Needs

INPUTS = 6


@dataclass(frozen=True, kw_only=True)
class SmallParts(Parts):
    """Networks that do not normalise over the batch, so that processes meet only in the objective."""

    encoder: str = "two linear layers"
    size: int = 1
    width: int
    momentum: float = 0.9

    def joint_embedding(self, needs: Needs, objective: Callable[[Widths], Objective]) -> JointEmbedding:
        """Encoder, no projector (z is h, so that no parameter is unused), predictor and target network if needed."""
        width = self.width
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, 7), nn.Tanh(), nn.Linear(7, width))
        predictor = nn.Sequential(nn.Linear(width, 5), nn.Tanh(), nn.Linear(5, width)) if needs.predictor else None
        network = Network(encoder, nn.Identity(), predictor, widths=(width, width))
        target = TargetNetwork(encoder, network.projector) if needs.target else None
        if target is not None:
            for parameter in target.parameters():  # else it is the online network, and a mix-up would not be seen
                parameter.data.add_(0.1 * torch.randn_like(parameter))
        made = objective(Widths(width, width, self.views))
        return JointEmbedding(needs, network, made, target=target, momentum=lambda clock: self.momentum)


def method_of(name: str, width: int, views: int = 2, **options: Any) -> Method:
    """The method of this name at a small width, with its card's options for that."""
    return config_class(name)(**{**card(name).small, **options}).build(SmallParts(width=width, views=views))


def objective_of(name: str, width: int, views: int = 2, **options: Any) -> Objective:
    """Its objective alone."""
    method = method_of(name, width, views, **options)
    assert isinstance(method, JointEmbedding)
    return method.objective
