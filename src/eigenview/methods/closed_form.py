"""A linear predictor that is computed, not learned: W_p as a power of the running second moment F of the embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eigenview.errors import NonFiniteError, require
from eigenview.functional.predictors import eigh, predictor_matrix, second_moment
from eigenview.methods.base import Objective, promote, without_autocast
from eigenview.views import Views

NOT_FINITE = "the second moment F of the embeddings, from which W_p is made, is not finite"


@dataclass(frozen=True, kw_only=True)
class ClosedFormConfig:
    """How F is estimated and W_p made from it."""

    alpha: float = 1.0
    """Power of F: 1 copies it (DirectCopy), 0.5 takes its square root (DirectPred)."""
    rho: float = 0.3
    """Weight of the past in the running second moment: F <- rho F + (1 - rho) F of the batch."""
    eps: float = 0.3
    """Added to every eigenvalue of the normalised power, so that no direction is given up."""
    eps_inside: bool = False
    """Add eps before the power instead of after it (as IsoLoss's authors; the same for alpha = 1)."""
    floor: float = 1e-4
    """Smallest eigenvalue of W_p (of what is raised to the power, with eps inside)."""
    normalise_by: Literal["spectral", "frobenius", "none"] = "spectral"
    """Norm that the power of F is divided by before eps is added."""
    centre: bool = False
    """Take the mean of the embeddings out of F (with its own running mean)."""
    refresh_every: int = 1
    """Steps between two computations of W_p; in between it is trained by gradient."""
    initial: Literal["batch", "zero"] = "batch"
    """Where F starts: at the first batch's, or at zero as IsoLoss's authors have it."""
    order: Literal["after", "before"] = "after"
    """after: a batch is predicted with the W_p of the batches before it. before: F is moved view by view before the
    prediction, and each view is predicted with the W_p just made (as IsoLoss's authors)."""

    def __post_init__(self) -> None:
        require(self.alpha > 0 and math.isfinite(self.alpha), "objective.alpha", self.alpha, "above 0")
        require(0 <= self.rho < 1, "objective.rho", self.rho, "0 up to below 1")
        require(self.eps >= 0 and math.isfinite(self.eps), "objective.eps", self.eps, "0 or more")
        require(self.floor >= 0 and math.isfinite(self.floor), "objective.floor", self.floor, "0 or more")
        norms = ("spectral", "frobenius", "none")
        require(self.normalise_by in norms, "objective.normalise_by", self.normalise_by, ", ".join(norms))
        require(self.refresh_every >= 1, "objective.refresh_every", self.refresh_every, "1 or more")
        require(self.initial in ("batch", "zero"), "objective.initial", self.initial, "batch, zero")
        require(self.order in ("after", "before"), "objective.order", self.order, "after, before")
        require(
            self.order == "after" or self.refresh_every == 1,
            "objective.refresh_every",
            self.refresh_every,
            "1 with objective.order before",
            "Use --objective.order after.",
        )


class ClosedFormPredictor(nn.Module):
    """p = W_p z with W_p = F^alpha / ||F^alpha|| + eps I, F the running second moment of z over all views.

    `update` moves F and, every `refresh_every` steps from the first on, sets W_p; `predict` changes nothing. Before the
    first update W_p is drawn as torch draws a linear layer. With `order="after"` W_p is one parameter (trained by
    gradient only where it is not set at every step); with `order="before"` there is one matrix per view.
    `start="identity"` begins with W_p = I instead.
    """

    def __init__(
        self,
        config: ClosedFormConfig,
        width: int,
        views: int,
        start: Literal["random", "identity"] = "random",
    ) -> None:
        super().__init__()
        require(width >= 1, "width", width, "1 or more")
        self.config = config
        drawn = torch.empty(width, width)
        if start == "identity":
            nn.init.eye_(drawn)
        else:
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5))
        copies = views if config.order == "before" else 1
        self.W = nn.Parameter(drawn.repeat(copies, 1, 1), requires_grad=config.refresh_every > 1)
        self.register_buffer("F", torch.zeros(width, width))
        self.register_buffer("mean", torch.zeros(width))
        self.F: Tensor
        self.mean: Tensor
        self.updates = 0  # a Python number: a device must not be waited for to know whose turn it is

    def get_extra_state(self) -> Tensor:
        """The number of updates, as a tensor among the weights of a checkpoint."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of updates."""
        self.updates = int(state.item())

    def predict(
        self, z: Float[Tensor, "V N D"], W: Float[Tensor, "matrices D D"] | None = None
    ) -> Float[Tensor, "V N D"]:
        """W_p z for every sample of every view; W: some of this predictor's matrices, default all."""
        matrices = self.W if W is None else W
        if z.shape[-1] != matrices.shape[-1]:
            raise ValueError(f"Views.z has width {z.shape[-1]}; this predictor was made for {matrices.shape[-1]}.")
        if len(matrices) > 1 and len(z) != len(matrices):
            raise ValueError(f"Views.z has {len(z)} views; this predictor was made for {len(matrices)}.")
        return z @ matrices.to(z.dtype).mT

    @torch.no_grad()
    def update(self, z: Float[Tensor, "V N D"]) -> None:
        """Move F towards this batch and set W_p from it.

        Raises: NonFiniteError where F is no longer finite (on a CPU, and wherever it is decomposed).
        """
        z = promote(z.detach()).to(self.F.dtype)
        with without_autocast(z):
            if self.config.order == "before":
                for k in range(len(z)):
                    self._move(z[k : k + 1])
                    self.W[k] = self.matrix()
                    self.updates += 1
                return
            self._move(z)
            if self.updates % self.config.refresh_every == 0:
                self.W[0] = self.matrix()
            self.updates += 1

    def _move(self, z: Tensor) -> None:
        is_first = self.updates == 0 and self.config.initial == "batch"
        weight = 1.0 if is_first else 1 - self.config.rho
        self.F.lerp_(second_moment(z), weight)
        self.mean.lerp_(z.mean(dim=(0, 1)), weight)
        # of a second moment the diagonal suffices: |F_ij|^2 <= F_ii F_jj
        if self.F.device.type == "cpu" and not self.F.diagonal().isfinite().all():
            raise NonFiniteError(NOT_FINITE)

    def moment(self) -> Float[Tensor, "D D"]:
        """F, less the mean's part with `centre`."""
        return self.F - self.mean.outer(self.mean) if self.config.centre else self.F

    def matrix(self) -> Float[Tensor, "D D"]:
        """W_p of the present F."""
        c = self.config
        try:
            return predictor_matrix(
                self.moment(), c.alpha, c.eps, normalise_by=c.normalise_by, eps_inside=c.eps_inside, floor=c.floor
            )
        except RuntimeError:  # torch's own error for a matrix that holds nan or infinity is one
            if bool(self.F.isfinite().all()):
                raise
            raise NonFiniteError(NOT_FINITE) from None

    def root(self) -> Float[Tensor, "K D D"]:
        """W_p^(1/2) of the matrices in force: symmetric and positive semi-definite, as W_p is between updates."""
        p, U = eigh((self.W + self.W.mT) / 2)
        return (U * p.clamp_min(0.0).sqrt()[:, None, :]) @ U.mT


class ClosedFormObjective(Objective):
    """What DirectSet and IsoLoss share: a predictor moved in `update`, by default after the optimiser's step."""

    reads = frozenset({"z", "z_target"})
    one_network = "its target network is an average of one network's weights"

    def __init__(
        self, config: ClosedFormConfig, width: int, views: int, start: Literal["random", "identity"] = "random"
    ) -> None:
        super().__init__()
        self.predictor = ClosedFormPredictor(config, width, views, start)
        self.updates_last = config.order == "after"

    @classmethod
    def build(cls, config: Any, *, representation: int, width: int, views: int) -> Objective:
        """An instance for embeddings of this width."""
        return cls(config, width=width, views=views)

    def update(self, views: Views) -> None:
        """Move F and W_p."""
        self.predictor.update(views.read("z"))
