"""VICReg and related losses on a point cloud: features learned by gradient flow against the eigenfunctions of T_M."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.result import Cloud, Curve, Number, Panel, Result, Theory, time_grid
from eigenview.theory import augmentation_graph, spectral
from eigenview.theory.point_cloud import PointCloud, point_cloud, view_affinity
from eigenview.theory.simulation import check_number

MAX_POINTS = 1000


@dataclass(frozen=True, kw_only=True)
class Options:
    """Images are points of the plane, in clusters; a view is an image plus Gaussian noise."""

    orthogonality: float | None = None
    """Weight of |F^T Pi F - I|^2 (barlow_twins: of the off-diagonal term). Default: a sweep of 0.01 and 1."""
    width: int = 5
    """Number of features, that is, the width of the projector."""
    objective: spectral.Objective = "reformulated"
    """reformulated: distance of a view to the mean of all views of its image; vicreg: distance of two views;
    barlow_twins: as published."""
    clusters: int = 5
    """Number of clusters; their centres lie on a circle of radius 1.2."""
    images: int = 6
    """Number of images in a cluster."""
    views: int = 8
    """Number of views of an image."""
    spread: float = 0.25
    """Standard deviation of images around the centre of their cluster."""
    noise: float = 0.35
    """Standard deviation of views around their image."""
    start: float | None = None
    """Standard deviation of the initial features. Default: 0.1; 1 for barlow_twins, which standardises them."""
    end: float | None = None
    """Time to simulate. Default: 60 (barlow_twins: 200), or 4 / orthogonality if that is longer."""
    seed: int = 0
    """Seed of the points and of the initial features."""


class Learned(NamedTuple):
    """The result of a simulation, and the exact eigenfunctions that it should find."""

    exact: augmentation_graph.Eigenfunctions
    """The leading ones, as many as features; without the constant function for Barlow Twins."""
    next_value: float
    """The largest eigenvalue that does not fit the width."""
    pi: ndarray
    """(n): probability of each point as a view."""
    times: ndarray
    energies: ndarray
    """(T k)"""
    features: ndarray
    """(n k), at the last time."""


def simulate(o: Options) -> Result:
    """Energies of the features in time, angles between learned and exact eigenspace, and both drawn on the points."""
    weight = 1.0 if o.orthogonality is None else o.orthogonality
    cloud, learned = _learn(o, weight)
    k, is_quadratic = o.width, o.objective != "barlow_twins"
    angles = augmentation_graph.principal_angles(learned.features, learned.exact.functions, learned.pi, floor=0.01)
    explained = _explained_variance(learned, np.eye(cloud.cluster.max() + 1)[cloud.cluster])
    numbers: dict[str, Number] = {f"eigenvalue {i + 1} of T_M": float(v) for i, v in enumerate(learned.exact.values)}
    numbers[f"eigenvalue {k + 1} of T_M, not learned"] = learned.next_value
    needed = np.zeros(0)
    if o.objective != "barlow_twins":
        # + 0.0 turns -0 into 0
        needed = spectral.needed_orthogonality(learned.exact.values, o.objective).round(13) + 0.0
        numbers |= {f"orthogonality that feature {i + 1} needs": float(v) for i, v in enumerate(needed)}
        rest = spectral.learned_energies(learned.exact.values, weight, o.objective)
        numbers |= {f"energy {i + 1} at rest, predicted": float(v) for i, v in enumerate(rest)}
    numbers["time simulated"] = float(learned.times[-1])
    numbers |= {f"energy {i + 1} at the end": float(v) for i, v in enumerate(learned.energies[-1])}
    numbers |= {f"principal angle {i + 1}, degrees": float(v) for i, v in enumerate(angles)}
    numbers["fraction of the clusters' variance that a linear readout explains"] = explained
    lost = int((learned.energies[-1] < 0.01).sum()) if is_quadratic else int((angles == 90).sum())
    return Result(
        numbers, (_statement(o, weight, angles, lost, needed),), _panels(o, weight, learned), _clouds(cloud, learned)
    )


def _learn(o: Options, weight: float) -> tuple[PointCloud, Learned]:
    require(o.seed >= 0, "seed", o.seed, "0 or more")
    start = (1.0 if o.objective == "barlow_twins" else 0.1) if o.start is None else o.start
    check_number("start", start, 0, strict=True)
    check_number("orthogonality", weight, 0, strict=True)
    total = o.clusters * o.images * o.views
    require(total <= MAX_POINTS, "clusters x images x views", total, f"at most {MAX_POINTS} points")
    cloud = point_cloud(
        clusters=o.clusters, images=o.images, views=o.views, spread=o.spread, noise=o.noise, seed=o.seed
    )
    n = len(cloud.points)
    require(1 <= o.width <= n - 2, "width", o.width, f"1 to {n - 2}, for {n} points")
    weights = view_affinity(cloud.points, cloud.points, cloud.images, o.noise)
    first = 1 if o.objective == "barlow_twins" else 0  # it centres features, which removes the constant function
    values, functions = augmentation_graph.eigenfunctions(weights, o.width + first + 1)
    exact = augmentation_graph.Eigenfunctions(values[first:-1], functions[:, first:-1])
    pi = augmentation_graph.measure(weights)
    times = time_grid(max(200.0 if first else 60.0, 4 / weight) if o.end is None else o.end)
    F = start * np.random.default_rng([o.seed, 2]).standard_normal((n, o.width))
    run = spectral.simulate(F, weights, times, orthogonality=weight, objective=o.objective, rtol=1e-6, atol=1e-8)
    tables, energies = run.states["F"], run.states["energies"]
    if first:  # Barlow Twins ignores mean and scale of a feature: standardise
        centred = tables - (pi @ tables)[:, None]
        tables = centred / np.sqrt(np.einsum("n,tnk->tk", pi, centred**2))[:, None]
        energies = augmentation_graph.energies(tables, pi)
    return cloud, Learned(exact, float(values[-1]), pi, times, energies, tables[-1])


def _explained_variance(learned: Learned, targets: ndarray) -> float:
    """Fraction of the variance of `targets` (n c) under pi that a linear readout of the features explains."""
    pi = learned.pi
    readout = augmentation_graph.linear_readout(learned.features, targets, pi)
    total = float((pi @ (targets - pi @ targets) ** 2).sum())
    return 1 - float((pi @ (targets - readout) ** 2).sum()) / total if total else 1.0


def _statement(o: Options, weight: float, angles: ndarray, lost: int, needed: ndarray) -> str:
    """How many features are lost, and the weight that would keep all of them."""
    largest = f"{angles[-1]:.2f}" if angles[-1] >= 0.01 else "below 0.01"
    span = f"the largest angle to the exact eigenspace is {largest} degrees"
    if lost == 0:
        return f"Orthogonality weight {weight:g} keeps all {o.width} features; {span}."
    enough = f"; to keep all, it must be above {needed[-1]:.3g}" if needed.size else ""
    return f"Orthogonality weight {weight:g} loses {lost} of {o.width} features{enough}."


def _panels(o: Options, weight: float, learned: Learned) -> tuple[Panel, ...]:
    index = np.arange(1, o.width + 1)
    curves = [Curve("simulated", index, learned.energies[-1])]
    if o.objective != "barlow_twins":
        predicted = spectral.learned_energies(learned.exact.values, weight, o.objective)
        curves.append(Curve("predicted", index, predicted))
    return (
        Panel(
            "Energies of the features",
            "Eigenvalues of F^T Pi F, the squared singular values: 1 for a learned dimension, 0 for a lost one.",
            "time",
            "energy",
            (Curve("energy", learned.times, learned.energies),),
        ),
        Panel(
            "Energies at the end",
            "Each feature against the prediction max(0, 1 - P / (2 orthogonality)), which Barlow Twins does not have.",
            "feature",
            "energy",
            tuple(curves),
        ),
    )


def _clouds(cloud: PointCloud, learned: Learned) -> tuple[Cloud, ...]:
    """The last eigenfunction that fits the width, exact and as a linear readout of the learned features."""
    k = learned.exact.functions.shape[1] - 1
    exact = learned.exact.functions[:, k:]
    readout = augmentation_graph.linear_readout(learned.features, exact, learned.pi)
    value = learned.exact.values[k]
    return (
        Cloud(
            "Exact eigenfunction",
            f"The last eigenfunction that fits the width; its eigenvalue is {value:.3f}.",
            cloud.points,
            exact[:, 0],
            is_shared=True,
        ),
        Cloud(
            "Learned",
            "The best linear readout of the same function from the learned features.",
            cloud.points,
            readout[:, 0],
        ),
    )


THEORY = Theory(spectral.assumptions, Options, simulate, default_sweep="orthogonality=0.01,1")
