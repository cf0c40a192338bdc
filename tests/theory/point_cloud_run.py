"""The real engine on the point cloud: images in the plane, views by the augmentation, features at every point.

Two tasks. `on_the_graph`: views are drawn among the cloud's own points as its graph says, and the encoder is a table
with a row per point, which can be any function. `in_the_plane`: views are an image plus Gaussian noise, and the encoder
is a small network on their coordinates. Both have exact eigenfunctions: of a matrix, and of an operator of finite rank.

The module, its training step, objective, optimiser, schedule, log and monitor are those of a run of the command line;
only what draws views and the encoder are put in their places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eigenview.config import with_fields
from eigenview.engine.callbacks import MetricsWriter, Monitor
from eigenview.engine.module import PretrainModule
from eigenview.models.network import Network
from eigenview.recipes import default
from eigenview.theory import augmentation_graph
from eigenview.theory.augmentation_graph import Eigenfunctions
from eigenview.theory.point_cloud import PointCloud, augmentation, plane_eigenfunctions, view_affinity
from tests.theory.linear_run import fit, method_around

STEPS_PER_EPOCH = 100
HELD_OUT = 512


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to learn, from which views, with which encoder, and what should be found."""

    images: Tensor
    """What `draw` makes a view of, one row per image."""
    chance: np.ndarray
    """Probability of each image."""
    draw: Callable[[Tensor, torch.Generator], Tensor]
    """Views of images (N ...), one each."""
    encoder: nn.Module
    """Untrained."""
    points: Tensor
    """The encoder's inputs at which features are compared."""
    pi: np.ndarray
    """Probability of each of them as a view."""
    exact: Eigenfunctions
    """The leading eigenfunctions after the constant, as many as features."""
    optim: dict[str, Any]
    """Optimiser that suits the encoder."""


def on_the_graph(cloud: PointCloud, noise: float, width: int, *, mean: float = 0.0) -> Task:
    """A table of features on the cloud's own points, drawn with standard deviation 0.1 about `mean`."""
    law = augmentation(cloud.points, cloud.images, noise)
    weights = view_affinity(cloud.points, cloud.points, cloud.images, noise)
    n = len(cloud.points)
    # a view is where a uniform number falls among the cumulated probabilities of its image: one search for all images
    ladder = torch.from_numpy((law.views.cumsum(axis=0) + np.arange(law.views.shape[1])).T.ravel())

    def draw(images: Tensor, generator: torch.Generator) -> Tensor:
        number = torch.rand(len(images), generator=generator, dtype=torch.float64) + images
        return torch.minimum(torch.searchsorted(ladder, number, right=True) - n * images, torch.tensor(n - 1))

    table = nn.Embedding(n, width)
    with torch.no_grad():
        table.weight.normal_(mean, 0.1, generator=torch.Generator().manual_seed(0))
    return Task(
        images=torch.arange(len(law.image)),
        chance=law.image,
        draw=draw,
        encoder=table,
        points=torch.arange(n),
        pi=augmentation_graph.measure(weights),
        exact=nontrivial(augmentation_graph.eigenfunctions(weights, width + 1)),
        # a row's gradient carries the row's probability, about 1 / n: a rate of 1 is a step of 1 / n in theory's time
        optim={"name": "sgd", "momentum": 0.9, "lr_per_256": 1.0},
    )


def in_the_plane(cloud: PointCloud, noise: float, width: int) -> Task:
    """Two hidden layers of 64 ReLU on coordinates; views are Gaussian, features compared on a grid."""
    found = plane_eigenfunctions(cloud.images, noise, width + 1)

    def draw(images: Tensor, generator: torch.Generator) -> Tensor:
        return images + noise * torch.randn(images.shape, generator=generator)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, width))
    return Task(
        images=torch.from_numpy(cloud.images).float(),
        chance=np.full(len(cloud.images), 1 / len(cloud.images)),
        draw=draw,
        encoder=encoder,
        points=torch.from_numpy(found.points).float(),
        pi=found.pi,
        exact=nontrivial(found.eigenfunctions),
        optim={"name": "adamw", "lr_per_256": 5e-3},
    )


def nontrivial(known: Eigenfunctions) -> Eigenfunctions:
    """All but the constant, which VICReg and Barlow Twins do not see: they centre."""
    return Eigenfunctions(known.values[1:], known.functions[:, 1:])


def train(
    task: Task,
    directory: Path,
    method: str,
    objective: dict[str, Any],
    *,
    steps: int,
    batch: int,
    optim: dict[str, Any] | None = None,
) -> np.ndarray:
    """The engine's loop with its own callbacks; the features (n k) at the task's points, as they come.

    Warm-up over a tenth of the steps, then the engine's cosine to 0, which averages the noise of the batches away; no
    weight decay, which no theory here has. `directory` then holds diagnostics.jsonl with the monitor's verdicts.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rates = {"batch_scaling": "none", "weight_decay": 0.0, "warmup_epochs": steps / STEPS_PER_EPOCH / 10}
    fields = {"epochs": steps // STEPS_PER_EPOCH, "batch_size": batch, "optim": rates | task.optim | (optim or {})}
    config = with_fields(default(method, "digits"), fields | {"method": objective})
    width = task.exact.functions.shape[1]
    module = PretrainModule(
        config,
        method=method_around(Network(task.encoder, nn.Sequential(), None, widths=(width, width)), config),
        specs=(),
        size=0,
        steps_per_epoch=STEPS_PER_EPOCH,
        bf16=False,
        pixels=task.images,
    )

    def make_views(images: Tensor, augmentation_seed: int, **_: bool) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(augmentation_seed)
        return tuple(task.draw(images, generator) for _ in range(2))

    module.make_views = make_views
    chosen = np.random.default_rng(0).choice(len(task.chance), (module.steps, batch), p=task.chance)
    batches = [{"index": torch.from_numpy(each)} for each in chosen]
    log = MetricsWriter(directory, STEPS_PER_EPOCH, batch)
    monitor = Monitor(directory, task.images[chosen.ravel()[:HELD_OUT]], STEPS_PER_EPOCH, log, stop=False)
    fit(module, batches, [log, monitor])
    with torch.no_grad():
        return task.encoder(task.points).double().numpy()


def centred(features: np.ndarray, pi: np.ndarray) -> np.ndarray:
    """Features less their means over views: a feature's constant is in no term of a loss that centres."""
    return features - pi @ features


def standardised(features: np.ndarray, pi: np.ndarray) -> np.ndarray:
    """Centred, with variance 1 under pi: all that Barlow Twins sees of a feature."""
    f = centred(features, pi)
    return f / np.sqrt(pi @ np.square(f))
