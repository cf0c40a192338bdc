"""InfoNCE as the theory of contrastive learning studies it: squared distances, with a weight on the positive pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.moments import centred
from eigenview.methods.base import Objective, promote, require_samples, without_autocast
from eigenview.views import Views


@dataclass(frozen=True, kw_only=True)
class InfoNCEConfig:
    """Options of InfoNCE."""

    eps: float = 1.0
    """Weight of the positive pair in the denominator: 1 is the usual InfoNCE, 0 leaves the pair out (decoupled), and
    then nothing bounds the size of the embeddings."""
    temperature: float = 1.0
    """Divides the halved squared distances; the theory has 1."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over samples. The theory sums; a mean keeps the learning rate independent of the batch size."""

    def __post_init__(self) -> None:
        require(0 <= self.eps < math.inf, "objective.eps", self.eps, "0 or more, finite")
        require(self.temperature > 0, "objective.temperature", self.temperature, "above 0")
        require(self.reduction in ("mean", "sum"), "objective.reduction", self.reduction, "mean, sum")


def log_ratios(
    z: Float[Tensor, "N D"], z_prime: Float[Tensor, "N D"], eps: float, temperature: float = 1.0
) -> Float[Tensor, "N N"]:
    """Logarithm of each term of row i's denominator over the positive e^{-d_i^2}.

    d_i^2 - d_ij^2 off the diagonal, from its negatives j, and log eps on it, from the positive itself.
    """
    y = centred(z)  # moves no distance, and the dot products lose no digits to a common mean
    half = y.square().sum(dim=1) / 2
    positive = (z - z_prime).square().sum(dim=1) / 2
    ratios = ((positive - half)[:, None] - half + y @ y.T) / temperature
    return ratios.fill_diagonal_(math.log(eps) if eps > 0 else -math.inf)


def info_nce_terms(
    z: Float[Tensor, "N D"], z_prime: Float[Tensor, "N D"], eps: float, temperature: float = 1.0
) -> Float[Tensor, " N"]:
    """-log(e^{-d_i^2} / (eps e^{-d_i^2} + sum over j != i of e^{-d_ij^2})) of each anchor z_i; the loss is their sum.

    d_i^2 = |z_i - z_i'|^2 / 2 and d_ij^2 = |z_i - z_j|^2 / 2, both over the temperature; z_prime gives positives only.
    """
    return log_ratios(z, z_prime, eps, temperature).logsumexp(dim=1)


def pair_weights(
    z: Float[Tensor, "N D"], z_prime: Float[Tensor, "N D"], eps: float, temperature: float = 1.0
) -> Float[Tensor, "N N"]:
    """alpha_ij = e^{-d_ij^2} / (eps e^{-d_i^2} + sum over k != i of e^{-d_ik^2}), 0 on the diagonal.

    Row i sums to 1 - eps e^{-d_i^2} / denominator_i: to 1 for eps = 0. They are the gradient of the summed loss: with
    z = W x and temperature 1, -dL/dW = W (Sigma_0 - Sigma_aug) for every eps, where
    Sigma_0 = sum over i, j of alpha_ij (x_i - x_j)(x_i - x_j)^T and
    Sigma_aug = sum over i of (sum over j of alpha_ij) (x_i - x_i')(x_i - x_i')^T.
    """
    share = log_ratios(z, z_prime, eps, temperature).softmax(dim=1)
    return share - share.diagonal().diag()


class InfoNCE(Objective):
    """Cross-entropy of telling an image's other view from the other images of the same view, by Euclidean distance.

    Definition
        L(z, z') = -sum_i log(e^{-d_i^2} / (eps e^{-d_i^2} + sum over j != i of e^{-d_ij^2})),
        d_i^2 = |z_i - z_i'|^2 / (2 temperature), d_ij^2 = |z_i - z_j|^2 / (2 temperature);
        infonce = (1/2) (L(z, z') + L(z', z)), over N with `reduction="mean"`, the default.

    Normalisation
        The theory sums over i, has temperature 1 and takes anchors from one view: that is the sum of `info_nce_terms`.
        Here both views are anchors in turn, so that their order does not matter, and samples are averaged unless
        `reduction="sum"`. Negatives are the N - 1 other images in the ANCHOR's view. Embeddings are not normalised:
        unlike the cosine losses this one sees their length. With more than two views it is the mean over ordered pairs
        of different views. Equal embeddings give log(N - 1 + eps) per sample, and log eps is its lower bound; without
        the halves in the squared distances the gradient of `pair_weights` would double.

    Shapes
        z (V N D) -> one scalar, in nats (times N for the sum).

    Raises
        UserError for eps below 0, a temperature of 0 or less, or fewer than 2 samples (no negatives).

    Reference
        Jing, Vincent, LeCun, Tian 2022, arXiv 2110.09348, equation 2 (eps = 1) and lemma 2; eps and the pair weights
        alpha: Tian 2022, arXiv 2201.12680.
    """

    def __init__(self, config: InfoNCEConfig = InfoNCEConfig()) -> None:
        super().__init__()
        self.config = config

    def forward(self, views: Views) -> dict[str, Tensor]:
        z, c = promote(views.read("z")), self.config
        require_samples(z, 2)
        pairs = permutations(range(z.shape[0]), 2)
        with without_autocast(z):
            each = torch.stack([info_nce_terms(z[a], z[b], c.eps, c.temperature) for a, b in pairs]).mean(dim=0)
            return {"infonce": each.mean() if c.reduction == "mean" else each.sum()}
