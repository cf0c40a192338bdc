"""What a run will do, decided and checked before anything is written: images, views, steps, device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from eigenview.config import RunConfig
from eigenview.config.reading import Reading
from eigenview.data.images import ImageSet
from eigenview.data.load import find_source, load_images, load_probe_sets
from eigenview.data.sources.label_file import WORDS
from eigenview.data.sources.source import Source
from eigenview.data.splitting import fitting_images, originals, rows_by_class
from eigenview.data.views.channel_statistics import channel_statistics
from eigenview.data.views.specs import ViewSpec
from eigenview.diagnostics.worth import NO_LABELS, UNUSED_LABELS
from eigenview.engine.config_checks import check_combinations
from eigenview.engine.precision import runs_in_bf16
from eigenview.engine.start import Start, as_weights_saw, given_weights, reading_from, start_of, with_architecture
from eigenview.engine.views import run_specs, try_transforms
from eigenview.errors import UnusableLabels, UserError, listed, require
from eigenview.launched import launched
from eigenview.methods.parts.building import Parts, parts_of
from eigenview.models.encoders import patches_of
from eigenview.models.weights import Preprocessing

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
    no_probes: str
    """Why there are none, a clause for the second verdict; empty if there are."""
    label_notes: tuple[str, ...]
    """What was taken for labels, and what the probes leave out."""
    size: int
    specs: tuple[ViewSpec, ...]
    steps_per_epoch: int
    device: torch.device
    bf16: bool
    """The network runs under bfloat16 autocast."""
    precision_note: str
    start: Start | None = None
    """What the encoder starts from; None: random values."""

    @property
    def resampling(self) -> Literal["bilinear", "bicubic"]:
        """Filter with which images are resized for evaluation."""
        return "bilinear" if self.start is None else self.start.images.interpolation

    @property
    def parts(self) -> Parts:
        """The networks that the method is built from."""
        start = None if self.start is None else self.start.match.tensors
        return parts_of(self.config, self.size, self.specs[-1].size, self.train.reading.channels, start)


def make_plan(config: RunConfig[Any], console: Any = None, reading: Reading | None = None) -> Plan:
    """Load what the run needs and settle sizes; every error here leaves nothing behind.

    reading: of a run that is continued, how its pixels were made when it began; default: as `config` asks.
    """
    weights = given_weights(config)
    reading = reading or reading_from(config, weights)
    config = with_architecture(config, weights)
    check_combinations(config)
    views: dict[str, Any] = {
        "reading": reading,
        "size": config.image_size,
        "multiple": patches_of(config.encoder, config.second_encoder),
    }
    images_of_weights = None if weights is None else weights.preparation(config.encoder)
    if images_of_weights is not None:
        views["most_size"] = images_of_weights.size
    source = find_source(config.data, config.labels, beside=config.probe_data)
    images = load_images(
        config.data,
        **views,
        loader=config.loader,
        split="train",
        console=console,
        source=source,
        check=lambda count, has_labels: _refuse_few(count, has_labels and config.labels != "none", config),
    )
    if config.labels == "none":
        images = images.without_labels("no labels are used (--labels none)")
    probes, probe_note, no_probes = _probe_sets(images, source, config, console)
    if probes is not None:
        probes = (fitting_images(probes[0], config.probe, config.seed), probes[1])
    train, held_out, note = _hold_out(images, probes, config)
    held_out = held_out.kept()
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
    specs = run_specs(config, images.size, train.reading.channels, start=_image_statistics(train, images_of_weights))
    device = own_device(config.device, config.devices)
    try_transforms(train, specs, images.size, device)
    bf16 = runs_in_bf16(config.precision, device)
    config, start = (
        (config, None) if weights is None else start_of(config, weights, images.size, train.reading.channels)
    )
    return Plan(
        config=config,
        train=train,
        held_out=held_out,
        held_out_note=note,
        probes=probes,
        probe_note=probe_note if probes is None else _probes_shown(*probes),
        no_probes=no_probes,
        label_notes=_label_notes(images, probes),
        size=images.size,
        specs=specs,
        steps_per_epoch=len(train) // config.batch_size,
        device=device,
        bf16=bf16,
        precision_note="bf16" if bf16 else "fp32",
        start=start,
    )


def _image_statistics(train: ImageSet, seen: Preprocessing | None) -> Callable[[ViewSpec], ViewSpec] | None:
    """What the images ask of each view: mean, deviation and resampling of the weights; their own mean and deviation if
    they have other channels than the weights, or none that are colours; None: what the preset has."""
    channels = train.reading.channels
    if seen is None and channels == 3:
        return None
    if seen is not None and seen.fits(channels):
        return lambda spec: as_weights_saw(spec, seen)
    mean, std = channel_statistics(train)
    return lambda spec: dataclasses.replace(
        spec, mean=mean, std=std, interpolation=spec.interpolation if seen is None else seen.interpolation
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


def _refuse_few(count: int, has_labels: bool, config: RunConfig[Any]) -> None:
    """Raises UserError before images are decoded if there are too few of them, whatever the probes take."""
    if count < config.batch_size or (not has_labels and config.probe_data is None and count < _least(config)):
        raise _too_few(count, config, can_hold_out=has_labels or config.probe_data is not None)


def _least(config: RunConfig[Any]) -> int:
    """Images that a run without probes needs: a tenth is held out, at least 8, and the rest fills a batch."""
    least = max(round(LEAST_HELD_OUT / HELD_OUT_FRACTION), config.batch_size)
    while least - min(config.monitor.images, int(least * HELD_OUT_FRACTION)) < config.batch_size:
        least += 1
    return least


def _too_few(count: int, config: RunConfig[Any], *, can_hold_out: bool) -> UserError:
    images = f"{count} readable image{'s' if count != 1 else ''}"
    if can_hold_out:
        rule = f"a batch of {config.batch_size} needs at least {config.batch_size}"
    else:
        rule = (
            f"a tenth of them, at least {LEAST_HELD_OUT}, is held out for the verdict and a batch takes "
            f"{config.batch_size}, so at least {_least(config)} are needed"
        )
    return UserError(f"{config.data} holds {images}; {rule}. Use a smaller --batch-size, or more images.")


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
        raise _too_few(len(images), config, can_hold_out=False)
    first, image = originals(images)  # tiles of an image are held out together
    chosen = draw.permutation(len(first))[: -(-count * len(first) // len(images))]
    is_out = np.isin(image, chosen)
    return (
        images.take(np.flatnonzero(~is_out)),
        images.take(np.flatnonzero(is_out)),
        f"{int(is_out.sum())} images held out of training",
    )


def _share(train: ImageSet, config: RunConfig[Any]) -> np.ndarray:
    """Indices of the share of the images to train on, in order: all tiles, pages and frames of a share of the files."""
    first, image = originals(train)
    draw = np.random.default_rng((config.seed, 2)).permutation(len(first))
    if not config.stratified:
        return np.flatnonzero(np.isin(image, draw[: round(config.data_fraction * len(first))]))
    if train.labels is None:
        raise UserError(f"--stratified: {config.data} has no labels to draw by; leave it out, or use class subfolders.")
    of_class = [draw[rows] for rows in rows_by_class(train.labels[first[draw]])]
    # each class gets its share rounded down; the rest goes to those that lost most, ties in a drawn order
    shares = config.data_fraction * np.array([len(rows) for rows in of_class])
    counts = np.floor(shares).astype(int)
    order = np.random.default_rng((config.seed, 4)).permutation(len(counts))
    missing = round(config.data_fraction * len(first)) - counts.sum()
    counts[order[np.argsort((counts - shares)[order], kind="stable")][:missing]] += 1
    chosen = np.concatenate([rows[:count] for rows, count in zip(of_class, counts, strict=True)])
    return np.flatnonzero(np.isin(image, chosen))


def _probe_sets(
    images: ImageSet, source: Source, config: RunConfig[Any], console: Any
) -> tuple[tuple[ImageSet, ImageSet] | None, str, str]:
    """Labelled training and test images; or None, the reason with what to do, and the reason as a clause.

    Raises: UserError if --probe-data was given and cannot be probed; labels of --data are never required.
    """
    advice = "Point --probe-data at a labelled folder for k-NN and linear accuracy."
    if config.labels == "none" and config.probe_data is None:
        return None, f"none, because of --labels none. {advice}", UNUSED_LABELS
    sides: dict[str, Any] = {"size": images.size, "source_size": images.source_size, "reading": images.reading}
    try:
        probes = load_probe_sets(
            config.probe_data or config.data,
            **sides,
            loader=config.loader,
            seed=config.seed,
            console=console,
            source=source if config.probe_data in (None, config.data) else _probe_source(config),
        )
    except UnusableLabels as error:
        if config.probe_data is not None:
            raise UserError(f"--probe-data: {error} Leave --probe-data out to train without probes.") from error
        if config.labels not in WORDS:
            raise UserError(f"--labels: {error} Use --labels none to train without probes.") from error
        return None, f"none: {error}", str(error).removesuffix(".")
    if probes is None and config.probe_data is not None:
        raise UserError(
            f"--probe-data {config.probe_data} has no labels: probes need class subfolders, "
            "or an array file with labels. Leave --probe-data out to train without probes."
        )
    return probes, f"no labels found. {advice}", NO_LABELS if probes is None else ""


def _probe_source(config: RunConfig[Any]) -> Source:
    assert config.probe_data is not None
    return find_source(config.probe_data, config.labels, beside=config.data)


def _probes_shown(train: ImageSet, test: ImageSet) -> str:
    classes = f"{len(train.class_names):,} classes ({listed(train.class_names)})"
    return f"{len(train):,} labelled images to fit, {len(test):,} to test, {classes}"


def _label_notes(images: ImageSet, probes: tuple[ImageSet, ImageSet] | None) -> tuple[str, ...]:
    if probes is None:
        return ()  # the reason is the note on the probes
    notes = [note for each in (images, *probes) for note in each.label_notes]
    return tuple(note for note in dict.fromkeys(notes) if note not in images.notes)
