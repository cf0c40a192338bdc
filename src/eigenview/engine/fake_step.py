"""A training step on tensors that have shapes but no values, to see how much memory the real one will take.

Torch's fake tensors carry shape, type and device through the very code that will train, forward and backward, in tens
of milliseconds whatever the batch. What is counted is every tensor's storage from its birth to its death; what kernels
take for themselves (workspaces of convolutions) is not seen.
"""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eigenview.engine.module import PretrainModule
from eigenview.methods.base import Objective, total
from eigenview.models.grad_cache import encode_in_parts
from eigenview.models.network import Network
from eigenview.models.target import TargetNetwork
from eigenview.views import Views

PARAMETERS, IMAGES, ACTIVATIONS = "parameters and optimiser", "images", "activations"
OBJECTIVE, DIAGNOSIS = "objective", "diagnosis"
STATE_COPIES = {"adamw": 2, "sgd": 1, "lars": 1, "lars-clip": 1}
"""What an optimiser keeps for each trainable value: AdamW two moments, the others a velocity."""


class MemoryTracker(TorchDispatchMode):
    """Bytes of all tensors alive, by what they are for, and the fullest moment so far.

    While the mode is on, every new storage is counted under the current label until nothing refers to it any more.
    Views and in-place results share a storage, which counts once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.label = PARAMETERS
        self.now: Counter[str] = Counter()
        self.fullest: Counter[str] = Counter()
        self._held: dict[int, tuple[weakref.ref[Any], str, int]] = {}

    @contextmanager
    def counting(self, label: str) -> Iterator[None]:
        """What is born inside is for `label`."""
        before, self.label = self.label, label
        try:
            yield
        finally:
            self.label = before

    def hold(self, tensor: Tensor, label: str) -> None:
        """Count a tensor's storage under `label`, also where it was counted under another."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        self._forget(key)
        # the address is free for another storage once this one dies: it must be forgotten at that moment
        self._held[key] = (weakref.ref(storage, lambda _: self._forget(key)), label, size)
        self.add(label, size)

    def add(self, label: str, size: int) -> None:
        """`size` bytes more, which no tensor of the rehearsal stands for."""
        self.now[label] += size
        if self.now.total() > self.fullest.total():
            self.fullest = self.now.copy()

    def _forget(self, key: int) -> None:
        if key in self._held:
            _, label, size = self._held.pop(key)
            self.now[label] -= size

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in self._held:
                self.hold(leaf, self.label)
        return out


class FewParts(nn.Module):
    """An encoder by micro-batches of which two stand for all: the others need the same memory, one after another."""

    def __init__(self, encoder: nn.Module, part: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or 2 * self.part >= len(x):
            return encode_in_parts(self.encoder, x, self.part)
        h = encode_in_parts(self.encoder, x[: 2 * self.part], self.part)
        return torch.cat([h, h.new_zeros(len(x) - len(h), h.shape[1])])


def rehearse(
    module: PretrainModule, *, bf16: bool, micro_batch: int | None, held_out: int, resident: int
) -> dict[str, int]:
    """Bytes of one process at the fullest moment of a run, by what they are for.

    Args:
        module: what will be trained, on the device that it will be trained on. It is copied, not moved.
        bf16: the network runs under bfloat16 autocast.
        micro_batch: as in RunConfig; an argument, so that other values can be asked about.
        held_out: images of the diagnoses, whose views stay on the device.
        resident: bytes of images kept in memory throughout.

    Two parts of an accumulated batch, and two micro-batches of a view, stand for all. On several processes the
    objective is given a global batch; where it needs less than that, this is an upper bound.

    Raises: RuntimeError (torch's) for a network whose program depends on values, which fake tensors have not.
    """
    config, live = module.config, MemoryTracker()
    device = next(module.network.parameters()).device
    fake = FakeTensorMode()
    with FakeCopyMode(fake):
        network, target, objective = copy.deepcopy((module.network, module.target, module.objective))
    _take_few_parts(network, target, micro_batch)

    def blank(n: int, side: int) -> Tensor:
        return torch.empty(n, 3, side, side, device=device, memory_format=torch.channels_last)

    with fake:
        _hold_parameters(live, [network, target, objective], config)
        with live, live.counting(IMAGES):
            live.add(IMAGES, resident)
            watched = [blank(held_out, module.size) for _ in range(config.views)]
            views = [blank(config.batch_size // config.devices, spec.size or module.size) for spec in module.specs]
            parts = [view.chunk(config.accumulate) for view in views]
            for k in range(min(2, config.accumulate)):
                with live.counting(ACTIVATIONS):
                    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                        loss = _loss(live, network, target, objective, [chunks[k] for chunks in parts], config)
                    loss.backward()
                    del loss
            del views, parts
            with live.counting(DIAGNOSIS), torch.no_grad():
                network.eval()
                network.embed(watched[0])
    return {label: size for label, size in live.fullest.items() if size > 0}


def _take_few_parts(network: Network, target: TargetNetwork | None, part: int | None) -> None:
    network.micro_batch = None
    if target is not None:
        target.part = None
    if part is not None:
        for branch in (network, network.second, target):
            if branch is not None:
                branch.encoder = FewParts(branch.encoder, part)


def _hold_parameters(live: MemoryTracker, modules: list[nn.Module | None], config: Any) -> None:
    """Weights and buffers; gradients as they come; the optimiser's state, and with several processes DDP's buckets."""
    held = nn.ModuleList([each for each in modules if each is not None])
    for tensor in (*held.parameters(), *held.buffers()):
        live.hold(tensor, PARAMETERS)

    def note_gradient(parameter: Tensor) -> None:
        if parameter.grad is not None:
            live.hold(parameter.grad, PARAMETERS)

    trainable = [p for p in held.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.register_post_accumulate_grad_hook(note_gradient)
    copies = STATE_COPIES[config.optim.name] + (config.devices > 1)
    live.add(PARAMETERS, copies * sum(p.untyped_storage().nbytes() for p in trainable))


def _loss(
    live: MemoryTracker,
    network: Network,
    target: TargetNetwork | None,
    objective: Objective,
    views: list[Tensor],
    config: Any,
) -> Tensor:
    """`PretrainModule.loss_of` without what moves state or looks at values."""
    out = network(views)
    z_target = target(views[: config.views]) if target is not None else out.z[: config.views]
    targets = config.views if config.local_views else None
    with live.counting(OBJECTIVE):
        record = Views(h=out.h, z=out.z, p=out.p, z_target=z_target, targets=targets)
        return total(objective(_gathered(record, objective.reads, config.devices) if objective.gathers else record))


def _gathered(views: Views, reads: frozenset[str], processes: int) -> Views:
    """The fields of Views that are read, as large as from all processes."""

    def field(name: str) -> Tensor | None:
        if name not in reads:
            return None
        return views.read(name) if processes == 1 else torch.cat([views.read(name)] * processes, dim=1)

    return Views(h=field("h"), z=field("z"), p=field("p"), z_target=field("z_target"), targets=views.targets)
