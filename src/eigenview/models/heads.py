"""The two heads on top of an encoder: projector (h to z) and learned predictor (z to p)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eigenview.config import NetworkConfig

NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def projector(in_width: int, config: NetworkConfig) -> nn.Sequential:
    """h (N H) to z (N D): `projector_layers` linear layers with batch norm and ReLU between.

    **Definition** - hidden layers are Linear without bias, BatchNorm, ReLU (`head_norm` layer: LayerNorm in its place;
    none: Linear with bias, ReLU); the last is Linear without bias, followed by BatchNorm (LayerNorm) without scale and
    offset if `projector_last_norm`.
    With 0 layers z is h itself, not normalised, and
    `projector_width` is not used: `embedding_width` gives D in both cases.

    **Shapes** - (N in_width) -> (N D). In training N must be 2 or more (batch norm).

    **Reference** - three layers of 8192 with a plain last layer: VICReg (Bardes et al. 2022, arXiv 2105.04906, 4.2) and
    Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230, 2.2); normalised output: SimSiam (Chen and He 2021, arXiv
    2011.10566, 3).
    """
    layers: list[nn.Module] = []
    width = in_width
    for _ in range(config.projector_layers - 1):
        layers += _hidden(width, config.projector_hidden, config.head_norm)
        width = config.projector_hidden
    if config.projector_layers:
        layers += [nn.Linear(width, config.projector_width, bias=False)]
        if config.projector_last_norm:
            width = config.projector_width
            is_layer = config.head_norm == "layer"
            layers += [
                nn.LayerNorm(width, elementwise_affine=False) if is_layer else nn.BatchNorm1d(width, affine=False)
            ]
    return nn.Sequential(*layers)


def embedding_width(in_width: int, config: NetworkConfig) -> int:
    """D, the width of what `projector` gives."""
    return config.projector_width if config.projector_layers else in_width


def _hidden(width: int, hidden: int, norm: str) -> list[nn.Module]:
    between: list[nn.Module] = [NORMS[norm](hidden)] if norm in NORMS else []
    return [nn.Linear(width, hidden, bias=not between), *between, nn.ReLU(inplace=True)]


def predictor(width: int, config: NetworkConfig) -> nn.Module:
    """z (N D) to p (N D): by default Linear without bias, BatchNorm, ReLU, Linear with bias.

    **Definition** - `predictor_layers` 2 as above, 1 for a single Linear, 0 for none (p is z). `predictor_bias` is the
    last layer's. With `predictor_symmetric` the matrix of a single layer is (A + A^T)/2 at every step, A the parameter;
    with two layers the second matrix is the first transposed, so that the map's linear part is symmetric.

    **Reference** - two layers: BYOL (Grill et al. 2020, arXiv 2006.07733, 3.3) and SimSiam (Chen and He 2021, arXiv
    2011.10566, 3), whose output layer has neither norm nor activation. BYOL's first layer also has a bias, which the
    norm after it cancels. One layer, symmetric or not: Tian et al. 2021, arXiv 2102.06810, section 3. What they call
    symmetric with two layers is not known to us; the transposed second layer is our reading.
    """
    if config.predictor_layers == 0:
        return nn.Identity()
    if config.predictor_layers == 1:
        layer = nn.Linear(width, width, bias=config.predictor_bias)
        if config.predictor_symmetric:
            parametrize.register_parametrization(layer, "weight", Symmetric())
        return layer
    first = _hidden(width, config.predictor_hidden, config.head_norm)
    if config.predictor_symmetric:
        return TransposedPredictor(first, width, config.predictor_bias)
    return nn.Sequential(*first, nn.Linear(config.predictor_hidden, width, bias=config.predictor_bias))


class Symmetric(nn.Module):
    """A square matrix's symmetric part."""

    def forward(self, matrix: Tensor) -> Tensor:
        return (matrix + matrix.mT) / 2


class TransposedPredictor(nn.Module):
    """Linear, (BatchNorm,) ReLU and the first layer's matrix transposed."""

    def __init__(self, first: list[nn.Module], width: int, bias: bool) -> None:
        super().__init__()
        linear = first[0]
        assert isinstance(linear, nn.Linear)
        self.linear = linear
        self.between = nn.Sequential(*first[1:])
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.linear(self.between(self.linear(z)), self.linear.weight.mT, self.bias)
