"""A linear predictor that is computed, not learned: W_p as a power of the running second moment F of the embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eigenview.errors import NonFiniteError, require
from eigenview.functional.predictors import Norm, predictor_matrix, second_moment
from eigenview.methods.parts.method import Objective, mean_over_processes
from eigenview.methods.parts.options import ClosedFormConfig
from eigenview.records import Clock

NOT_FINITE = "the second moment F of the embeddings, from which W_p is computed, is not finite"


class ClosedFormPredictor(nn.Module):
    """p = W_p z with W_p = F^alpha / ||F^alpha|| + eps I, F the running second moment of z over all views.

    `update` moves F and, every `refresh_every` updates from the first on, sets W_p; `predict` changes nothing. Before
    the first update W_p is initialised like a torch linear layer, or as the identity with `start="identity"`. Between
    two computations W_p is a parameter that is trained by gradient.

    Options that only reproduce other programs: `eps_inside` adds eps before the power instead of after it (IsoLoss's
    authors; the same for alpha = 1), and then the option `floor` is the smallest value that is raised to the power;
    `normalise_by` is the norm that the power of F is divided by before eps is added; `centre` subtracts the mean of
    the embeddings, with its own running mean, from F; `initial` is where F starts, at the first batch's moment or at
    zero.
    """

    F: Tensor
    mean: Tensor

    def __init__(
        self,
        config: ClosedFormConfig,
        width: int,
        *,
        start: Literal["random", "identity"] = "random",
        eps_inside: bool = False,
        normalise_by: Norm = "spectral",
        centre: bool = False,
        initial: Literal["batch", "zero"] = "batch",
    ) -> None:
        super().__init__()
        require(width >= 1, "width", width, "1 or more")
        self.config = config
        self.eps_inside, self.normalise_by, self.centre, self.initial = eps_inside, normalise_by, centre, initial
        drawn = torch.empty(width, width)
        if start == "identity":
            nn.init.eye_(drawn)
        else:
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5))
        self.W = nn.Parameter(drawn, requires_grad=config.refresh_every > 1)
        self.register_buffer("F", torch.zeros(width, width))
        self.register_buffer("mean", torch.zeros(width))
        self.updates = 0  # a Python number: reading a tensor would wait for the device

    def get_extra_state(self) -> Tensor:
        """The number of updates, as a tensor among the weights of a checkpoint."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of updates."""
        self.updates = int(state.item())

    def predict(self, z: Float[Tensor, "V n D"]) -> Float[Tensor, "V n D"]:
        """W_p z for every sample of every view."""
        if z.shape[-1] != self.W.shape[-1]:
            raise ValueError(f"Views.z has width {z.shape[-1]}; this predictor was built for {self.W.shape[-1]}.")
        return z @ self.W.to(z.dtype).mT

    def moments(self, z: Float[Tensor, "V n D"]) -> dict[str, Tensor]:
        """What `update` needs of a batch: second moment (1 D D) and mean (1 D) over views and samples."""
        z = z.detach().to(self.F.dtype)
        return {"moment": second_moment(z)[None], "mean": z.mean(dim=(0, 1))[None]}

    @torch.no_grad()
    def update(self, moment: Float[Tensor, "D D"], mean: Float[Tensor, " D"]) -> None:
        """F <- rho F + (1 - rho) moment, and W_p from the new F.

        Raises: NonFiniteError if F is no longer finite (on a CPU, and wherever it is decomposed).
        """
        is_first = self.updates == 0 and self.initial == "batch"
        weight = 1.0 if is_first else 1 - self.config.rho
        self.F.lerp_(moment, weight)
        self.mean.lerp_(mean, weight)
        # the diagonal suffices for a second moment: |F_ij|^2 <= F_ii F_jj
        if self.F.device.type == "cpu" and not self.F.diagonal().isfinite().all():
            raise NonFiniteError(NOT_FINITE)
        if self.updates % self.config.refresh_every == 0:
            self.W.copy_(self.matrix())
        self.updates += 1

    def matrix(self) -> Float[Tensor, "D D"]:
        """W_p of the present F (with `centre`: less the mean's part)."""
        F = self.F - self.mean.outer(self.mean) if self.centre else self.F
        c, options = self.config, {"normalise_by": self.normalise_by, "eps_inside": self.eps_inside}
        try:
            return predictor_matrix(F, c.alpha, c.eps, floor=c.floor, **options)  # type: ignore[arg-type]
        except RuntimeError:  # torch raises one for a matrix that holds nan or infinity
            if bool(self.F.isfinite().all()):
                raise
            raise NonFiniteError(NOT_FINITE) from None


class ClosedFormObjective(Objective):
    """What DirectSet and IsoLoss share: the predictor moves after the optimiser's step, before the target network."""

    def __init__(self, predictor: ClosedFormPredictor) -> None:
        super().__init__()
        self.predictor = predictor

    @torch.no_grad()
    def update(self, carry: Mapping[str, Tensor], clock: Clock) -> None:
        """Move F and W_p by the moments of the global batch."""
        self.predictor.update(*(mean_over_processes(carry[name], clock) for name in ("moment", "mean")))

    def predict(self, z: Tensor) -> Tensor:
        """W_p z."""
        return self.predictor.predict(z)
