"""Records as rows of text for the page: the verdict, the headline numbers, the probes, the comparison of runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eigenview.diagnostics.baselines import RECALIBRATED
from eigenview.diagnostics.worth_sentence import Tone, tone_of
from eigenview.probes.protocols import TITLES
from eigenview.report import worth
from eigenview.report.measures import COMPARED, HEADLINES, MEASURES, RANK, Measure, first_present
from eigenview.report.numbers import MISSING, count, duration, number, parameters, percent, short
from eigenview.report.read import RunRecord

NO_LABELS = "No labels were found. Point --probe-data at a labelled folder for k-NN and linear accuracy."
WORTH = {
    "better": "better than its baselines",
    "no different": "no better than its baselines",
    "worse": "worse than a baseline",
    "mixed": "probes disagree",
    "unknown": "worth not known",
}
"""The second verdict in a table."""
MARKS = {"good": "✓", "warn": "!", "bad": "✗", "open": "…"}


@dataclass(frozen=True)
class Verdict:
    """The verdicts of a run. `kind` selects icon and colour."""

    word: str
    kind: Tone
    reason: str
    remedies: list[str]
    notes: list[str]
    warnings: list[str] = field(default_factory=list)
    detail: str = ""
    """Numbers and advice, below `word`."""
    short: str = ""
    """The first verdict's word, for tables; empty if `word` is it."""
    worth: str = ""
    """The second verdict's word, for tables."""


@dataclass(frozen=True)
class Cell:
    """A value, a text below it, the length of a bar behind it (0 to 1), and whether it is the best of its column."""

    text: str
    detail: str = ""
    share: float | None = None
    is_best: bool = False


@dataclass(frozen=True)
class TableRow:
    """A labelled row; `is_main` highlights it, `is_part` sets it in below the row above."""

    label: str
    cells: list[Cell]
    is_main: bool = False
    is_part: bool = False


@dataclass(frozen=True)
class Table:
    """Column names (the first is that of the labels), rows, and (name, sentence) pairs shown below."""

    columns: list[str]
    rows: list[TableRow]
    below: list[tuple[str, str]]


def verdict(record: RunRecord) -> Verdict:
    """Both verdicts of summary.json; without the second one (earlier versions) the first; before the run has ended, the
    label of the last diagnosis. Good are only both together."""
    s = record.summary
    label = s.get("verdict") or (record.diagnostics[-1].get("verdict") if record.diagnostics else None)
    if not label:
        return Verdict("No verdict yet", "open", "There is no diagnosis yet.", [], [])
    word = _sentence(str(label).replace("-", " ").replace("_", " "))
    warnings = [_sentence(text) for text in _texts(s, "warnings")]
    kind: Tone = "warn" if warnings and word == "Healthy" else tone_of(word.lower(), None)
    since = number(s.get("since_epoch"))
    if since is not None and kind == "bad":
        word += f" since epoch {short(since)}"
    if not has_ended(record):
        word += ", so far"
    reason, found = _sentence(str(s.get("reason") or "")), worth.sentence(record)
    lists = _texts(s, "remedies"), _texts(s, "notes"), warnings
    if found is None:
        return Verdict(word, kind, reason, *lists)
    known = worth.worth_of(record)
    detail, judged = _sentence(found.rest.lstrip(":. ")), "" if known is None else known.word
    reason = f"{word}: {reason[:1].lower()}{reason[1:]}"
    return Verdict(found.head, found.tone, reason, *lists, detail=detail, short=word, worth=judged)


def has_ended(record: RunRecord) -> bool:
    """Whether the run has ended, successfully or not: only then is there a summary."""
    return bool(record.summary)


def progress(record: RunRecord) -> str:
    """How far an unfinished run has come, and how to continue it; empty for a finished run."""
    if record.summary.get("finished") is True:
        return ""
    done = (number(record.metrics[-1].get("epoch")) if record.metrics else None) or 0.0
    far = f"{short(round(done, 1))} of {short(record.config.get('epochs'))} epochs"
    if has_ended(record):
        return f"Ended early, after {far}."
    return f"Not finished: {far} so far. To continue: eigenview pretrain --out {shlex.quote(str(record.path))} --resume"


def facts(record: RunRecord) -> list[str]:
    """The run in short: method, data, length, network, time, seed."""
    s, c = record.summary, record.config
    seconds = number(s.get("seconds")) or (number(record.metrics[-1].get("seconds")) if record.metrics else None)
    return [
        text
        for text in (
            record.method,
            str(s.get("data") or c.get("data") or ""),
            count(s.get("images"), "image"),
            count(s.get("epochs") or c.get("epochs"), "epoch"),
            str(s.get("encoder") or c.get("encoder") or ""),
            parameters(s.get("parameters")),
            duration(seconds),
            f"seed {short(s.get('seed', c.get('seed')))}",
        )
        if text and MISSING not in text
    ]


def tiles(record: RunRecord) -> list[tuple[str, Cell]]:
    """The headline numbers: accuracies with their baselines, effective rank, speed; those that exist."""
    s = record.summary
    made = [(f"{TITLES[n]}, %", Cell(percent(s.get(n)), _baselines(record, n))) for n in TITLES]
    for layer in ("h", "z"):
        rows = [row.get(layer) or {} for row in record.diagnostics]
        key = first_present(rows[-1], RANK) if rows else None
        if key is not None:
            possible = _possible_rank(record, layer)
            detail = f"of {possible} possible" if possible else ""
            made.append((f"effective rank of {layer}", Cell(short(rows[-1][key]), detail)))
    made.append(("images/s", Cell(short(s.get("images_per_second")), "training, all included")))
    return [(label, cell) for label, cell in made if cell.text != MISSING]


def _possible_rank(record: RunRecord, layer: str) -> int | None:
    """The largest rank that the held-out images allow: min(width, number of images - 1)."""
    if layer not in record.spectra:
        return None
    width, last = record.spectra[layer].shape[1], record.diagnostics[-1].get(layer) or {}
    # the bias ratio is the participation ratio over N - 1 (diagnostics/measures.py)
    ratio, bias = number(last.get("participation_ratio")), number(last.get("bias_ratio"))
    return min(width, round(ratio / bias)) if ratio and bias else width


def probe_table(record: RunRecord) -> Table | None:
    """Accuracies of probes.json in percent, baselines first, each column described below; None without labels."""
    p = record.probes
    columns = [str(name) for name in p.get("columns") or []]
    rows = [row for row in p.get("rows") or [] if any(number(row.get(name)) is not None for name in columns)]
    if not columns or not rows:
        return None
    protocols = p.get("protocols") or {}
    below = [(TITLES.get(name, name), str(protocols[name])) for name in columns if protocols.get(name)]
    shown = {name: TITLES.get(name, name) for name in columns}
    if p.get("per_class") is True:
        shown = {
            key: t
            for name, title in shown.items()
            for key, t in ((name, title), (f"{name}_per_class", "mean of classes"))
        }
    made = [
        TableRow(
            str(row.get("features", "")),
            [_accuracy(row, name) for name in shown],
            is_main=i == len(rows) - 1,
            is_part=row.get("features") == RECALIBRATED,
        )
        for i, row in enumerate(rows)
    ]
    return Table(["accuracy in percent", *shown.values()], made, below)


def probe_note(record: RunRecord) -> str:
    """The note of probes.json; without one and without accuracies, why there are none, and what to do."""
    note = str(record.probes.get("note") or "")
    if note or probe_table(record) is not None:
        return note
    if not has_ended(record):
        return "Probes come at the end of the run."
    return NO_LABELS if record.summary.get("finished") is True else "No probes: the run ended early."


def quality_tables(record: RunRecord) -> tuple[Table | None, Table | None]:
    """The label-free measures of summary.json with their meanings: the most important ones, and the others."""
    quality = {k: v for k, v in (record.summary.get("quality") or {}).items() if number(v) is not None}

    def table(keys: list[str]) -> Table | None:
        measures = [(MEASURES.get(key, Measure(key, "")), quality[key]) for key in keys]
        rows = [TableRow(m.name, [Cell(short(value)), Cell(m.meaning)]) for m, value in measures]
        return Table(["measure", "value", "meaning"], rows, []) if rows else None

    return table([k for k in HEADLINES if k in quality]), table([k for k in quality if k not in HEADLINES])


def comparison_table(records: Sequence[RunRecord]) -> Table:
    """A row per run: verdict, accuracies with their baselines, label-free measures, time."""
    probed = [name for name in TITLES if any(number(r.summary.get(name)) is not None for r in records)]
    alike = [name for name in probed if name not in probed_differently(records)]
    best = {name: max(number(r.summary.get(name)) or 0.0 for r in records) for name in alike}
    measured = [k for k in COMPARED if any(k in (r.summary.get("quality") or {}) for r in records)]
    rows: list[TableRow] = []
    for r in records:
        s = r.summary
        quality = s.get("quality") or {}
        judged = verdict(r)
        word = (judged.short or judged.word).split(" since")[0]
        cells = [Cell(f"{MARKS[judged.kind]} {word}", WORTH.get(judged.worth, ""))]
        for n in probed:
            ours = number(s.get(n))
            share = None if ours is None else ours / 100
            cells.append(Cell(percent(ours), _baselines(r, n), share, is_best=ours is not None and ours == best.get(n)))
        cells += [Cell(short(quality.get(k))) for k in measured]
        cells += [Cell(duration(s.get("seconds"))), Cell(short(s.get("images_per_second")))]
        rows.append(TableRow(r.name, cells))
    columns = ["run", "verdict", *(f"{TITLES[n]}, %" for n in probed), *(MEASURES[k].name for k in measured)]
    return Table([*columns, "time", "images/s"], rows, [])


def probed_differently(records: Sequence[RunRecord]) -> list[str]:
    """The probes of which the runs' accuracies cannot be compared: other images, classes, labels or settings."""
    differing = []
    for name in TITLES:
        measured = [r for r in records if number(r.summary.get(name)) is not None]
        if len({_measured(r, name) for r in measured}) > 1:
            differing.append(name)
    return differing


def _measured(record: RunRecord, column: str) -> tuple[Any, ...]:
    """What an accuracy depends on besides the encoder. The protocol's sentence has images, labels and settings."""
    protocols = record.probes.get("protocols")
    sentence = protocols.get(column) if isinstance(protocols, dict) else None
    names = record.probes.get("class_names")
    data = record.config.get("probe_data") or record.config.get("data") or record.summary.get("data")
    return sentence, tuple(map(str, names)) if isinstance(names, list) else (), str(data)


def not_compared(records: Sequence[RunRecord]) -> str:
    """A sentence on the probes that are not compared; empty if all can be."""
    names = [TITLES[name] for name in probed_differently(records)]
    if not names:
        return ""
    return (
        f"No best run is marked for {' and '.join(names)}: the runs were not probed in the same way (images, classes, "
        "labels or settings; see below each table of probes)."
    )


def _accuracy(row: dict[str, Any], column: str) -> Cell:
    """One number of the probe table, with its standard deviation over draws if it has one."""
    x, spread = number(row.get(column)), number(row.get(f"{column}_std"))
    return Cell(percent(x), "" if spread is None else f"± {percent(spread)} over draws", None if x is None else x / 100)


def _baselines(record: RunRecord, column: str) -> str:
    known = record.summary.get("baselines") or {}
    parts = [f"{name} {percent(values.get(column))}" for name, values in known.items() if isinstance(values, dict)]
    return "\n".join(part for part in parts if MISSING not in part)


def _texts(values: dict[str, Any], name: str) -> list[str]:
    given = values.get(name)
    return [str(text) for text in given] if isinstance(given, list) else []


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
