"""Barlow Twins: the cross-correlation of two views is driven to the identity (Zbontar et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.cross_correlation import fused_cross_correlation_terms
from eigenview.functional.moments import (
    pair_diagonals,
    pair_sq_norms,
    standardised,
    unbiased_pair_off_diagonals,
)
from eigenview.functional.sharded.cross_correlation import sharded_cross_correlation_terms
from eigenview.functional.similarity import unit
from eigenview.methods import mean_view
from eigenview.methods.base import Objective, promote, require_samples, without_autocast
from eigenview.methods.orthogonality import barlow_twins_weight
from eigenview.views import Views


@dataclass(frozen=True, kw_only=True)
class BarlowTwinsConfig:
    """Options of Barlow Twins."""

    off_diagonal: float | Literal["auto"] = 0.0051
    """Weight of the redundancy between dimensions (lambda): 0.0051 in the authors' code, 0.005 in the paper. auto: by
    the embedding's width, about 5/width for narrow and 2/width for wide projectors."""
    eps: float = 1e-5
    """Added to the biased variance inside the square root, as batch norm does; the paper's formula has none."""
    estimator: Literal["plugin", "unbiased"] = "plugin"
    """How the squares of the off-diagonal correlations are estimated: plugin, as published, is too large by chance
    correlations, about D^2 / N in sum; unbiased takes that away."""
    multiview: Literal["pairs", "mean-view"] = "pairs"
    """pairs: the two-view formula averaged over pairs of views; mean-view: Ghosh et al.'s own forms, with one mean and
    one standard deviation over all views."""
    normalise: bool = False
    """Rows of unit length before anything else, as in Ghosh et al.'s program."""
    scale: float = 1.0
    """Multiplies the whole loss; solo-learn's CIFAR settings use 0.1."""

    def __post_init__(self) -> None:
        weight = self.off_diagonal
        is_weight = weight == "auto" if isinstance(weight, str) else weight >= 0
        require(is_weight, "objective.off_diagonal", weight, "0 or more, or auto")
        require(self.eps > 0, "objective.eps", self.eps, "above 0")
        require(self.estimator in ("plugin", "unbiased"), "objective.estimator", self.estimator, "plugin, unbiased")
        require(self.multiview in ("pairs", "mean-view"), "objective.multiview", self.multiview, "pairs, mean-view")
        require(
            self.multiview == "pairs" or self.estimator == "plugin",
            "objective.estimator",
            self.estimator,
            "plugin with --objective.multiview mean-view",
        )
        require(self.scale > 0, "objective.scale", self.scale, "above 0")


def cross_correlation_terms(
    z: Float[Tensor, "V N D"], eps: float = 1e-5, *, unbiased: bool = False
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(sum_i (c_ii - 1)^2, sum over i != j of c_ij^2), each averaged over the unordered pairs of views.

    c = s_a^T s_b / N of standardised views; swapping a and b transposes c and changes neither sum. The off-diagonal
    energy is the energy less that of the diagonal, through Gram matrices where they are smaller. `unbiased` takes the
    U-statistics of the squared cross-covariances of s, brought to the scale of c (which divides by N, not by N - 1).
    """
    s = standardised(z, eps)
    diagonal = pair_diagonals(s)
    if unbiased:
        off = unbiased_pair_off_diagonals(s) * (1 - 1 / z.shape[1]) ** 2
    else:
        off = pair_sq_norms(s) - diagonal.square().sum(dim=1)
    return (diagonal - 1).square().sum(dim=1).mean(), off.mean()


class BarlowTwins(Objective):
    """Cross-correlation of the views' standardised embeddings, to the identity.

    Definition
        s = (z - mean) / sqrt(biased variance + eps) per dimension and view, c = s^T s' / N.
        on_diagonal = sum_i (c_ii - 1)^2, off_diagonal = lambda sum over i != j of c_ij^2; the loss is their sum.

    Normalisation
        Sums over dimensions, not means: the loss grows with D. Variance and c both divide by N, the global batch;
        each view has statistics of its own. As the authors' code. The paper writes lambda = 0.005 and no eps
        (`off_diagonal=0.005` with a tiny `eps`). With more than two views both sums are averaged over the unordered
        pairs of views, each pair being the two-view formula, so the size and lambda carry over.

        `multiview="mean-view"` is the program of Ghosh et al. (methods/mean_view.py): statistics over all views
        together, and for more than two views each against the mean of all.

        `estimator="unbiased"` is ours: the U-statistic of each squared cross-covariance over the batch's own variances.
        Its mean is 0 where the two views' features are independent, at any N, where the plug-in's is 1/(N - 1) a pair
        of dimensions; the division by estimated variances leaves an error of relative order 1/N.

    Shapes
        z (V N D) -> two scalars. on_diagonal lies in [0, 4 D]; off_diagonal may fall below 0 by rounding.

    Raises
        UserError for a negative off_diagonal, eps or scale not above 0, or fewer than 2 samples (no variance), 4 with
        the unbiased estimator.

    Reference
        Zbontar, Jing, Misra, LeCun, Deny 2021, arXiv 2103.03230, equations 1 and 2; code: facebookresearch/barlowtwins,
        main.py, commit 8e8d284. Its gradient on several processes is 1/world of the true one; ours is the true one.
    """

    def __init__(self, config: BarlowTwinsConfig = BarlowTwinsConfig()) -> None:
        super().__init__()
        if isinstance(config.off_diagonal, str):
            raise ValueError("off_diagonal 'auto' depends on the width: BarlowTwins.build(config, width=D, ...).")
        self.config = config
        self.weight = config.off_diagonal
        self.takes_shards = config.multiview == "pairs" and config.estimator == "plugin"

    @classmethod
    def build(cls, config: BarlowTwinsConfig, *, representation: int, width: int, views: int) -> Objective:
        """With the weight that `auto` means at this width."""
        if config.off_diagonal == "auto":
            config = replace(config, off_diagonal=barlow_twins_weight(width))
        return cls(config)

    @classmethod
    def least_samples_of(cls, config: Any) -> int:
        """Two; four for the U-statistic."""
        return 4 if config.estimator == "unbiased" else 2

    def forward(self, views: Views) -> dict[str, Tensor]:
        z = promote(views.read("z"))
        require_samples(z, self.least_samples_of(self.config), views.processes)
        z = unit(z) if self.config.normalise else z
        with without_autocast(z):
            if self.config.multiview == "mean-view":
                on, off = mean_view.correlation_terms(z, self.config.eps)
            elif self.config.estimator == "unbiased":
                on, off = cross_correlation_terms(z, self.config.eps, unbiased=True)
            elif views.processes is not None:
                on, off = sharded_cross_correlation_terms(z, self.config.eps, views.processes)
            else:
                on, off = fused_cross_correlation_terms(z, self.config.eps)
        return {
            "on_diagonal": self.config.scale * on,
            "off_diagonal": self.config.scale * self.weight * off,
        }
