"""The probes after the last step: the trained encoder beside what it has to be better than."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from eigenview.config import RunConfig
from eigenview.data.identity import identities
from eigenview.data.images import ImageSet
from eigenview.data.pixels.cache import cache_folder
from eigenview.data.splitting import files_of
from eigenview.data.views.augment import prepare
from eigenview.diagnostics.baselines import MOST_FREQUENT, OURS, RAW_PIXELS, RECALIBRATED, STARTED_FROM, UNTRAINED
from eigenview.diagnostics.worth import Worth, judge_worth, unknown
from eigenview.engine.plan import Plan
from eigenview.methods.parts.building import Parts, build_method
from eigenview.methods.parts.method import Method
from eigenview.models.lora import without_adapters
from eigenview.models.matching import lacks_averages
from eigenview.probes.features import RAW_SIDE, extract_all, pooled_to
from eigenview.probes.table import Probed, probe_table
from eigenview.progress import counting
from eigenview.runfiles import Hits
from eigenview.terminal import Console

CALIBRATION_IMAGES = 2048
Prepared = Callable[[Tensor], Tensor]
"""uint8 (n 3 S S) -> what an encoder takes, on its device."""
BASELINES = (RAW_PIXELS, UNTRAINED, STARTED_FROM, RECALIBRATED, MOST_FREQUENT)
"""Rows that the second verdict compares an encoder with, where they are in the table."""


def starts_from_weights(config: RunConfig[Any]) -> bool:
    """Whether the encoder starts from weights that were given, and not from random ones."""
    return config.weights is not None


def main_encoder(method: Method) -> nn.Module:
    """The encoder that is saved and probed."""
    return without_adapters(next(iter(method.encoders().values())))


def encoder_function(encoder: nn.Module, plan: Plan) -> Callable[[Tensor], Tensor]:
    """uint8 images -> float32 representations, frozen, in the precision of the run."""
    spec = plan.specs[0]
    encoder.to(plan.device).eval()

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        x = prepare(images.to(plan.device), plan.size, spec.mean, spec.std, interpolation=plan.resampling)
        with torch.autocast(plan.device.type, dtype=torch.bfloat16, enabled=plan.bf16):
            return encoder(x).float().cpu()

    return encode


def start_encoders(config: RunConfig[Any], parts: Parts, images: ImageSet, prepared: Prepared) -> dict[str, nn.Module]:
    """Row -> the encoder as it was before the first step of a run. Statistics are those of `images`; weights that came
    without averages have no other row."""
    encoder = main_encoder(build_method(config, parts))
    rows = given_encoders if starts_from_weights(config) else untrained_encoder
    found = rows(encoder, images, prepared)
    if parts.start is not None and lacks_averages(encoder, parts.start):
        del found[STARTED_FROM]
    return found


def untrained_encoder(encoder: nn.Module, images: ImageSet, prepared: Prepared) -> dict[str, nn.Module]:
    """The row of random weights, with batch-norm statistics of training images: without them its activations would not
    be on the scale that its weights were drawn for, and the baseline would be unfairly weak."""
    return {UNTRAINED: calibrated(encoder.train(), images, prepared)}


def given_encoders(encoder: nn.Module, images: ImageSet, prepared: Prepared) -> dict[str, nn.Module]:
    """The rows of weights that were given: as they are, and, where there is batch norm, with its statistics of training
    images, which show how much of a gain is recalibration and not training."""
    rows = {STARTED_FROM: encoder.eval()}
    if batch_norms(encoder):
        rows[RECALIBRATED] = calibrated(copy.deepcopy(encoder).eval(), images, prepared)
    return rows


def batch_norms(encoder: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Its batch norms that keep running statistics."""
    norms = (part for part in encoder.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm))
    return [norm for norm in norms if norm.track_running_stats]


def calibrated(encoder: nn.Module, images: ImageSet, prepared: Prepared) -> nn.Module:
    """`encoder` with batch-norm statistics of up to 2,048 of `images`: means over batches of about 256.

    Sets are often sorted by class: the images are spread over the whole set, and so are those of each batch. Other
    parts keep the mode they are in. Returns it in evaluation mode.
    """
    for norm in batch_norms(encoder):
        norm.momentum = None  # a plain average over the calibration batches
        norm.reset_running_stats()
        norm.training = True  # not train(), which one that keeps its averages in training does not heed
    rows = images.spread(CALIBRATION_IMAGES)
    batches = max(1, len(rows) // 256)
    with torch.no_grad():
        for k in range(batches):
            pixels = prepared(torch.from_numpy(images.read(rows[k::batches])))
            encoder.to(pixels.device)(pixels)
    return encoder.eval()


def run_probes(plan: Plan, encode: Callable[[Tensor], Tensor], console: Console) -> Probed:
    """The probe table of this encoder beside raw pixels and the encoder that the run started from."""
    assert plan.probes is not None
    train, test = plan.probes
    assert train.labels is not None
    assert test.labels is not None
    spec = plan.specs[0]
    begun = start_encoders(
        plan.config,
        plan.parts,
        plan.train,
        lambda pixels: prepare(pixels.to(plan.device), plan.size, spec.mean, spec.std, interpolation=plan.resampling),
    )
    starts = {name: encoder_function(each, plan) for name, each in begun.items()}
    encoders = {RAW_PIXELS: pooled_to(RAW_SIDE), **starts, OURS: encode}
    with counting(console, "features") as progress:
        fitted, tested = (extract_all(encoders, images, progress=progress) for images in (train, test))
    rows = {name: (fitted[name], tested[name]) for name in encoders}
    config = plan.config
    with console.waiting("probes") as show:
        return probe_table(
            rows,
            train.labels,
            test.labels,
            config.probe,
            train.class_names,
            config.seed,
            progress=lambda name: show(f"probes: {name}"),
            shared=(RAW_PIXELS, *starts),
            memory=cache_folder() / "probes",
            notes=plan.label_notes,
            device=plan.device,
            test_images=identities(test),
            files=(files_of(train), files_of(test)),
        )


def worth_of(hits: Hits | None, labels_per_class: int) -> Worth:
    """The second verdict of the encoder in the row `OURS`."""
    if hits is None:
        return unknown("the labels allow no probe")
    answers = hits.answers()
    baselines = {name: [answers[name]] for name in BASELINES if name in answers}
    return judge_worth([answers[OURS]], baselines, labels_per_class=labels_per_class)
