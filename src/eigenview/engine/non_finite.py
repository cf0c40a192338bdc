"""Stops a run whose loss is no longer finite, with the term, the step and the likely cause."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from eigenview.errors import NonFiniteError
from eigenview.records import Processes


class NonFiniteWatch:
    """Remembers the first step at which each term was non-finite.

    On a GPU the memory is a tensor, which is read only where the program waits for the device anyway. On a CPU it is
    read at every step. Processes agree, since a term of the own rows may be non-finite on one of them only.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.first_step: Tensor | None = None
        """(terms,) the step, or -1."""

    def note(self, terms: Mapping[str, Tensor], step: int) -> None:
        """Remember which terms are non-finite at this step."""
        values = torch.stack([value.detach() for value in terms.values()])
        if self.first_step is None:
            self.names = list(terms)
            self.first_step = torch.full(values.shape, -1, dtype=torch.long, device=values.device)
        is_new = ~torch.isfinite(values) & (self.first_step < 0)
        self.first_step = torch.where(is_new, step, self.first_step)

    def first(self, processes: Processes) -> tuple[int, str] | None:
        """(step, term) of the first non-finite value on any process, or None. All processes have to call it."""
        if self.first_step is None:
            return None
        steps = (processes.max(self.first_step) if processes.size > 1 else self.first_step).tolist()
        found = [(step, name) for step, name in zip(steps, self.names, strict=True) if step >= 0]
        return min(found) if found else None


def non_finite_error(what: str, step: int, epoch: float, learning_rate: float, lr_per_256: float) -> NonFiniteError:
    """The error of a run that left the range of finite numbers."""
    return NonFiniteError(
        f"{what} at step {step} (epoch {epoch:.1f}); likely cause: the learning rate, {learning_rate:.3g} there, is "
        f"too high for this network, so that its weights overflow. Try --optim.lr-per-256 {lr_per_256 / 10:.3g}."
    )
