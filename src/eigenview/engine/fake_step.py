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

from eigenview.distributed import Pretend
from eigenview.engine.module import PretrainModule
from eigenview.engine.step import accumulate_gradients
from eigenview.methods.parts.method import Method, Objective
from eigenview.models.grad_cache import encode_in_chunks
from eigenview.models.network import Branch, Network
from eigenview.models.target import TargetNetwork
from eigenview.records import ALONE, Batch, Clock

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
        self._outer: list[str] = []
        self.now: Counter[str] = Counter()
        self.fullest: Counter[str] = Counter()
        self._held: dict[int, tuple[weakref.ref[Any], str, int]] = {}

    @contextmanager
    def counting(self, label: str) -> Iterator[None]:
        """What is allocated inside is for `label`."""
        self.enter(label)
        try:
            yield
        finally:
            self.leave()

    def enter(self, label: str) -> None:
        """What is allocated from now on is for `label`, until `leave`."""
        self._outer.append(self.label)
        self.label = label

    def leave(self) -> None:
        """Back to the label before the last `enter`."""
        self.label = self._outer.pop()

    def hold(self, tensor: Tensor, label: str) -> None:
        """Count a tensor's storage under `label`, also where it was counted under another."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        self._forget(key)
        # the address is free for another storage once this one dies: it must be forgotten at that moment
        self._held[key] = (weakref.ref(storage, lambda _: self._forget(key)), label, size)
        self.add(label, size)

    def add(self, label: str, size: int) -> None:
        """`size` bytes more, that no fake tensor stands for."""
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


class TwoChunks(nn.Module):
    """Simulates two chunks of an encoder under gradient caching; the others need the same memory, one after another."""

    def __init__(self, encoder: nn.Module, chunk: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.chunk = chunk

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or 2 * self.chunk >= len(x):
            return encode_in_chunks(self.encoder, x, self.chunk)
        h = encode_in_chunks(self.encoder, x[: 2 * self.chunk], self.chunk)
        return torch.cat([h, h.new_zeros(len(x) - len(h), h.shape[1])])


def fake_step(module: PretrainModule, *, chunk: int | None, held_out: int, resident: int) -> dict[str, int]:
    """Peak bytes of one process during a run, by what they are for.

    Args:
        module: what will be trained, on the device that it will be trained on. It is copied, not moved.
        chunk: `grad_cache_chunk` of the run; an argument, so that other values can be tried.
        held_out: images of the diagnoses, whose views stay on the device.
        resident: bytes of images kept in memory throughout.

    Gradients are computed by the training step's own `accumulate_gradients`; two parts of an accumulated batch, and two
    chunks of a view, stand for all. Several processes are simulated by `Pretend`, so that what a method gathers counts.

    Raises: RuntimeError (torch's) for a network whose program depends on values, which fake tensors do not have.
    """
    config, tracker = module.config, MemoryTracker()
    device = next(module.method.parameters()).device
    fake = FakeTensorMode()
    with FakeCopyMode(fake):
        method = copy.deepcopy(module.method)
    _simulate_two_chunks(method, chunk)
    processes = Pretend(config.devices) if config.devices > 1 else ALONE

    def blank(n: int, side: int) -> Tensor:
        return torch.empty(n, len(module.specs[0].mean), side, side, device=device, memory_format=torch.channels_last)

    with fake:
        _hold_parameters(tracker, method, config)
        _label_objectives(tracker, method)
        with tracker, tracker.counting(IMAGES):
            tracker.add(IMAGES, resident)
            watched = tuple(blank(held_out, module.size) for _ in range(config.views))
            n = config.batch_size // config.devices
            views = tuple(blank(n, spec.size or module.size) for spec in module.specs)
            with tracker.counting(ACTIVATIONS):
                accumulate_gradients(
                    method,
                    Batch(views=views, whole=config.views, total=config.batch_size),
                    Clock(steps=module.steps, steps_per_epoch=module.steps_per_epoch, processes=processes),
                    module.options,
                    parts=min(2, config.grad_accum_steps),
                )
            del views
            with tracker.counting(DIAGNOSIS):
                method.eval()
                method.watch(Batch(views=watched, whole=config.views))
    return {label: size for label, size in tracker.fullest.items() if size > 0}


def _simulate_two_chunks(method: Method, chunk: int | None) -> None:
    """Every network that encodes by chunks encodes two of them."""
    for part in list(method.modules()):
        if isinstance(part, Network | TargetNetwork):
            part.chunk = None
        if chunk is not None and isinstance(part, Network | Branch | TargetNetwork):
            part.encoder = TwoChunks(part.encoder, chunk)


def _label_objectives(tracker: MemoryTracker, method: Method) -> None:
    """What an objective allocates is counted as the objective's."""
    for part in method.modules():
        if isinstance(part, Objective):
            part.register_forward_pre_hook(lambda *_: tracker.enter(OBJECTIVE))
            part.register_forward_hook(lambda *_: tracker.leave())


def _hold_parameters(tracker: MemoryTracker, method: Method, config: Any) -> None:
    """Weights and buffers; gradients as they come; the optimiser's state, and with several processes DDP's buckets."""
    for tensor in (*method.parameters(), *method.buffers()):
        tracker.hold(tensor, PARAMETERS)

    def note_gradient(parameter: Tensor) -> None:
        if parameter.grad is not None:
            tracker.hold(parameter.grad, PARAMETERS)

    trainable = [p for p in method.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.register_post_accumulate_grad_hook(note_gradient)
    copies = STATE_COPIES[config.optim.name] + (config.devices > 1)
    tracker.add(PARAMETERS, copies * sum(p.untyped_storage().nbytes() for p in trainable))
