"""VICReg whose covariance term does not depend on the batch size: the covariances' squares by U-statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.diagnostics.remedies import SMALLER_RATE, norms_of_one_image
from eigenview.errors import require
from eigenview.functional.batch_moments import BatchMoments, unbiased_batch_moments
from eigenview.functional.moments import unbiased_squared_variances
from eigenview.functional.whole_batch import whole_batch
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Objective, mean_over_processes
from eigenview.records import ALONE, Card, Clock, MethodConfig, Needs, Remedy
from eigenview.views import Loss, Views

COUPLED_BELOW = 64
"""Images in a pass of batch norm with which the unbiased form still trained well (experiment batch_size, tiny): k-NN 41
at 64 and 43 without batch norm, 31 and 42 at 16, where it ended in a dimensional collapse."""


@dataclass(frozen=True, kw_only=True)
class UnbiasedVICRegConfig(MethodConfig):
    """Options of the unbiased VICReg. A weight of 0 removes its term."""

    card: ClassVar[Card] = Card(
        name="unbiased-vicreg",
        title="unbiased VICReg",
        paper="VICReg: Bardes et al. 2022, arXiv 2105.04906; U-statistics: Hoeffding 1948",
        summary="VICReg with U-statistics: a covariance penalty without bias",
        remedies={
            "complete collapse": (
                Remedy(
                    "--method.variance 25, which asks every dimension to vary",
                    unless=lambda run: run.method.variance >= 25,
                ),
                SMALLER_RATE,
            ),
            "dimensional collapse": (
                *norms_of_one_image("{}, if it ran with batch norm in small batches"),
                Remedy(
                    "--method.covariance 4, which decorrelates the dimensions",
                    unless=lambda run: run.method.covariance >= 4,
                ),
            ),
        },
        unit_deviation=True,
    )

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
            require(getattr(self, name) >= 0, f"method.{name}", getattr(self, name), "0 or more")
        for name, allowed in (
            ("hinge", ("plugin", "dual", "square")),
            ("form", ("off-diagonal", "identity")),
            ("statistics", ("global", "local")),
        ):
            require(getattr(self, name) in allowed, f"method.{name}", getattr(self, name), ", ".join(allowed))
        require(self.gamma > 0, "method.gamma", self.gamma, "above 0")
        require(self.eps > 0, "method.eps", self.eps, "above 0")
        require(0 <= self.rho < 1, "method.rho", self.rho, "0 up to below 1")

    @property
    def needs(self) -> Needs:
        is_biased = self.hinge == "plugin" and self.variance > 0
        return Needs(
            least_samples=4,  # U-statistics of order 4
            local_statistics=self.statistics == "local",
            parts="no" if is_biased else "expected",
            parts_why="--method.hinge plugin is biased by the batch size near gamma; dual and square are not",
            warn=batch_norm_warning,
        )

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(
            self.needs, lambda widths: UnbiasedVICReg(self, width=widths.z, views=widths.views)
        )


def batch_norm_warning(images: int, has_batch_norm: bool) -> str | None:
    """Batch norm couples rows before the loss, and then the U-statistic is biased."""
    if images >= COUPLED_BELOW or not has_batch_norm:
        return None
    return (
        f"batch norm couples the {images} images of a pass, and the unbiased form is then biased and may collapse "
        "(docs/unbiased.md): --network.encoder-norm group --network.head-norm layer"
    )


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
        the gradients, whose mean is that of the global batch. The running variance of dual moves by the mean over
        processes.

    Shapes
        z (V n D) -> three scalars. covariance may be negative, and is not clamped.

    Cost
        Time V N D min(N, D); memory V N D + V min(N, D)^2.

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
        self.updates = 0  # a Python number: reading a tensor would wait for the device
        self.variance_penalty = {
            "plugin": self.hinge_at_batch,
            "dual": self.tangent_at_running,
            "square": self.square_distance,
        }[config.hinge]
        forms = {"off-diagonal": self.off_diagonal, "identity": self.distance_to_identity}
        self.covariance_penalty = forms[config.form]
        if config.hinge == "dual":
            if width is None:
                raise ValueError(
                    "hinge 'dual' keeps a running variance: give the width, UnbiasedVICReg(config, width=D)."
                )
            self.register_buffer("running", torch.zeros(views, width))

    def get_extra_state(self) -> Tensor:
        """The number of updates, as a tensor among the weights of a checkpoint."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of updates."""
        self.updates = int(state.item())

    def forward(self, views: Views, clock: Clock) -> Loss:
        c, processes = self.config, ALONE if self.config.statistics == "local" else clock.processes
        z = whole_batch(views.read("z"), processes)
        m = unbiased_batch_moments(z)
        terms = {
            "invariance": c.invariance * m.invariance,
            "variance": c.variance * self.variance_penalty(z, m).mean(),
            "covariance": c.covariance * 2 * (self.covariance_penalty(z, m).mean() / z.shape[-1]),
        }
        return Loss(terms, carry={"variances": m.variances[None]} if c.hinge == "dual" else {})

    def hinge_at_batch(self, z: Float[Tensor, "V N D"], m: BatchMoments) -> Float[Tensor, "V D"]:
        """plugin: the hinge at the batch's variances."""
        return hinge_value(m.variances, self.config.gamma, self.config.eps)

    def tangent_at_running(self, z: Float[Tensor, "V N D"], m: BatchMoments) -> Float[Tensor, "V D"]:
        """dual: the hinge's tangent at the running variances (at the batch's own, before the first update)."""
        at = self.running.to(z.dtype) if self.updates else m.variances
        return hinge_tangent(m.variances, at, self.config.gamma, self.config.eps)

    def square_distance(self, z: Float[Tensor, "V N D"], m: BatchMoments) -> Float[Tensor, "V D"]:
        """square: the U-statistic of (Var - gamma^2)^2."""
        gamma = self.config.gamma
        return unbiased_squared_variances(z) - 2 * gamma**2 * m.variances + gamma**4

    def off_diagonal(self, z: Float[Tensor, "V N D"], m: BatchMoments) -> Float[Tensor, " V"]:
        """off-diagonal: sum over i != j of U_ij."""
        return m.off_diagonal

    def distance_to_identity(self, z: Float[Tensor, "V N D"], m: BatchMoments) -> Float[Tensor, " V"]:
        """identity: ||Cov - I||_F^2 = sum U - 2 tr S + D, by the same statistic."""
        diagonal = unbiased_squared_variances(z).sum(dim=-1)
        return m.off_diagonal + diagonal - 2 * m.variances.sum(dim=-1) + z.shape[-1]

    @torch.no_grad()
    def update(self, carry: Mapping[str, Tensor], clock: Clock) -> None:
        """Move the running variance of dual, after the optimiser's step: a batch never meets its own estimate."""
        if self.config.hinge == "dual":
            batch = mean_over_processes(carry["variances"], clock).to(self.running.dtype)
            self.running.lerp_(batch, 1.0 if self.updates == 0 else 1 - self.config.rho)
            self.updates += 1
