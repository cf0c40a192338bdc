"""DirectCopy: DirectSet with alpha = 1, W_p = F / ||F|| + eps I, without eigen-decomposition (Wang et al. 2021)."""

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
class DirectCopyConfig(DirectConfig):
    """Options of DirectCopy: W_p = F / ||F|| + eps I."""

    card: ClassVar[Card] = Card(
        name="directcopy",
        title="DirectCopy",
        paper="Wang et al. 2021, arXiv 2110.04947",
        summary="predictor copied from F, EMA target (Wang et al. 2021)",
        augmentation="simsiam",
        recipe={"network": {"projector_width": 128}},
        remedies=CLOSED_FORM,
        theory=PredictorTheory(computed=True),
    )

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: DirectCopy(self, width=widths.z))


class DirectCopy(DirectSet):
    __doc__ = DirectSet.__doc__

    def __init__(self, config: DirectCopyConfig = DirectCopyConfig(), *, width: int) -> None:
        super().__init__(config, width=width)
