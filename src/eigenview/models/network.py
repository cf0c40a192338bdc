"""The trained network: encoder, projector and, if the method needs one, a learned predictor."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from eigenview.config import NetworkConfig
from eigenview.errors import UserError, require
from eigenview.models.encoders import build_encoder, check_local_size, check_patches
from eigenview.models.grad_cache import encode_in_chunks
from eigenview.models.heads import embedding_width, predictor, projector
from eigenview.records import Needs


class Outputs(NamedTuple):
    """What the network gives for one batch of V views: h (V n H), z (V n D), p (V n D) or None.

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

    Each view is a separate forward pass: batch norm sees one view, as published. With two branches views 0, 2, ...
    pass through the first, the others through the second. The first is what a run leaves as its encoder.

    With `chunk` the encoder takes that many images at once and its activations are computed again in the backward pass,
    a chunk at a time: the exact gradient of the whole batch in the memory of one chunk (grad_cache.py). Heads and
    objective see the whole batch.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        predictor: nn.Module | None,
        second: Branch | None = None,
        *,
        widths: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.predictor = predictor
        self.second = second
        self.representation_width, self.embedding_width = widths
        self.chunk: int | None = None

    def embed(self, view: Tensor, number: int = 0) -> tuple[Tensor, Tensor]:
        """h (n H) and z (n D) of the view of this number."""
        branch = self if self.second is None or number % 2 == 0 else self.second
        h = encode_in_chunks(branch.encoder, view, self.chunk)
        return h, branch.projector(h)

    def embed_together(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """h (V n H) and z (V n D); views of one size are one batch of the encoder, all views one of the projector."""
        h: dict[int, Tensor] = {}
        for size in dict.fromkeys(view.shape[-2:] for view in views):
            numbers = [k for k, view in enumerate(views) if view.shape[-2:] == size]
            encoded = encode_in_chunks(self.encoder, torch.cat([views[k] for k in numbers]), self.chunk)
            h |= dict(zip(numbers, encoded.chunk(len(numbers)), strict=True))
        rows = torch.cat([h[k] for k in range(len(views))])
        return rows.unflatten(0, (len(views), -1)), self.projector(rows).unflatten(0, (len(views), -1))

    def predict(self, z: Tensor, *, together: bool = False) -> Tensor | None:
        """p (V n D) of z (V n D), a view at a time unless `together`; None without a predictor."""
        if self.predictor is None:
            return None
        if together:
            return self.predictor(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return torch.stack([self.predictor(each) for each in z])

    def forward(
        self, views: Sequence[Tensor], numbers: Sequence[int] | None = None, *, together: bool = False
    ) -> Outputs:
        """The views, each (n 3 S S), with these numbers (0, 1, ... by default)."""
        if together:
            h, z = self.embed_together(views)
            return Outputs(h, z, self.predict(z, together=True))
        pairs = [self.embed(view, number) for number, view in zip(numbers or range(len(views)), views, strict=True)]
        z = torch.stack([pair[1] for pair in pairs])
        widths = {pair[0].shape[-1] for pair in pairs}
        return Outputs(torch.stack([pair[0] for pair in pairs]) if len(widths) == 1 else None, z, self.predict(z))


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Torch's generator at this seed inside, and as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_network(
    encoder: str,
    size: int,
    config: NetworkConfig,
    needs: Needs,
    *,
    second_encoder: str | None = None,
    local_size: int | None = None,
    channels: int = 3,
) -> Network:
    """The network for a method with these needs, with initial weights drawn from torch's generator.

    Raises: UserError where the objective compares coordinates of two branches whose widths differ.
    """
    made: dict[str, Any] = {"size": size, "stem": config.stem, "norm": config.encoder_norm, "local_size": local_size}
    made["channels"] = channels
    check_patches(encoder, "--image-size", size)
    body, width = build_encoder(encoder, **made)
    check_local_size(encoder, body, local_size, channels)
    head = projector(width, config)
    embedding = embedding_width(width, config)
    learned = predictor(embedding, config) if needs.predictor else None
    second: Branch | None = None
    if second_encoder is not None or not config.shared_weights:
        name = second_encoder or encoder
        check_patches(name, "--image-size", size)
        other, other_width = build_encoder(name, **made)
        check_local_size(name, other, local_size, channels)
        compared = config.projector_layers == 0 or "h" in needs.reads
        require(
            not compared or other_width == width,
            "--second-encoder",
            second_encoder,
            f"an encoder of width {width} like {encoder}, because representations are compared; its is {other_width}",
            "Use --network.projector-layers 1 or more.",
        )
        second = Branch(other, projector(other_width, config))
    network = Network(body, head, learned, second, widths=(width, embedding))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def refuse_single_values(encoders: Iterable[nn.Module], sizes: set[int], channels: int = 3) -> None:
    """Raises UserError if an encoder, taking one image of a side in `sizes` at a time, has a batch norm that sees a
    single value: its deviation is 0, and torch raises in the middle of the first step."""
    for encoder in copy.deepcopy(list(encoders)):  # running averages of the copy move
        for size in sorted(sizes):
            try:
                with torch.random.fork_rng(devices=[]):  # dropout would draw
                    encoder(torch.zeros(1, channels, size, size))
            except ValueError as error:
                raise UserError(
                    f"--grad-cache-chunk 1: at {size} px the encoder has a batch norm that would see a single value. "
                    "Use --grad-cache-chunk 2 or more, larger images, or --network.encoder-norm group."
                ) from error
