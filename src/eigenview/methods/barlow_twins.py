"""Barlow Twins: the cross-correlation of two views is driven to the identity (Zbontar et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eigenview.diagnostics.remedies import SMALLER_RATE, WARM_UP
from eigenview.errors import require
from eigenview.functional.cross_moments import cross_moments, unbiased_cross_moments
from eigenview.functional.similarity import unit
from eigenview.methods.parts import mean_view
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Objective
from eigenview.methods.parts.orthogonality import barlow_twins_weight, note
from eigenview.records import Card, Clock, MethodConfig, Needs, Remedy
from eigenview.views import Loss, Views


@dataclass(frozen=True, kw_only=True)
class BarlowTwinsConfig(MethodConfig):
    """Options of Barlow Twins."""

    card: ClassVar[Card] = Card(
        name="barlow-twins",
        title="Barlow Twins",
        paper="Zbontar et al. 2021, arXiv 2103.03230",
        summary="cross-correlation to identity (Zbontar et al. 2021)",
        recipe={"method": {"off_diagonal": 0.01}},  # for a width of 512: Ghosh et al. 2023, about 5/width
        remedies={
            "complete collapse": (SMALLER_RATE, WARM_UP),
            "dimensional collapse": (
                Remedy(
                    "--method.off-diagonal 0.0051 or more",
                    unless=lambda run: run.method.off_diagonal == "auto" or run.method.off_diagonal >= 0.0051,
                ),
                "a larger --batch-size",
            ),
        },
        plug_in_remedies=(
            Remedy("--method.estimator unbiased", unless=lambda run: run.method.estimator == "unbiased"),
        ),
    )

    off_diagonal: float | Literal["auto"] = 0.0051
    """Weight of the redundancy between dimensions (lambda): 0.0051 in the authors' code, 0.005 in the paper. auto: by
    the embedding's width, about 5/width for narrow and 2/width for wide projectors."""
    eps: float = 1e-5
    """Added to the biased variance inside the square root, as batch norm does; the paper's formula has none."""
    estimator: Literal["plugin", "unbiased"] = "plugin"
    """How the squares of the off-diagonal correlations are estimated: plugin, as published, is too large by chance
    correlations, about D^2 / N in sum; unbiased removes that."""
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
        require(is_weight, "method.off_diagonal", weight, "0 or more, or auto")
        require(self.eps > 0, "method.eps", self.eps, "above 0")
        require(self.estimator in ("plugin", "unbiased"), "method.estimator", self.estimator, "plugin, unbiased")
        require(self.multiview in ("pairs", "mean-view"), "method.multiview", self.multiview, "pairs, mean-view")
        require(
            self.multiview == "pairs" or self.estimator == "plugin",
            "method.estimator",
            self.estimator,
            "plugin with --method.multiview mean-view",
        )
        require(self.scale > 0, "method.scale", self.scale, "above 0")

    @property
    def needs(self) -> Needs:
        return Needs(least_samples=4 if self.estimator == "unbiased" else 2, weight_note=self._weight_note)

    def off_diagonal_weight(self, width: int | None) -> float:
        """lambda for an embedding of this width."""
        if not isinstance(self.off_diagonal, str):
            return self.off_diagonal
        if width is None:
            raise ValueError("off_diagonal 'auto' depends on the embedding's width: BarlowTwins(config, width=D).")
        return barlow_twins_weight(width)

    def _weight_note(self, width: int) -> str | None:
        return note("--method.off-diagonal", self.off_diagonal, barlow_twins_weight(width), width)

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: BarlowTwins(self, width=widths.z))


class BarlowTwins(Objective):
    """Cross-correlation of the views' standardised embeddings, to the identity.

    Definition
        s = (z - mean) / sqrt(biased variance + eps) per dimension and view, c = s^T s' / N.
        on_diagonal = sum_i (c_ii - 1)^2, off_diagonal = lambda sum over i != j of c_ij^2; the loss is their sum.

    Normalisation
        Sums over dimensions, not means: the loss grows with D. Variance and c both divide by N, the global batch;
        statistics are separate for each view. As the authors' code. The paper writes lambda = 0.005 and no eps
        (`off_diagonal=0.005` with a tiny `eps`). With more than two views both sums are averaged over the unordered
        pairs of views, each pair being the two-view formula, so the size and lambda carry over.

        `multiview="mean-view"` is the program of Ghosh et al. (methods/parts/mean_view.py): statistics over all views
        together, and for more than two views each against the mean of all.

        `estimator="unbiased"` is ours: the U-statistic of each squared cross-covariance over the batch's own variances.
        Its mean is 0 where the two views' features are independent, at any N, where the plug-in's is 1/(N - 1) a pair
        of dimensions; the division by estimated variances leaves an error of relative order 1/N.

    Shapes
        z (V n D) -> two scalars. on_diagonal lies in [0, 4 D]; off_diagonal may fall below 0 by rounding.

    Cost
        Time V N D min(N, (V - 1) D); memory V N D.

    Raises
        UserError for a negative off_diagonal, eps or scale not above 0, or fewer than 2 samples (no variance), 4 with
        the unbiased estimator.

    Reference
        Zbontar, Jing, Misra, LeCun, Deny 2021, arXiv 2103.03230, equations 1 and 2; code: facebookresearch/barlowtwins,
        main.py, commit 8e8d284. Its gradient on several processes is 1/world of the true one; ours is the true one.
    """

    def __init__(self, config: BarlowTwinsConfig = BarlowTwinsConfig(), *, width: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.off_diagonal = config.off_diagonal_weight(width)
        self.moments = unbiased_cross_moments if config.estimator == "unbiased" else cross_moments
        if config.multiview == "mean-view":
            self.moments = mean_view.cross_moments

    def forward(self, views: Views, clock: Clock) -> Loss:
        z, c = views.read("z"), self.config
        m = self.moments(unit(z) if c.normalise else z, c.eps, clock.processes)
        on_diagonal = (m.diagonals - 1).square().sum(dim=1).mean()
        return Loss(
            {
                "on_diagonal": c.scale * on_diagonal,
                "off_diagonal": c.scale * self.off_diagonal * m.off_diagonal,
            }
        )
