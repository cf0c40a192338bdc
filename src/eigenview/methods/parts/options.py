"""Options that several methods share. Free of torch, like every config."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from eigenview.errors import require
from eigenview.records import MethodConfig, Needs

SLOW_TO_DECOMPOSE = 1024
"""Width of the embedding from which a decomposition takes over a second on one core."""
FIELD = {"representation": "h", "projector": "z", "predictor": "p"}
"""Field of Views by the place where a regulariser acts."""


@dataclass(frozen=True, kw_only=True)
class RegulariserConfig(MethodConfig):
    """VICReg's variance and covariance terms beside a method's own loss. Both weights 0: no term and no cost."""

    variance: float = 0.0
    """Weight of the hinge on each dimension's standard deviation, summed over two views (mu)."""
    covariance: float = 0.0
    """Weight of the squared covariances between dimensions, over D, summed over two views (nu)."""
    site: Literal["representation", "projector", "predictor"] = "projector"
    """Whose outputs are regularised. They are not normalised: unit vectors could not reach gamma = 1."""
    gamma: float = 1.0
    """Standard deviation above which a dimension is left alone."""

    def __post_init__(self) -> None:
        require(self.variance >= 0, "method.variance", self.variance, "0 or more")
        require(self.covariance >= 0, "method.covariance", self.covariance, "0 or more")
        require(self.site in FIELD, "method.site", self.site, ", ".join(FIELD))
        require(self.gamma > 0, "method.gamma", self.gamma, "above 0")

    @property
    def is_on(self) -> bool:
        """Whether there is any term."""
        return self.variance > 0 or self.covariance > 0

    @property
    def regularised(self) -> frozenset[str]:
        """The field of Views that is regularised, if there is a term."""
        return frozenset({FIELD[self.site]} if self.is_on else ())


@dataclass(frozen=True, kw_only=True)
class ClosedFormConfig(MethodConfig):
    """How the second moment F of the embeddings is estimated, and the predictor W_p made from it."""

    # what to do if a decomposition at every step takes too long, as a clause
    cheaper: ClassVar[str] = "--method.refresh-every 10 does so after every tenth step"

    alpha: float = 1.0
    """Power of F: 1 copies it (DirectCopy), 0.5 takes its square root (DirectPred)."""
    rho: float = 0.3
    """Weight of the past in the running second moment: F <- rho F + (1 - rho) F of the batch."""
    eps: float = 0.3
    """Added to every eigenvalue of the normalised power, so that no direction is lost."""
    floor: float = 1e-4
    """Smallest eigenvalue of W_p."""
    refresh_every: int = 1
    """Steps between two computations of W_p; in between it is trained by gradient."""

    def __post_init__(self) -> None:
        require(self.alpha > 0 and math.isfinite(self.alpha), "method.alpha", self.alpha, "above 0")
        require(0 <= self.rho < 1, "method.rho", self.rho, "0 up to below 1")
        require(self.eps >= 0 and math.isfinite(self.eps), "method.eps", self.eps, "0 or more")
        require(self.floor >= 0 and math.isfinite(self.floor), "method.floor", self.floor, "0 or more")
        require(self.refresh_every >= 1, "method.refresh_every", self.refresh_every, "1 or more")

    def decomposition_note(self, width: int) -> str | None:
        """A sentence about the time of decomposing F after every step, if it is long."""
        if self.alpha == 1 or self.refresh_every > 1 or width < SLOW_TO_DECOMPOSE:
            return None
        return (
            f"the predictor decomposes a {width:,} x {width:,} matrix after every step, which takes seconds on a CPU "
            f"and grows as the cube of the width; {self.cheaper}, or a smaller --network.projector-width"
        )


@dataclass(frozen=True, kw_only=True)
class DirectConfig(ClosedFormConfig):
    """What DirectSet, DirectPred and DirectCopy have in common."""

    normalise: bool = True
    """Whether directions are compared, 2 - 2 cosine; otherwise the squared Euclidean distance of the raw vectors."""
    rho: float = 0.5
    """Weight of the past in the running second moment: F <- rho F + (1 - rho) F of the batch."""

    @property
    def needs(self) -> Needs:
        return Needs(
            reads=frozenset({"z", "z_target"}),
            parts="exact",
            one_network="its target network is an average of one network's weights",
            weight_note=self.decomposition_note,
        )
