"""DirectCLR: contrast a fixed part of the representation itself, without a projector (Jing et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eigenview.errors import UserError, require
from eigenview.functional.similarity import info_nce, unit
from eigenview.methods.base import Objective, promote, require_samples, without_autocast
from eigenview.views import Views


@dataclass(frozen=True, kw_only=True)
class DirectCLRConfig:
    """Options of DirectCLR."""

    d0: int = 64
    """Coordinates of the representation that the loss sees; the paper takes 360 of 2048."""
    temperature: float = 0.1
    """Divides the cosines (tau)."""
    site: Literal["representation", "embedding"] = "representation"
    """representation: the part of the encoder's output chosen by d0 and subset; embedding: all of the projector's
    output, for the comparison with no, a linear or a two-layer projector."""
    subset: Literal["first", "random", "fixed", "low-rank"] = "first"
    """first: coordinates 1 to d0; random: d0 coordinates drawn anew at each step; fixed: d0 coordinates drawn once;
    low-rank: d0 orthonormal directions drawn once."""
    seed: int = 0
    """Draws the coordinates of random and fixed, and the directions of low-rank."""

    def __post_init__(self) -> None:
        require(self.d0 >= 1, "objective.d0", self.d0, "between 1 and the width of the representation")
        require(self.temperature > 0, "objective.temperature", self.temperature, "above 0")
        require(self.site in ("representation", "embedding"), "objective.site", self.site, "representation, embedding")
        subsets = ("first", "random", "fixed", "low-rank")
        require(self.subset in subsets, "objective.subset", self.subset, ", ".join(subsets))
        whole = self.site == "embedding"
        require(
            not whole or self.subset == "first", "objective.subset", self.subset, "first with objective.site embedding"
        )
        require(self.seed >= 0, "objective.seed", self.seed, "0 or more")


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
        subset "random" takes d0 coordinates drawn anew at every step (in `update`) in place of the first ones; the
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
        h (V N H) -> one scalar, in nats. With `site="embedding"` z (V N D) is read whole, and d0 is not used.

    Raises
        UserError for d0 outside 1 to H, in `build` and in `forward`; for a subset that is drawn, without
        `representation` (H); for a temperature of 0 or less, or for fewer than 2 samples.

    Reference
        Jing, Vincent, LeCun, Tian 2022, arXiv 2110.09348, section 6.2, table 2 and appendix F; convention of
        facebookresearch/directclr, commit a86f64c.
    """

    reads: frozenset[str] = frozenset({"h"})
    coordinates: Tensor | None
    directions: Tensor | None

    def __init__(self, config: DirectCLRConfig = DirectCLRConfig(), *, representation: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.reads = self.reads_of(config)
        coordinates = directions = None
        if config.site == "representation" and representation is not None:
            self._check_width(representation)
            if config.subset in ("random", "fixed"):
                coordinates = random_coordinates(representation, config.d0, config.seed)
            elif config.subset == "low-rank":
                directions = random_directions(representation, config.d0, config.seed)
        elif config.subset != "first":
            raise UserError(
                f"objective.subset {config.subset} is drawn for one width of the representation, and none was given. "
                "Use DirectCLR(config, representation=H), or subset first."
            )
        self.register_buffer("coordinates", coordinates)
        self.register_buffer("directions", directions)
        self.draws = 1  # a Python number, as in closed_form.py

    @classmethod
    def reads_of(cls, config: DirectCLRConfig) -> frozenset[str]:
        return frozenset({"h"} if config.site == "representation" else {"z"})

    @classmethod
    def build(cls, config: DirectCLRConfig, *, representation: int, width: int, views: int) -> Objective:
        return cls(config, representation=representation)

    def get_extra_state(self) -> Tensor:
        """The number of draws, as a tensor among the weights of a checkpoint."""
        return torch.tensor(self.draws)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of draws."""
        self.draws = int(state.item())

    def update(self, views: Views) -> None:
        """Draw the next coordinates, for `subset="random"`."""
        if self.config.subset == "random" and self.coordinates is not None:
            width, config = views.read("h").shape[-1], self.config
            drawn = random_coordinates(width, config.d0, config.seed, self.draws)
            self.coordinates.copy_(drawn, non_blocking=True)  # else a GPU is waited for
            self.draws += 1

    def _check_width(self, width: int) -> None:
        require(self.config.d0 <= width, "objective.d0", self.config.d0, f"1 to {width}, the representation's width")

    def part(self, h: Float[Tensor, "V N H"]) -> Float[Tensor, "V N d0"]:
        """What the loss sees of the representation, not yet normalised."""
        self._check_width(h.shape[-1])
        if self.coordinates is not None:
            return h[..., self.coordinates]
        if self.directions is not None:
            return h @ self.directions.to(h.dtype)
        return h[..., : self.config.d0]

    def forward(self, views: Views) -> dict[str, Tensor]:
        whole = self.config.site == "embedding"
        x = promote(views.read("z" if whole else "h"))
        require_samples(x, 2)
        with without_autocast(x):
            u = unit(x if whole else self.part(x))
            each = [info_nce(u[a], u[b], self.config.temperature) for a, b in permutations(range(len(u)), 2)]
        return {"infonce": torch.stack(each).mean()}
