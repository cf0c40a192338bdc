"""What a closed-form predictor costs: its update as a share of the whole training step of the small net.

Each round takes a whole step of each contestant in turn (views, network, target, objective, backward, optimiser,
update). Timed as the update: the second moment of the batch, which the objective computes, and the update of F and W_p
after the optimiser's step. DirectPred every 5 steps runs five steps a round and adds its five updates, of which one
decomposes F. Images are noise: no time depends on what they show.

Before timing: W_p must be that of a float64 eigen-decomposition of F, and loss and gradient those of the paper's
formula with it.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bare_step import BareStep
from benchmarks.contest import Goal, Row, Section, Settings, require_agreement, seconds
from benchmarks.pictures import noise_file
from eigenview.methods.directcopy import DirectCopyConfig
from eigenview.methods.directpred import DirectPredConfig
from eigenview.methods.directset import DirectSet
from eigenview.methods.parts.closed_form import ClosedFormObjective, ClosedFormPredictor
from eigenview.methods.parts.options import DirectConfig
from eigenview.records import Clock
from eigenview.views import Views

SECTION = "predictor"
SIDE = 32


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A method's config, and the steps of a round."""

    name: str
    config: DirectConfig
    period: int
    goal: Goal | None


CONTESTANTS = (
    Contestant(name="DirectCopy", config=DirectCopyConfig(), period=1, goal=Goal(0.02, at_most=True)),
    Contestant(
        name="DirectPred every 5",
        config=DirectPredConfig(refresh_every=5),
        period=5,
        goal=Goal(0.12, at_most=True),
    ),
    Contestant(name="DirectPred", config=DirectPredConfig(), period=1, goal=None),
)


class UpdateTimer:
    """Seconds that a closed-form predictor spends in moments and updates, measured inside the steps that call them."""

    def __init__(self, predictor: ClosedFormPredictor, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0
        predictor.moments = self.timed(predictor.moments)  # type: ignore[method-assign]
        predictor.update = self.timed(predictor.update)  # type: ignore[method-assign]

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose seconds are added up."""

        @wraps(function)
        def call(*args: Any) -> Any:
            out: list[Any] = []
            self.seconds += seconds(lambda: out.append(function(*args)), self.device)
            return out[0]

        return call


def plain_matrix(F: Tensor, config: DirectConfig) -> Tensor:
    """W_p = U diag((s / max s)^alpha + eps) U^T, in float64."""
    s, U = torch.linalg.eigh(F.double())
    p = (s.clamp_min(0) / s.max()) ** config.alpha + config.eps
    return (U * p) @ U.mT


def plain_loss(a: Tensor, b: Tensor, target_a: Tensor, target_b: Tensor, W: Tensor) -> Tensor:
    """2 - 2 cos(W_p z, target of the other view), mean over samples, summed over both directions."""
    apart = [2 - 2 * nn.functional.cosine_similarity(z @ W.mT, t).mean() for z, t in ((a, target_b), (b, target_a))]
    return apart[0] + apart[1]


def check_contestant(contestant: Contestant, settings: Settings) -> str:
    """W_p after one update, and loss and gradient with it."""
    width = settings.pick(8, 64, 512)
    generator = torch.Generator().manual_seed(0)
    # rows of full rank, and a spectrum that falls: 1 / j
    scale = torch.arange(1, width + 1) ** -0.5
    z, target = torch.randn(2, 2, 2 * width, width, generator=generator) * scale
    objective = DirectSet(contestant.config, width=width).to(settings.device)
    z, target = z.to(settings.device), target.to(settings.device)
    objective.update(objective(Views(z=z, z_target=target)).carry, Clock())
    rows = z.double().flatten(0, 1)
    W = plain_matrix(rows.mT @ rows / len(rows), contestant.config)

    x = z.clone().requires_grad_()
    value = objective(Views(z=x, z_target=target)).total
    y = z.double().requires_grad_()
    expected = plain_loss(y[0], y[1], target[0].double(), target[1].double(), W)
    found = {"W_p": objective.predictor.W.detach(), "value": value.detach()}
    found["gradient"] = torch.autograd.grad(value, x)[0]
    plain = {"W_p": W, "value": expected.detach(), "gradient": torch.autograd.grad(expected, y)[0]}
    return require_agreement(f"{contestant.name}, width {width}, float64 eigen-decomposition", found, plain)


def check(settings: Settings) -> list[str]:
    """Every contestant against the paper's formula."""
    return [check_contestant(contestant, settings) for contestant in CONTESTANTS]


def bare_step(
    contestant: Contestant, images: Path, device: torch.device, width: int, batch: int
) -> tuple[BareStep, UpdateTimer]:
    """A contestant's steps, and what times the updates in them."""
    config = contestant.config
    fields = {"network": {"projector_width": width}, "batch_size": batch, "image_size": SIDE}
    bare = BareStep(config.card.name, images, device, **fields, method=asdict(config))
    assert isinstance(bare.method.objective, ClosedFormObjective)
    return bare, UpdateTimer(bare.method.objective.predictor, device)


def measure(settings: Settings) -> list[Row]:
    """Check, then time steps and the updates in them."""
    check(settings)
    torch.set_num_threads(max(settings.threads))
    width, batch, rounds = settings.pick(8, 512, 512), settings.pick(8, 16, 128), settings.pick(1, 2, 15)
    times: dict[str, list[tuple[float, float]]] = {each.name: [] for each in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        images = noise_file(Path(folder), 512, SIDE)
        made = {each.name: bare_step(each, images, settings.device, width, batch) for each in CONTESTANTS}
        for contestant in CONTESTANTS:  # warm up, and to the beat of the refreshes
            for _ in range(contestant.period):
                made[contestant.name][0].step()
        for _ in range(rounds):
            for contestant in CONTESTANTS:
                (bare, timer), step = made[contestant.name], 0.0
                timer.seconds = 0.0
                for _ in range(contestant.period):
                    step += seconds(bare.step, settings.device)
                times[contestant.name].append((step / contestant.period, timer.seconds / contestant.period))
    rows = []
    for contestant in CONTESTANTS:
        pairs = times[contestant.name]
        rows.append(
            Row(
                section=SECTION,
                case=f"width {width}, batch {batch} x 2 at {SIDE} px",
                contestant=contestant.name,
                quantity="update / whole step",
                ours=1e3 * statistics.median(update for _, update in pairs),
                theirs=1e3 * statistics.median(step for step, _ in pairs),
                unit="ms",
                figure=statistics.median(update / step for step, update in pairs),
                form="%",
                goal=contestant.goal if settings.scale == "full" else None,
                threads=max(settings.threads),
            )
        )
    return rows


PREDICTOR = Section(check, measure)
