"""`Method`, which is all that the engine knows, and `Objective`, the loss of a joint-embedding method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor, nn

from eigenview.errors import UserError
from eigenview.models.norms import couples_images
from eigenview.records import Batch, Clock, Needs
from eigenview.views import Group, Loss, PerView, Views


class Method(nn.Module):
    """What is trained: networks, loss and state of one method. It knows nothing of the engine.

    `loss` is pure: it changes no state except running averages of batch norm. State (target network, queue, centre,
    running statistics) moves in `after_step`, once per step, on all processes alike. Call the method itself, not
    `loss`, where DDP wraps it: DDP sees only what passes through `forward`.
    """

    def __init__(self, needs: Needs) -> None:
        super().__init__()
        self.needs = needs

    def loss(self, batch: Batch, clock: Clock) -> Loss:
        """The loss of the own rows of a batch. The loss of the step is the mean over processes and parts."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss.")

    def forward(self, batch: Batch, clock: Clock) -> Loss:
        """`loss`."""
        return self.loss(batch, clock)

    @torch.no_grad()
    def after_step(self, carry: Mapping[str, Tensor], clock: Clock) -> None:
        """Move the state, once per step after the optimiser. `carry`: those of all parts, joined along axis 0."""

    def parameter_groups(self) -> Iterator[Group]:
        """Every trainable parameter, in exactly one group."""
        yield Group("all", [p for p in self.parameters() if p.requires_grad])

    @property
    def widths(self) -> dict[str, int]:
        """Widths of what `watch` returns: "h" of the representation, "z" of the embedding."""
        raise NotImplementedError(f"{type(self).__name__} defines no widths.")

    def warnings(self, images: int) -> list[str]:
        """Hazards of training with `images` in one forward pass, a sentence each; shown before the first step."""
        warning = self.needs.warn(images, couples_images(self))
        return [] if warning is None else [warning]

    def log_values(self, clock: Clock) -> dict[str, float]:
        """Values of schedules at this step, for the log."""
        return {}

    @torch.no_grad()
    def watch(self, batch: Batch) -> dict[str, Tensor]:
        """name -> (V N D) for the diagnosis: V views that should agree, N independent samples. Call it in evaluation
        mode. "h" and "z" are diagnosed as representation and embedding; "p" and "z_target" as prediction and target."""
        raise NotImplementedError(f"{type(self).__name__} defines no watch.")

    def encoders(self) -> dict[str, nn.Module]:
        """name -> module from images to (N H): saved, probed, exported. The first is the main one."""
        raise NotImplementedError(f"{type(self).__name__} defines no encoders.")


class Objective(nn.Module):
    """The loss of a joint-embedding method: the paper's lines.

    In a loop of one's own: `loss = objective(z1, z2)`, one tensor (n, D) for each of two or more views, or one stacked
    (V, n, D); what the method reads besides z by name: `h=`, `p=`, `z_target=`. The result is the loss, a scalar. With
    `Views` the result is a `Loss`: the weighted terms, and what `update` needs after the optimiser's step.

    `forward(views, clock)` gets this process's rows and is pure. Statistics of the global batch come from the providers
    in `functional/`, called with `clock.processes`. Calling an objective computes in float32 or better, whatever the
    dtype of the views and whatever autocast says. State moves in `update`, once per step. On several processes give
    `clock=ev.Clock(processes=ev.processes())`.
    """

    promotes: bool = True
    """Half-precision views are converted to float32 first."""

    @overload
    def __call__(self, views: Views, clock: Clock = ..., /) -> Loss: ...

    @overload
    def __call__(
        self,
        *z: Tensor,
        h: PerView | None = ...,
        p: PerView | None = ...,
        z_target: PerView | None = ...,
        clock: Clock = ...,
    ) -> Tensor: ...

    def __call__(self, *given: Any, clock: Clock = Clock(), **named: Any) -> Loss | Tensor:
        """`forward` in float32 or better.

        Raises: UserError for tensors that are no views, and for tensors if the method keeps a state from step to step.
        """
        if given and isinstance(given[0], Views):
            return self._evaluate(given[0], *(given[1:] or (clock,)), **named)
        loss = self._evaluate(Views.of(*given, **named), clock)
        if loss.carry:
            raise UserError(
                f"{type(self).__name__} keeps a state that moves after each step, so it needs Views: "
                "out = objective(ev.Views.of(z1, z2, ...)); out.total.backward(); optimizer.step(); "
                "objective.update(out.carry, ev.Clock())."
            )
        return loss.total

    def _evaluate(self, views: Views, clock: Clock) -> Loss:
        clock.processes.check_shape(views.shape)
        with torch.autocast(views.device_type, enabled=False):
            out: Loss = super().__call__(views.promoted() if self.promotes else views, clock)
        return replace(out, carry={name: value.detach() for name, value in out.carry.items()})

    def forward(self, views: Views, clock: Clock) -> Loss:
        """The weighted terms of the batch."""
        raise TypeError(f"{type(self).__name__} defines no forward.")

    @torch.no_grad()
    def update(self, carry: Mapping[str, Tensor], clock: Clock) -> None:
        """Move buffers from what `forward` carried over, on all processes alike."""

    def predict(self, z: Tensor) -> Tensor | None:
        """p (V N D) of z (V N D) where the objective itself computes the predictor; None otherwise."""
        return None

    def parameter_groups(self) -> Iterator[Group]:
        """Trainable parameters of the objective itself."""
        params = [p for p in self.parameters() if p.requires_grad]
        if params:
            yield Group("objective", params)


def mean_over_processes(value: Tensor, clock: Clock) -> Tensor:
    """Mean over processes of a carried statistic (1 ...) of each, whose parts are averaged first."""
    own: Any = value.mean(dim=0)
    return clock.processes.sum(own) / clock.processes.size
