"""Stepwise learning: the modes of a linear Barlow Twins network, predicted and simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.result import Curve, Number, Panel, Result, Theory, time_grid, time_to_reach
from eigenview.theory import modes
from eigenview.theory.simulation import check_number, check_size


@dataclass(frozen=True, kw_only=True)
class Options:
    """The cross-moment of the views has eigenvalues gamma_j = j^-decay."""

    width: int = 6
    """Number of outputs of the network, and the number of modes that it can learn."""
    inputs: int = 12
    """Number of inputs, and of modes."""
    decay: float = 1.0
    """Exponent of the spectrum: gamma_j = j^-decay."""
    start: float = 1e-3
    """Standard deviation of the initial weights; the smaller, the more distinct the steps."""
    aligned: bool = False
    """Start with weights aligned with the eigenvectors, for which the closed form is exact."""
    end: float | None = None
    """Time to simulate; one step of gradient descent at learning rate h takes a time of h. Default: until the last
    learnable mode is learned."""
    seed: int = 0
    """Seed of the initial weights."""


def simulate(o: Options) -> Result:
    """Eigenvalues of the cross-correlation C in time, simulated and in closed form, and the loss."""
    check_size("inputs", o.inputs)
    require(1 <= o.width <= o.inputs, "width", o.width, f"1 to {o.inputs}, the number of inputs")
    check_number("decay", o.decay, 0)
    check_number("start", o.start, 0, strict=True)
    require(o.seed >= 0, "seed", o.seed, "0 or more")
    gamma = np.arange(1, o.inputs + 1) ** -o.decay
    axes = np.eye(o.inputs)
    W = o.start * np.random.default_rng(o.seed).standard_normal((o.width, o.inputs))
    amplitude = modes.effective_amplitudes(W, axes)
    if o.aligned:
        W = modes.aligned_start(amplitude, axes)
    learnable = gamma[: o.width]
    predicted = modes.take_off_times(amplitude, learnable)
    times = time_grid(1.4 * float(predicted.max()) if o.end is None else o.end)
    run = modes.simulate(W, np.diag(gamma), times)
    simulated = run.states["correlation"]
    closed = modes.correlations(amplitude, learnable, times)
    found = np.array([time_to_reach(times, simulated[:, j], 0.5) for j in range(o.width)])
    numbers: dict[str, Number] = {"largest stable learning rate": modes.largest_step(gamma)}
    for j in range(o.width):
        numbers[f"mode {j + 1}: gamma"] = float(gamma[j])
        numbers[f"mode {j + 1}: time to half, predicted"] = float(predicted[j])
        numbers[f"mode {j + 1}: time to half, simulated"] = float(found[j])
    loss = modes.loss(simulated)
    numbers["time simulated"] = float(times[-1])
    numbers["loss at the end"] = float(loss[-1])
    numbers["largest error of the closed form"] = float(np.abs(simulated - np.sort(closed)[:, ::-1]).max())
    statement = (
        f"{int(np.isfinite(found).sum())} of {o.width} modes are learned by t = {times[-1]:.4g}; the loss is "
        f"{loss[-1]:.3g}, from {loss[0]:.3g}."
    )
    return Result(numbers, (statement,), _panels(times, simulated, closed, loss))


def _panels(times: ndarray, simulated: ndarray, closed: ndarray, loss: ndarray) -> tuple[Panel, ...]:
    return (
        Panel(
            "Modes",
            "Eigenvalues of the cross-correlation C: one after the other rises from 0 to 1.",
            "time",
            "eigenvalue of C",
            (Curve("simulated", times, simulated), Curve("closed form", times, closed)),
        ),
        Panel(
            "Loss",
            "|C - I|^2 falls by 1 for each learned mode. On a plateau the next mode is still to come.",
            "time",
            "loss",
            (Curve("simulated", times, loss), Curve("closed form", times, modes.loss(closed))),
        ),
    )


THEORY = Theory(modes.assumptions, Options, simulate)
