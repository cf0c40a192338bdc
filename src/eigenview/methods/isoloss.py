"""IsoLoss: the closed-form prediction's error, sent to the embedding past the predictor (Halvagal et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.methods.base import promote, without_autocast
from eigenview.methods.byol import between_views
from eigenview.methods.closed_form import ClosedFormConfig, ClosedFormObjective
from eigenview.views import Views, ordered_pairs


@dataclass(frozen=True, kw_only=True)
class IsoLossConfig(ClosedFormConfig):
    """Options of IsoLoss, with its authors' defaults for runs with a target network."""

    metric: Literal["cosine", "euclidean"] = "cosine"
    """Compare directions, or squared Euclidean distances."""
    form: Literal["straight-through", "value"] = "straight-through"
    """Two programs of the same gradient. straight-through has the value of the loss it replaces; value is the published
    one, whose cosine form is no cosine, can be of any size and needs the root of W_p at every step."""
    alpha: float = 0.5
    """Power of F: 1 copies it (DirectCopy), 0.5 takes its square root (DirectPred)."""
    rho: float = 0.998
    """Weight of the past in the running second moment. Without a target network: 0.5."""
    eps: float = 0.0
    """Added to the eigenvalues of the normalised F."""
    eps_inside: bool = True
    """Add eps before the power instead of after it (the same for alpha = 1)."""
    floor: float = 0.0
    """Smallest eigenvalue of what is raised to the power."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.metric in ("cosine", "euclidean"), "objective.metric", self.metric, "cosine, euclidean")
        forms = ("straight-through", "value")
        require(self.form in forms, "objective.form", self.form, ", ".join(forms))


def straight_through(z: Float[Tensor, "V N D"], p: Float[Tensor, "V N D"]) -> Float[Tensor, "V N D"]:
    """p in value, z in gradient: z + sg(p - z)."""
    return z + (p - z).detach()


def euclidean_value(z: Float[Tensor, "N D"], p: Float[Tensor, "N D"], t: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """(1/N) sum_i |z_i - sg(t_i + z_i - p_i)|^2: the value of |p - t|^2, with the gradient 2 (p - t)/N for z."""
    return (z - (t + z - p).detach()).square().sum(dim=-1).mean()


def cosine_value(
    z: Float[Tensor, "N D"], p: Float[Tensor, "N D"], t: Float[Tensor, "N D"], root: Float[Tensor, "D D"]
) -> Float[Tensor, ""]:
    """-(2/N) sum_i [z_i . sg(t_i / (|p_i| |t_i|)) - (1/2) sg(p_i . t_i / (|p_i|^3 |t_i|)) |W_p^(1/2) z_i|^2].

    Its gradient for z is that of 2 - 2 cos(p, t) for p. Its value is not a cosine.
    """
    p, t = p.detach(), t.detach()
    tiny = torch.finfo(z.dtype).tiny ** 0.25  # its cube is still a number
    p_norm, t_norm = (x.square().sum(dim=-1).sqrt().clamp_min(tiny) for x in (p, t))
    pull = (z * t).sum(dim=-1) / (p_norm * t_norm)
    push = (p * t).sum(dim=-1) / (p_norm**3 * t_norm) * (z @ root.mT).square().sum(dim=-1) / 2
    return -2 * (pull - push).mean()


class IsoLoss(ClosedFormObjective):
    """BYOL's loss with a closed-form predictor whose matrix is left out of the gradient.

    Definition
        p = W_p z, t the other view's target. The loss of p and t is r(p, t) = (1/N) sum_i (2 - 2 cos(p_i, t_i)), or
        (1/N) sum_i |p_i - t_i|^2; the gradient that reaches z is dr/dp instead of W_p^T dr/dp. As a program: r of
        z + sg(p - z). similarity = r over (p, t') plus r over (p', t).

    Normalisation
        As BYOL: mean over samples, SUM over the two directions, twice the mean over ordered pairs for more views. The
        published program has the same gradients, and the same value for the Euclidean metric; its cosine value differs
        and is not to be compared between runs (`form="value"` gives it). W_p: the authors move F view by view inside
        the step, from zero and in evaluation too; that order is `order="before", initial="zero"`, ours is DirectPred's.

    Shapes
        z and z_target (V N D) -> one scalar. z_target and W_p receive no gradient through the loss.

    Raises
        UserError for alpha not above 0, rho outside [0, 1), a negative eps, an unknown metric or form, or
        `refresh_every` above 1 (no gradient reaches W_p); ValueError where z or z_target is missing or of another
        width; NonFiniteError where F overflows.

    Reference
        Halvagal, Laborieux, Zenke 2023, arXiv 2212.04858. Numbers: fmi-basel/implicit-var-reg, commit 2e8d364.
    """

    def __init__(self, config: IsoLossConfig = IsoLossConfig(), *, width: int, views: int = 2) -> None:
        super().__init__(config, width, views, start="identity")  # symmetric, as W_p always is
        require(
            config.refresh_every == 1,
            "objective.refresh_every",
            config.refresh_every,
            "1: no gradient reaches W_p under IsoLoss, so it would stand still in between",
        )
        self.config = config

    def forward(self, views: Views) -> dict[str, Tensor]:
        z, target = promote(views.read("z")), promote(views.read("z_target")).detach()
        is_cosine = self.config.metric == "cosine"
        with without_autocast(z):
            p = self.predictor.predict(z)
            if self.config.form == "straight-through":
                return {"similarity": between_views(straight_through(z, p), target, is_cosine)}
            return {"similarity": self._value_form(z, p, target)}

    def _value_form(self, z: Tensor, p: Tensor, target: Tensor) -> Tensor:
        pairs = ordered_pairs(len(z), len(target))
        if self.config.metric == "euclidean":
            each = [euclidean_value(z[a], p[a], target[b]) for a, b in pairs]
        else:
            root = self.predictor.root().to(z.dtype).expand(len(z), -1, -1)
            each = [cosine_value(z[a], p[a], target[b], root[a]) for a, b in pairs]
        return 2 * torch.stack(each).mean()
