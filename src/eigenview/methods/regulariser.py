"""VICReg's variance and covariance terms, attached to a siamese method (Bardes et al. 2022, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.energies import fused_regulariser_terms
from eigenview.methods.base import Objective, promote, require_samples, without_autocast
from eigenview.views import Views

FIELD = {"representation": "h", "projector": "z", "predictor": "p"}


@dataclass(frozen=True, kw_only=True)
class RegulariserConfig:
    """Weights, and where the terms are taken. Both weights 0: no term and no cost."""

    variance: float = 0.0
    """Weight of the hinge on each dimension's standard deviation, summed over two views (mu)."""
    covariance: float = 0.0
    """Weight of the squared covariances between dimensions, over D, summed over two views (nu)."""
    site: Literal["representation", "projector", "predictor"] = "projector"
    """Whose outputs are regularised. They are not normalised: unit vectors could not reach gamma = 1."""
    gamma: float = 1.0
    """Standard deviation above which a dimension is left alone."""

    def __post_init__(self) -> None:
        require(self.variance >= 0, "objective.variance", self.variance, "0 or more")
        require(self.covariance >= 0, "objective.covariance", self.covariance, "0 or more")
        require(self.site in FIELD, "objective.site", self.site, ", ".join(FIELD))
        require(self.gamma > 0, "objective.gamma", self.gamma, "above 0")

    @property
    def is_on(self) -> bool:
        """Whether there is any term."""
        return self.variance > 0 or self.covariance > 0


def regularised_reads(reads: frozenset[str], config: RegulariserConfig) -> frozenset[str]:
    """`reads`, and the field of the regularised site where there is a term."""
    return reads | {FIELD[config.site]} if config.is_on else reads


def regulariser_terms(views: Views, config: RegulariserConfig, eps: float = 1e-4) -> dict[str, Tensor]:
    """mu (v(Z) + v(Z')) and nu (c(Z) + c(Z')) of VICReg at the chosen site; twice the mean over more views.

    The published ablation gives neither site nor coefficients: both are the caller's.
    """
    if not config.is_on:
        return {}
    x = promote(views.read(FIELD[config.site]))
    require_samples(x, 2)
    terms: dict[str, Tensor] = {}
    with without_autocast(x):
        variance, covariance = fused_regulariser_terms(x, config.gamma, eps)
    if config.variance > 0:
        terms["variance"] = config.variance * 2 * variance
    if config.covariance > 0:
        terms["covariance"] = config.covariance * 2 * covariance
    return terms


class RegularisedObjective(Objective):
    """A mean over images with VICReg's terms beside it where their weights are above 0."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.reads = self.reads_of(config)

    @classmethod
    def reads_of(cls, config: Any) -> frozenset[str]:
        """What the method reads, and what is regularised."""
        return regularised_reads(cls.reads, config)

    @classmethod
    def coupled_by(cls, config: Any) -> str | None:
        """Nothing: the loss is a mean over images, as long as nothing is regularised."""
        return "the variance and covariance terms are those of the whole batch" if config.is_on else None
