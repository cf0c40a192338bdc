"""The order in which a run sees its images: resumable at any batch, the same for any number of processes."""

from __future__ import annotations

import itertools
import os
import signal
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from eigenview.config.reading import Reading
from eigenview.data.images import ImageSet, Skipped, printable, stand_ins
from eigenview.data.pixels.decode import decode_rows
from eigenview.data.sources.streams import StreamedSet
from eigenview.errors import UserError

_COPIED = 4096
"""Images that are copied to a GPU at a time."""


def resident(images: ImageSet, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Pixels uint8 (M, C, S, S) on `device`, and the rows int64 (N,) of the set's images in them, None for all.

    On the CPU the tensor shares the memory that the set shares with others, mapped files included; to a GPU only the
    images of this set are copied.
    """
    if images.pixels is None:
        raise ValueError(f"{images.name} is decoded when read; only a set with pixels can be resident.")
    if torch.device(device).type == "cpu":
        pixels = torch.from_numpy(np.require(images.pixels, requirements="W"))
        return pixels, None if images.rows is None else torch.from_numpy(images.rows)
    pixels = torch.empty((len(images), *images.pixels.shape[1:]), dtype=torch.uint8, device=device)
    for index in np.array_split(np.arange(len(images)), range(_COPIED, len(images), _COPIED)):
        pixels[index[0] : index[-1] + 1] = torch.from_numpy(images.read(index))
    return pixels, None


class Batches:
    """Batches {"index": int64 (n,), "images": uint8 (n, C, S, S) or None} of one process.

    Order: epoch e is a permutation drawn from (seed, e) alone; its first steps * batch_size images make the global
    batches, the rest of that epoch is left out. Rank r of `world` takes the r-th of `world` equal, contiguous slices of
    each global batch, so n = batch_size / world and the global batch is the same for any number of processes. A
    StreamedSet is permuted within windows only (see there).

    Images: None for a resident set (see `resident`), whose rows the caller takes by index; else the pixels. A set
    without pixels is decoded by `workers` processes, ahead of time (0: in this process). A file that can no longer be
    read is replaced by the next readable image of the slice, index included, and noted in `replaced`.

    Iterating goes from the current position to the end of a span of `epochs` epochs; the next one continues there.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        batch_size: int,
        seed: int,
        epochs: int = 1,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        is_resident: bool | None = None,
    ) -> None:
        if batch_size % world:
            raise UserError(f"a batch of {batch_size} does not divide among {world} processes; take a multiple.")
        if batch_size > len(images):
            raise UserError(
                f"{images.name} holds {len(images)} readable images; a batch of {batch_size} needs as many. "
                "Use --batch-size, or more images."
            )
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank}, expected 0 to {world - 1}.")
        self.images, self.batch_size, self.seed, self.epochs = images, batch_size, seed, epochs
        self.rank, self.world, self.workers = rank, world, workers
        self.is_resident = images.pixels is not None if is_resident is None else is_resident
        self.steps_per_epoch = len(images) // batch_size
        self.replaced: list[Skipped] = []
        self._broken: set[int] = set()
        self._step = 0

    def __len__(self) -> int:
        """Batches in a whole span, wherever the next iteration begins."""
        return self.epochs * self.steps_per_epoch

    def start(self, epoch: int, batch: int) -> None:
        """Begin the next iteration at this batch of this epoch, both counted from 0."""
        if epoch < 0 or not 0 <= batch <= self.steps_per_epoch:
            raise ValueError(f"batch {batch} of epoch {epoch}; an epoch has {self.steps_per_epoch} batches.")
        self._step = epoch * self.steps_per_epoch + batch

    def state_dict(self) -> dict[str, int]:
        """The position after the batch last yielded, and what the order depends on."""
        return {"step": self._step, **self._identity()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue there. Raises UserError if the order would not be the one the state belongs to."""
        for name, ours in self._identity().items():
            if state_dict[name] != ours:
                raise UserError(
                    f"the saved run has {name} {state_dict[name]}, this one {ours}; resume with the same data."
                )
        self._step = state_dict["step"]

    def _identity(self) -> dict[str, int]:
        return {"seed": self.seed, "batch_size": self.batch_size, "images": len(self.images)}

    def order(self, epoch: int) -> np.ndarray:
        """Rows of the global batches of an epoch, int64 (steps, batch_size)."""
        if isinstance(self.images, StreamedSet):
            return self.images.shuffled(self.batch_size, self.seed, epoch)[0]
        rows = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        return rows[: self.steps_per_epoch * self.batch_size].reshape(self.steps_per_epoch, self.batch_size)

    def _slices(self) -> Iterator[np.ndarray]:
        """This rank's rows of each batch from the current position to the end of the span."""
        share = self.batch_size // self.world
        step, end = self._step, (self._step // len(self) + 1) * len(self)
        while step < end:
            epoch, first = divmod(step, self.steps_per_epoch)
            for batch in self.order(epoch)[first:]:
                yield batch[self.rank * share : (self.rank + 1) * share]
                step += 1

    def __iter__(self) -> Iterator[dict[str, torch.Tensor | None]]:
        batches: Iterator[dict[str, torch.Tensor | None]]
        if self.is_resident:
            batches = ({"index": torch.from_numpy(rows.copy()), "images": None} for rows in self._slices())
        elif self.images.pixels is not None:
            batches = (
                {"index": torch.from_numpy(rows.copy()), "images": torch.from_numpy(self.images.read(rows))}
                for rows in self._slices()
            )
        elif isinstance(self.images, StreamedSet):
            batches = self._streamed(self.images)
        else:
            batches = self._decoded()
        for batch in batches:
            self._step += 1  # before the yield: a checkpoint written during this step resumes after it
            pixels = batch["images"]
            if pixels is not None and torch.cuda.is_available():
                # otherwise the host waits for the copy; already pinned pixels are returned as they are
                batch["images"] = pixels.pin_memory()
            yield batch

    def _decoded(self) -> Iterator[dict[str, torch.Tensor | None]]:
        loader: DataLoader[Any] = DataLoader(
            _Files(self.images.paths, self.images.source_size, self.images.reading),
            batch_size=None,  # a sample of ours is a whole batch
            sampler=_Slices(self),  # type: ignore[arg-type]
            num_workers=self.workers,
            worker_init_fn=_leave_signals_to_the_trainer,
            pin_memory=torch.cuda.is_available(),
        )
        for index, pixels, broken in loader:
            self._note(broken, len(index))
            yield {"index": index, "images": pixels}

    def _streamed(self, images: StreamedSet) -> Iterator[dict[str, torch.Tensor | None]]:
        """The slices of `_slices`, read window by window in this process and decoded by its threads."""
        for rows, pixels, reasons in images.decoded(self._windows(images)):
            index, pixels, broken = _replaced(rows, pixels, reasons)
            self._note(broken, len(index))
            yield {"index": index, "images": pixels}

    def _windows(self, images: StreamedSet) -> Iterator[np.ndarray]:
        """What `_slices` yields, int64 (batches, n): those of a window, or of the rest of one, together."""
        share = self.batch_size // self.world
        step, end = self._step, (self._step // len(self) + 1) * len(self)
        while step < end:
            epoch, first = divmod(step, self.steps_per_epoch)
            order, starts = images.shuffled(self.batch_size, self.seed, epoch)
            for start, stop in itertools.pairwise([*starts, self.steps_per_epoch]):
                if stop > first:
                    yield order[max(start, first) : stop, self.rank * share : (self.rank + 1) * share]
            step += self.steps_per_epoch - first

    def _note(self, broken: list[tuple[int, str]], rows: int) -> None:
        for row, reason in broken:
            path = printable(self.images.paths[row])
            if len(broken) == rows:
                raise UserError(f"none of {rows} images of a batch can be read any more ({path}: {reason}).")
            if row not in self._broken:  # once, not in every epoch
                self._broken.add(row)
                self.replaced.append(Skipped(path, reason))


class _Slices:
    """The sampler of torch's loader: `Batches._slices`, started when the loader starts."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.batches._slices()  # pyright: ignore[reportPrivateUsage]


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Resets the signal handlers that forked workers inherit from the trainer.

    A terminal sends Ctrl-C to all processes, but only the trainer may react to it; SIGTERM must end a worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def killed_worker(error: RuntimeError) -> UserError | None:
    """What to tell the user where `error` is that of torch's loader about a worker that died, else None.

    torch raises it wherever the trainer happens to be, a backward pass too, so that it is recognised by its text.
    """
    text = str(error).strip().rstrip(".")
    if not text.startswith("DataLoader worker"):
        return None
    return UserError(
        f"a process that decodes images has died, most often for lack of memory ({text}). Continue with --resume once "
        "memory is free; or begin again with fewer --loader.workers, or from a pack (eigenview pack)."
    )


class _Files(Dataset[Any]):
    """Decodes a batch of rows: (index, pixels, rows that broke with their reasons), the same in a worker and here."""

    def __init__(self, paths: tuple[str, ...], side: int, reading: Reading) -> None:
        self.paths, self.side, self.reading = _Paths(paths), side, reading

    def __getitem__(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, list[tuple[int, str]]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about odd but readable files
            pixels, reasons = decode_rows([self.paths[row] for row in rows], self.side, self.reading)
        return _replaced(rows, pixels, reasons)


class _Paths:
    """Paths one after another in an array, which forked workers share without copying, unlike text.

    Not a NumPy array of text: it takes four bytes per character of the longest path for every path.
    """

    def __init__(self, paths: tuple[str, ...]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self.text = np.frombuffer(b"".join(encoded), np.uint8)
        self.ends = np.cumsum([0, *map(len, encoded)])

    def __getitem__(self, row: int) -> str:
        return os.fsdecode(self.text[self.ends[row] : self.ends[row + 1]].tobytes())


def _replaced(
    rows: np.ndarray, pixels: np.ndarray, reasons: dict[int, str]
) -> tuple[torch.Tensor, torch.Tensor, list[tuple[int, str]]]:
    """(index, pixels, rows that broke with their reasons); the next sound row, index included, stands in for those."""
    broken = [(int(rows[i]), reason) for i, reason in reasons.items()]
    if 0 < len(reasons) < len(rows):
        whole = stand_ins(len(rows), set(reasons))
        rows, pixels = rows[whole], pixels[whole]
    return torch.from_numpy(rows.copy()), torch.from_numpy(pixels), broken
