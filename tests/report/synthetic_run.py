"""Run directories as training leaves them, written with runfiles' own writers, for the tests of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eigenview import runfiles
from eigenview.config import RunConfig, to_dict
from eigenview.diagnostics.worth import judge_worth, to_summary
from eigenview.methods import config_class

EPOCHS, STEPS_PER_EPOCH, VIEWS = 12, 50, 2
CLASSES = ["disc", "square", "cross"]


def write_run(
    directory: Path,
    *,
    method: str = "vicreg",
    seed: int = 0,
    verdict: str = "healthy",
    labels: bool = True,
    class_names: list[str] = CLASSES,
    width: int = 128,
    hits: runfiles.Hits | None = None,
    **options: Any,
) -> Path:
    """A finished run; `verdict` also shapes its curves. Without `hits` it is one of an earlier version, which kept no
    answers and had no second verdict."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    config = RunConfig(data="shapes/", method=config_class(method)(), epochs=EPOCHS, seed=seed, **options)
    runfiles.write_object(directory / runfiles.CONFIG, to_dict(config))
    command = ["eigenview", "pretrain", "my shapes/", "--method", method, "--seed", str(seed)]
    environment = {"eigenview": "0.1.0", "python": "3.11.9", "torch": "2.15.0", "platform": "Linux-6.1-x86_64"}
    environment |= {"device": "CPU (x86_64)", "threads": 2, "commit": "1e0377b+", "command": command}
    runfiles.write_object(directory / runfiles.ENVIRONMENT, environment | {"started": "2026-01-31T09:15:00+00:00"})
    _write_courses(directory, rng, collapses="collapse" in verdict, width=width)
    write_gallery(directory, rng, labels=labels)
    rows = [
        ("raw pixels", 31.2, 38.9, 21.4),
        ("untrained encoder", 34.0, 41.5, 23.0),
        ("this encoder", 61.7, 70.2, 52.8),
    ]
    columns = ["knn", "linear", "linear_few"]
    baselines: dict[str, Any] = {name: dict(zip(columns, v, strict=True)) for name, *v in rows} if labels else {}
    if labels:
        write_probes(directory, columns, [{"features": n, **v} for n, v in baselines.items()], class_names)
    ours = baselines.pop("this encoder", dict.fromkeys(columns))
    summary = {"verdict": verdict, "since_epoch": None, "reason": "every dimension varies, effective rank 71 of 128"}
    summary |= {"remedies": [], "notes": ["plug-in bias ratio 0.46; try --batch-size 512"], "method": method}
    if verdict != "healthy":
        summary |= {"since_epoch": 3, "reason": "all images map to one point", "remedies": ["--method.variance 25"]}
    summary |= {"seed": seed, "epochs": EPOCHS, "data": "shapes/", "images": 8412, "encoder": "conv-small"}
    summary |= {"parameters": 412_340, **ours, "baselines": baselines, "seconds": 492.318, "finished": True}
    quality = {"spread": 0.8312345678, "rankme": 71.23456789, "rankme_centred": 73.1, "alpha": 1.08, "uniformity": -3.4}
    summary |= {"quality": quality, "images_per_second": 1140.27}
    if hits is not None:
        runfiles.write_hits(directory, hits)
        against = {name: [each] for name, each in hits.right.items() if name != "this encoder"}
        worth = judge_worth([hits.right["this encoder"]], against, labels_per_class=10)
        summary |= {"worth": to_summary(worth)}
    runfiles.write_object(directory / runfiles.SUMMARY, summary)
    runfiles.write_table(directory / runfiles.SKIPPED, ("path", "reason"), [("a.jpg", "truncated"), ("b.jpg", "empty")])
    return directory


ROWS = ("raw pixels", "untrained encoder", "this encoder")


def make_hits(
    rng: np.random.Generator, *, images: int = 97, shares: tuple[float, ...] = (0.4, 0.4, 0.7), draws: int = 5
) -> runfiles.Hits:
    """Answers of three rows and three probes on test images of three classes: each right with the row's share.

    The probe with few labels leaves the last image out.
    """
    labels = rng.integers(0, len(CLASSES), images)
    tested = {name: np.ones((1, images), bool) for name in ("knn", "linear", "linear_few")}
    tested["linear_few"][0, -1] = False
    shape = {"knn": (1, images), "linear": (1, images), "linear_few": (draws, images - 1)}
    right = {
        row: {name: rng.random(of) < share for name, of in shape.items()}
        for row, share in zip(ROWS, shares, strict=True)
    }
    return runfiles.Hits(images="0123456789abcdef" * 2, labels=labels, tested=tested, right=right)


def write_probes(directory: Path, columns: list[str], rows: list[dict[str, Any]], class_names: list[str]) -> None:
    """probes.json with a protocol sentence per column."""
    sentences = ["cosine, k = 20, weighted", "L2 logistic regression", "10 labels per class, mean of 5 draws"]
    protocols = dict(zip(columns, sentences, strict=True))
    probes = {"protocols": protocols, "columns": columns, "rows": rows, "note": None, "class_names": class_names}
    runfiles.write_object(directory / runfiles.PROBES, probes)


def _write_courses(directory: Path, rng: np.random.Generator, *, collapses: bool, width: int) -> None:
    """metrics.jsonl, diagnostics.jsonl and spectra.npz."""
    for step in range(0, EPOCHS * STEPS_PER_EPOCH + 1, 10):
        epoch, fall = step / STEPS_PER_EPOCH, float(np.exp(-step / 150))
        terms = {"invariance": 4 + 6 * fall, "variance": 7 + 12 * fall, "covariance": 1 + fall}
        terms = {name: value * float(rng.normal(1, 0.04)) for name, value in terms.items()}
        row = {"step": step, "epoch": epoch, "seconds": step * 0.8, "lr": 2e-3 * fall, "loss": sum(terms.values())}
        row |= {"terms": terms, "images_per_second": 1140.0, "target_momentum": None}
        runfiles.append_row(directory / runfiles.METRICS, row)
    steps = np.arange(EPOCHS + 1) * STEPS_PER_EPOCH
    ranks = np.arange(1, width + 1)
    spectra: dict[str, list[np.ndarray]] = {"h": [], "z": []}
    for epoch, step in enumerate(steps):
        along = epoch / EPOCHS
        decay = 2.2 - 1.1 * along + (3.0 * along if collapses else 0.0)
        row: dict[str, Any] = {"step": int(step), "epoch": float(epoch), "verdict": "healthy"}
        for layer, extra in (("h", 0.0), ("z", 0.2)):
            values = np.sort(ranks ** -(decay + extra) * rng.lognormal(0, 0.08, width))[::-1].astype(np.float32)
            p = np.sqrt(values) / np.sqrt(values).sum()
            spectra[layer].append(values)
            spread = 0.45 + 0.4 * along - (0.84 * along if collapses else 0) + extra / 2
            row[layer] = {"spread": spread, "rankme_centred": float(np.exp(-(p * np.log(p)).sum())), "alpha": decay}
        runfiles.append_row(directory / runfiles.DIAGNOSTICS, row)
    arrays = {"step": steps, **{layer: np.stack(values) for layer, values in spectra.items()}}
    runfiles.write_arrays(directory / runfiles.SPECTRA, arrays)


def shape_image(label: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """A disc, a square or a cross in its own colour on a graded ground, uint8 (3, side, side)."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j] + rng.uniform(-0.25, 0.25, (2, 1, 1))
    size = rng.uniform(0.4, 0.7)
    shape = (x**2 + y**2 < size**2, np.maximum(abs(x), abs(y)) < size, (np.minimum(abs(x), abs(y)) < size / 3))[label]
    ground, ink = rng.uniform(20, 120, (2, 3, 1, 1)) + np.array([0, 110]).reshape(2, 1, 1, 1)
    return np.where(shape, ink, ground + 30 * x).clip(0, 255).astype(np.uint8)


def write_gallery(directory: Path, rng: np.random.Generator, *, labels: bool, side: int = 32) -> None:
    """gallery.npz with 8 originals and 6 queries of 7 neighbours, some of another class."""
    originals = np.stack([shape_image(k % 3, side, rng) for k in range(8)])
    views = np.stack([np.roll(originals, v + 3, axis=3)[:, ::-1] // (v + 1) for v in range(VIEWS)])
    query_labels = np.arange(6) % 3
    neighbour_labels = np.where(rng.random((6, 7)) < 0.2, (query_labels[:, None] + 1) % 3, query_labels[:, None])
    near = np.stack([np.stack([shape_image(int(k), side, rng) for k in row]) for row in neighbour_labels])
    arrays = {"originals": originals, "views": views, "neighbours": near}
    arrays["queries"] = np.stack([shape_image(int(k), side, rng) for k in query_labels])
    arrays["cosines"] = np.sort(rng.uniform(0.6, 0.99, (6, 7)).astype(np.float32))[:, ::-1]
    if labels:
        arrays |= {"query_labels": query_labels, "neighbour_labels": neighbour_labels}
    runfiles.write_arrays(directory / runfiles.GALLERY, arrays)
