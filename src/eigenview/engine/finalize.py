"""After the last step: encoder file, probes, gallery, verdict, summary, report."""

from __future__ import annotations

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
from eigenview.data.images import evenly_spaced
from eigenview.data.pixels.pictures import MOST_KEPT
from eigenview.data.views.augment import to_uint8
from eigenview.diagnostics.baselines import OURS
from eigenview.diagnostics.verdict import Verdict, judge
from eigenview.diagnostics.worth import Worth, to_summary, unknown
from eigenview.diagnostics.worth_sentence import COLOURS, first_sentence, signs_without_labels
from eigenview.engine.callbacks import MetricsWriter
from eigenview.engine.final_probes import encoder_function, main_encoder, run_probes, worth_of
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan
from eigenview.engine.step import step_seeds
from eigenview.errors import listed
from eigenview.models.export import save_encoder, write_for_timm
from eigenview.probes.features import extract
from eigenview.probes.knn import nearest_rows
from eigenview.probes.protocols import PROTOCOLS
from eigenview.probes.table import show_probes
from eigenview.report.page import write_report
from eigenview.terminal import Console, styled

GALLERY_IMAGES, QUERIES, NEIGHBOURS, BANK = 8, 6, 7, 5000


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
    encoder = main_encoder(module.method)
    failure = failure or broken_values(encoder)
    width, batch = module.method.widths["z"], config.batch_size
    verdict = judge(history, config.method.card, width=width, failure=failure, batch_size=batch, config=config)
    probes: dict[str, Any] | None = None
    worth = unknown(plan.no_probes or "the run failed before its probes")
    if failure is None and history and not _is_number(history[-1]["h"]["rms"]):
        failure = (
            verdict.reason
        )  # the losses were finite, but features of the last weights are not: nothing can be probed
    if failure is None:
        save_encoder(directory, encoder, encoder_card(plan, module))
        write_for_timm(directory)
        encode = encoder_function(encoder, plan)
        hits = None
        if plan.probes is not None:
            probes, hits = run_probes(plan, encode, console)
            worth = worth_of(hits, config.probe.labels_per_class)
        if hits is not None:
            runfiles.write_hits(directory, hits)
        else:
            (directory / runfiles.PROBE_HITS).unlink(missing_ok=True)  # of the run before it was continued
        runfiles.write_object(directory / runfiles.PROBES, no_probes(plan) if probes is None else probes)
        runfiles.write_arrays(directory / runfiles.GALLERY, gallery(plan, module, encode))
    # after a failure it is unknown how many steps the seconds belong to
    steps = None if failure is not None else history[-1]["step"] if ended_early else module.steps
    finished = failure is None and not ended_early
    summary = summarise(plan, module, verdict, worth, history, probes, log.seconds, steps=steps, finished=finished)
    runfiles.write_object(directory / runfiles.SUMMARY, summary)
    write_report([directory], directory / runfiles.REPORT)
    show_result(console, plan, directory, verdict, worth, history, probes, summary)
    return summary


def broken_values(encoder: nn.Module) -> str | None:
    """Why an encoder cannot be used: values that are not finite, which need not change the features at this size of
    images; None if all are finite."""
    names = [name for name, value in encoder.state_dict().items() if not value.isfinite().all()]
    if not names:
        return None
    return f"the encoder has values that are not finite, in {listed(names)}: its losses did not show them"


def no_probes(plan: Plan) -> dict[str, Any]:
    """probes.json of a run without probes: why there are none."""
    note = plan.probe_note[:1].upper() + plan.probe_note[1:]
    return {"protocols": {}, "columns": [], "rows": [], "per_class": False, "note": note, "class_names": []}


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def gallery(plan: Plan, module: PretrainModule, encode: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
    """Views as the network saw them, and nearest neighbours of held-out images among training images."""
    bank = plan.train.take(np.sort(np.random.default_rng(plan.config.seed).permutation(len(plan.train))[:BANK]))
    queries = plan.held_out.take(plan.held_out.spread(QUERIES))
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
        "originals": _kept(originals.numpy()),
        "views": _kept(torch.stack(seen).cpu().numpy()),
        "queries": _kept(queries.read(np.arange(len(queries)))),
        "neighbours": _kept(near),
        "cosines": cosines.numpy(),
    }
    same_classes = queries.labels is not None and bank.labels is not None and queries.class_names == bank.class_names
    if same_classes and queries.labels is not None and bank.labels is not None:
        arrays |= {"query_labels": queries.labels, "neighbour_labels": bank.labels[index.numpy()]}
    return arrays


def _kept(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., :MOST_KEPT, :, :]


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
        "interpolation": plan.resampling,
        "weights": config.weights,
        "method": method_name(config.method),
        "run": {"data": config.data, "epochs": config.epochs, "seed": config.seed},
        "eigenview": eigenview.__version__,
    }


def summarise(
    plan: Plan,
    module: PretrainModule,
    verdict: Verdict,
    worth: Worth,
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
        "worth": to_summary(worth),
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
    worth: Worth,
    history: list[dict[str, Any]],
    probes: dict[str, Any] | None,
    summary: dict[str, Any],
) -> None:
    """Both verdicts in a sentence, the first one with its measures, the probe table and the files."""
    both = first_sentence(verdict.label, worth, run=str(directory))
    colour = COLOURS[both.tone]
    console.print(styled("\n", (both.text, f"bold {colour}")))
    if not worth.against and verdict.label == "healthy":
        console.print(signs_without_labels(history[0]["h"], history[-1]["h"]))
    since = f" since epoch {verdict.since_epoch:g}" if verdict.since_epoch is not None else ""
    console.print(styled(f"{'verdict':9} ", (f"{verdict.label}{since}", f"bold {colour}"), f": {verdict.reason}"))
    for label, lines in (("try", verdict.remedies), ("note", verdict.notes)):
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
    if (directory / runfiles.BACKBONE).exists():
        folder = f"local-dir:{directory / runfiles.BACKBONE}"
        console.print(f"{'timm':9} timm.create_model({folder!r}, pretrained=True, num_classes=10)")
