"""A method with what a run adds to it: it makes the views and calls the one training step (step.py)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from eigenview.config import RunConfig
from eigenview.data.views.specs import ViewSpec
from eigenview.distributed import processes, rank, world_size
from eigenview.engine.non_finite import NonFiniteWatch, non_finite_error
from eigenview.engine.optim import build_optimizer
from eigenview.engine.step import StepOptions, learning_rate_at, step_seeds, train_step
from eigenview.engine.views import make_views
from eigenview.errors import NonFiniteError
from eigenview.methods.parts.method import Method
from eigenview.records import Batch, Clock


class PretrainModule(nn.Module):
    """uint8 images -> views -> the training step. loop.py takes it through the batches."""

    def __init__(
        self,
        config: RunConfig[Any],
        *,
        method: Method,
        specs: tuple[ViewSpec, ...],
        size: int,
        steps_per_epoch: int,
        bf16: bool,
        pixels: Tensor | None,
        rows: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.method = method
        self.specs = specs
        self.size = size
        self.steps_per_epoch = steps_per_epoch
        self.steps = config.epochs * steps_per_epoch
        self.step = 0
        """Steps that are done."""
        self.optimizer: torch.optim.Optimizer | None = None  # while it is trained
        self.terms: dict[str, Tensor] = {}
        self.notes: dict[str, Tensor] = {}
        self.options = StepOptions(
            optim=config.optim, batch_size=config.batch_size, parts=config.grad_accum_steps, bf16=bf16
        )
        self._pixels = pixels  # resident images (M C S S) uint8, or None when workers decode
        self._rows = rows  # int64 (N,): the training images among them; None: all
        self._watch = NonFiniteWatch()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def make_views(self, images: Tensor, augmentation_seed: int, *, is_compiled: bool = False) -> tuple[Tensor, ...]:
        """The augmented views of a uint8 batch, on its device: V of the run's size, then the local crops."""
        return make_views(images, self.specs, self.size, augmentation_seed, is_compiled=is_compiled)

    def resident_images(self, index: Tensor) -> Tensor:
        """uint8 (n C S S): the training images `index`, of a set whose pixels are resident."""
        assert self._pixels is not None
        return self._pixels.index_select(0, index if self._rows is None else self._rows[index])

    def make_batch(self, images: Tensor, step: int, index: Tensor | None = None) -> Batch:
        """The own rows of a step; also seeds the network's own randomness (dropout) for it."""
        seed_views, seed_network = step_seeds(self.config.seed, rank(), step)
        if images.device.type == "cpu":
            torch.default_generator.manual_seed(seed_network)  # torch.manual_seed costs 0.4 ms without a GPU
        else:
            torch.manual_seed(seed_network)
        views = self.make_views(images, seed_views, is_compiled=self.config.compile_augmentation)
        size = world_size()
        return Batch(
            views=views, whole=self.config.views, start=rank() * len(images), total=size * len(images), index=index
        )

    def clock(self, step: int | None = None) -> Clock:
        """The clock at a step; by default at the one to come."""
        return Clock(
            step=self.step if step is None else step,
            steps=self.steps,
            steps_per_epoch=self.steps_per_epoch,
            seed=self.config.seed,
            processes=processes(is_checked=False),
        )

    def training_step(self, batch: Mapping[str, Tensor | None], wrapped: DistributedDataParallel | None = None) -> None:
        """One step on this process's rows {"index": (n,), "images": (n C S S) uint8, or None if they are resident}.

        `wrapped`: the method in DDP. An argument, because an attribute would be a part of this module's state.
        """
        clock, index, images = self.clock(), batch["index"], batch.get("images")
        assert index is not None
        if self._pixels is not None:
            images = self.resident_images(index)
        assert images is not None
        made = self.make_batch(images, clock.step, index)
        try:
            loss = train_step(
                self.method,
                made,
                clock,
                self.optimizer,
                self.options,
                wrapped=wrapped,
                no_sync=nullcontext if wrapped is None else wrapped.no_sync,
                inspect=lambda terms: self._inspect_terms(terms, clock),
            )
        except NonFiniteError as error:
            raise self._stopped(str(error), clock.step) from None
        self.terms, self.notes = dict(loss.terms), dict(loss.notes)
        self.step += 1

    def _inspect_terms(self, terms: Mapping[str, Tensor], clock: Clock) -> None:
        """Remember non-finite terms; on a CPU, where looking costs nothing, stop at once."""
        self._watch.note(terms, clock.step)
        if next(iter(terms.values())).device.type == "cpu":
            self.raise_non_finite()

    def raise_non_finite(self) -> None:
        """Stop the run if any term was ever non-finite. On several processes all have to call it."""
        found = self._watch.first(processes(is_checked=False))
        if found is not None:
            step, name = found
            raise self._stopped(f"the {name} term became non-finite", step)

    def _stopped(self, what: str, step: int) -> NonFiniteError:
        if "likely cause" in what:
            return NonFiniteError(what)
        epoch, rate = step / self.steps_per_epoch, self.learning_rate_at(step)
        return non_finite_error(what, step, epoch, rate, self.config.optim.lr_per_256)

    def learning_rate_at(self, step: int) -> float:
        """The schedule at a step."""
        return learning_rate_at(self.clock(step), self.config.optim, self.config.batch_size)

    def logged_terms(self) -> dict[str, float]:
        """The terms of the last step, means over processes. All processes have to call it."""
        values = torch.stack(list(self.terms.values()))
        everyone = processes(is_checked=False)
        means = (everyone.sum(values) / everyone.size).tolist()
        return dict(zip(self.terms, means, strict=True))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser of the method's parameters, where they are now."""
        return build_optimizer(self.config.optim, self.method, batch_size=self.config.batch_size)
