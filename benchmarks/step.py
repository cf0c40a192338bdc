"""Whole training step on CIFAR-10 (JPEG): ours (Lightning and all) against the plainest torch + torchvision loop in
fp32, and against the encoder alone in our precision.

    CIFAR10=FOLDER python -m benchmarks.step [--rounds 7] [--steps 15] [--json FILE]

One process. The three contestants take turns of a few steps each; every round gives one ratio, the median is reported.
Before timing, both losses are checked to agree on the same embeddings. The plain loop reads JPEGs with ImageFolder,
augments with torchvision's PIL transforms in two DataLoader workers (as many as cores), and trains with AdamW.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import eigenview
from eigenview.config import MonitorConfig
from eigenview.engine.callbacks import Checkpoints, Log, Monitor
from eigenview.engine.environment import source_commit
from eigenview.engine.network import build_network
from eigenview.engine.plan import Plan, make_plan
from eigenview.engine.train import build_module, make_loader, make_trainer
from eigenview.models.encoders import build_encoder
from eigenview.objectives.base import total
from eigenview.objectives.vicreg import VICReg
from eigenview.recipes import load_recipe
from eigenview.views import Views

BATCH = 128


def plain_vicreg(za: Tensor, zb: Tensor) -> Tensor:
    """VICReg as the authors write it."""
    n, d = za.shape
    loss = 25 * nn.functional.mse_loss(za, zb)
    for z in (za, zb):
        z = z - z.mean(0)
        loss = loss + 25 * torch.relu(1 - torch.sqrt(z.var(0) + 1e-4)).mean() / 2
        cov = z.T @ z / (n - 1)
        loss = loss + (cov.pow(2).sum() - cov.diagonal().pow(2).sum()) / d
    return loss


class TwoViews:
    """An image twice through the same PIL pipeline."""

    def __init__(self) -> None:
        jitter = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8)
        self.views = [
            v2.Compose(
                [
                    v2.RandomResizedCrop(32, antialias=True, interpolation=v2.InterpolationMode.BICUBIC),
                    v2.RandomHorizontalFlip(),
                    jitter,
                    v2.RandomGrayscale(0.2),
                    v2.RandomSolarize(128, solarize),
                    v2.PILToTensor(),
                    v2.ToDtype(torch.float32, scale=True),
                    v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
                ]
            )
            for solarize in (0.0, 0.2)
        ]

    def __call__(self, image: Any) -> list[Tensor]:
        return [view(image) for view in self.views]


def plain_loop(data: str, plan: Plan) -> Iterator[float]:
    """Seconds of each step of the plain loop, for ever."""
    loader = DataLoader(
        ImageFolder(data, TwoViews()), BATCH, shuffle=True, num_workers=os.cpu_count() or 2, drop_last=True
    )
    network, _, _, _ = build_network("conv-small", 32, plan.config.network, frozenset({"z"}), seed=0)
    network = network.to(memory_format=torch.contiguous_format).train()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    while True:
        batches = iter(loader)
        mark = time.perf_counter()
        for (a, b), _ in batches:
            za, zb = (network.embed(x)[1] for x in (a, b))
            optimiser.zero_grad()
            loss = plain_vicreg(za, zb)
            loss.backward()
            optimiser.step()
            loss.item()
            yield time.perf_counter() - mark
            mark = time.perf_counter()


def encoder_alone(plan: Plan) -> Iterator[float]:
    """Seconds of forward and backward of the encoder on two ready views in the precision of our run."""
    encoder, _ = build_encoder("conv-small", size=32)
    encoder = encoder.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    views = [torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    while True:
        mark = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in plan.precision):
            out = sum(encoder(view).float().square().mean() for view in views)
        assert isinstance(out, Tensor)
        out.backward()
        encoder.zero_grad()
        yield time.perf_counter() - mark


class TakeTurns(L.Callback):
    """Between our own turns of `steps`, let the others run theirs; keep seconds per step of each."""

    def __init__(self, others: dict[str, Iterator[float]], steps: int, rounds: int) -> None:
        self.others, self.steps, self.rounds = others, steps, rounds
        self.seconds: dict[str, list[float]] = {name: [] for name in ("ours", *others)}
        self.mark = 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step % self.steps:
            return
        if step > self.steps:  # the first turn warms up
            self.seconds["ours"].append((time.perf_counter() - self.mark) / self.steps)
        for name, other in self.others.items():
            turn = sum(next(other) for _ in range(self.steps)) / self.steps
            if step > self.steps:
                self.seconds[name].append(turn)
        if len(self.seconds["ours"]) == self.rounds:
            trainer.should_stop = True
        self.mark = time.perf_counter()


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if "CIFAR10" not in os.environ:
        sys.exit("CIFAR10= must name the unpacked CIFAR-10 (JPEG) folder with train/ and test/")
    data = f"{os.environ['CIFAR10']}/train"
    z = torch.randn(2, BATCH, 512)
    torch.testing.assert_close(total(VICReg()(Views(z=z))), plain_vicreg(z[0], z[1]), rtol=1e-5, atol=1e-5)

    config = replace(load_recipe("small-vicreg"), data=data, batch_size=BATCH, epochs=1, size=32)
    config = replace(config, monitor=MonitorConfig(every_epochs=1))
    plan = make_plan(config, console=Console(stderr=True))
    module = build_module(plan)
    turns = TakeTurns(
        {"plain": plain_loop(data, plan), "encoder alone": encoder_alone(plan)}, given.steps, given.rounds
    )
    with tempfile.TemporaryDirectory() as scratch:
        log = Log(Path(scratch), 10, BATCH)
        held_out = torch.from_numpy(plan.held_out.read(list(range(256))))  # type: ignore[arg-type]
        monitor = Monitor(Path(scratch), held_out, plan.steps_per_epoch, log, stop=False)
        trainer = make_trainer(plan, Path(scratch), [log, monitor, Checkpoints(Path(scratch), 2.0, 10), turns])
        trainer.fit(module, make_loader(plan, trainer))

    seconds = turns.seconds
    median = {name: statistics.median(values) for name, values in seconds.items()}
    faster = statistics.median(p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True))
    share = statistics.median(e / o for e, o in zip(seconds["encoder alone"], seconds["ours"], strict=True))
    table = Table("", "ms per step", "images/s", title=f"CIFAR-10 (JPEG), conv-small, batch {BATCH} x 2 views")
    for name, value in median.items():
        table.add_row(name, f"{value * 1e3:.1f}", f"{BATCH / value:,.0f}")
    Console().print(table)
    result = {
        "benchmark": "step",
        "ours_over_plain": round(faster, 2),
        "share_of_encoder_alone": round(share, 3),
        "ms_per_step": {name: round(value * 1e3, 2) for name, value in median.items()},
        "rounds": len(seconds["ours"]),
        "precision": plan.precision_note,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "eigenview": eigenview.__version__,
        "commit": source_commit(),
    }
    print(json.dumps(result))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{faster:.2f}x the plain loop (required 2.5x); {share:.0%} of the encoder alone (required 80%)")


if __name__ == "__main__":
    main()
