"""DirectPred: DirectSet with alpha = 1/2, W_p from the square root of F (Tian et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eigenview.diagnostics.remedies import CLOSED_FORM
from eigenview.methods.directset import DirectSet
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.options import DirectConfig
from eigenview.records import Card, PredictorTheory


@dataclass(frozen=True, kw_only=True)
class DirectPredConfig(DirectConfig):
    """Options of DirectPred: W_p from the square root of F, with its authors' rho and eps."""

    card: ClassVar[Card] = Card(
        name="directpred",
        title="DirectPred",
        paper="Tian et al. 2021, arXiv 2102.06810",
        summary="predictor from the root of F, EMA target (Tian et al. 2021)",
        augmentation="simsiam",
        recipe={"network": {"projector_width": 128}},
        remedies=CLOSED_FORM,
        theory=PredictorTheory(computed=True),
    )

    alpha: float = 0.5
    """Power of F."""
    rho: float = 0.3
    """Weight of the past in the running second moment: F <- rho F + (1 - rho) F of the batch."""
    eps: float = 0.01
    """Added to every eigenvalue of the normalised power, so that no direction is lost."""

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: DirectPred(self, width=widths.z))


class DirectPred(DirectSet):
    __doc__ = DirectSet.__doc__

    def __init__(self, config: DirectPredConfig = DirectPredConfig(), *, width: int) -> None:
        super().__init__(config, width=width)
