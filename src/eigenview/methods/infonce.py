"""InfoNCE as the theory of contrastive learning studies it: squared distances, with a weight on the positive pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.diagnostics.remedies import MORE_NEGATIVES, SMALLER_RATE
from eigenview.errors import require
from eigenview.functional.moments import centred
from eigenview.functional.similarity import half_sq_distances, log_neighbours
from eigenview.functional.whole_batch import whole_batch
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Objective
from eigenview.records import Card, Clock, MethodConfig, Remedy
from eigenview.views import Loss, Views


@dataclass(frozen=True, kw_only=True)
class InfoNCEConfig(MethodConfig):
    """Options of InfoNCE."""

    card: ClassVar[Card] = Card(
        name="infonce",
        title="InfoNCE",
        paper="Tian 2022, arXiv 2201.12680",
        summary="contrastive, by Euclidean distance, as in theory (Tian 2022)",
        augmentation="simclr",
        recipe={"network": {"projector_width": 128}},
        remedies={
            "complete collapse": (
                Remedy("--method.eps 1", unless=lambda run: run.method.eps >= 1),
                MORE_NEGATIVES,
                SMALLER_RATE,
            ),
            "dimensional collapse": (
                "a larger --batch-size",
                "--method simclr, which does not reward large embeddings",
            ),
        },
    )

    eps: float = 1.0
    """Weight of the positive pair in the denominator: 1 is the usual InfoNCE, 0 leaves the pair out (decoupled), and
    then nothing bounds the size of the embeddings."""
    temperature: float = 1.0
    """Divides the halved squared distances; the theory has 1."""

    def __post_init__(self) -> None:
        require(0 <= self.eps < math.inf, "method.eps", self.eps, "0 or more, finite")
        require(self.temperature > 0, "method.temperature", self.temperature, "above 0")

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: InfoNCE(self))


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
    positive = (z - z_prime).square().sum(dim=1) / (2 * temperature)
    return anchor_terms(positive, log_neighbours(z, temperature), eps)


def anchor_terms(positive: Float[Tensor, " N"], negatives: Float[Tensor, " N"], eps: float) -> Float[Tensor, " N"]:
    """log(eps + e^{d_i^2} sum over j != i of e^{-d_ij^2}), from d_i^2 and the logarithm of that sum."""
    log_eps = math.log(eps) if eps > 0 else -math.inf
    return torch.logaddexp(positive + negatives, positive.new_full((), log_eps))


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
        infonce = (1/(2N)) (L(z, z') + L(z', z)).

    Normalisation
        The theory sums over i, has temperature 1 and takes anchors from one view: that is the sum of `info_nce_terms`.
        Here both views are anchors in turn, so that their order does not matter, and samples are averaged, which
        keeps the learning rate independent of the batch size. Negatives are the N - 1 other images in the ANCHOR's
        view. Embeddings are not normalised: unlike the cosine losses this one depends on their length. With more than
        two views it is the mean over ordered pairs of different views. Equal embeddings give log(N - 1 + eps) per
        sample, and log eps is its lower bound; without the halves in the squared distances the gradient of
        `pair_weights` would double.

    Shapes
        z (V n D) -> one scalar, in nats.

    Cost
        Time V N^2 D + V^2 N D: negatives are of one view, only positives of pairs; memory V N D + V^2 N,
        and V N^2 if the N^2 distances of a view are at most one strip (functional/fused/log_sum_exp.py).

    Raises
        UserError for eps below 0, a temperature of 0 or less, or fewer than 2 samples (no negatives).

    Reference
        Jing, Vincent, LeCun, Tian 2022, arXiv 2110.09348, equation 2 (eps = 1) and lemma 2; eps and the pair weights
        alpha: Tian 2022, arXiv 2201.12680.
    """

    def __init__(self, config: InfoNCEConfig = InfoNCEConfig()) -> None:
        super().__init__()
        self.config = config

    def forward(self, views: Views, clock: Clock) -> Loss:
        z, c = whole_batch(views.read("z"), clock.processes), self.config
        require(z.shape[1] >= 2, "samples in the batch", z.shape[1], "2 or more", "Use a larger batch.")
        positives = (half_sq_distances(z) / c.temperature).flatten(0, 1).unbind()
        negatives = [log_neighbours(view, c.temperature) for view in z.unbind()]
        pairs = permutations(range(len(z)), 2)
        each = torch.stack([anchor_terms(positives[a * len(z) + b], negatives[a], c.eps) for a, b in pairs])
        return Loss({"infonce": each.mean()})
