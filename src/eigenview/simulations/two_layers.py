"""Two linear layers against one: with depth, modes of large singular value grow faster than small ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.result import Curve, Number, Panel, Result, Theory, effective_rank, time_grid
from eigenview.theory import infonce, two_layers
from eigenview.theory.simulation import MOST_SAMPLES, check_number, check_size, check_values


@dataclass(frozen=True, kw_only=True)
class Options:
    """InfoNCE on normal data with weak view noise, and the closed form for aligned layers of equal singular values."""

    width: int = 16
    """Number of inputs, of hidden units and of outputs."""
    decay: float = 0.35
    """Initial singular values of both layers are e^(-decay k), k = 0, 1, ...; singular vectors are random."""
    noise: float = 0.001
    """Standard deviation of the second view's noise in every coordinate; that of the data is 1."""
    samples: int = 128
    """Number of pairs in the batch; the same batch is used at every step."""
    end: float = 20.0
    """Time to simulate, for the mean loss over the batch; one step of gradient descent at learning rate h takes a time
    of h."""
    seed: int = 0
    """Seed of data and initial weights."""
    sigma: tuple[float, ...] = (0.5, 0.4, 0.3)
    """Closed form: initial singular value of each mode, the same in both layers, in descending order."""
    growth: float = 1.0
    """Closed form: growth rate v^T D v of these modes, constant."""
    at: float = 1.0
    """Closed form: time at which the table shows the singular values."""


def simulate(o: Options) -> Result:
    """Singular values of two layers and of one layer started as their product, alignment, and the conserved matrix."""
    require(o.seed >= 0, "seed", o.seed, "0 or more")
    check_size("width", o.width)
    check_size("samples", o.samples, 2, MOST_SAMPLES)
    check_number("noise", o.noise, 0)
    check_number("at", o.at, 0)
    require(
        abs(o.growth) * o.at <= 100, "growth times at", o.growth * o.at, "up to 100 in size, since exp(it) is shown"
    )
    sigma = np.array(o.sigma)
    check_values("sigma", sigma)
    require(len(sigma) > 0 and bool((sigma > 0).all()), "sigma", o.sigma, "one number or more, above 0")
    W1, W2 = two_layers.decaying_layers(o.width, o.decay, o.seed)
    x, x_prime = infonce.gaussian_pairs(o.samples, np.full(o.width, o.noise), o.seed)
    times = time_grid(o.end)

    def difference(W: ndarray) -> ndarray:
        return infonce.difference(W, x, x_prime, 1.0) / o.samples  # of the mean loss

    deep = two_layers.simulate(W1, W2, difference, times)
    shallow = infonce.simulate(W2 @ W1, x, x_prime, times / o.samples)
    two, one = deep.states["singular_values"], shallow.states["singular_values"]
    conserved = [two_layers.conserved(deep.states["W1"][k], deep.states["W2"][k]) for k in (0, -1)]
    alignment = np.stack(
        [two_layers.alignment(a, b) for a, b in zip(deep.states["W1"], deep.states["W2"], strict=True)]
    )
    leading = min(4, o.width)
    aligned = alignment[:, range(leading), range(leading)].mean(axis=1)
    numbers: dict[str, Number] = {
        "effective rank at the start": effective_rank(two[0]),
        f"two layers: effective rank at t = {o.end:g}": effective_rank(two[-1]),
        f"one layer: effective rank at t = {o.end:g}": effective_rank(one[-1]),
        f"two layers: smallest over largest singular value at t = {o.end:g}": float(two[-1, -1] / two[-1, 0]),
        f"one layer: smallest over largest singular value at t = {o.end:g}": float(one[-1, -1] / one[-1, 0]),
        f"|V2^T U1| of the {leading} leading modes, mean, at the start": float(aligned[0]),
        f"|V2^T U1| of the {leading} leading modes, mean, at t = {o.end:g}": float(aligned[-1]),
        "change of W1 W1^T - W2^T W2": float(np.abs(conserved[1] - conserved[0]).max()),
    }
    statement = (
        f"Started from the same linear map, two layers end with an effective rank of {effective_rank(two[-1]):.3g} and "
        f"one layer with {effective_rank(one[-1]):.3g} of {o.width}."
    )
    panels = (
        _spectrum_panel("Singular values, two layers", times, two),
        _spectrum_panel("Singular values, one layer", times, one),
        Panel(
            "Alignment of the layers",
            f"Mean of |V2^T U1| over the {leading} leading modes: 1 if the singular vectors of the layers are aligned.",
            "time",
            "|V2^T U1|",
            (Curve("leading modes", times, aligned),),
        ),
        _closed_panel(o),
    )
    return Result(numbers | _closed_numbers(o), (statement,), panels)


def _spectrum_panel(title: str, times: ndarray, values: ndarray) -> Panel:
    caption = "Singular values of the map from input to output. Those far below the largest are collapsed dimensions."
    return Panel(title, caption, "time", "singular value", (Curve("singular value", times, values),), is_log=True)


def _closed_numbers(o: Options) -> dict[str, Number]:
    numbers: dict[str, Number] = {}
    for sigma in o.sigma:
        end = two_layers.blow_up_time(sigma, sigma, o.growth)
        numbers[f"closed form: time of blow-up from {sigma:g}"] = end
        value = two_layers.singular_values(sigma, sigma, o.growth, o.at)[0] if o.at < end else float("inf")
        numbers[f"closed form: a layer's singular value at t = {o.at:g} from {sigma:g}"] = value
        single = two_layers.one_layer_singular_value(sigma**2, o.growth, o.at)
        numbers[f"closed form: product of the layers at t = {o.at:g} from {sigma**2:.6g}"] = value**2
        numbers[f"closed form: one layer at t = {o.at:g} from {sigma**2:.6g}"] = single
    return numbers


def _closed_panel(o: Options) -> Panel:
    """Ratio of the singular values of neighbouring modes: constant with one layer, growing with two."""
    ends = [two_layers.blow_up_time(sigma, sigma, o.growth) for sigma in o.sigma]
    end = 0.98 * min(ends) if np.isfinite(min(ends)) else o.end
    times = time_grid(end)

    def product(sigma: float) -> ndarray:
        return np.array([two_layers.singular_values(sigma, sigma, o.growth, t)[0] ** 2 for t in times])

    deep = [product(a) / product(b) for a, b in pairwise(o.sigma)]
    shallow = [np.full(len(times), (a / b) ** 2) for a, b in pairwise(o.sigma)]
    curves: tuple[Curve, ...] = ()
    if deep:
        curves = (
            Curve("two layers", times, np.stack(deep, axis=1)),
            Curve("one layer, from the same product", times, np.stack(shallow, axis=1)),
        )
    caption = "Closed form: singular value of a mode over that of the next smaller one, for equal growth rates."
    return Panel("Large modes over small ones", caption, "time", "ratio", curves, is_log=True)


THEORY = Theory(two_layers.assumptions, Options, simulate)
