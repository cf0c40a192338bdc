"""State of an objective, moved as the training step moves it."""

from __future__ import annotations

from eigenview.methods.parts.method import Objective
from eigenview.records import Clock
from eigenview.views import Loss, Views


def update(objective: Objective, views: Views, clock: Clock = Clock()) -> Loss:
    """Forward, then `update` with what it carried; returns the loss of this batch."""
    loss = objective(views, clock)
    objective.update(loss.carry, clock)
    return loss
