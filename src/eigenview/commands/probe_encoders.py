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
from eigenview.config.reading import Reading
from eigenview.data.identity import identities
from eigenview.data.images import ImageSet
from eigenview.data.load import find_source, load_probe_sets
from eigenview.data.pixels.cache import cache_folder
from eigenview.data.sources.source import Source
from eigenview.data.splitting import files_of, fitting_images
from eigenview.data.views.augment import prepare
from eigenview.diagnostics.baselines import MOST_FREQUENT, OURS, PHRASES, RAW_PIXELS
from eigenview.diagnostics.recommend import Candidate, recommend
from eigenview.diagnostics.worth import Worth, judge_worth, to_summary, unknown
from eigenview.diagnostics.worth_sentence import first_sentence
from eigenview.engine.final_probes import start_encoders
from eigenview.engine.start import given_weights, start_of, with_architecture
from eigenview.errors import UserError, require
from eigenview.methods.parts.building import parts_of
from eigenview.models.saved import LoadedEncoder
from eigenview.models.weights import is_weights
from eigenview.probes.cache import fingerprint
from eigenview.probes.features import RAW_SIDE, extract_all, pooled_to
from eigenview.probes.table import Features, probe_table
from eigenview.progress import counting
from eigenview.run import read_config
from eigenview.runfiles import Hits
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
    table: dict[str, Any]
    """The probe table, as `show_probes` takes it."""
    worth: Mapping[str, Worth]
    """Row -> its second verdict."""
    recommendation: str
    """Which one to take, or why none can be recommended; empty for one encoder."""

    def sentences(self) -> list[str]:
        """Both verdicts of each encoder, and which one to take."""
        lines = []
        for row in self.rows:
            text = first_sentence(row.label, self.worth[row.name], run=str(row.place)).text
            lines.append(text if len(self.rows) == 1 else f"{row.place}: {text}")
        return [*lines, *filter(None, [self.recommendation])]

    def as_json(self) -> dict[str, Any]:
        """The table, for each row of an encoder its `worth` (as in summary.json), and the recommendation or null."""
        worth = {name: to_summary(each) for name, each in self.worth.items()}
        return {**self.table, "worth": worth, "recommendation": self.recommendation or None}


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
    sets = _labelled_sets(encoders, spec, source, config, seed, console)
    features: dict[str, Features] = {}
    rows, shared, notes = [], list[str](), dict[str, None]()
    for place, encoder in encoders.items():
        train, test = sets[place]
        starts, note = _starts(place, encoder, train)
        notes |= dict.fromkeys([*train.label_notes, *test.label_notes, *note])
        begun = {RAW_PIXELS: pooled_to(RAW_SIDE)} | {name: each.embed for name, each in starts.items()}
        with counting(console, "features") as progress:
            functions = {OURS: encoder.embed, **begun}
            fitted, tested = (extract_all(functions, part, progress=progress) for part in (train, test))
        baselines = dict[str, str]()
        for name in begun:
            known = _equal(features, (fitted[name], tested[name]))
            baselines[name] = known or (name if name not in features else f"{name} of {place}")
            features[baselines[name]] = fitted[name], tested[name]
            shared.append(baselines[name])
        own = OURS if len(encoders) == 1 else str(place)
        features[own] = fitted[OURS], tested[OURS]
        rows.append(Row(place=place, name=own, baselines=baselines, label=_label(place)))
    train, test = next(iter(sets.values()))
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
            test_images=identities(test),
            files=(files_of(train), files_of(test)),
        )
    worth = {row.name: _worth(probed.hits, row, config) for row in rows}
    return Found(rows=rows, table=probed.table, worth=worth, recommendation=_recommendation(rows, probed.hits, worth))


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


def _labelled_sets(
    encoders: Mapping[Path, LoadedEncoder], spec: str, source: Source, config: ProbeConfig, seed: int, console: Console
) -> dict[Path, Sets]:
    """The labelled images as each encoder reads them. Those of the same sides and reading share a set.

    Raises: UserError for images without labels, and unless all have the same labels: a table has one test set.
    """
    read: dict[tuple[int, int, Reading], Sets] = {}
    found: dict[Path, Sets] = {}
    first = next(iter(encoders))
    for place, encoder in encoders.items():
        size, side = encoder.size, encoder.source_size
        key = size, side, encoder.reading
        if key not in read:
            how: dict[str, Any] = {"reading": encoder.reading, "loader": LoaderConfig(), "seed": seed}
            sets = load_probe_sets(spec, size=size, source_size=side, source=source, console=console, **how)
            if sets is None:
                raise UserError(
                    f"--data {spec} has no labels: a probe needs class subfolders, or an array file with labels."
                )
            read[key] = fitting_images(sets[0], config, seed), sets[1]
        found[place] = read[key]
        if not _are_same(found[first], found[place]):
            ways = [_ways(encoders[first].reading, encoder.reading), _ways(encoder.reading, encoders[first].reading)]
            if not ways[0]:
                raise UserError(f"{spec} changed while it was read: run the command again.")
            raise UserError(
                f"{first} ({ways[0]}) and {place} ({ways[1]}) make different images of {spec}, which have no place in "
                "one table. Probe them one by one."
            )
    return found


def _are_same(sets: Sets, others: Sets) -> bool:
    """Whether the images are the same and have the same labels, however their pixels are read."""
    pairs = zip(sets, others, strict=True)
    return all(
        one.paths == other.paths
        and one.labels is not None
        and other.labels is not None
        and np.array_equal(one.labels, other.labels)
        for one, other in pairs
    )


def _ways(reading: Reading, other: Reading) -> str:
    """The options in which a reading differs from another one; empty if there are none."""
    names = [name for name in ("range", "channels", "pages", "fit") if vars(reading)[name] != vars(other)[name]]
    return ", ".join(f"--{name} {vars(reading)[name]}" for name in names)


def _starts(place: Path, encoder: LoadedEncoder, images: ImageSet) -> tuple[dict[str, LoadedEncoder], list[str]]:
    """Row -> the encoder that the run started from, and why there is none. Statistics are those of `images`."""
    directory = _run_of(place)
    if directory is None:
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


def _run_of(place: Path) -> Path | None:
    """The run that a run directory or a file of its encoder belongs to; None for weights, and for an encoder alone."""
    directory = place if place.is_dir() else place.parent
    return None if is_weights(str(place)) or not (directory / runfiles.CONFIG).exists() else directory


def _label(place: Path) -> str | None:
    directory = _run_of(place)
    if directory is None or not (directory / runfiles.SUMMARY).exists():
        return None
    return str(runfiles.read_summary(directory)["verdict"])


def _worth(hits: Hits | None, row: Row, config: ProbeConfig) -> Worth:
    if hits is None:
        return unknown("the labels allow no probe")
    answers = hits.answers()
    baselines = {name: [answers[place]] for name, place in row.baselines.items() if name in PHRASES}
    if MOST_FREQUENT in answers:
        baselines[MOST_FREQUENT] = [answers[MOST_FREQUENT]]
    return judge_worth([answers[row.name]], baselines, labels_per_class=config.labels_per_class)


def _recommendation(rows: Sequence[Row], hits: Hits | None, worth: Mapping[str, Worth]) -> str:
    candidates = [
        Candidate(
            name=str(row.place),
            places=(str(row.place),),
            label=row.label,
            worth=worth[row.name].word,
            right={} if hits is None else {0: hits.answers()[row.name]},
            images={} if hits is None else {0: hits.images},
        )
        for row in rows
    ]
    return recommend(candidates)
