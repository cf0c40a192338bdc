"""InfoNCE on a linear network: directions in which augmentation outweighs the variance of the data collapse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.result import (
    Curve,
    Number,
    Panel,
    Result,
    Theory,
    effective_rank,
    time_grid,
    time_to_reach,
)
from eigenview.theory import infonce
from eigenview.theory.simulation import MOST_SAMPLES, Simulation, check_number, check_size

STIFF = 100.0
CLOSED_FORM_TOLERANCE = 0.1
"""Relative error up to which the closed form counts as accurate."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The first view of an image is standard normal; the second adds noise to the last coordinates."""

    kept: int = 8
    """Number of input coordinates without view noise."""
    noisy: int = 8
    """Number of input coordinates to which the second view adds noise."""
    noise: float = 3.0
    """Standard deviation of the view noise; that of the data is 1."""
    width: int = 16
    """Number of outputs of the network."""
    scale: float = 0.1
    """Standard deviation of the initial weights."""
    eps: float = 1.0
    """Weight of the positive pair in the denominator: 1 is InfoNCE; with 0 the embedding grows without bound."""
    samples: int = 128
    """Number of pairs in the batch; the same batch is used at every step."""
    end: float | None = None
    """Time to simulate, for the mean loss over the batch; one step of gradient descent at learning rate h takes a time
    of h. Default: 20, or 3 with eps 0, for which at most 5 is allowed."""
    seed: int = 0
    """Seed of data and initial weights."""


def simulate(o: Options) -> Result:
    """Singular values of W and eigenvalues of Sigma_0 - Sigma_aug in time, compared with the closed form."""
    require(o.seed >= 0, "seed", o.seed, "0 or more")
    for name, value, least in (("kept", o.kept, 0), ("noisy", o.noisy, 0), ("width", o.width, 1)):
        check_size(name, value, least)
    check_size("samples", o.samples, 2, MOST_SAMPLES)
    require(o.kept + o.noisy >= 1, "kept and noisy", (o.kept, o.noisy), "together 1 or more")
    check_number("scale", o.scale, 0, strict=True)
    check_number("noise", o.noise, 0)
    for name, value in (("scale", o.scale), ("noise", o.noise)):
        require(value <= STIFF, name, value, f"up to {STIFF:g}", "Beyond, the integrator's steps become too short.")
    longest = 5.0 if o.eps == 0 else np.inf
    end = (20.0 if o.eps else 3.0) if o.end is None else o.end
    require(end <= longest, "end", end, "at most 5 with eps 0, for which the embedding grows without bound")
    x, x_prime = infonce.gaussian_pairs(o.samples, np.repeat([0.0, o.noise], [o.kept, o.noisy]), o.seed)
    W = o.scale * np.random.default_rng([o.seed, 1]).standard_normal((o.width, o.kept + o.noisy))
    # theory/infonce.py has the loss summed over the batch; the time of the mean loss is `samples` times as long
    times = time_grid(end)
    run = infonce.simulate(W, x, x_prime, times / o.samples, eps=o.eps)
    start = infonce.difference(W, x, x_prime, o.eps)
    closed = infonce.solution(W, start, times / o.samples)
    error = _relative_error(closed, run)
    lost = infonce.num_lost(start)
    first, last = run.states["singular_values"][0], run.final["singular_values"]
    numbers: dict[str, Number] = {
        "negative eigenvalues of Sigma_0 - Sigma_aug at the start": lost,
        f"negative eigenvalues at t = {end:g}": infonce.num_lost(infonce.difference(run.final["W"], x, x_prime, o.eps)),
        "noise above which small weights lose a direction, std": float(np.sqrt(2)),
        "effective rank of W at the start": effective_rank(first),
        f"effective rank of W at t = {end:g}": effective_rank(last),
        f"singular values above a tenth of the largest at t = {end:g}": int((last > 0.1 * last[0]).sum()),
        "smallest kept singular value": float(last[max(len(last) - lost, 1) - 1]),
        f"time until the closed form is {CLOSED_FORM_TOLERANCE:.0%} off": time_to_reach(
            times, error, CLOSED_FORM_TOLERANCE
        ),
    }
    return Result(
        numbers, (_statement(o, end, lost, last),), (*_panels(o, times, run), _closed_form_panel(o, end, W, x, x_prime))
    )


def _statement(o: Options, end: float, lost: int, last: ndarray) -> str:
    inputs = o.kept + o.noisy
    if lost == 0:
        return (
            f"Sigma_0 - Sigma_aug has no negative eigenvalue at the start: none of {inputs} input directions shrinks."
        )
    kept = int((last > 0.1 * last[0]).sum())
    return (
        f"Sigma_0 - Sigma_aug has {lost} negative eigenvalues at the start: W shrinks along their eigenvectors. "
        f"At t = {end:g}, {kept} of {len(last)} singular values are above a tenth of the largest."
    )


def _relative_error(closed: ndarray, run: Simulation) -> ndarray:
    W = run.states["W"]
    return np.linalg.norm(closed - W, axis=(1, 2)) / np.linalg.norm(W, axis=(1, 2))


def _closed_form_panel(o: Options, end: float, W: ndarray, x: ndarray, x_prime: ndarray) -> Panel:
    """The closed form and the simulation, until the closed form is 100 % off."""
    times = time_grid(min(end, 2.0))
    run = infonce.simulate(W, x, x_prime, times / o.samples, eps=o.eps)
    closed = infonce.solution(W, infonce.difference(W, x, x_prime, o.eps), times / o.samples)
    is_off = _relative_error(closed, run) > 1
    stop = int(np.argmax(is_off)) if is_off.any() else len(times)
    return Panel(
        "The closed form, while it holds",
        "W(0) exp(t (Sigma_0 - Sigma_aug)) with the initial matrices, drawn until it is 100 % off.",
        "time",
        "singular value",
        (
            Curve("simulated", times[:stop], run.states["singular_values"][:stop]),
            Curve("closed form", times[:stop], np.linalg.svd(closed[:stop], compute_uv=False)),
        ),
        is_log=True,
    )


def _panels(o: Options, times: ndarray, run: Simulation) -> tuple[Panel, ...]:
    return (
        Panel(
            "Singular values of W",
            "Singular values along strongly augmented directions go to 0.",
            "time",
            "singular value",
            (Curve("singular value", times, run.states["singular_values"]),),
            is_log=True,
        ),
        Panel(
            "What drives them",
            "Eigenvalues of (Sigma_0 - Sigma_aug) / samples: W grows along eigenvectors of positive eigenvalues and "
            "shrinks along those of negative ones.",
            "time",
            "eigenvalue",
            (Curve("eigenvalue", times, run.states["eigenvalues"] / o.samples),),
        ),
    )


THEORY = Theory(infonce.assumptions, Options, simulate)
