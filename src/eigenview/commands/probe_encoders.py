"""Several encoders on the same labelled images: features, the probe table, and what each encoder is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from eigenview import runfiles
from eigenview.config import LoaderConfig, ProbeConfig, RunConfig
from eigenview.data.images import ImageSet
from eigenview.data.load import find_source, load_probe_sets
from eigenview.data.pixels.cache import cache_folder
from eigenview.data.sources.source import Source
from eigenview.data.splitting import files_of, fitting_images
from eigenview.data.views.augment import prepare
from eigenview.diagnostics.baselines import OURS, PHRASES, RAW_PIXELS
from eigenview.diagnostics.recommend import Candidate, recommend
from eigenview.diagnostics.worth import Worth, judge_worth, unknown
from eigenview.diagnostics.worth_sentence import first_sentence
from eigenview.engine.final_probes import start_encoders
from eigenview.engine.start import given_weights, start_of, with_architecture
from eigenview.errors import UserError, require
from eigenview.methods.parts.building import parts_of
from eigenview.models.saved import LoadedEncoder
from eigenview.models.weights import is_weights
from eigenview.probes.cache import fingerprint
from eigenview.probes.features import extract_all, raw_pixels
from eigenview.probes.table import Features, Probed, probe_table
from eigenview.progress import counting
from eigenview.run import read_config
from eigenview.terminal import Console

Sets = tuple[ImageSet, ImageSet]


@dataclass(frozen=True, kw_only=True)
class Row:
    """An encoder that was asked about."""

    place: Path
    """As it was typed."""
    name: str
    """Its row of the table."""
    baselines: dict[str, str]
    """Name of a baseline -> its row of the table."""
    label: str | None
    """The first verdict of its run; None if it is unknown."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the probes found of several encoders."""

    rows: Sequence[Row]
    probed: Probed


def probe_encoders(
    encoders: Mapping[Path, LoadedEncoder],
    data: str | None,
    columns: Sequence[str],
    config: ProbeConfig,
    seed: int,
    console: Console,
    *,
    labels: str | None = None,
) -> Found:
    """The probe table of encoders on labelled images, beside raw pixels and what their runs started from.

    Args:
        encoders: by what was typed: run directories, encoder files or weights.
        data: labelled images; None for the probe data of the first run, or its training data.
        columns: names of probes.
        config: options of the probes.
        seed: seed of splits and few-label draws.
        console: where progress is shown.
        labels: auto, or a CSV file; None for those of the first run, if its own images are used, else auto.

    Raises:
        UserError: images without labels, weights without `data`, and as `load_probe_sets`.
    """
    spec, source = _images(next(iter(encoders)), data, labels)
    sets: dict[tuple[int, int], Sets] = {}
    features: dict[str, Features] = {}
    rows, shared, notes = [], [RAW_PIXELS], dict[str, None]()
    for place, encoder in encoders.items():
        sides = encoder.size, encoder.card.get("source_size") or encoder.size
        if sides not in sets:
            sets[sides] = _labelled(spec, source, encoder, sides, config, seed, console)
        train, test = sets[sides]
        if RAW_PIXELS not in features:
            features[RAW_PIXELS] = raw_pixels(train), raw_pixels(test)
        starts, note = _starts(place, encoder, train)
        notes |= dict.fromkeys([*train.label_notes, *test.label_notes, *note])
        functions = {OURS: encoder.embed} | {name: each.embed for name, each in starts.items()}
        with counting(console, "features") as progress:
            fitted, tested = (extract_all(functions, part, progress=progress) for part in (train, test))
        baselines = {RAW_PIXELS: RAW_PIXELS}
        for name in starts:
            known = _equal(features, (fitted[name], tested[name]))
            baselines[name] = known or (name if name not in features else f"{name} of {place}")
            features[baselines[name]] = fitted[name], tested[name]
            shared.append(baselines[name])
        own = OURS if len(encoders) == 1 else str(place)
        features[own] = fitted[OURS], tested[OURS]
        rows.append(Row(place=place, name=own, baselines=baselines, label=_label(place)))
    train, test = _agreeing(list(sets.values()), spec)
    order = [name for name in features if name not in {row.name for row in rows}] + [row.name for row in rows]
    with console.waiting("probes"):
        probed = probe_table(
            {name: features[name] for name in order},
            train.labels,
            test.labels,
            config,
            train.class_names,
            seed,
            columns=columns,
            shared=shared,
            memory=cache_folder() / "probes",
            notes=tuple(notes),
            test_names=test.paths,
            test_files=files_of(test),
        )
    return Found(rows=rows, probed=probed)


def _images(place: Path, data: str | None, labels: str | None) -> tuple[str, Source]:
    """The labelled images: those of `data`, or those that a run was probed on."""
    require(labels != "none", "--labels", labels, "auto, or a CSV file: a probe needs labels")
    if data is not None:
        return data, find_source(data, labels or "auto")
    if is_weights(str(place)):
        raise UserError(f"{place} is no run, so that its images are not known: give labelled ones with --data.")
    trained = read_config(place if place.is_dir() else place.parent)
    if labels is None and trained.labels == "none" and trained.probe_data is None:
        raise UserError(
            f"{place} was trained with --labels none, so that its images have none: give a file with --labels, or "
            "other images with --data."
        )
    given = labels or ("auto" if trained.labels == "none" else trained.labels)  # none is for the training images
    beside = None if trained.probe_data is None else trained.data
    return trained.probe_data or trained.data, find_source(trained.probe_data or trained.data, given, beside=beside)


def _labelled(
    spec: str,
    source: Source,
    encoder: LoadedEncoder,
    sides: tuple[int, int],
    config: ProbeConfig,
    seed: int,
    console: Console,
) -> Sets:
    size, side = sides
    how: dict[str, Any] = {"reading": encoder.reading, "loader": LoaderConfig(), "seed": seed, "console": console}
    sets = load_probe_sets(spec, size=size, source_size=side, source=source, **how)
    if sets is None:
        raise UserError(f"--data {spec} has no labels: a probe needs class subfolders, or an array file with labels.")
    return fitting_images(sets[0], config, seed), sets[1]


def _agreeing(sets: Sequence[Sets], spec: str) -> Sets:
    """The first of them. Raises UserError unless all have the same labels: encoders of other sides read the same
    images again."""
    for both in sets[1:]:
        for one, other in zip(sets[0], both, strict=True):
            assert one.labels is not None
            assert other.labels is not None
            if not np.array_equal(one.labels, other.labels) or one.paths != other.paths:
                raise UserError(f"{spec} changed while it was read: run the command again.")
    return sets[0]


def _starts(place: Path, encoder: LoadedEncoder, images: ImageSet) -> tuple[dict[str, LoadedEncoder], list[str]]:
    """Row -> the encoder that the run started from, and why there is none. Statistics are those of `images`."""
    directory = place if place.is_dir() else place.parent
    if is_weights(str(place)) or not (directory / runfiles.CONFIG).exists():
        return {}, []
    try:
        config: RunConfig[Any] = read_config(directory)
        weights = given_weights(config)
        config = with_architecture(config, weights)
        channels = encoder.reading.channels
        config, start = (config, None) if weights is None else start_of(config, weights, encoder.size, channels)
        local = (config.local_size or encoder.size // 2) if config.local_views else None
        found = start_encoders(
            config,
            parts_of(config, encoder.size, local, channels, None if start is None else start.match.tensors),
            images,
            lambda pixels: prepare(
                pixels, encoder.size, encoder.mean, encoder.std, interpolation=encoder.interpolation
            ),
        )
    except UserError as error:
        return {}, [f"what {place} started from is left out: {error}"]
    return {name: _like(encoder, network) for name, network in found.items()}, []


def _like(encoder: LoadedEncoder, network: nn.Module) -> LoadedEncoder:
    """Another network for the same images, prepared in the same way."""
    return LoadedEncoder(network, encoder.card)


def _equal(features: dict[str, Features], given: Features) -> str | None:
    """The row that has these features already."""
    wanted = fingerprint(given)
    return next((name for name, each in features.items() if fingerprint(each) == wanted), None)


def _label(place: Path) -> str | None:
    if not (place / runfiles.SUMMARY).exists():
        return None
    return str(runfiles.read_summary(place)["verdict"])


def sentences(found: Found, config: ProbeConfig) -> list[str]:
    """Both verdicts of each encoder, and which one to take."""
    lines, candidates = [], []
    for row in found.rows:
        worth = _worth(found, row, config)
        text = first_sentence(row.label, worth, run=str(row.place)).text
        lines.append(text if len(found.rows) == 1 else f"{row.place}: {text}")
        hits = found.probed.hits
        candidates.append(
            Candidate(
                name=str(row.place),
                places=(str(row.place),),
                label=row.label,
                worth=worth.word,
                right={} if hits is None else {0: hits.answers()[row.name]},
                images={} if hits is None else {0: hits.images},
            )
        )
    return [*lines, *filter(None, [recommend(candidates)])]


def _worth(found: Found, row: Row, config: ProbeConfig) -> Worth:
    hits = found.probed.hits
    if hits is None:
        return unknown("the labels allow no probe")
    answers = hits.answers()
    baselines = {name: [answers[place]] for name, place in row.baselines.items() if name in PHRASES}
    return judge_worth([answers[row.name]], baselines, labels_per_class=config.labels_per_class)
