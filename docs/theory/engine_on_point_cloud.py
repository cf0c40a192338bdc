"""The training engine on the point cloud beside the exact eigenfunctions of T_M: the numbers and figure of spectral.md.

    PYTHONPATH=. uv run python docs/theory/engine_on_point_cloud.py --covariance 0.1 1 25
    PYTHONPATH=. uv run python docs/theory/engine_on_point_cloud.py --network --png spectral-engine.png

from the checkout: the run is the one of tests/theory/point_cloud_run.py, which says what is the engine's and what not.
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
from eigenview.simulations.picture import BLUE, ORANGE
from eigenview.theory import vicreg
from eigenview.theory.point_cloud import point_cloud
from eigenview.theory.spectral import energies, principal_angles

NOISE, WIDTH, VARIANCE, BATCH = 0.35, 4, 50.0, 1024
STEPS_OF_TABLE, STEPS_OF_NETWORK = 400, 800
RIDGE = 1e-3
"""Of the linear readout: keeps a direction of vanishing energy from being blown up."""


def main() -> None:
    """Train VICReg at each covariance weight, print predicted and learned energies and the angles, draw the last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--covariance", type=float, nargs="+", default=[0.05, 25.0], metavar="WEIGHT")
    parser.add_argument("--network", action="store_true", help="a network on coordinates instead of a table")
    parser.add_argument("--png", type=Path, help="draw the last eigenfunction that fits, exact and as learned")
    given = parser.parse_args()
    if given.png is not None and not given.network:
        parser.error("--png draws functions on the plane: give --network too.")
    make, steps = (in_the_plane, STEPS_OF_NETWORK) if given.network else (on_the_graph, STEPS_OF_TABLE)
    tables: dict[float, ndarray] = {}
    cloud = point_cloud()
    task = make(cloud, NOISE, WIDTH)
    needed = vicreg.needed_covariance(task.exact.values)
    print("eigenvalue of T_M         ", *(f"{value:6.3f}" for value in task.exact.values))
    print("covariance weight it needs", *(f"{value:6.2f}" for value in needed))
    for weight in given.covariance:
        task = make(cloud, NOISE, WIDTH)  # with an untrained encoder
        with tempfile.TemporaryDirectory() as directory:
            objective = {"covariance": weight, "variance": VARIANCE}
            features = train(task, Path(directory), "vicreg", objective, steps=steps, batch=BATCH)
            verdict = runfiles.read_rows(Path(directory) / runfiles.DIAGNOSTICS)[-1]["verdict"]
        tables[weight] = centred(features, task.pi)
        show(task, weight, tables[weight], verdict)
    if given.png is not None:
        draw(task, tables, cloud.images, given.png)


def show(task: Task, weight: float, table: ndarray, verdict: str) -> None:
    """Three rows of numbers, one column per mode."""
    predicted = vicreg.energies(task.exact.values, variance=VARIANCE, covariance=weight)
    angles = principal_angles(table, task.exact.functions, task.pi, floor=0.01)
    print(f"\ncovariance weight {weight:g}: {verdict}")
    print("energy, predicted         ", *(f"{value:6.2f}" for value in predicted))
    print("energy, learned           ", *(f"{value:6.2f}" for value in energies(table, task.pi)))
    print("principal angle, degrees  ", *("  lost" if angle == 90 else f"{angle:6.1f}" for angle in angles))


def draw(task: Task, tables: dict[float, ndarray], images: ndarray, path: Path) -> None:
    """Energies of all weights, the last eigenfunction, and what a linear readout makes of the features for it."""
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
    wanted = task.exact.functions[:, -1]
    value = task.exact.values[-1]
    pictures = {f"Exact eigenfunction {WIDTH}, eigenvalue {value:.3f}": wanted}
    for weight, table in tables.items():
        pictures[f"Read out of the features, weight {weight:g}"] = read_out(table, wanted, task.pi)
    seen = task.pi > 1e-3 * task.pi.max()  # where views fall
    points, most = task.points.numpy()[seen], float(np.abs(wanted[seen]).max())
    for axis, (title, values) in zip(axes[1:], pictures.items(), strict=False):
        paint(figure, axis, points, values[seen], most)
        axis.plot(*images.T, ".", color="black", ms=3)
        axis.set_title(title, fontsize=11)
    for axis in axes[1 + len(pictures) :]:
        axis.set_axis_off()
    figure.savefig(path, dpi=100, metadata={"Software": None})


def read_out(table: ndarray, wanted: ndarray, pi: ndarray) -> ndarray:
    """The best linear function of the features for `wanted` under pi."""
    moment = (table.T * pi) @ table
    return table @ np.linalg.solve(moment + RIDGE * np.eye(len(moment)), (table.T * pi) @ wanted)


def paint(figure: Any, axis: Any, points: ndarray, values: ndarray, most: float) -> None:
    """Points in the colours of their values, on one scale for all pictures."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("two sides", [BLUE, "#d8dcdf", ORANGE])
    drawn = axis.scatter(*points.T, c=values, cmap=colours, vmin=-most, vmax=most, s=17, marker="s", edgecolors="none")
    axis.set_aspect("equal")
    figure.colorbar(drawn, ax=axis)


if __name__ == "__main__":
    main()
