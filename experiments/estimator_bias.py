"""Estimators of VICReg's regularisers on a real network's embeddings: bias and noise at n = 8 to 1024

Question: how wrong are the value and the gradient of each estimator at a batch of n, and how noisy?
Source: none; a pilot on other nets had found the same signs.
Theory: the plug-in covariance is too large by (PR + 1)/(n - 1), PR the participation ratio; the U-statistic is exact.
Prediction, written before any run: the plug-in's gradient bias follows PR/(n - 1) within a factor of 1.5; the
U-statistic's is below what the repeats can resolve, with less noise than the plug-in; half batches are noisier;
subtracting (tr C)^2/(n - 1) takes away most of the bias; the hinge's bias is small while deviations are below gamma.
Settings: recipes small-vicreg and small-unbiased-vicreg; population: training images, one augmented view each, the
projector in evaluation mode (batch norm by running averages, so that rows are independent). Batches are drawn with
replacement, so the truth is exact. Gradient: what reaches the projector's last layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from eigenview.config import RunConfig
from experiments._estimators import study
from experiments._grids import BLUE, GREEN, ORANGE, RED, Results, cell, failures

if TYPE_CHECKING:
    from eigenview.run import Run

IMAGES, SIZES, REPEATS = 8192, (8, 16, 32, 64, 128, 256, 512, 1024), 100
published: dict[str, dict[str, float]] = {}


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """A network of each objective."""
    return {name: cell(name, scale, data) for name in ("vicreg", "unbiased-vicreg")}


@torch.no_grad()
def activations(run: Run, images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What goes into the projector's last layer for one view of each image (M H), and that layer's matrix (D H)."""
    from eigenview import runfiles
    from eigenview.engine.plan import make_plan
    from eigenview.engine.train import build_module
    from eigenview.errors import UserError

    module = build_module(make_plan(run.config))
    if not (run.directory / runfiles.CHECKPOINT).exists():
        raise UserError(f"{run.directory} has lost its {runfiles.CHECKPOINT}. Move it away to train the cell again.")
    checkpoint = torch.load(run.directory / runfiles.CHECKPOINT, weights_only=True, map_location="cpu")
    module.load_state_dict(checkpoint["state_dict"])
    module.eval()
    network = module.method.network
    head = network.projector
    assert isinstance(head, torch.nn.Sequential)
    body, last = head[:-1], head[-1]
    assert isinstance(last, torch.nn.Linear)
    pixels = module._pixels
    assert pixels is not None
    rows = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:images]
    parts = []
    for number, part in enumerate(rows.split(512)):
        view = module.make_views(pixels[part], number)[0]
        parts.append(body(network.encoder(view.contiguous(memory_format=torch.channels_last))))
    return torch.cat(parts), last.weight.detach()


def measure(run: Run) -> dict[str, Any]:
    """The study of this run's embeddings; the total with the run's own weights, of one view."""
    a, weight = activations(run, IMAGES)
    objective = run.config.method
    weights = {"hinge": objective.variance / 2, "covariance": objective.covariance}
    return study(a, weight, weights, SIZES, REPEATS, seed=0)


def column(results: Results, name: str, family: str, estimator: str, field: str) -> dict[int, float]:
    """n -> a number of one cell's first run."""
    rows = results[name][0]["measured"]["families"][family][estimator]
    return {int(n): row[field] for n, row in rows.items()}


def resolved(results: Results, name: str, family: str, estimator: str, n: int) -> str:
    """The gradient's relative bias, or `< x` where the repeats cannot tell it from none."""
    bias, least = (
        column(results, name, family, estimator, field)[n] for field in ("gradient_bias", "gradient_resolution")
    )
    return f"{bias:.2f}" if bias > 2 * least else f"< {2 * least:.2f}"


def conclude(results: Results) -> str:
    """Gradient bias and noise of the covariance term at n = 16 and 256, and of the whole regulariser."""
    sentences: list[str] = []
    for name, runs in results.items():
        if not runs or "measured" not in runs[0]:
            continue
        ratio = runs[0]["measured"]["participation_ratio"]
        noise = {e: column(results, name, "covariance", e, "gradient_noise") for e in ("plug-in", "U-statistic")}
        bias = {
            e: f"{resolved(results, name, 'covariance', e, 16)} and {resolved(results, name, 'covariance', e, 256)}"
            for e in ("plug-in", "U-statistic", "minus (tr C)^2/(n-1)", "half batches")
        }
        cosine = {e: column(results, name, "total", e, "cosine")[16] for e in ("plug-in", "U-statistic, dual")}
        sentences.append(
            f"{name} (PR {ratio:.0f}, PR/(n-1) = {ratio / 15:.2f} and {ratio / 255:.2f} at n = 16 and 256): relative "
            f"bias of the covariance's gradient there: {'; '.join(f'{e} {b}' for e, b in bias.items())}. Noise of the "
            f"U-statistic over the plug-in's {noise['U-statistic'][16] / noise['plug-in'][16]:.2f} and "
            f"{noise['U-statistic'][256] / noise['plug-in'][256]:.2f}. Cosine of the regulariser's mean gradient to "
            f"the truth at n = 16: plug-in {cosine['plug-in']:.2f}, U-statistic with dual "
            f"{cosine['U-statistic, dual']:.2f}."
        )
    return " ".join([*sentences, failures(results)])


def figure(results: Results) -> Any:
    """Gradient bias of covariance and hinge, and noise of the covariance, over n; a row of panels a cell."""
    from matplotlib.figure import Figure

    shown = {name: runs for name, runs in results.items() if runs and "measured" in runs[0]}
    figure = Figure(figsize=(11, 3.4 * max(len(shown), 1)), layout="constrained")
    panels = figure.subplots(max(len(shown), 1), 3, squeeze=False)
    titles = ("covariance: bias of the gradient", "hinge: bias of the gradient", "covariance: noise of one batch")
    kinds = (("covariance", "gradient_bias"), ("hinge", "gradient_bias"), ("covariance", "gradient_noise"))
    for row, (name, runs) in enumerate(shown.items()):
        ratio = runs[0]["measured"]["participation_ratio"]
        for axis, (family, field), title in zip(panels[row], kinds, titles, strict=True):
            estimators = runs[0]["measured"]["families"][family]
            for estimator, colour in zip(estimators, (BLUE, ORANGE, GREEN, RED, "#777777"), strict=False):
                values = column(results, name, family, estimator, field)
                least = column(results, name, family, estimator, "gradient_resolution")
                known = {n: v for n, v in values.items() if field != "gradient_bias" or v > 2 * least[n]}
                axis.plot(list(known), list(known.values()), "o-", ms=4, color=colour, label=estimator)
                for n in values.keys() - known.keys():
                    axis.plot(n, 2 * least[n], "v", ms=5, mfc="none", color=colour)
            if (family, field) == kinds[0]:
                axis.plot(SIZES, [ratio / (n - 1) for n in SIZES], "k:", lw=1, label="PR/(n - 1)")
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.set_title(f"{name}: {title}", fontsize=8)
            axis.set_xlabel("n (open triangle: below this, not resolved)", fontsize=8)
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(fontsize=7, frameon=False)
        panels[row][0].set_ylabel("relative to the true gradient")
    return figure
