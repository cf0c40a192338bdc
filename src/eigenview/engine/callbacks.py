"""What happens around the training steps: the log, diagnoses, checkpoints, clean shutdown on a signal."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigenview import runfiles
from eigenview.data.batches import Batches
from eigenview.diagnostics.diagnose import diagnose
from eigenview.diagnostics.predictor import diagnose_predictor
from eigenview.diagnostics.verdict import Verdict, judge
from eigenview.distributed import any_rank, barrier, rank, world_size
from eigenview.engine.loop import Callback
from eigenview.engine.module import PretrainModule
from eigenview.errors import Collapsed, Interrupted, UserError
from eigenview.records import Batch

LARGEST_SHARE = 0.008
"""Of the clock that writing checkpoints may take, apart from the last one and those that a signal asks for: with the
last one at most a hundredth of a run that takes some minutes."""
WRITTEN_PER_SECOND = 200e6
"""Bytes of a checkpoint, by which the time of the first one is estimated."""
FREE_SECONDS = 15.0
"""Diagnoses that take no longer all together are all made, so that the curves of a short run have no gaps."""
STOP_SIGNALS = tuple(
    s for n in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if (s := getattr(signal, n, None)) is not None
)
"""SIGUSR1 is what SLURM can send before a job's time is over; SIGHUP comes when the terminal is closed."""


class MetricsWriter(Callback):
    """metrics.jsonl: a row for the first step, for each `every` steps and for the last, from rank 0; also the clock of
    the run across resumes."""

    def __init__(self, directory: Path, every: int, images_per_step: int) -> None:
        self.path = directory / runfiles.METRICS
        self.every = every
        self.images_per_step = images_per_step
        self.seconds = 0.0  # spent in training steps, over all resumes
        self.rate = 0.0
        self._mark = 0.0
        self._mark_step = 0
        self._logged = 0.0  # `seconds` at that step: a diagnosis in between brings them up to date as well

    def resume(self, step: int) -> None:
        """Drop the rows of metrics.jsonl after `step`: they will be written again."""
        if self.path.exists():
            rows = runfiles.read_metrics(self.path.parent)
            runfiles.write_rows(self.path, (row for row in rows if row["step"] <= step))

    def start(self, module: PretrainModule) -> None:
        self._mark, self._mark_step, self._logged = time.monotonic(), module.step, self.seconds

    def pause(self) -> float:
        """Bring the clock up to date and return it; what follows until `proceed` is not counted as training."""
        now = time.monotonic()
        self.seconds += now - self._mark
        self._mark = now
        return self.seconds

    def proceed(self) -> None:
        """Start counting again."""
        self._mark = time.monotonic()

    def after_step(self, module: PretrainModule) -> None:
        step = module.step
        if step % self.every and step not in (1, module.steps):
            return
        elapsed = self.pause() - self._logged
        if step > self._mark_step and elapsed > 0:
            self.rate = (step - self._mark_step) * self.images_per_step / elapsed
        self._mark_step, self._logged = step, self.seconds
        module.raise_non_finite()
        terms = module.logged_terms()
        if rank() == 0:
            row = {
                "step": step,
                "epoch": step / module.steps_per_epoch,
                "seconds": round(self.seconds, 3),
                "lr": module.learning_rate_at(step - 1),
                "loss": sum(terms.values()),
                "terms": terms,
                "images_per_second": round(self.rate, 1),
                "target_momentum": None,  # always a column, as in earlier versions
                **module.method.log_values(module.clock(step - 1)),
                **{name: float(value) for name, value in module.notes.items()},
            }
            runfiles.append_row(self.path, row)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = float(state_dict["seconds"])


class Monitor(Callback):
    """Diagnoses on a fixed held-out batch, in evaluation mode, on rank 0; spectra; the verdict so far.

    A diagnosis that is due each `every_steps` is left out if all that are due would take longer than FREE_SECONDS, and
    if with it and the last one to come diagnoses would take more than `share` of this session's time. The first and the
    last are always made, and all of them if the run is to `stop` at a collapse: when it ends must not depend on the
    machine. The training state is unchanged by a diagnosis, so that the weights do not depend on which are made.
    """

    def __init__(
        self, directory: Path, images: Tensor, every_steps: int, log: MetricsWriter, stop: bool, share: float = 1.0
    ) -> None:
        self.directory = directory
        self.images = images
        self.every_steps = every_steps
        self.clock = log
        self.stop = stop
        self.share = share
        self.left_out = 0  # diagnoses of this session
        self.seconds = math.inf  # of the fastest: others may have waited for the machine
        self._spent = 0.0  # seconds of all in this session
        self._made = 0
        self._began = 0.0
        self.history: list[dict[str, Any]] = []
        self.verdict: Verdict | None = None
        self.views: tuple[Tensor, ...] = ()

    def resume(self, step: int) -> None:
        """Take up the history of the run directory up to `step`."""
        path = self.directory / runfiles.DIAGNOSTICS
        self.history = [row for row in runfiles.read_diagnostics(self.directory) if row["step"] <= step]
        if path.exists():
            runfiles.write_rows(path, self.history)
        saved = runfiles.read_spectra(self.directory)
        if step < 0:
            for name in (runfiles.SPECTRA, runfiles.SPECTRA_ROWS):
                (self.directory / name).unlink(missing_ok=True)
        elif saved:
            keep = saved["step"] <= step
            self._write_spectra({name: values[keep] for name, values in saved.items()})

    def start(self, module: PretrainModule) -> None:
        self._began = time.monotonic()
        # a seed of their own, never a training step's: the diagnostic views are the same in every diagnosis
        seed = module.config.seed + 2**31
        self.views = module.make_views(self.images.to(module.device), seed)[: module.config.views]
        if module.step == 0:
            self.diagnose(module, 0)

    def after_step(self, module: PretrainModule) -> None:
        step = module.step
        if step % self.every_steps == 0 or step == module.steps:
            module.raise_non_finite()
            if step == module.steps or self.stop or self._has_time(module.steps):
                self.diagnose(module, step)
            else:
                self.left_out += 1
            collapsed = [len(self.history) > 2 and all("collapse" in r["verdict"] for r in self.history[-2:])]
            if self.stop and any_rank(collapsed, module.device)[0]:
                raise Collapsed

    def _has_time(self, steps: int) -> bool:
        if self.share >= 1 or math.isinf(self.seconds) or self.seconds * steps / self.every_steps <= FREE_SECONDS:
            return True
        return self._spent * (1 + 2 / self._made) <= self.share * (time.monotonic() - self._began)

    def diagnose(self, module: PretrainModule, step: int) -> None:
        """One row of diagnostics.jsonl; the training state is unchanged."""
        if rank() != 0:
            return
        self.clock.pause()
        began = time.monotonic()
        self._write_rows(module, step)
        took = time.monotonic() - began
        self.seconds = min(self.seconds, took)
        self._spent += took
        self._made += 1
        self.clock.proceed()

    def _write_rows(self, module: PretrainModule, step: int) -> None:
        # nothing here may move the network: evaluation mode, no gradient. In float32 whatever the run trains in:
        # bfloat16's rounding noise fills the empty directions of a collapsed spectrum (RankMe 11 read as 33)
        module.method.eval()
        seen = module.method.watch(Batch(views=self.views, whole=module.config.views))
        module.method.train()
        z = seen["z"]
        row, spectra = diagnose(seen["h"], z, step, step / module.steps_per_epoch)
        if "p" in seen:
            row["predictor"], of_predictor = diagnose_predictor(z, seen["p"], seen.get("z_target"))
            spectra |= of_predictor
        config = module.config
        self.verdict = judge(
            [*self.history, row],
            config.method.card,
            width=z.shape[-1],
            batch_size=config.batch_size,
            config=config,
        )
        row["verdict"] = self.verdict.label
        self.history.append(row)
        runfiles.append_row(self.directory / runfiles.DIAGNOSTICS, row)
        runfiles.append_row(self.directory / runfiles.SPECTRA_ROWS, runfiles.spectra_row(step, spectra))

    def gather_spectra(self) -> None:
        """Put the rows of spectra.jsonl into spectra.npz, which is written only once a session."""
        if (self.directory / runfiles.SPECTRA_ROWS).exists():
            self._write_spectra(runfiles.read_spectra(self.directory))

    def _write_spectra(self, arrays: dict[str, np.ndarray]) -> None:
        """All spectra in the archive, and no rows beside it."""
        runfiles.write_arrays(self.directory / runfiles.SPECTRA, arrays)
        (self.directory / runfiles.SPECTRA_ROWS).unlink(missing_ok=True)


class Checkpoints(Callback):
    """checkpoints/last.ckpt, written atomically: after epochs, every few minutes, and when asked to stop.

    A checkpoint waits until the last one was no more than LARGEST_SHARE of the time since then; for the first, its time
    is estimated from its size. The one before the last is kept as checkpoints/previous.ckpt.

    Any of STOP_SIGNALS that is not ignored (nohup ignores SIGHUP) sets a flag; the step in progress
    ends, a checkpoint is written and `Interrupted` is raised. On several processes they agree on it every `agree_every`
    steps, so that no rank waits for another without end.
    """

    def __init__(self, directory: Path, minutes: float, agree_every: int, log: MetricsWriter, batches: Batches) -> None:
        self.log, self.batches = log, batches
        self.directory = directory
        self.minutes = minutes
        self.agree_every = agree_every
        self.asked = False
        self._saved_at = 0.0
        self._seconds = 0.0  # that the last checkpoint took
        self._epoch_pending = False
        self._handlers: dict[int, Any] = {}

    def start(self, module: PretrainModule) -> None:
        self._saved_at = time.monotonic()
        # the optimiser's state, which is there after the first step, is about as large as the weights
        self._seconds = 2 * sum(each.nbytes for each in module.state_dict().values()) / WRITTEN_PER_SECOND
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers in this one only
            for number in (each for each in STOP_SIGNALS if signal.getsignal(each) != signal.SIG_IGN):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:  # the second Ctrl-C does not wait for the step
            raise KeyboardInterrupt
        self.asked = True
        if rank() == 0:
            with contextlib.suppress(OSError):  # the terminal is gone
                os.write(2, b"\nstopping after this step and saving; press Ctrl-C again to leave at once\n")

    def after_step(self, module: PretrainModule) -> None:
        step = module.step
        last = step == module.steps
        self._epoch_pending |= step % module.steps_per_epoch == 0
        if world_size() > 1 and step % self.agree_every and not last:
            return
        since = time.monotonic() - self._saved_at
        # epochs of a second or less do not each need a file: five seconds of work is the most an epoch's end can lose
        due = since > 60 * self.minutes or (self._epoch_pending and since > 5.0)
        due = (due and since >= self._seconds / LARGEST_SHARE) or last
        stop, save = any_rank([self.asked, due], module.device)
        if stop or save:
            module.raise_non_finite()
            began = time.monotonic()
            if rank() == 0:
                save_checkpoint(self.directory, module, self.log, self.batches)
            barrier()  # nobody leaves before the file is there
            self._saved_at, self._epoch_pending = time.monotonic(), False
            self._seconds = self._saved_at - began
        if stop:
            raise Interrupted(step, is_trained=last)

    def end(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def save_checkpoint(directory: Path, module: PretrainModule, log: MetricsWriter, batches: Batches) -> None:
    """Write last.ckpt beside its name with a checksum inside, and rename it once it is on the disk.

    The last.ckpt that was there becomes previous.ckpt. A kill at any point leaves a last.ckpt that is whole.
    """
    assert module.optimizer is not None
    content = {
        "global_step": module.step,
        "state_dict": module.state_dict(),
        "optimizer_states": [module.optimizer.state_dict()],
        "callbacks": {"MetricsWriter": log.state_dict()},
        "batches": batches.state_dict(),
        "eigenview": {"steps": module.steps, "sealed": True},
    }
    path, previous = directory / runfiles.CHECKPOINT, directory / runfiles.PREVIOUS_CHECKPOINT
    try:
        with runfiles.atomic_write(path) as file:
            with runfiles.sealed(file) as archive:
                torch.save(content, archive)
            runfiles.keep_copy(path, previous)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{path} cannot be written: {error}. The last good checkpoint is kept; free space and use --resume."
        ) from error
