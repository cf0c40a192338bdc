"""VICReg's kin on a point cloud: features learned by gradient flow beside the exact eigenfunctions of T_M."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.outcome import Cloud, Curve, Number, Outcome, Panel, Theory, time_grid
from eigenview.theory import spectral
from eigenview.theory.point_cloud import PointCloud, point_cloud, view_affinity
from eigenview.theory.simulation import check_number

MOST_POINTS = 1000
RIDGE = 1e-3
"""Of the linear readout: keeps a direction of vanishing energy from being blown up."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Images in clusters in the plane; a view is an image with Gaussian noise."""

    orthogonality: float | None = None
    """Weight of |F^T Pi F - I|^2 (Barlow Twins: of the off-diagonal term). Default: 0.01 and 1, side by side."""
    width: int = 5
    """Features to learn: the width of the projector."""
    objective: spectral.Objective = "reformulated"
    """reformulated: a view against the mean of all views; vicreg: against another view; barlow_twins: as published."""
    clusters: int = 5
    """Clusters of images, on a circle of radius 1.2."""
    images: int = 6
    """Images in a cluster."""
    views: int = 8
    """Views of an image."""
    spread: float = 0.25
    """Standard deviation of images about the centre of their cluster."""
    noise: float = 0.35
    """Standard deviation of views about their image."""
    start: float | None = None
    """Standard deviation of the features at the start. Default: 0.1; 1 for barlow_twins, which has no scale."""
    end: float | None = None
    """Time to simulate; default: 60 (barlow_twins 200), or 4 / orthogonality where that is longer."""
    seed: int = 0
    """Of the points and of the features at the start."""


class Learned(NamedTuple):
    """A simulation beside what it should find."""

    exact: spectral.Eigenfunctions
    """As many as features, the constant left out for Barlow Twins."""
    next_value: float
    """The eigenvalue after the last."""
    pi: ndarray
    times: ndarray
    energies: ndarray
    features: ndarray


def simulate(o: Options) -> Outcome:
    """Energies of the features in time, angles between learned and exact eigenspace, and the cloud in their colours."""
    weight = 1.0 if o.orthogonality is None else o.orthogonality
    cloud, learned = _learn(o, weight)
    k, is_quadratic = o.width, o.objective != "barlow_twins"
    angles = spectral.principal_angles(learned.features, learned.exact.functions, learned.pi, floor=0.01)
    share, _ = _read_out(learned, np.eye(cloud.cluster.max() + 1)[cloud.cluster])
    numbers: dict[str, Number] = {f"eigenvalue {i + 1} of T_M": float(v) for i, v in enumerate(learned.exact.values)}
    numbers[f"eigenvalue {k + 1} of T_M, not learned"] = learned.next_value
    needed = np.zeros(0)
    if o.objective != "barlow_twins":
        needed = spectral.needed_orthogonality(learned.exact.values, o.objective).round(13) + 0.0  # -0: rounding
        numbers |= {f"orthogonality that feature {i + 1} needs": float(v) for i, v in enumerate(needed)}
        rest = spectral.learned_energies(learned.exact.values, weight, o.objective)
        numbers |= {f"energy {i + 1} at rest, predicted": float(v) for i, v in enumerate(rest)}
    numbers["time simulated"] = float(learned.times[-1])
    numbers |= {f"energy {i + 1} at the end": float(v) for i, v in enumerate(learned.energies[-1])}
    numbers |= {f"principal angle {i + 1}, degrees": float(v) for i, v in enumerate(angles)}
    numbers["share of the clusters a linear readout explains"] = share
    lost = int((learned.energies[-1] < 0.01).sum()) if is_quadratic else int((angles == 90).sum())
    return Outcome(
        numbers, (_statement(o, weight, angles, lost, needed),), _panels(o, weight, learned), _clouds(cloud, learned)
    )


def _learn(o: Options, weight: float) -> tuple[PointCloud, Learned]:
    require(o.seed >= 0, "seed", o.seed, "0 or more")
    start = (1.0 if o.objective == "barlow_twins" else 0.1) if o.start is None else o.start
    check_number("start", start, 0, strict=True)
    check_number("orthogonality", weight, 0, strict=True)
    total = o.clusters * o.images * o.views
    require(total <= MOST_POINTS, "clusters x images x views", total, f"at most {MOST_POINTS} points")
    cloud = point_cloud(
        clusters=o.clusters, images=o.images, views=o.views, spread=o.spread, noise=o.noise, seed=o.seed
    )
    n = len(cloud.points)
    require(1 <= o.width <= n - 2, "width", o.width, f"1 to {n - 2}, for {n} points")
    weights = view_affinity(cloud.points, cloud.points, cloud.images, o.noise)
    first = 1 if o.objective == "barlow_twins" else 0  # it centres, so that the constant does not count
    values, functions = spectral.eigenfunctions(weights, o.width + first + 1)
    exact = spectral.Eigenfunctions(values[first:-1], functions[:, first:-1])
    pi = spectral.measure(weights)
    times = time_grid(max(200.0 if first else 60.0, 4 / weight) if o.end is None else o.end)
    F = start * np.random.default_rng([o.seed, 2]).standard_normal((n, o.width))
    run = spectral.simulate(F, weights, times, orthogonality=weight, objective=o.objective, rtol=1e-6, atol=1e-8)
    tables, energies = run.states["F"], run.states["energies"]
    if first:  # only the shape of a feature counts there, not its size
        centred = tables - (pi @ tables)[:, None]
        tables = centred / np.sqrt(np.einsum("n,tnk->tk", pi, centred**2))[:, None]
        energies = spectral.energies(tables, pi)
    return cloud, Learned(exact, float(values[-1]), pi, times, energies, tables[-1])


def _read_out(learned: Learned, wanted: ndarray) -> tuple[float, ndarray]:
    """(share of the variance under pi, values) of the best linear readout of `wanted` (n c) from the features."""
    F, pi = learned.features, learned.pi
    moment = (F.T * pi) @ F
    read = F @ np.linalg.solve(moment + RIDGE * np.eye(len(moment)), (F.T * pi) @ wanted)
    varies = float((pi @ (wanted - pi @ wanted) ** 2).sum())
    share = 1 - float((pi @ (wanted - read) ** 2).sum()) / varies if varies else 1.0
    return share, read


def _statement(o: Options, weight: float, angles: ndarray, lost: int, needed: ndarray) -> str:
    """What was lost, and the weight that would have kept it."""
    widest = f"{angles[-1]:.2f}" if angles[-1] >= 0.01 else "below 0.01"
    span = f"the widest angle to the exact eigenspace is {widest} degrees"
    if lost == 0:
        return f"Orthogonality weight {weight:g} keeps all {o.width} features; {span}."
    enough = f"; all of them need more than {needed[-1]:.3g}" if needed.size else ""
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
            "One by one, against max(0, 1 - P / (2 orthogonality)) where that is known.",
            "feature",
            "energy",
            tuple(curves),
        ),
    )


def _clouds(cloud: PointCloud, learned: Learned) -> tuple[Cloud, ...]:
    """The last of the eigenfunctions that fit, exact and as the learned features can express it."""
    k = learned.exact.functions.shape[1] - 1
    wanted = learned.exact.functions[:, k:]
    _, read = _read_out(learned, wanted)
    value = learned.exact.values[k]
    return (
        Cloud(
            "Exact eigenfunction",
            f"The last one that fits the width, with eigenvalue {value:.3f}.",
            cloud.points,
            wanted[:, 0],
            is_shared=True,
        ),
        Cloud("Learned", "The same, as a linear readout of the learned features.", cloud.points, read[:, 0]),
    )


THEORY = Theory(spectral.assumptions, Options, simulate, usual_sweep="orthogonality=0.01,1")
