"""SimCLR: two views of an image attract, all other images of the batch repel (Chen et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eigenview.diagnostics.remedies import MORE_NEGATIVES, SMALLER_RATE
from eigenview.errors import require
from eigenview.functional.contrast import contrast
from eigenview.methods.parts import mean_view
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Objective
from eigenview.records import Card, Clock, MethodConfig, Remedy
from eigenview.views import Loss, Views


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig(MethodConfig):
    """Options of SimCLR."""

    card: ClassVar[Card] = Card(
        name="simclr",
        title="SimCLR",
        paper="Chen et al. 2020, arXiv 2002.05709",
        summary="contrastive, NT-Xent (Chen et al. 2020)",
        augmentation="simclr",
        recipe={"method": {"temperature": 0.2}, "network": {"projector_width": 128}},
        remedies={
            "complete collapse": (
                Remedy("--method.temperature 0.2 to 0.5", unless=lambda run: 0.2 <= run.method.temperature <= 0.5),
                MORE_NEGATIVES,
                SMALLER_RATE,
            ),
            "dimensional collapse": (
                Remedy(
                    "--method.temperature 0.1 to 0.2: nearer neighbours are pushed apart",
                    unless=lambda run: run.method.temperature <= 0.2,
                ),
                "a larger --batch-size",
            ),
        },
    )

    temperature: float = 0.5
    """Divides the cosines (tau); small values look at the nearest negatives. Usual: 0.1 on ImageNet, 0.5 on CIFAR."""
    multiview: Literal["pairs", "mean-view"] = "pairs"
    """With more than two views: pairs has all views in one denominator; mean-view is Ghosh et al.'s form, each view
    beside the mean of the others."""

    def __post_init__(self) -> None:
        require(self.multiview in ("pairs", "mean-view"), "method.multiview", self.multiview, "pairs, mean-view")
        require(self.temperature > 0, "method.temperature", self.temperature, "above 0")

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: SimCLR(self))


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
        (solo-learn's, `functional.contrast.contrast(positives="inside")`) has little gradient once one positive is
        close. `multiview="mean-view"` is the form of Ghosh et al. (methods/parts/mean_view.py). For V = 2 all are the
        same number, up to that program's 1e-9.

    Shapes
        z (V n D) -> two scalars, both in nats. alignment lies in [-1/temperature, 1/temperature].

    Cost
        Time V^2 N^2 D; memory V N D.

    Raises
        UserError for a temperature of 0 or less, or for fewer than 2 samples (there is nothing to tell apart).

    Reference
        Chen, Kornblith, Norouzi, Hinton 2020, arXiv 2002.05709, equation 1. The place of the mean over positives:
        Khosla et al. 2020, arXiv 2004.11362, equations 2 and 3.
    """

    def __init__(self, config: SimCLRConfig = SimCLRConfig()) -> None:
        super().__init__()
        self.config = config
        self.contrast = mean_view.contrast if config.multiview == "mean-view" else contrast

    def forward(self, views: Views, clock: Clock) -> Loss:
        positive, log_denominator = self.contrast(views.read("z"), self.config.temperature, clock.processes)
        return Loss({"alignment": -positive, "logsumexp": log_denominator})
