"""What a run will do, decided and checked before anything is written: images, views, steps, device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from eigenview.config import RunConfig
from eigenview.data.images import ImageSet
from eigenview.data.load import load_images, load_probe_sets
from eigenview.data.splitting import subsample
from eigenview.data.views.specs import ViewSpec, local_specs, preset_for_size, view_specs
from eigenview.engine.config_checks import check_combinations
from eigenview.engine.precision import runs_in_bf16
from eigenview.errors import UserError, require
from eigenview.launched import launched
from eigenview.methods.parts.building import Parts, parts_of

# A held-out batch much smaller than the width gives no rank; a tenth of a small set is the most we take.
HELD_OUT_FRACTION = 0.1
LEAST_HELD_OUT = 8  # the rank of N centred samples is at most N - 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything decided before training."""

    config: RunConfig[Any]
    train: ImageSet
    held_out: ImageSet
    held_out_note: str
    probes: tuple[ImageSet, ImageSet] | None
    probe_note: str
    size: int
    specs: tuple[ViewSpec, ...]
    steps_per_epoch: int
    device: torch.device
    bf16: bool
    """The network runs under bfloat16 autocast."""
    precision_note: str

    @property
    def parts(self) -> Parts:
        """The networks that the method is built from."""
        return parts_of(self.config, self.size, self.specs[-1].size)


def make_plan(config: RunConfig[Any], console: Any = None) -> Plan:
    """Load what the run needs and settle sizes; every error here leaves nothing behind."""
    check_combinations(config)
    images = load_images(config.data, size=config.image_size, loader=config.loader, split="train", console=console)
    probe_spec = config.probe_data or config.data
    sides = {"size": images.size, "source_size": images.source_size}
    probes = load_probe_sets(probe_spec, **sides, loader=config.loader, seed=config.seed, console=console)
    if probes is None and config.probe_data is not None:
        raise UserError(
            f"--probe-data {config.probe_data} has no labels: probes need class subfolders, "
            "or an array file with labels. Leave --probe-data out to train without probes."
        )
    if probes is not None and config.probe.images is not None:
        probes = (subsample(probes[0], config.probe.images, config.seed), probes[1])
    train, held_out, note = _hold_out(images, probes, config)
    if config.data_fraction < 1:
        train = train.take(_share(train, config))
    if config.batch_size > len(train):
        part = f", with --data-fraction {config.data_fraction:g}" if config.data_fraction < 1 else ""
        advice = "a larger --data-fraction, " if part else ""
        raise UserError(
            f"{config.data} holds {len(train)} readable image{'s' if len(train) != 1 else ''} to train on{part}; "
            f"a batch of {config.batch_size} needs at least {config.batch_size}. "
            f"Use {advice}--batch-size, or more images."
        )
    preset, small = augmentation_preset(config, images.size), config.local_size or images.size // 2
    require(small < images.size or not config.local_views, "--local-size", small, f"below the views' {images.size} px")
    device = own_device(config.device, config.devices)
    bf16 = runs_in_bf16(config.precision, device)
    return Plan(
        config=config,
        train=train,
        held_out=held_out,
        held_out_note=note,
        probes=probes,
        probe_note=_probe_note(config, probes),
        size=images.size,
        specs=(*view_specs(preset, config.views), *local_specs(preset, config.local_views, small, config.local_scale)),
        steps_per_epoch=len(train) // config.batch_size,
        device=device,
        bf16=bf16,
        precision_note="bf16" if bf16 else "fp32",
    )


def own_device(asked: str, devices: int) -> torch.device:
    """The device of this process. With several processes on a machine each uses the GPU with its own local number.

    Raises: UserError if the device that was asked for is not available.
    """
    available = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    found = ", ".join(name for name, is_there in available.items() if is_there)
    require(available[asked], "--device", asked, f"{found} on this machine")
    if asked == "mps":
        require(devices == 1, "--devices", devices, "1 with --device mps")
        return torch.device("mps")
    if asked == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    place = launched()
    return torch.device("cuda", place.local if place is not None and devices > 1 else 0)


def _hold_out(
    images: ImageSet, probes: tuple[ImageSet, ImageSet] | None, config: RunConfig[Any]
) -> tuple[ImageSet, ImageSet, str]:
    """Training images, and the fixed batch for diagnoses: probe test images if there are any (their labels are not
    used), otherwise images taken out of the training set."""
    draw = np.random.default_rng((config.seed, 1))
    if probes is not None and len(probes[1]) >= LEAST_HELD_OUT:
        test = probes[1]
        chosen = np.sort(draw.permutation(len(test))[: config.monitor.images])
        return images, test.take(chosen), f"{len(chosen)} probe test images, without their labels"
    count = min(config.monitor.images, int(len(images) * HELD_OUT_FRACTION))
    if count < LEAST_HELD_OUT:
        raise UserError(
            f"{config.data} holds {len(images)} readable image{'s' if len(images) != 1 else ''}; "
            f"a batch of {config.batch_size} and a held-out batch of 8 for the verdict need at least "
            f"{max(80, config.batch_size * 10 // 9 + 1)}. Use --batch-size, or more images."
        )
    order = draw.permutation(len(images))
    return (
        images.take(np.sort(order[count:])),
        images.take(np.sort(order[:count])),
        f"{count} images held out of training",
    )


def _share(train: ImageSet, config: RunConfig[Any]) -> np.ndarray:
    """Indices of the share of the images to train on, in order."""
    draw = np.random.default_rng((config.seed, 2)).permutation(len(train))
    if not config.stratified:
        return np.sort(draw[: round(config.data_fraction * len(train))])
    if train.labels is None:
        raise UserError(f"--stratified: {config.data} has no labels to draw by; leave it out, or use class subfolders.")
    of_class = [draw[train.labels[draw] == label] for label in np.unique(train.labels)]
    # each class gets its share rounded down; the rest goes to those that lost most, ties in a drawn order
    shares = config.data_fraction * np.array([len(rows) for rows in of_class])
    counts = np.floor(shares).astype(int)
    order = np.random.default_rng((config.seed, 4)).permutation(len(counts))
    missing = round(config.data_fraction * len(train)) - counts.sum()
    counts[order[np.argsort((counts - shares)[order], kind="stable")][:missing]] += 1
    return np.sort(np.concatenate([rows[:count] for rows, count in zip(of_class, counts, strict=True)]))


def augmentation_preset(config: RunConfig[Any], size: int) -> str:
    """The preset meant by `auto`: digits for the digits, else the method's own at this size."""
    if config.augmentation != "auto":
        return config.augmentation
    if config.data == "digits":
        return "digits"
    return preset_for_size(config.method.card.augmentation, size)


def _probe_note(config: RunConfig[Any], probes: tuple[ImageSet, ImageSet] | None) -> str:
    if probes is None:
        return "no labels found. Point --probe-data at a labelled folder for k-NN and linear accuracy."
    return f"{len(probes[0]):,} labelled images to fit, {len(probes[1]):,} to test"
