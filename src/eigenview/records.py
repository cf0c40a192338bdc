"""The records that the engine and the methods exchange. Free of torch, so that help, plans and reports need none.

Legend of shapes: views.py.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from eigenview.methods.parts.building import Parts
    from eigenview.methods.parts.method import Method


@runtime_checkable
class Processes(Protocol):
    """The processes that share a step. All shards have the same shape; rank r holds rows r n to (r + 1) n.

    The loss of a run is the mean over processes of what each process returns, and DDP averages parameter gradients. So
    the gradient of `sum` and `gather` is the sum over processes of the gradients that arrive there.
    """

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def sum(self, x: Tensor) -> Tensor:
        """Sum over processes, with gradient."""
        ...

    def gather(self, x: Tensor) -> Tensor:
        """(n ...) on each process -> (size n ...) in rank order, with gradient."""
        ...

    def max(self, x: Tensor) -> Tensor:
        """Maximum over processes, without gradient."""
        ...

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise UserError if another process holds rows of another shape."""
        ...


class Alone:
    """One process: nothing is sent."""

    rank = 0
    size = 1

    def sum(self, x: Tensor) -> Tensor:
        """x."""
        return x

    gather = max = sum

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Nothing to compare with."""


ALONE = Alone()


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Which step of a run this is, and which processes take part. Schedules and random draws are functions of it."""

    step: int = 0
    """Steps done before this one."""
    steps: int = 1
    """Steps of the whole run."""
    steps_per_epoch: int = 1
    seed: int = 0
    processes: Processes = ALONE

    @property
    def epoch(self) -> float:
        """Epochs done before this step."""
        return self.step / self.steps_per_epoch

    def cosine(self, start: float, end: float) -> float:
        """From `start` at step 0 to `end` at step `steps` along half a cosine."""
        return end - (end - start) * (1 + math.cos(math.pi * min(1.0, self.step / max(1, self.steps)))) / 2

    def random(self, name: str) -> np.random.Generator:
        """A generator that depends on (seed, step, name) only and so is the same on every process and device.

        Draw for the whole global batch, then take this process's rows with `Batch.own`.
        """
        return np.random.default_rng((self.seed, self.step, zlib.crc32(name.encode())))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The rows of one step on this process, or one part of them. Whole views come first, local crops after them."""

    views: tuple[Tensor, ...]
    """V tensors (n C S S), on the device; the side S may differ between whole views and local crops."""
    whole: int
    """Number of whole views."""
    start: int = 0
    """Global number of the first row."""
    total: int = 0
    """Rows of the step over all processes and parts."""
    index: Tensor | None = None
    """Rows of the data set (n), where known."""

    def __len__(self) -> int:
        return len(self.views[0])

    def own(self, drawn: np.ndarray) -> np.ndarray:
        """This process's rows of something that was drawn for the global batch."""
        return drawn[self.start : self.start + len(self)]

    def part(self, k: int, of: int) -> Batch:
        """The k-th of `of` equal parts."""
        n = len(self) // of
        rows = slice(k * n, (k + 1) * n)
        index = None if self.index is None else self.index[rows]
        return replace(self, views=tuple(view[rows] for view in self.views), start=self.start + k * n, index=index)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a method with a given config asks of network, batch and run; known before anything is built."""

    reads: frozenset[str] = frozenset({"z"})
    """Fields of Views that its loss reads: h, z, p (a learned predictor is built), z_target (a target network is)."""
    views: tuple[int, int | None] = (2, None)
    """Smallest and largest number of whole views; None: no largest."""
    local_views: bool = True
    """Local crops may be added."""
    online: tuple[int, ...] | None = None
    """Numbers of the views that pass through the online network; None: all."""
    targets: tuple[int, ...] | None = None
    """Numbers of the views that pass through the target network; None: all whole views."""
    together: bool = False
    """Views of one size are one batch of the encoder, all views one batch of the heads: batch norm sees them all."""
    least_samples: int = 2
    """Smallest batch for which its statistics exist: of the global batch, or of each part of it."""
    local_statistics: bool = False
    """Each process takes statistics of the own rows only, so `least_samples` holds for each process."""
    parts: Literal["exact", "expected", "no"] = "no"
    """Whether the mean over equal parts of a batch has the batch's loss and gradient: always, in expectation, or no."""
    parts_why: str = "its statistics are those of the whole batch"
    """If `parts` is "no": the reason."""
    one_network: str | None = None
    """If all views must pass through one network: the reason."""
    stop_gradient: bool = True
    """Targets receive no gradient."""
    warn: Callable[[int, bool], str | None] = lambda images, has_batch_norm: None
    """A hazard of training with `images` in one forward pass of a network with or without batch norm, as a sentence."""
    weight_note: Callable[[int], str | None] = lambda width: None
    """A sentence about a weight that is unusual for an embedding of this width, or a cost that is; None if there is
    nothing to say."""

    @property
    def predictor(self) -> bool:
        """A learned predictor is needed."""
        return "p" in self.reads

    @property
    def target(self) -> bool:
        """A target network is needed."""
        return "z_target" in self.reads


@dataclass(frozen=True, kw_only=True)
class PredictorTheory:
    """How Tian's linear theory describes a method's predictor, for `eigenview report --theory`."""

    computed: bool
    """The predictor is computed from F; otherwise it is learned."""
    in_gradient: bool = True
    """The gradient passes through the predictor (IsoLoss: it does not)."""
    eps_inside: bool = False
    """eps is added to the normalised eigenvalues of F before the power is taken."""
    floor: float = 1e-4
    """Smallest eigenvalue of W_p."""
    time_scale: int = 4
    """Time scale of plain SGD with the Euclidean loss: 4 if both directions are summed, 1 if averaged."""


@dataclass(frozen=True)
class Remedy:
    """Something to try."""

    text: str
    unless: Callable[[Any], bool] = field(default=lambda run: False, compare=False)
    """(RunConfig) -> whether the run has this already, so that it is not advised."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Texts and facts about a method, for every place that names it. One card a method, beside its config."""

    name: str
    """On the command line."""
    title: str
    """In tables and figures."""
    paper: str
    """Authors and year, with the arXiv number where there is one."""
    summary: str
    """One line for `eigenview list methods`."""
    augmentation: str = "asymmetric"
    """Preset used by `--augmentation auto`; "simclr" and "simsiam" have a small and a large version."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Fields of RunConfig, nested as dicts, in which the method's default recipe differs from the common one."""
    remedies: Mapping[str, tuple[Remedy | str, ...]] = field(default_factory=dict)
    """What to try by verdict ("complete collapse", "dimensional collapse"), the likeliest first; a text always applies,
    a `Remedy` unless the run has it already."""
    unit_deviation: bool = False
    """Its loss asks for standard deviation 1, so a nearly constant embedding is a collapse whatever its scale."""
    plug_in_remedies: tuple[Remedy, ...] = ()
    """Given if the loss squares covariances of the batch, which chance inflates: what to try for a small batch. The
    first that the run does not have is named; if it has all, the loss is not inflated."""
    theory: PredictorTheory | None = None
    """The linear theory of its predictor; None if it has no predictor."""
    small: Mapping[str, Any] = field(default_factory=dict)
    """Options with which the contract tests build it at small widths."""


class MethodConfig:
    """Base of every method's frozen config dataclass: its options, its card, what it needs, and how to build it."""

    card: ClassVar[Card]

    @property
    def needs(self) -> Needs:
        """What the method asks for with these options."""
        return Needs()

    def build(self, parts: Parts) -> Method:
        """The method, built from the parts that the run provides."""
        raise NotImplementedError(f"{type(self).__name__} defines no build.")
