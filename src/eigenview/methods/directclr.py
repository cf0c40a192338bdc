"""DirectCLR: contrast a fixed part of the representation itself, without a projector (Jing et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eigenview.diagnostics.remedies import MORE_NEGATIVES, SMALLER_RATE
from eigenview.errors import UserError, require
from eigenview.functional.similarity import info_nce, unit
from eigenview.functional.whole_batch import whole_batch
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Objective
from eigenview.records import Card, Clock, MethodConfig, Needs, Remedy
from eigenview.views import Loss, Views


@dataclass(frozen=True, kw_only=True)
class DirectCLRConfig(MethodConfig):
    """Options of DirectCLR."""

    card: ClassVar[Card] = Card(
        name="directclr",
        title="DirectCLR",
        paper="Jing et al. 2022, arXiv 2110.09348",
        summary="contrastive on part of the representation (Jing et al. 2022)",
        # half of the small net's 128 coordinates. The paper's argument why the rest learns too needs a residual last
        # block, which conv-medium has and conv-small has not
        recipe={"method": {"d0": 64}, "network": {"projector_layers": 0}},
        remedies={
            "complete collapse": (
                Remedy("--method.temperature 0.2", unless=lambda run: run.method.temperature >= 0.2),
                MORE_NEGATIVES,
                SMALLER_RATE,
            ),
            "dimensional collapse": ("a smaller --method.d0", "a larger --batch-size"),
        },
        small={"d0": 3},
    )

    d0: int = 64
    """Coordinates of the representation that the loss sees; the paper takes 360 of 2048."""
    temperature: float = 0.1
    """Divides the cosines (tau)."""
    site: Literal["representation", "embedding"] = "representation"
    """representation: the part of the encoder's output chosen by d0 and subset; embedding: all of the projector's
    output, for the comparison with no, a linear or a two-layer projector."""
    subset: Literal["first", "random", "fixed", "low-rank"] = "first"
    """first: coordinates 1 to d0; random: d0 coordinates drawn again at each step; fixed: d0 coordinates drawn once;
    low-rank: d0 orthonormal directions drawn once."""
    seed: int = 0
    """Draws the coordinates of random and fixed, and the directions of low-rank."""

    def __post_init__(self) -> None:
        require(self.d0 >= 1, "method.d0", self.d0, "between 1 and the width of the representation")
        require(self.temperature > 0, "method.temperature", self.temperature, "above 0")
        require(self.site in ("representation", "embedding"), "method.site", self.site, "representation, embedding")
        subsets = ("first", "random", "fixed", "low-rank")
        require(self.subset in subsets, "method.subset", self.subset, ", ".join(subsets))
        whole = self.site == "embedding"
        require(not whole or self.subset == "first", "method.subset", self.subset, "first with method.site embedding")
        require(0 <= self.seed < 2**63, "method.seed", self.seed, "0 up to below 2 to the 63rd")

    @property
    def needs(self) -> Needs:
        return Needs(reads=frozenset({"h"} if self.site == "representation" else {"z"}))

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: DirectCLR(self, representation=widths.h))


def random_coordinates(width: int, count: int, seed: int, draw: int = 0) -> Int[Tensor, " count"]:
    """`count` different coordinates of `width`, in rising order; a function of `seed` and the number of the draw."""
    drawn = np.random.default_rng((seed, draw)).permutation(width)[:count]
    return torch.tensor(sorted(drawn.tolist()))


def random_directions(width: int, count: int, seed: int) -> Float[Tensor, "width count"]:
    """Orthonormal columns, uniformly distributed over all such matrices."""
    return nn.init.orthogonal_(torch.empty(width, count), generator=torch.Generator().manual_seed(seed))


class DirectCLR(Objective):
    """Cross-entropy of finding an image's other view, by the first d0 coordinates of the representation alone.

    Definition
        u = N(h[:, :d0]), N(x) = x / |x| for each row after the slice;
        infonce = (1/2) I(u, u') + (1/2) I(u', u), I(a, b) = -(1/N) sum_i log(exp S_ii / sum_j exp S_ij),
        S = a b^T / temperature.
        subset "random" takes d0 coordinates drawn again at every step in place of the first ones; the
        paper's variant, which does much worse (43.0 on ImageNet, the slice 62.7). "low-rank" takes u = N(h Q), Q (H d0)
        fixed with orthonormal columns: the paper's fixed low-rank projector, d0 singular values of 1 and the others 0
        between two fixed orthogonal matrices, of which the outer one changes no cosine (62.3). "fixed", coordinates
        drawn once, is a control of ours.

    Normalisation
        Mean over samples and both directions. Negatives are the N - 1 other images in the OTHER view only, as in the
        authors' code: not the 2N - 2 of NT-Xent, and not the same-view rows that the paper's formula prints (without
        temperature, as a sum over i). Lightly's loss of this name is NT-Xent of the slice. Coordinates beyond d0 take
        no part and receive no gradient from here; they are useful where the encoder's last block is residual. With
        more than two views it is the mean over ordered pairs of different views: equal rows give log N throughout.

    Shapes
        h (V n H) -> one scalar, in nats. With `site="embedding"` all of z (V n D) is read, and d0 is not used.

    Cost
        Time V (V - 1) N^2 D, for N x N cosines of each pair of views; memory V N D.

    Raises
        UserError for d0 outside 1 to H; for a subset that is drawn, without
        `representation` (H); for a temperature of 0 or less, or for fewer than 2 samples.

    Reference
        Jing, Vincent, LeCun, Tian 2022, arXiv 2110.09348, section 6.2, table 2 and appendix F; convention of
        facebookresearch/directclr, commit a86f64c.
    """

    directions: Tensor | None

    def __init__(self, config: DirectCLRConfig = DirectCLRConfig(), *, representation: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.field = "z" if config.site == "embedding" else "h"
        directions = None
        if config.site == "representation" and representation is not None:
            self._require_width(representation)
            if config.subset == "low-rank":
                directions = random_directions(representation, config.d0, config.seed)
        elif config.subset != "first":
            raise UserError(
                f"method.subset {config.subset} is drawn for one width of the representation, and none was given. "
                "Use DirectCLR(config, representation=H), or subset first."
            )
        self.register_buffer("directions", directions)
        subsets = {
            "first": self.first,
            "random": self.drawn_at_each_step,
            "fixed": self.drawn_once,
            "low-rank": self.projected,
        }
        self.chosen = self.all_of if config.site == "embedding" else subsets[config.subset]

    def _require_width(self, width: int) -> None:
        require(self.config.d0 <= width, "method.d0", self.config.d0, f"1 to {width}, the representation's width")

    def part(self, x: Float[Tensor, "V n H"], step: int) -> Float[Tensor, "V n d0"]:
        """What the loss sees, before it is normalised: all of z, or the chosen part of h."""
        if self.config.site == "representation":
            self._require_width(x.shape[-1])
        return self.chosen(x, step)

    def all_of(self, x: Float[Tensor, "V n D"], step: int) -> Float[Tensor, "V n D"]:
        """The whole embedding."""
        return x

    def first(self, x: Float[Tensor, "V n H"], step: int) -> Float[Tensor, "V n d0"]:
        """Coordinates 1 to d0."""
        return x[..., : self.config.d0]

    def drawn_once(self, x: Float[Tensor, "V n H"], step: int) -> Float[Tensor, "V n d0"]:
        """d0 coordinates, the same at every step."""
        return self.drawn_at_each_step(x, -1)

    def drawn_at_each_step(self, x: Float[Tensor, "V n H"], step: int) -> Float[Tensor, "V n d0"]:
        """d0 coordinates, others at every step."""
        coordinates = random_coordinates(x.shape[-1], self.config.d0, self.config.seed, step + 1)
        return x[..., coordinates.to(x.device, non_blocking=True)]

    def projected(self, x: Float[Tensor, "V n H"], step: int) -> Float[Tensor, "V n d0"]:
        """Coordinates along d0 orthonormal directions."""
        assert self.directions is not None
        return x @ self.directions.to(x.dtype)

    def forward(self, views: Views, clock: Clock) -> Loss:
        u = unit(whole_batch(self.part(views.read(self.field), clock.step), clock.processes))
        require(u.shape[1] >= 2, "samples in the batch", u.shape[1], "2 or more", "Use a larger batch.")
        each = [info_nce(a, b, self.config.temperature) for a, b in permutations(u.unbind(), 2)]
        return Loss({"infonce": torch.stack(each).mean()})
