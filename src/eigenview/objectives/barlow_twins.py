"""Barlow Twins: the cross-correlation of two views is driven to the identity (Zbontar et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from eigenview.errors import check
from eigenview.functional.moments import pair_diagonals, pair_energies, standardised
from eigenview.objectives.base import Objective, promote, require_samples, without_autocast
from eigenview.views import Views


@dataclass(frozen=True, kw_only=True)
class BarlowTwinsConfig:
    """Options of Barlow Twins."""

    off_diagonal: float = 0.0051
    """Weight of the redundancy between dimensions (lambda): 0.0051 in the authors' code, 0.005 in the paper."""
    eps: float = 1e-5
    """Added to the biased variance inside the square root, as batch norm does; the paper's formula has none."""
    scale: float = 1.0
    """Multiplies the whole loss; solo-learn's CIFAR settings use 0.1."""

    def __post_init__(self) -> None:
        check(self.off_diagonal >= 0, "objective.off_diagonal", self.off_diagonal, "0 or more")
        check(self.eps > 0, "objective.eps", self.eps, "above 0")
        check(self.scale > 0, "objective.scale", self.scale, "above 0")


def cross_correlation_terms(
    z: Float[Tensor, "V N D"], eps: float = 1e-5
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(sum_i (c_ii - 1)^2, sum over i != j of c_ij^2), each averaged over the unordered pairs of views.

    c = s_a^T s_b / N of standardised views; swapping a and b transposes c and changes neither sum. The off-diagonal
    energy is the energy less that of the diagonal, through Gram matrices where they are smaller.
    """
    s = standardised(z, eps)
    diagonal = pair_diagonals(s)
    off = pair_energies(s) - diagonal.square().sum(dim=1)
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

    Shapes
        z (V N D) -> two scalars. on_diagonal lies in [0, 4 D]; off_diagonal may fall below 0 by rounding.

    Raises
        UserError for a negative off_diagonal, eps or scale not above 0, or fewer than 2 samples (no variance).

    Reference
        Zbontar, Jing, Misra, LeCun, Deny 2021, arXiv 2103.03230, equations 1 and 2; code: facebookresearch/barlowtwins,
        main.py, commit 8e8d284. Its gradient on several processes is 1/world of the true one; ours is the true one.
    """

    def __init__(self, config: BarlowTwinsConfig = BarlowTwinsConfig()) -> None:
        super().__init__()
        self.config = config

    def forward(self, views: Views) -> dict[str, Tensor]:
        z = promote(views.read("z"))
        require_samples(z, 2)
        with without_autocast(z):
            on, off = cross_correlation_terms(z, self.config.eps)
        return {
            "on_diagonal": self.config.scale * on,
            "off_diagonal": self.config.scale * self.config.off_diagonal * off,
        }
