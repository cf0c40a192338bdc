"""DirectSet(alpha): BYOL with a linear predictor that is set from the second moment of the embeddings.

Tian et al. 2021, Wang et al. 2021. DirectPred is its case alpha = 1/2, DirectCopy alpha = 1, which needs no
eigen-decomposition.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from eigenview.methods.base import promote, without_autocast
from eigenview.methods.byol import between_views
from eigenview.methods.closed_form import ClosedFormConfig, ClosedFormObjective
from eigenview.views import Views


@dataclass(frozen=True, kw_only=True)
class DirectSetConfig(ClosedFormConfig):
    """Options of DirectSet; by default DirectCopy with its paper's eps and rho."""

    normalise: bool = True
    """Compare directions, 2 - 2 cosine; off: squared Euclidean distance of the raw vectors."""
    rho: float = 0.5
    """Weight of the past in the running second moment: F <- rho F + (1 - rho) F of the batch."""


@dataclass(frozen=True, kw_only=True)
class DirectCopyConfig(DirectSetConfig):
    """Options of DirectCopy: W_p = F / ||F|| + eps I."""


@dataclass(frozen=True, kw_only=True)
class DirectPredConfig(DirectSetConfig):
    """Options of DirectPred: W_p from the square root of F, with its authors' rho and eps."""

    alpha: float = 0.5
    """Power of F."""
    rho: float = 0.3
    """Weight of the past in the running second moment: F <- rho F + (1 - rho) F of the batch."""
    eps: float = 0.01
    """Added to every eigenvalue of the normalised power, so that no direction is given up."""


class DirectSet(ClosedFormObjective):
    """Distance from each view's closed-form prediction W_p z to the target network's embedding of every other view.

    Definition
        similarity = r(W_p z, t') + r(W_p z', t), r(p, t) = (1/N) sum_i (2 - 2 cos(p_i, t_i)), t without gradient.
        F <- rho F + (1 - rho) (1/(2N)) sum over both views of z z^T, the first F being the first batch's;
        F = U diag(s) U^T, W_p = U diag(p) U^T, p_j = max((s_j / max s)^alpha + eps, floor).

    Normalisation
        As BYOL: mean over samples, SUM over the two directions; twice the mean over ordered pairs for more views. F is
        the raw second moment of projector outputs, neither centred nor of unit vectors, over all views. The paper
        prints p_j = sqrt(s_j) + eps max s: up to scale the same with another eps; ours is the authors' code (spectral
        norm; luckmatters), whose loss also drops the constant 4. Its DirectCopy without normalisation is
        `normalise_by="none"`. A batch's loss uses the W_p of the batches before it: gradient step (on W_p too where
        `refresh_every` is above 1), then F and W_p, then the target. `rho` weights the past.

    Shapes
        z and z_target (V N D) -> one scalar. z_target never receives a gradient, nor does F.

    Raises
        UserError for alpha not above 0, rho outside [0, 1), a negative eps; ValueError where z or z_target is missing
        or of another width; NonFiniteError where F overflows.

    Reference
        Tian, Chen, Ganguli 2021, arXiv 2102.06810, section 4 (DirectPred); Wang, Chen, Du, Tian 2021, arXiv 2110.04947
        (DirectSet, DirectCopy). Numbers: facebookresearch/luckmatters, commit 625b5f7; no line of it is used.
    """

    def __init__(self, config: DirectSetConfig = DirectSetConfig(), *, width: int, views: int = 2) -> None:
        super().__init__(config, width, views)
        self.config = config

    def forward(self, views: Views) -> dict[str, Tensor]:
        z, target = promote(views.read("z")), promote(views.read("z_target")).detach()
        with without_autocast(z):
            return {"similarity": between_views(self.predictor.predict(z), target, self.config.normalise)}


class DirectCopy(DirectSet):
    __doc__ = DirectSet.__doc__

    def __init__(self, config: DirectCopyConfig = DirectCopyConfig(), *, width: int, views: int = 2) -> None:
        super().__init__(config, width=width, views=views)


class DirectPred(DirectSet):
    __doc__ = DirectSet.__doc__

    def __init__(self, config: DirectPredConfig = DirectPredConfig(), *, width: int, views: int = 2) -> None:
        super().__init__(config, width=width, views=views)
