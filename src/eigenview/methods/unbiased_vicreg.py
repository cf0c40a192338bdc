"""VICReg whose covariance term does not depend on the batch size: the covariances' squares by U-statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.unbiased import fused_unbiased_terms
from eigenview.functional.moments import (
    unbiased_covariance_sq_norm,
    unbiased_squared_variances,
    variances,
)
from eigenview.methods.base import Objective, promote, require_samples, without_autocast
from eigenview.views import Views


@dataclass(frozen=True, kw_only=True)
class UnbiasedVICRegConfig:
    """Options of the unbiased VICReg. A weight of 0 removes its term."""

    invariance: float = 25.0
    """Weight of the distance between views (lambda)."""
    variance: float = 25.0
    """Weight of the term on each dimension's variance (mu)."""
    covariance: float = 4.0
    """Weight of the covariances between dimensions (nu). VICReg's 1 is helped by the plug-in's bias; this is not."""
    hinge: Literal["plugin", "dual", "square"] = "plugin"
    """plugin: VICReg's hinge of the batch's standard deviation (biased near gamma); dual: its tangent at a running
    variance, with the batch's unbiased variance in it; square: (Var - gamma^2)^2 by U-statistic."""
    form: Literal["off-diagonal", "identity"] = "off-diagonal"
    """Squares of the covariances alone, or of the whole of Cov - I."""
    gamma: float = 1.0
    """Standard deviation above which a dimension is left alone; the one that square asks for."""
    eps: float = 1e-4
    """Added to the variance inside the square root."""
    statistics: Literal["global", "local"] = "global"
    """With several processes: over the global batch, or each over its own images without any communication (the same
    mean of loss and gradient, with more noise; not with hinge plugin near gamma)."""
    rho: float = 0.9
    """Weight of the past in the running variance of dual."""

    def __post_init__(self) -> None:
        for name in ("invariance", "variance", "covariance"):
            require(getattr(self, name) >= 0, f"objective.{name}", getattr(self, name), "0 or more")
        for name, allowed in (
            ("hinge", ("plugin", "dual", "square")),
            ("form", ("off-diagonal", "identity")),
            ("statistics", ("global", "local")),
        ):
            require(getattr(self, name) in allowed, f"objective.{name}", getattr(self, name), ", ".join(allowed))
        require(self.gamma > 0, "objective.gamma", self.gamma, "above 0")
        require(self.eps > 0, "objective.eps", self.eps, "above 0")
        require(0 <= self.rho < 1, "objective.rho", self.rho, "0 up to below 1")


def hinge_value(variance: Float[Tensor, "*views D"], gamma: float, eps: float) -> Float[Tensor, "*views D"]:
    """h(v) = max(0, gamma - sqrt(v + eps)): convex in the variance v."""
    return (gamma - (variance + eps).sqrt()).clamp_min(0.0)


def hinge_tangent(
    variance: Float[Tensor, "*views D"], at: Float[Tensor, "*views D"], gamma: float, eps: float
) -> Float[Tensor, "*views D"]:
    """h(a) + h'(a) (v - a) at the constant a: nowhere above h(v), and equal to it at v = a.

    Linear in v: where v is an unbiased estimate independent of a, its mean and its gradient's mean are those at the
    true variance.
    """
    a = at.detach()
    slope = torch.where(hinge_value(a, gamma, eps) > 0, -0.5 * (a + eps).rsqrt(), 0.0)
    return hinge_value(a, gamma, eps) + slope * (variance - a)


def distance_to_identity(z: Float[Tensor, "V N D"]) -> Float[Tensor, ""]:
    """Mean over views of the U-statistic of (1/D) ||Cov - I||_F^2 = (1/D) (sum U - 2 tr S + D)."""
    distance = unbiased_covariance_sq_norm(z) - 2 * variances(z).sum(dim=-1) + z.shape[-1]
    return distance.mean() / z.shape[-1]


class UnbiasedVICReg(Objective):
    """VICReg with terms whose mean over batches does not depend on the batch size, as far as that is possible.

    Definition
        invariance = lambda (1/(N D)) sum_i |z_i - z_i'|^2, a mean and so unbiased as it is;
        covariance = nu (c(z) + c(z')), c(z) = (1/D) sum over i != j of U_ij, U_ij the order-4 U-statistic of C_ij^2
        (functional/moments.py); with `form="identity"` c(z) = (1/D) ||Cov - I||_F^2 by the same statistic;
        variance = mu (v(z) + v(z'))/2, v(z) = (1/D) sum_j of
            plugin  max(0, gamma - sqrt(S_jj + eps)): biased; noticeably so only near gamma,
            dual    h(a_j) + h'(a_j) (S_jj - a_j), h the hinge, a_j a running variance that does not contain this batch:
                    unbiased for the hinge's tangent at a_j, which lies below the hinge by a term of second order in
                    a_j - Var_j; the gradient is unbiased given the slope (the first batch takes a_j = S_jj, as plugin),
            square  U_jj - 2 gamma^2 S_jj + gamma^4: exactly unbiased for (Var_j - gamma^2)^2, which is another penalty
                    (it also pulls large variances down).

    Normalisation
        As VICReg's code convention: means over samples and dimensions, covariance over D and summed over two views,
        twice the mean over more. Statistics are per view, never products across views, whose rows are of the same
        images. nu is 4 instead of 1 because the plug-in's bias acts as a larger nu. No estimator from N rows is
        unbiased for the hinge under every law: what can be estimated so is a polynomial in the law, and the hinge is
        none. All this is for rows that do not touch each other before the loss: batch norm in the encoder or the
        projector couples them.

        With `statistics="local"` on several processes N is each process's share and nothing is gathered; DDP averages
        the gradients, whose mean is that of the global batch. The running variance of dual is then rank 0's (DDP copies
        it at every step).

    Shapes
        z (V N D) -> three scalars. covariance may be negative, and is not clamped.

    Raises
        UserError for a negative weight, gamma or eps not above 0, rho outside [0, 1), or fewer than 4 samples (no
        U-statistic of order 4).

    Reference
        VICReg: Bardes, Ponce, LeCun 2022, arXiv 2105.04906. U-statistics: Hoeffding 1948. The combination is ours.
    """

    running: Tensor

    def __init__(
        self, config: UnbiasedVICRegConfig = UnbiasedVICRegConfig(), *, width: int | None = None, views: int = 2
    ) -> None:
        super().__init__()
        self.config = config
        self.updates = 0  # a Python number, as in closed_form.py
        self.updates_last = True
        self.gathers = config.statistics == "global"
        if config.hinge == "dual":
            if width is None:
                raise ValueError(
                    "hinge 'dual' keeps a running variance: give the width, UnbiasedVICReg(config, width=D)."
                )
            self.register_buffer("running", torch.zeros(views, width))

    @classmethod
    def least_samples_of(cls, config: Any) -> int:
        """Four: U-statistics of that order."""
        return 4

    @classmethod
    def coupled_by(cls, config: Any) -> str | None:
        """The plug-in hinge alone: all other terms have the same mean at any batch size."""
        if config.hinge == "plugin" and config.variance > 0:
            return "--objective.hinge plugin is biased by the batch size near gamma; dual and square are not"
        return None

    @classmethod
    def build(cls, config: Any, *, representation: int, width: int, views: int) -> Objective:
        """An instance for embeddings of this width."""
        return cls(config, width=width, views=views)

    def get_extra_state(self) -> Tensor:
        """The number of updates, as a tensor among the weights of a checkpoint."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of updates."""
        self.updates = int(state.item())

    @torch.no_grad()
    def update(self, views: Views) -> None:
        """Move the running variance of dual (after the optimiser's step: a batch never meets its own estimate)."""
        if self.config.hinge != "dual":
            return
        batch = variances(promote(views.read("z").detach())).to(self.running.dtype)
        self.running.lerp_(batch, 1.0 if self.updates == 0 else 1 - self.config.rho)
        self.updates += 1

    def forward(self, views: Views) -> dict[str, Tensor]:
        z, c = promote(views.read("z")), self.config
        require_samples(z, self.least_samples_of(c))
        with without_autocast(z):
            near, batch, energies = fused_unbiased_terms(z)
            off_diagonal = c.form == "off-diagonal"
            covariance = energies.mean() / z.shape[-1] if off_diagonal else distance_to_identity(z)
            return {
                "invariance": c.invariance * near,
                "variance": c.variance * self.variance_term(z, batch),
                "covariance": c.covariance * 2 * covariance,
            }

    def variance_term(self, z: Float[Tensor, "V N D"], batch: Float[Tensor, "V D"]) -> Float[Tensor, ""]:
        """Mean over views and dimensions of the chosen penalty on the variance, `batch` the unbiased variances of z."""
        c = self.config
        if c.hinge == "plugin":
            return hinge_value(batch, c.gamma, c.eps).mean()
        if c.hinge == "dual":
            at = self.running.to(z.dtype) if self.updates else batch
            return hinge_tangent(batch, at, c.gamma, c.eps).mean()
        return (unbiased_squared_variances(z) - 2 * c.gamma**2 * batch + c.gamma**4).mean()
