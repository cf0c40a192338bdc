"""What is trained: encoder, projector and, where the method asks for one, predictor; and the target network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eigenview.config import NetworkConfig
from eigenview.errors import UserError, require
from eigenview.models.encoders import build_encoder, check_local_size
from eigenview.models.grad_cache import encode_in_parts
from eigenview.models.heads import embedding_width, predictor, projector
from eigenview.models.target import TargetNetwork


@dataclass(frozen=True)
class Outputs:
    """What the network gives for one batch of V views: h (V N H), z (V N D), p (V N D) or None.

    h is None where two branches have different widths H.
    """

    h: Tensor | None
    z: Tensor
    p: Tensor | None


class Branch(nn.Module):
    """A second encoder and projector, for every other view."""

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector


class Network(nn.Module):
    """Encoder, projector, predictor, and a second branch where the views do not share their weights.

    Each view is a forward pass of its own: batch norm sees one view, as published. With two branches views 0, 2, ...
    pass through the first, the others through the second. The first is what a run leaves as its encoder.

    With `micro_batch` the encoder takes that many images at once and its activations are computed again in the backward
    pass, a micro-batch at a time: the exact gradient of the whole batch in the memory of one micro-batch. Heads and
    objective see the whole batch.
    """

    def __init__(
        self, encoder: nn.Module, projector: nn.Module, predictor: nn.Module | None, second: Branch | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.predictor = predictor
        self.second = second
        self.micro_batch: int | None = None

    def embed(self, view: Tensor, number: int = 0) -> tuple[Tensor, Tensor]:
        """h (N H) and z (N D) of the view of this number."""
        branch = self if self.second is None or number % 2 == 0 else self.second
        h = encode_in_parts(branch.encoder, view, self.micro_batch)
        return h, branch.projector(h)

    def predict(self, z: Tensor) -> Tensor | None:
        """p (V N D) of z (V N D), a view at a time; None without a predictor."""
        return torch.stack([self.predictor(each) for each in z]) if self.predictor is not None else None

    def forward(self, views: Sequence[Tensor]) -> Outputs:
        """All views, each (N 3 S S)."""
        pairs = [self.embed(view, number) for number, view in enumerate(views)]
        z = torch.stack([pair[1] for pair in pairs])
        widths = {pair[0].shape[-1] for pair in pairs}
        return Outputs(torch.stack([pair[0] for pair in pairs]) if len(widths) == 1 else None, z, self.predict(z))


def build_network(
    encoder: str,
    size: int,
    config: NetworkConfig,
    reads: frozenset[str],
    *,
    seed: int,
    second_encoder: str | None = None,
    local_size: int | None = None,
) -> tuple[Network, TargetNetwork | None, int, int]:
    """Network and target for an objective that reads the given fields of Views; also the widths H and D.

    The initial weights are a function of `seed` alone, so that the untrained encoder can be built again for the probes.

    Raises: UserError where the objective compares coordinates of two branches whose widths differ.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, width = build_encoder(encoder, size=size, stem=config.stem, norm=config.encoder_norm)
        check_local_size(encoder, body, local_size)
        head = projector(width, config)
        embedding = embedding_width(width, config)
        guess = predictor(embedding, config) if "p" in reads else None
        second: Branch | None = None
        if second_encoder is not None or config.branches == "separate":
            other, other_width = build_encoder(
                second_encoder or encoder, size=size, stem=config.stem, norm=config.encoder_norm
            )
            check_local_size(second_encoder or encoder, other, local_size)
            compared = config.projector_layers == 0 or "h" in reads
            require(
                not compared or other_width == width,
                "--second-encoder",
                second_encoder,
                f"an encoder of width {width} as {encoder}'s where representations are compared; its is {other_width}",
                "Use --network.projector-layers 1 or more.",
            )
            second = Branch(other, projector(other_width, config))
    network = Network(body, head, guess, second).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    has_target = "z_target" in reads and config.target != "online"
    target = TargetNetwork(network.encoder, network.projector) if has_target else None
    return network, target, width, embedding


@torch.no_grad()
def refuse_single_values(network: Network, sizes: set[int]) -> None:
    """Raises UserError where the encoder, taking one image of a side in `sizes` at a time, has a batch norm that sees a
    single value: its deviation is 0, and torch refuses it in the middle of the first step."""
    encoders = [network.encoder] if network.second is None else [network.encoder, network.second.encoder]
    for encoder in copy.deepcopy(encoders):  # running averages of the copy move
        for size in sorted(sizes):
            try:
                with torch.random.fork_rng(devices=[]):  # dropout would draw
                    encoder(torch.zeros(1, 3, size, size))
            except ValueError as error:
                raise UserError(
                    f"--micro-batch 1: at {size} px the encoder has a batch norm that would see a single value. "
                    "Use --micro-batch 2 or more, larger images, or --network.encoder-norm group."
                ) from error
