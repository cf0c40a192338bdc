"""The one Lightning module for every method: the training step of the design page, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn

from eigenview.config import RunConfig
from eigenview.data.views.augment import augment
from eigenview.data.views.specs import ViewSpec
from eigenview.distributed import global_batch, rank
from eigenview.engine.optim import build_optimizer, peak_learning_rate
from eigenview.engine.schedules import learning_rate, target_momentum
from eigenview.errors import NonFiniteError
from eigenview.methods.base import Objective, total
from eigenview.methods.closed_form import ClosedFormPredictor
from eigenview.models.network import Network, Outputs
from eigenview.models.target import TargetNetwork
from eigenview.views import Views


def step_seeds(seed: int, rank: int, step: int) -> tuple[int, int]:
    """Seeds of the augmentation and of the network's own randomness (dropout) at one step of one process.

    All randomness of a step is a function of (seed, rank, step): a resumed run needs no saved generator state.
    """
    a, b = np.random.SeedSequence((seed, rank, step)).generate_state(2)
    return int(a), int(b)


class PretrainModule(L.LightningModule):
    """Images -> views -> network (-> target) -> one gather -> objective -> loss; then optimiser, objective, target."""

    def __init__(
        self,
        config: RunConfig,
        *,
        network: Network,
        target: TargetNetwork | None,
        objective: Objective,
        specs: tuple[ViewSpec, ...],
        size: int,
        steps_per_epoch: int,
        widths: tuple[int, int],
        pixels: Tensor | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.network = network
        self.target = target
        self.objective = objective
        self.specs = specs
        self.size = size
        self.steps_per_epoch = steps_per_epoch
        self.steps = config.epochs * steps_per_epoch
        self.representation_width, self.embedding_width = widths
        self.terms: dict[str, Tensor] = {}
        self._pixels = pixels  # the resident training set (N 3 S S) uint8, or None when workers decode
        self._records: list[Views] = []  # of the step in progress, for an objective that updates last
        self._bad_term: Tensor | None = None  # (terms,) step of the first non-finite value of each term, or -1

    def make_views(self, images: Tensor, augmentation_seed: int, *, is_compiled: bool = False) -> list[Tensor]:
        """The augmented views of a uint8 batch, on its device: V of the run's size, then the local crops."""
        generator = torch.Generator(device=images.device).manual_seed(augmentation_seed)
        return [
            augment(images, spec, spec.size or self.size, generator, is_compiled=is_compiled) for spec in self.specs
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        step = self.global_step
        seed_views, seed_network = step_seeds(self.config.seed, rank(), step)
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed_network)  # torch.manual_seed costs 0.4 ms without a GPU
        else:
            torch.manual_seed(seed_network)
        images = batch["images"] if self._pixels is None else self._pixels.index_select(0, batch["index"])
        # only here: every other number of images would be compiled anew
        views = self.make_views(images, seed_views, is_compiled=self.config.compile_augmentation)
        parts = list(zip(*(view.chunk(self.config.accumulate) for view in views), strict=True))
        self.terms = {}
        for part in parts[:-1]:
            loss = self.loss_of(part, step)
            with torch.autocast(loss.device.type, enabled=False):  # Lightning calls this method inside autocast
                # DDP waits for the last part's backward pass, which Lightning starts, and averages the sum over parts
                loss.backward()
        return self.loss_of(parts[-1], step)

    def loss_of(self, views: Sequence[Tensor], step: int) -> Tensor:
        """The loss of one part of the batch (usually all of it), as its share of the step's."""
        out: Outputs = self.network(views)
        # without a target network the online one is its own: it is the objective that holds it constant
        count = self.config.views
        z_target = self.target(views[:count]) if self.target is not None else out.z[:count]
        targets = count if self.config.local_views else None
        record = Views(h=out.h, z=out.z, p=out.p, z_target=z_target, targets=targets)
        if self.objective.gathers:
            record = global_batch(record, reads=self.objective.reads, takes_shards=self.objective.takes_shards)
        if self.objective.updates_last:
            self._records.append(record.detach())
        else:
            self.update_objective(record, step)
        terms = {name: value / self.config.accumulate for name, value in self.objective(record).items()}
        self.terms = {name: self.terms.get(name, 0) + value.detach() for name, value in terms.items()}
        self._note_non_finite(step)
        return total(terms)

    def predict(self, z: Tensor) -> Tensor | None:
        """p (V N D) of embeddings z (V N D), by the learned or the closed-form predictor; None without one."""
        guess = getattr(self.objective, "predictor", None)
        if isinstance(guess, ClosedFormPredictor):
            # of as many views as there are: local crops, which are not diagnosed, come last
            return guess.predict(z, guess.W[: len(z)])
        return self.network.predict(z)

    def update_objective(self, record: Views, step: int) -> None:
        """Move the objective's state; an overflow in it is named with its step."""
        try:
            self.objective.update(record)
        except NonFiniteError as error:
            raise NonFiniteError(f"{error} at step {step}; {self._likely_cause(step)}") from None

    def _note_non_finite(self, step: int) -> None:
        """Remember on the device where a term first failed; on a CPU, where looking is free, stop at once."""
        values = torch.stack(list(self.terms.values()))
        if self._bad_term is None:
            self._bad_term = torch.full(values.shape, -1, dtype=torch.long, device=values.device)
        fresh = ~torch.isfinite(values) & (self._bad_term < 0)
        self._bad_term = torch.where(fresh, step, self._bad_term)
        if values.device.type == "cpu":
            self.raise_non_finite()

    def raise_non_finite(self) -> None:
        """Stop the run if any term was ever non-finite: names the term, the step and the likely cause."""
        if self._bad_term is None:
            return
        steps = self._bad_term.tolist()
        bad = [(step, name) for step, name in zip(steps, self.terms, strict=True) if step >= 0]
        if bad:
            step, name = min(bad)
            raise NonFiniteError(
                f"the {name} term became non-finite at step {step} (epoch {step / self.steps_per_epoch:.1f}); "
                + self._likely_cause(step)
            )

    def _likely_cause(self, step: int) -> str:
        return (
            f"likely cause: the learning rate, {self.learning_rate_at(step):.3g} there, is too high for this network, "
            f"so that its weights overflow. Try --optim.lr-per-256 {self.config.optim.lr_per_256 / 10:.3g}."
        )

    def learning_rate_at(self, step: int) -> float:
        """The schedule: warm-up from 0 and cosine, per step."""
        optim = self.config.optim
        warmup = min(round(optim.warmup_epochs * self.steps_per_epoch), self.steps // 2)
        peak = peak_learning_rate(optim, self.config.batch_size)
        return learning_rate(step, self.steps, warmup, peak=peak, final_fraction=optim.final_fraction)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Everything trainable; a closed-form predictor's matrix, trained between refreshes, counts as predictor."""
        config, network = self.config, self.network
        guessing = [part for part in (network.predictor, self.objective) if part is not None]
        return build_optimizer(
            config.optim, nn.ModuleList([network, self.objective]), batch_size=config.batch_size, predictor=guessing
        )

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.trainer.optimizers[0].zero_grad()
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate_at(self.global_step) * group["factor"]

    def target_momentum_at(self, step: int) -> float | None:
        """tau at a step, or None without a target network."""
        if self.target is None:
            return None
        config = self.config.network
        return target_momentum(
            step, self.steps, config.target_momentum, config.target_momentum_end, config.target_schedule
        )

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Nothing: Lightning's is after `training_step`, where earlier parts have left their gradients already."""

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser's step, the objective's and the target's: before any callback, so that checkpoints hold all."""
        step = self.global_step
        super().optimizer_step(*args, **kwargs)
        for record in self._records:
            self.update_objective(record, step)
        self._records = []
        momentum = self.target_momentum_at(step)
        if self.target is not None and momentum is not None:
            self.target.update(self.network.encoder, self.network.projector, momentum)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["eigenview"] = {"steps": self.steps}
