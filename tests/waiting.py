"""A device that makes it an error to wait: finds what in a training step would make the host wait for a GPU.

Its tensors are torch's meta tensors, which have shapes but no values, so that reading a value raises. (Fake CUDA
tensors would be closer to a GPU, but without CUDA torch runs no backward pass on them.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")
# prefixes of operators that wait on a GPU for a shape or a status, and do not raise for meta tensors
WAITING = ("_linalg_eigh", "_linalg_svd", "linalg_inv", "linalg_cholesky", "_linalg_solve", "equal")


class _Operators(TorchDispatchMode):
    """Refuses operators that wait, and copies between devices: those wait too, unless they are non-blocking."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__()
        self.refused = tuple(name for name in WAITING if name not in allowed)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.__name__
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)}
        if "meta" in devices and name.startswith(self.refused):
            raise AssertionError(f"{name} makes the host wait for the device")
        does_not_wait = (name.startswith("copy_") and args[2:] == (True,)) or (
            name.startswith("_to_copy") and kwargs is not None and kwargs.get("non_blocking", False)
        )
        if len(devices) > 1 and not does_not_wait:
            raise AssertionError(f"{name} has tensors on {sorted(devices)}: it fails, or waits for a copy")
        return out


class _Calls(TorchFunctionMode):
    """Raises for calls that copy Python numbers to the device and wait; the other mode does not see these."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and kwargs.get("device") == META:
            raise AssertionError(f"{func.__name__} copies {args[0]} to the device, and waits")
        if func in (Tensor.__getitem__, Tensor.__setitem__) and args[0].device == META:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(each, list) for each in index):
                raise AssertionError(f"the index {index} is copied to the device, and waited for")
        return func(*args, **kwargs)


class _Generator:
    """Replaces a torch.Generator, which does not exist for the meta device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def manual_seed(self, seed: int) -> _Generator:
        return self


@contextmanager
def no_waiting(*allowed: str) -> Iterator[None]:
    """Inside this block, work on META raises if it waits or mixes devices; operators in `allowed` may wait."""
    autocast, rand = torch.autocast, torch.rand
    with pytest.MonkeyPatch.context() as patch, _Operators(allowed), _Calls():
        # torch has no autocast and no generator for this device
        patch.setattr(torch, "autocast", lambda kind, **k: autocast("cpu" if kind == "meta" else kind, **k))
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(torch, "rand", lambda *shape, device, generator: rand(*shape, device=device))
        yield
