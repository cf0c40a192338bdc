"""After the last step: encoder file, probes, gallery, verdict, summary, report."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import eigenview
from eigenview import runfiles
from eigenview.config import RunConfig, method_name
from eigenview.data.pixels.cache import cache_folder
from eigenview.data.pixels.pictures import as_pictures
from eigenview.data.views.augment import prepare, to_uint8
from eigenview.diagnostics.verdict import Verdict, judge
from eigenview.engine.callbacks import MetricsWriter
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan
from eigenview.engine.step import step_seeds
from eigenview.methods.parts.building import build_method
from eigenview.methods.parts.method import Method
from eigenview.models.export import save_encoder
from eigenview.probes.features import RAW_SIDE, extract, extract_all, pooled_to
from eigenview.probes.knn import nearest_rows
from eigenview.probes.protocols import PROTOCOLS
from eigenview.probes.table import OURS, RAW_PIXELS, below_raw_pixels, probe_table, show_probes
from eigenview.progress import counting
from eigenview.report.page import write_report
from eigenview.terminal import Console, styled

GALLERY_IMAGES, QUERIES, NEIGHBOURS, BANK = 8, 6, 7, 5000
CALIBRATION_IMAGES = 2048


def finish(
    plan: Plan,
    module: PretrainModule,
    directory: Path,
    *,
    log: MetricsWriter,
    history: list[dict[str, Any]],
    failure: str | None,
    ended_early: bool,
    console: Console,
) -> dict[str, Any]:
    """Writes encoder, probes, gallery, summary, report; returns the summary. A failed run gets verdict and report."""
    config = plan.config
    module.to(plan.device).eval()
    width, batch = module.method.widths["z"], config.batch_size
    verdict = judge(history, config.method.card, width=width, failure=failure, batch_size=batch, config=config)
    probes: dict[str, Any] | None = None
    if failure is None and history and not _is_number(history[-1]["h"]["rms"]):
        failure = (
            verdict.reason
        )  # the losses were finite, but features of the last weights are not: nothing can be probed
    if failure is None:
        encoder = main_encoder(module.method)
        save_encoder(directory, encoder, encoder_card(plan, module))
        encode = encoder_function(encoder, plan)
        if plan.probes is not None:
            probes = run_probes(plan, encode, console)
            if verdict.label == "healthy" and (worse := below_raw_pixels(probes, len(plan.probes[1]))):
                verdict = dataclasses.replace(verdict, warnings=(worse,))
        runfiles.write_object(directory / runfiles.PROBES, no_probes(plan) if probes is None else probes)
        runfiles.write_arrays(directory / runfiles.GALLERY, gallery(plan, module, encode))
    # after a failure it is unknown how many steps the seconds belong to
    steps = None if failure is not None else history[-1]["step"] if ended_early else module.steps
    finished = failure is None and not ended_early
    summary = summarise(plan, module, verdict, history, probes, log.seconds, steps=steps, finished=finished)
    runfiles.write_object(directory / runfiles.SUMMARY, summary)
    write_report([directory], directory / runfiles.REPORT)
    show_result(console, plan, directory, verdict, probes, summary)
    return summary


def no_probes(plan: Plan) -> dict[str, Any]:
    """probes.json of a run without probes: why there are none."""
    note = plan.probe_note[:1].upper() + plan.probe_note[1:]
    return {"protocols": {}, "columns": [], "rows": [], "per_class": False, "note": note, "class_names": []}


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def main_encoder(method: Method) -> nn.Module:
    """The encoder that is saved and probed."""
    return next(iter(method.encoders().values()))


def encoder_function(encoder: nn.Module, plan: Plan) -> Callable[[Tensor], Tensor]:
    """uint8 images -> float32 representations, frozen, in the precision of the run."""
    spec = plan.specs[0]
    encoder.to(plan.device).eval()

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        x = prepare(images.to(plan.device), plan.size, spec.mean, spec.std)
        with torch.autocast(plan.device.type, dtype=torch.bfloat16, enabled=plan.bf16):
            return encoder(x).float().cpu()

    return encode


def untrained_encoder(plan: Plan) -> nn.Module:
    """The encoder as it was before the first step, with batch-norm statistics of training images: without them its
    activations would not be on the scale that its weights were drawn for, and the baseline would be unfairly weak."""
    encoder = main_encoder(build_method(plan.config, plan.parts)).to(plan.device).train()
    for part in encoder.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = None  # a plain average over the calibration batches
    spec = plan.specs[0]
    index = np.arange(min(CALIBRATION_IMAGES, len(plan.train)))
    with torch.no_grad():
        for part in np.array_split(index, max(1, len(index) // 256)):
            images = torch.from_numpy(plan.train.read(part)).to(plan.device)
            encoder(prepare(images, plan.size, spec.mean, spec.std))
    return encoder.eval()


def run_probes(plan: Plan, encode: Callable[[Tensor], Tensor], console: Console) -> dict[str, Any]:
    """The probe table of this encoder beside raw pixels and the untrained encoder."""
    assert plan.probes is not None
    train, test = plan.probes
    assert train.labels is not None
    assert test.labels is not None
    start = encoder_function(untrained_encoder(plan), plan)
    encoders = {RAW_PIXELS: pooled_to(RAW_SIDE), "untrained encoder": start, OURS: encode}
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
            shared=(RAW_PIXELS, "untrained encoder"),
            memory=cache_folder() / "probes",
            notes=plan.label_notes,
            device=plan.device,
        )


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Up to `most` rows of `count`, from all parts of them: sets often lie in the order of their classes."""
    return np.arange(min(count, most)) * count // min(count, most)


def gallery(plan: Plan, module: PretrainModule, encode: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
    """Views as the network saw them, and nearest neighbours of held-out images among training images."""
    bank = plan.train.take(np.sort(np.random.default_rng(plan.config.seed).permutation(len(plan.train))[:BANK]))
    queries = plan.held_out.take(evenly_spaced(len(plan.held_out), QUERIES))
    cosines, index = nearest_rows(extract(encode, bank), extract(encode, queries), NEIGHBOURS, plan.device)
    shown = evenly_spaced(len(bank), GALLERY_IMAGES)
    # one reading of all, in order: a stream is read from its front each time
    wanted, place = np.unique(np.concatenate([shown, index.numpy().ravel()]), return_inverse=True)
    pixels = bank.read(wanted)[place]
    originals, near = (
        torch.from_numpy(pixels[: len(shown)]),
        pixels[len(shown) :].reshape(*index.shape, *pixels.shape[1:]),
    )
    seed, _ = step_seeds(plan.config.seed, 0, 0)
    views = zip(module.make_views(originals, seed), plan.specs, strict=True)
    seen = [to_uint8(view, spec) for view, spec in views if spec.size is None]
    arrays = {
        "originals": as_pictures(originals.numpy()),
        "views": as_pictures(torch.stack(seen).cpu().numpy()),
        "queries": as_pictures(queries.read(np.arange(len(queries)))),
        "neighbours": as_pictures(near),
        "cosines": cosines.numpy(),
    }
    same_classes = queries.labels is not None and bank.labels is not None and queries.class_names == bank.class_names
    if same_classes and queries.labels is not None and bank.labels is not None:
        arrays |= {"query_labels": queries.labels, "neighbour_labels": bank.labels[index.numpy()]}
    return arrays


def encoder_card(plan: Plan, module: PretrainModule) -> dict[str, Any]:
    """encoder.json: what is needed to build the encoder again, and where it comes from."""
    config, spec = plan.config, plan.specs[0]
    return {
        "format": 1,
        "encoder": config.encoder,
        "stem": config.network.stem,
        "norm": config.network.encoder_norm,
        "size": plan.size,
        "source_size": plan.train.source_size,
        "pixels": plan.train.reading.as_json(),
        "width": module.method.widths["h"],
        "mean": list(spec.mean),
        "std": list(spec.std),
        "method": method_name(config.method),
        "run": {"data": config.data, "epochs": config.epochs, "seed": config.seed},
        "eigenview": eigenview.__version__,
    }


def summarise(
    plan: Plan,
    module: PretrainModule,
    verdict: Verdict,
    history: list[dict[str, Any]],
    probes: dict[str, Any] | None,
    seconds: float,
    *,
    steps: int | None,
    finished: bool,
) -> dict[str, Any]:
    """summary.json of runfiles, for `steps` that took `seconds`."""
    config: RunConfig[Any] = plan.config
    columns = tuple(p.name for p in PROTOCOLS)
    rows = {row["features"]: {c: row[c] for c in columns} for row in probes["rows"]} if probes else {}
    ours = rows.pop(OURS, dict.fromkeys(columns))
    return {
        "verdict": verdict.label,
        "since_epoch": verdict.since_epoch,
        "reason": verdict.reason,
        "remedies": list(verdict.remedies),
        "notes": list(verdict.notes),
        "warnings": list(verdict.warnings),
        "method": method_name(config.method),
        "seed": config.seed,
        "epochs": config.epochs,
        "data": config.data,
        "images": len(plan.train),
        "encoder": config.encoder,
        "parameters": sum(p.numel() for p in main_encoder(module.method).parameters()),
        **ours,
        "baselines": rows,
        "quality": dict(history[-1]["h"]) if history else {},
        "seconds": round(seconds, 2),
        "images_per_second": round(steps * config.batch_size / seconds, 1) if steps and seconds else None,
        "finished": finished,
    }


def show_result(
    console: Console,
    plan: Plan,
    directory: Path,
    verdict: Verdict,
    probes: dict[str, Any] | None,
    summary: dict[str, Any],
) -> None:
    """The verdict, the probe table and the files, as experience.md sketches them."""
    colour = {"healthy": "green", "too early to judge": "yellow"}.get(verdict.label, "red")
    colour = "yellow" if verdict.warnings and colour == "green" else colour
    since = f" since epoch {verdict.since_epoch:g}" if verdict.since_epoch is not None else ""
    console.print(styled(f"\n{'verdict':9} ", (f"{verdict.label}{since}", f"bold {colour}"), f": {verdict.reason}"))
    for label, lines in (("warning", verdict.warnings), ("try", verdict.remedies), ("note", verdict.notes)):
        for line in lines:
            console.print(f"{label:9} {line}")
    if probes is not None:
        show_probes(probes, console)
    else:
        console.print(f"{'probes':9} {plan.probe_note}")
    shown = [("RankMe", "rankme"), ("centred", "rankme_centred"), ("alpha", "alpha"), ("alignment", "alignment")]
    shown.append(("uniformity", "uniformity"))
    quality = [f"{t} {summary['quality'][k]:.3g}" for t, k in shown if summary["quality"].get(k) is not None]
    console.print(f"{'quality':9} {'   '.join(quality)}   (representation, held-out batch)")
    files = "encoder.safetensors   report.html" if (directory / runfiles.ENCODER).exists() else "report.html"
    console.print(
        f"{'files':9} {files}   (eigenview report {shlex.quote(str(directory))} --open)",
    )
