"""One file of golden numbers, and what compares with it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Golden:
    """The arrays of one file, and which of them were not read yet."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.unread = set(self.arrays)

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> Tensor:
        self.unread.discard(name)
        return torch.from_numpy(np.asarray(self.arrays[name]))

    def number(self, name: str) -> float:
        return self[name].item()

    def matching(self, pattern: str) -> list[re.Match[str]]:
        return [m for name in self.arrays if (m := re.fullmatch(pattern, name))]

    def expect(self, name: str, ours: Tensor | float, tolerance: float = 1e-9) -> None:
        theirs = self[name]
        ours = torch.as_tensor(ours, dtype=theirs.dtype).detach()
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, msg=lambda m: f"{name}: {m}")

    def leaves(self, *names: str) -> list[Tensor]:
        return [self[name].clone().requires_grad_() for name in names]


def gradients(value: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, inputs, retain_graph=True)
