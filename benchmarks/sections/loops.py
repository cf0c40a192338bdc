"""Whole training loops beside ours, for the section step: each takes a turn of some steps and gives its seconds.

A turn's sampler holds the images of that turn only, so that no worker of one loop runs during another loop's turn. The
clock starts when the first batch has arrived.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder

from benchmarks import plain
from benchmarks.contest import Settings, seconds
from benchmarks.peers import peer
from benchmarks.sections.augmentation import pil_pipeline
from eigenview.config import RunConfig
from eigenview.data.views.specs import ViewSpec
from eigenview.methods.parts.building import parts_of
from eigenview.models.encoders import build_encoder
from eigenview.models.network import Network

Loss = Callable[[Tensor, Tensor], Tensor]


class Several:
    """An image once through each of several pipelines."""

    def __init__(self, pipelines: list[Callable[[Any], Tensor]]) -> None:
        self.pipelines = pipelines

    def __call__(self, image: Any) -> list[Tensor]:
        return [pipeline(image) for pipeline in self.pipelines]


def same_network(config: RunConfig[Any], size: int) -> Network:
    """The network of a run, with the weights it starts from, in torch's own memory format."""
    network = parts_of(config, size, None).build_network(config.method.needs)
    return network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


class PlainLoop:
    """The plainest loop in float32: ImageFolder, transforms in as many workers as cores, a loss, AdamW."""

    def __init__(
        self, data: Path, transform: Any, loss: Loss, config: RunConfig[Any], size: int, settings: Settings
    ) -> None:
        self.images, self.settings, self.loss = ImageFolder(str(data), transform), settings, loss
        self.batch, self.device = config.batch_size, settings.device
        self.network = same_network(config, size).to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 2e-3)
        self.loaders: dict[int, DataLoader[Any]] = {}

    def batches(self, steps: int) -> DataLoader[Any]:
        """Random images for a turn; workers are kept from one turn to the next."""
        if steps not in self.loaders:
            self.loaders[steps] = DataLoader(
                self.images,
                self.batch,
                sampler=RandomSampler(self.images, num_samples=steps * self.batch),
                num_workers=os.cpu_count() or 2,
                persistent_workers=True,
                pin_memory=self.settings.is_cuda,
            )
        return self.loaders[steps]

    def step(self, views: list[Tensor]) -> float:
        """One step; the value of the loss, as a loop prints it."""
        za, zb = (self.network.embed(view.to(self.device, non_blocking=True))[1] for view in views)
        self.optimizer.zero_grad()
        loss = self.loss(za, zb)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def turn(self, steps: int) -> float:
        """Seconds per step of a turn."""
        batches = iter(self.batches(steps))
        first = next(batches)
        mark = perf_counter()
        for views, _ in chain([first], batches):
            self.step(views)
        return (perf_counter() - mark) / steps


def torch_loop(
    data: Path, specs: tuple[ViewSpec, ...], config: RunConfig[Any], size: int, settings: Settings
) -> PlainLoop:
    """torchvision's transforms by our specs, and VICReg as the paper writes it."""
    pipelines = Several([pil_pipeline(spec, size) for spec in specs])
    return PlainLoop(data, pipelines, plain.vicreg, config, size, settings)


def lightly_loop(data: Path, config: RunConfig[Any], size: int, settings: Settings) -> PlainLoop | None:
    """lightly's VICReg transform (its defaults; no blur, as ours has none at this size) and its loss."""
    transforms, loss = peer("lightly.transforms.vicreg_transform", settings), peer("lightly.loss", settings)
    if transforms is None or loss is None:
        return None
    transform = transforms.VICRegTransform(input_size=size, gaussian_blur=0.0)
    return PlainLoop(data, transform, loss.VICRegLoss(), config, size, settings)


class EncoderAlone:
    """Forward and backward of the encoder on two ready views in the precision of our run: the ceiling of a step."""

    def __init__(self, name: str, size: int, batch: int, is_bf16: bool, device: torch.device) -> None:
        encoder, _ = build_encoder(name, size=size)
        self.encoder = encoder.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        ready = [torch.randn(batch, 3, size, size, device=device) for _ in range(2)]
        self.views = [view.contiguous(memory_format=torch.channels_last) for view in ready]
        self.is_bf16, self.device = is_bf16, device

    def step(self) -> None:
        """Both views."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.is_bf16):
            out = torch.stack([self.encoder(view).float().square().mean() for view in self.views]).sum()
        out.backward()
        self.encoder.zero_grad()

    def turn(self, steps: int) -> float:
        """Seconds per step of a turn."""

        def work() -> None:
            for _ in range(steps):
                self.step()

        return seconds(work, self.device) / steps


def operations(network: nn.Module, size: int, images: int, device: torch.device) -> float | None:
    """Floating point operations of forward and backward of `network` on `images` images, as torch counts them (products
    and convolutions; a multiplication and an addition are two). None for grouped convolutions: torch counts their
    backward pass as if they were not grouped."""
    if any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules()):
        return None
    from torch.utils.flop_counter import FlopCounterMode

    few = 2
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(few, 3, size, size, device=device)).square().mean().backward()
    network.zero_grad()
    return counter.get_total_flops() * images / few
