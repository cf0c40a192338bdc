"""Linear BYOL with whole matrices: do W_p and F align, and what collapses without predictor or stop-gradient?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.result import Curve, Number, Panel, Result, Theory, time_grid
from eigenview.theory import eigenvalues, linear_byol, symmetrised
from eigenview.theory.simulation import Simulation

System = Literal["symmetrised", "free", "ema", "no-predictor", "no-stop-gradient"]
ON_F: tuple[System, ...] = ("symmetrised", "free")
SYSTEMS: tuple[System, ...] = (*ON_F, "ema", "no-predictor", "no-stop-gradient")

COLLAPSED = 1e-20
"""If the largest eigenvalue of F is below this, its eigenvectors are the integrator's rounding error."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Inputs have second moment I and view noise sigma2 I."""

    system: System = "symmetrised"
    """symmetrised: dynamics of W_p and F with W_p kept symmetric; free: the same without symmetrising W_p;
    ema: encoder, predictor and target network; no-predictor and no-stop-gradient: without it and without a target
    network."""
    eta: float = 0.1
    """Weight decay."""
    sigma2: float = 0.25
    """Variance of the view noise."""
    alpha_p: float = 1.0
    """Ratio of the predictor's learning rate to the encoder's."""
    tau: float = 1.0
    """Weight of the target relative to the encoder's, constant; for symmetrised and free."""
    beta: float = 0.5
    """Rate at which the target network follows the encoder; for ema."""
    s: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    """Initial eigenvalues of F; those of W_p are their square roots."""
    perturbation: float = 0.05
    """Size of the symmetric noise added to the initial W_p, so that its eigenvectors differ from those of F."""
    end: float = 40.0
    """Time to simulate; one step of gradient descent at learning rate h takes a time of h."""
    seed: int = 0
    """Seed of the noise."""


def simulate(o: Options) -> Result:
    """The commutator of W_p and F, their eigenvalues, times until they are aligned, rates of collapse."""
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
            "Eigenvalues of F. A mode whose eigenvalue goes to 0 is a dimension that collapses.",
            "time",
            "eigenvalue of F",
            (Curve("eigenvalue of F", run.times, values),),
        )
    ]
    if "W_p" in run.states:
        aligned = np.einsum("tki,tkl,tli->ti", vectors, run.states["W_p"], vectors)
        commutator = symmetrised.relative_commutator(run.states["W_p"], run.states["F"])
        collapsed = values[:, -1] < COLLAPSED
        aligned[collapsed], commutator[collapsed] = np.nan, np.nan
        caption = "v^T W_p v for the eigenvectors v of F: the eigenvalues of W_p once both have the same eigenvectors."
        panels += [
            Panel("Predictor", caption, "time", "v^T W_p v", (Curve("v^T W_p v", run.times, aligned),)),
            Panel(
                "Disagreement",
                "|F W_p - W_p F| / (|F| |W_p|): 0 if F and W_p have the same eigenvectors.",
                "time",
                "relative commutator",
                (Curve("commutator", run.times, commutator),),
                is_log=True,
            ),
        ]
        numbers |= _alignment_numbers(o, run, commutator)
    if o.system in ("no-predictor", "no-stop-gradient"):
        numbers |= _collapse_numbers(o, values)
        statements.append(_describe_collapse(o, values))
    else:
        points = eigenvalues.fixed_points(tau=1.0 if o.system == "ema" else o.tau, eta=o.eta, sigma2=o.sigma2)
        if points.p_plus is not None:
            numbers["p_plus, limit of aligned modes"] = points.p_plus
        statements.append(f"{points.describe()} This holds for aligned modes with s = p^2 / alpha_p.")
    numbers |= {f"eigenvalue {k + 1} of F at t = {o.end:g}": float(v) for k, v in enumerate(values[-1, ::-1])}
    if "W_p" in run.states:
        p = np.linalg.eigvalsh((run.final["W_p"] + run.final["W_p"].T) / 2)[::-1]
        numbers |= {f"eigenvalue {k + 1} of W_p at t = {o.end:g}": float(v) for k, v in enumerate(p)}
    return Result(numbers, tuple(statements), tuple(panels))


def _on_moments(o: Options, W_p: ndarray, F: ndarray) -> Simulation:
    options = {"alpha_p": o.alpha_p, "tau": o.tau, "eta": o.eta, "sigma2": o.sigma2}
    return symmetrised.simulate(W_p, F, time_grid(o.end), symmetrise=o.system == "symmetrised", **options)


def _on_weights(o: Options, W_p: ndarray, F: ndarray) -> Simulation:
    """Start from W = F^(1/2), so that W W^T is the given F."""
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
    predictor = {"W_p": run.states["W_p"]} if "W_p" in run.states else {}
    return Simulation(run.times, {"F": W @ np.swapaxes(W, 1, 2), **predictor})


def _alignment_numbers(o: Options, run: Simulation, commutator: ndarray) -> dict[str, Number]:
    numbers: dict[str, Number] = {
        "initial relative commutator": float(commutator[0]),
    }
    if np.isnan(commutator[-1]):
        return numbers
    numbers |= {
        f"relative commutator at t = {o.end:g}": float(commutator[-1]),
        "time until the relative commutator stays below 1e-4": symmetrised.time_to_align(run, 1e-4),
        "time until the relative commutator stays below 1e-8": symmetrised.time_to_align(run, 1e-8),
    }
    if o.system in ON_F:
        s = np.array(o.s)
        parameters = {"alpha_p": o.alpha_p, "tau": o.tau, "eta": o.eta, "sigma2": o.sigma2}
        margin = symmetrised.alignment_margin(np.sqrt(s), s, **parameters)
        numbers["smallest initial alignment margin (above 0: aligns)"] = float(margin.min())
    return numbers


def _collapse_numbers(o: Options, values: ndarray) -> dict[str, Number]:
    """Rate at which |W| falls, averaged over the simulation. |W|^2 is the trace of F."""
    numbers: dict[str, Number] = {}
    first, last = float(values[0].sum()), float(values[-1].sum())
    if first > 0 and last > 0:
        numbers["mean rate at which |W| falls"] = float(np.log(first / last) / (2 * o.end))
    if o.system == "no-predictor":
        numbers["predicted rate, sigma2 + eta"] = o.sigma2 + o.eta
    return numbers


def _describe_collapse(o: Options, values: ndarray) -> str:
    remaining = float(np.sqrt(max(values[-1].sum(), 0.0) / max(values[0].sum(), 1e-300)))
    if o.system == "no-predictor":
        return (
            f"Without a predictor W falls as e^(-(sigma2 + eta) t), here e^(-{o.sigma2 + o.eta:g} t): at t = {o.end:g} "
            f"|W| is {remaining:.3g} of its initial value."
        )
    return (
        "Without stop-gradient |W| never grows, for any predictor: "
        f"at t = {o.end:g} it is {remaining:.3g} of its initial value."
    )


THEORY = Theory(f"{symmetrised.assumptions} {linear_byol.assumptions}", Options, simulate)
