"""Linear BYOL with whole matrices: do W_p and F come to share their eigenvectors, and what collapses without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.outcome import Curve, Number, Outcome, Panel, Theory, time_grid
from eigenview.theory import eigenvalues, linear_byol, symmetrised
from eigenview.theory.simulation import Simulation

System = Literal["symmetrised", "free", "ema", "no-predictor", "no-stop-gradient"]
ON_F: tuple[System, ...] = ("symmetrised", "free")
SYSTEMS: tuple[System, ...] = (*ON_F, "ema", "no-predictor", "no-stop-gradient")

GONE = 1e-20
"""Largest eigenvalue of F below which its eigenvectors are the integrator's error."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Inputs have second moment I and view noise sigma2 I."""

    system: System = "symmetrised"
    """symmetrised: dynamics of W_p and F with W_p kept symmetric; free: the same with W_p as gradient descent leaves
    it; ema: encoder, predictor and target network; no-predictor, no-stop-gradient: each left out, no target network."""
    eta: float = 0.1
    """Weight decay."""
    sigma2: float = 0.25
    """Variance of the view noise."""
    alpha_p: float = 1.0
    """Learning rate of the predictor over the encoder's."""
    tau: float = 1.0
    """Weight of the target over the encoder's, held; for symmetrised and free."""
    beta: float = 0.5
    """Rate at which the target catches up; for ema."""
    s: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    """Eigenvalues of F at the start; those of W_p are their square roots."""
    perturbation: float = 0.05
    """Size of the symmetric noise on W_p at the start: the disagreement that is to die out."""
    end: float = 40.0
    """Time to simulate; a step of gradient descent takes a time of its learning rate."""
    seed: int = 0
    """Of the noise."""


def simulate(o: Options) -> Outcome:
    """The commutator, the eigenvalues of F and what W_p does to them, times to align, rates of collapse."""
    require(o.system in SYSTEMS, "system", o.system, ", ".join(SYSTEMS))
    require(o.seed >= 0, "seed", o.seed, "0 or more")
    s = np.array(o.s)
    W_p, F = symmetrised.perturbed_start(np.sqrt(np.abs(s)), s, o.perturbation, o.seed)
    run = _on_moments(o, W_p, F) if o.system in ON_F else _on_weights(o, W_p, F)
    values, vectors = np.linalg.eigh(run.states["F"])
    numbers: dict[str, Number] = {}
    statements: list[str] = []
    panels = [
        Panel(
            "Embedding",
            "Eigenvalues of F: the modes that stay are the dimensions that do not collapse.",
            "time",
            "eigenvalue of F",
            (Curve("eigenvalue of F", run.times, values),),
        )
    ]
    if "W_p" in run.states:
        aligned = np.einsum("tki,tkl,tli->ti", vectors, run.states["W_p"], vectors)
        commutator = symmetrised.relative_commutator(run.states["W_p"], run.states["F"])
        gone = values[:, -1] < GONE
        aligned[gone], commutator[gone] = np.nan, np.nan
        caption = "Quadratic form of W_p in the eigenvectors of F: its eigenvalues once they are shared."
        panels += [
            Panel("Predictor", caption, "time", "v^T W_p v", (Curve("v^T W_p v", run.times, aligned),)),
            Panel(
                "Disagreement",
                "|F W_p - W_p F| / (|F| |W_p|): zero when both share their eigenvectors.",
                "time",
                "relative commutator",
                (Curve("commutator", run.times, commutator),),
                is_log=True,
            ),
        ]
        numbers |= _alignment_numbers(o, run, commutator)
    if o.system in ("no-predictor", "no-stop-gradient"):
        numbers |= _collapse_numbers(o, values)
        statements.append(_collapse(o, values))
    else:
        points = eigenvalues.fixed_points(tau=1.0 if o.system == "ema" else o.tau, eta=o.eta, sigma2=o.sigma2)
        if points.p_plus is not None:
            numbers["p_plus, where aligned modes end"] = points.p_plus
        statements.append(f"{points.describe()} That is for a mode with W_p tied to F.")
    numbers |= {f"eigenvalue {k + 1} of F at t = {o.end:g}": float(v) for k, v in enumerate(values[-1, ::-1])}
    if "W_p" in run.states:
        p = np.linalg.eigvalsh((run.final["W_p"] + run.final["W_p"].T) / 2)[::-1]
        numbers |= {f"eigenvalue {k + 1} of W_p at t = {o.end:g}": float(v) for k, v in enumerate(p)}
    return Outcome(numbers, tuple(statements), tuple(panels))


def _on_moments(o: Options, W_p: ndarray, F: ndarray) -> Simulation:
    options = {"alpha_p": o.alpha_p, "tau": o.tau, "eta": o.eta, "sigma2": o.sigma2}
    return symmetrised.simulate(W_p, F, time_grid(o.end), symmetrise=o.system == "symmetrised", **options)


def _on_weights(o: Options, W_p: ndarray, F: ndarray) -> Simulation:
    """From W = F^(1/2), so that F = W W^T is the start asked for."""
    identity = np.eye(len(F))
    run = linear_byol.simulate(
        np.sqrt(F),
        time_grid(o.end),
        W_p=None if o.system == "no-predictor" else W_p,
        X=identity,
        X_prime=o.sigma2 * identity,
        alpha_p=o.alpha_p,
        beta=o.beta if o.system == "ema" else None,
        eta=o.eta,
        stop_gradient=o.system != "no-stop-gradient",
    )
    W = run.states["W"]
    moved = {"W_p": run.states["W_p"]} if "W_p" in run.states else {}
    return Simulation(run.times, {"F": W @ np.swapaxes(W, 1, 2), **moved})


def _alignment_numbers(o: Options, run: Simulation, commutator: ndarray) -> dict[str, Number]:
    numbers: dict[str, Number] = {
        "relative commutator at the start": float(commutator[0]),
    }
    if np.isnan(commutator[-1]):
        return numbers
    numbers |= {
        f"relative commutator at t = {o.end:g}": float(commutator[-1]),
        "time until it stays below 1e-4": symmetrised.time_to_align(run, 1e-4),
        "time until it stays below 1e-8": symmetrised.time_to_align(run, 1e-8),
    }
    if o.system in ON_F:
        s = np.array(o.s)
        parameters = {"alpha_p": o.alpha_p, "tau": o.tau, "eta": o.eta, "sigma2": o.sigma2}
        margin = symmetrised.alignment_margin(np.sqrt(s), s, **parameters)
        numbers["smallest alignment margin at the start (above 0: aligns)"] = float(margin.min())
    return numbers


def _collapse_numbers(o: Options, values: ndarray) -> dict[str, Number]:
    """Rate at which |W| falls, averaged over the simulation; |W|^2 is the trace of F."""
    numbers: dict[str, Number] = {}
    first, last = float(values[0].sum()), float(values[-1].sum())
    if first > 0 and last > 0:
        numbers["mean rate at which |W| falls"] = float(np.log(first / last) / (2 * o.end))
    if o.system == "no-predictor":
        numbers["predicted rate, sigma2 + eta"] = o.sigma2 + o.eta
    return numbers


def _collapse(o: Options, values: ndarray) -> str:
    left = float(np.sqrt(max(values[-1].sum(), 0.0) / max(values[0].sum(), 1e-300)))
    if o.system == "no-predictor":
        return (
            f"Without a predictor W falls as e^(-(sigma2 + eta) t), here e^(-{o.sigma2 + o.eta:g} t): at t = {o.end:g} "
            f"|W| is {left:.3g} of what it was."
        )
    return (
        "Without stop-gradient |W| never grows, whatever the predictor does: "
        f"at t = {o.end:g} it is {left:.3g} of what it was."
    )


THEORY = Theory(f"{symmetrised.assumptions} {linear_byol.assumptions}", Options, simulate)
