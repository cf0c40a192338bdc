"""SimCLR: two views of an image attract, all other images of the batch repel (Chen et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.nt_xent import fused_nt_xent_terms
from eigenview.functional.sharded.nt_xent import sharded_nt_xent_terms
from eigenview.methods import mean_view
from eigenview.methods.base import Objective, promote, require_samples, without_autocast
from eigenview.views import Views


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig:
    """Options of SimCLR."""

    temperature: float = 0.5
    """Divides the cosines (tau); small values look at the nearest negatives. Usual: 0.1 on ImageNet, 0.5 on CIFAR."""
    positives: Literal["outside", "inside"] = "outside"
    """With more than two views: outside averages the log-probability of each positive; inside takes the log of their
    sum, as solo-learn does."""

    multiview: Literal["pairs", "mean-view"] = "pairs"
    """With more than two views: pairs has all views in one denominator; mean-view is Ghosh et al.'s form, each view
    beside the mean of the others."""

    def __post_init__(self) -> None:
        require(self.multiview in ("pairs", "mean-view"), "objective.multiview", self.multiview, "pairs, mean-view")
        require(self.temperature > 0, "objective.temperature", self.temperature, "above 0")
        require(self.positives in ("outside", "inside"), "objective.positives", self.positives, "outside, inside")
        require(
            self.multiview == "pairs" or self.positives == "outside",
            "objective.positives",
            self.positives,
            "outside with objective.multiview mean-view",
            "There each row has one positive.",
        )


class SimCLR(Objective):
    """NT-Xent: cross-entropy of finding an image's other view among all other embeddings of the batch.

    Definition
        x the V N unit rows of z, S = x x^T / temperature.
        alignment = -mean over rows i and their V - 1 positives j of S_ij,
        logsumexp = mean over rows i of log sum over k != i of exp S_ik; the loss is their sum.

    Normalisation
        Mean over the V N rows. The denominator has V N - 1 terms: the positives are in it, only the row itself is not.
        Paper and code agree for two views. With more, each ordered pair of views counts alike and all V N - 1 other
        rows form the denominator, because one product then serves all pairs and the extra views are free negatives;
        equal embeddings give log(V N - 1). Averaging outside the log keeps every positive attractive: a sum inside it
        (`positives="inside"`, solo-learn's) is content once one of them is near. `multiview="mean-view"` is the form of
        Ghosh et al. (methods/mean_view.py). For V = 2 all are the same number, but for that program's 1e-9.

    Shapes
        z (V N D) -> two scalars, both in nats. alignment lies in [-1/temperature, 1/temperature]; with positives
        inside up to log(V - 1) lower.

    Raises
        UserError for a temperature of 0 or less, or for fewer than 2 samples (there is nothing to tell apart).

    Reference
        Chen, Kornblith, Norouzi, Hinton 2020, arXiv 2002.05709, equation 1. The place of the mean over positives:
        Khosla et al. 2020, arXiv 2004.11362, equations 2 and 3.
    """

    def __init__(self, config: SimCLRConfig = SimCLRConfig()) -> None:
        super().__init__()
        self.config = config
        self.takes_shards = config.multiview == "pairs"

    def forward(self, views: Views) -> dict[str, Tensor]:
        z = promote(views.read("z"))
        require_samples(z, 2, views.processes)
        with without_autocast(z):
            if self.config.multiview == "mean-view":
                alignment, logsumexp = mean_view.nt_xent_terms(z, self.config.temperature)
            elif views.processes is not None:
                alignment, logsumexp = sharded_nt_xent_terms(
                    z, self.config.temperature, self.config.positives, views.processes
                )
            else:
                alignment, logsumexp = fused_nt_xent_terms(z, self.config.temperature, self.config.positives)
        return {"alignment": alignment, "logsumexp": logsumexp}
