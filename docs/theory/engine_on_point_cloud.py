"""Trains VICReg with the engine on the point cloud and compares it with the exact eigenfunctions of T_M (spectral.md).

    PYTHONPATH=. uv run python docs/theory/engine_on_point_cloud.py --covariance 0.1 1 25
    PYTHONPATH=. uv run python docs/theory/engine_on_point_cloud.py --network --png spectral-engine.png

Run it from the checkout. Training is that of tests/theory/point_cloud_run.py, which says which parts of the engine it
uses.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from tests.theory.point_cloud_run import Task, centred, in_the_plane, on_the_graph, train

from eigenview import runfiles
from eigenview.report.plot import BLUE, ORANGE
from eigenview.theory import vicreg
from eigenview.theory.augmentation_graph import energies, linear_readout, principal_angles
from eigenview.theory.point_cloud import point_cloud

NOISE, WIDTH, VARIANCE, BATCH = 0.35, 4, 50.0, 1024
STEPS_OF_TABLE, STEPS_OF_NETWORK = 400, 800


def main() -> None:
    """Train VICReg at each covariance weight; print predicted and learned energies and angles; draw the last mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--covariance", type=float, nargs="+", default=[0.05, 25.0], metavar="WEIGHT")
    parser.add_argument(
        "--network", action="store_true", help="train a network on coordinates instead of a table of features"
    )
    parser.add_argument(
        "--png", type=Path, help="draw the last eigenfunction that fits the width, exact and as learned, to this file"
    )
    given = parser.parse_args()
    if given.png is not None and not given.network:
        parser.error("--png needs --network: it draws functions on the plane.")
    make, steps = (in_the_plane, STEPS_OF_NETWORK) if given.network else (on_the_graph, STEPS_OF_TABLE)
    tables: dict[float, ndarray] = {}
    cloud = point_cloud()
    task = make(cloud, NOISE, WIDTH)
    needed = vicreg.needed_covariance(task.exact.values)
    print("eigenvalue of T_M         ", *(f"{value:6.3f}" for value in task.exact.values))
    print("covariance weight it needs", *(f"{value:6.2f}" for value in needed))
    for weight in given.covariance:
        task = make(cloud, NOISE, WIDTH)  # a new, untrained encoder
        with tempfile.TemporaryDirectory() as directory:
            objective = {"covariance": weight, "variance": VARIANCE}
            features = train(task, Path(directory), "vicreg", objective, steps=steps, batch=BATCH)
            verdict = runfiles.read_rows(Path(directory) / runfiles.DIAGNOSTICS)[-1]["verdict"]
        tables[weight] = centred(features, task.pi)
        show(task, weight, tables[weight], verdict)
    if given.png is not None:
        draw(task, tables, cloud.images, given.png)


def show(task: Task, weight: float, table: ndarray, verdict: str) -> None:
    """Print three rows of numbers, one column per mode."""
    predicted = vicreg.energies(task.exact.values, variance=VARIANCE, covariance=weight)
    angles = principal_angles(table, task.exact.functions, task.pi, floor=0.01)
    print(f"\ncovariance weight {weight:g}: {verdict}")
    print("energy, predicted         ", *(f"{value:6.2f}" for value in predicted))
    print("energy, learned           ", *(f"{value:6.2f}" for value in energies(table, task.pi)))
    print("principal angle, degrees  ", *("  lost" if angle == 90 else f"{angle:6.1f}" for angle in angles))


def draw(task: Task, tables: dict[float, ndarray], images: ndarray, path: Path) -> None:
    """Plot the energies of all weights, the last eigenfunction, and its linear readout from the learned features."""
    from matplotlib.figure import Figure

    rows = 1 + len(tables) // 2
    figure = Figure(figsize=(9, 3.9 * rows), layout="constrained")
    axes: list[Any] = list(figure.subplots(rows, 2).flat)
    modes = np.arange(1, WIDTH + 1)
    for (weight, table), colour in zip(tables.items(), (BLUE, ORANGE, "#333333", "#888888"), strict=False):
        predicted = vicreg.energies(task.exact.values, variance=VARIANCE, covariance=weight)
        axes[0].plot(modes, predicted, "--", color=colour, lw=1.4)
        axes[0].plot(modes, energies(table, task.pi), "o", color=colour, ms=6, label=f"covariance weight {weight:g}")
    axes[0].plot([], [], "--", color="#888888", label="predicted")
    axes[0].set(xlabel="mode", ylabel="energy", xticks=modes, title="Energies of the features")
    axes[0].grid(alpha=0.25)
    axes[0].legend(fontsize=8)
    exact = task.exact.functions[:, -1]
    value = task.exact.values[-1]
    plots = {f"Exact eigenfunction {WIDTH}, eigenvalue {value:.3f}": exact}
    for weight, table in tables.items():
        plots[f"Read out of the features, weight {weight:g}"] = linear_readout(table, exact[:, None], task.pi)[:, 0]
    is_covered = task.pi > 1e-3 * task.pi.max()  # by the distribution of views
    points, colour_limit = task.points.numpy()[is_covered], float(np.abs(exact[is_covered]).max())
    for axis, (title, values) in zip(axes[1:], plots.items(), strict=False):
        scatter(figure, axis, points, values[is_covered], colour_limit)
        axis.plot(*images.T, ".", color="black", ms=3)
        axis.set_title(title, fontsize=11)
    for axis in axes[1 + len(plots) :]:
        axis.set_axis_off()
    figure.savefig(path, dpi=100, metadata={"Software": None})


def scatter(figure: Any, axis: Any, points: ndarray, values: ndarray, colour_limit: float) -> None:
    """Points coloured by their values, on a colour scale that all plots share."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("two sides", [BLUE, "#d8dcdf", ORANGE])
    scale = {"cmap": colours, "vmin": -colour_limit, "vmax": colour_limit}
    drawn = axis.scatter(*points.T, c=values, s=17, marker="s", edgecolors="none", **scale)
    axis.set_aspect("equal")
    figure.colorbar(drawn, ax=axis)


if __name__ == "__main__":
    main()
