"""A loss of your own, trained as a whole run: views, encoder, verdict, probes and report come from eigenview.

    uv run python -m examples.own_objective

Takes about 15 seconds on one thread. The loss is the alignment and uniformity of Wang and Isola 2020 (arXiv 2005.10242,
equations 1 and 2): embeddings of unit length, two views of an image close together, all images spread over the sphere.
It prints the verdict and the k-NN accuracy, with uniformity and without it; without it all images map to one point.

A run records its method by the name of the module, so the file lies in a package, here the folder `examples`. The
command line takes it by that name:
`PYTHONPATH=. uv run eigenview pretrain FOLDER --method examples.own_objective --method.uniformity 0.5`.
docs/add-a-method.md explains each part.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch.nn import functional as F

import eigenview as ev
from eigenview.errors import require
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Objective
from eigenview.records import Card, Clock, MethodConfig, Needs
from eigenview.views import Loss, Views


@dataclass(frozen=True, kw_only=True)
class AlignUniformConfig(MethodConfig):
    """Options of alignment and uniformity."""

    card: ClassVar[Card] = Card(
        name="align-uniform",
        title="Alignment and uniformity",
        paper="Wang and Isola 2020, arXiv 2005.10242",
        summary="views agree, images are uniform on the sphere",
        remedies={"complete collapse": ("--method.uniformity 1, which spreads the images",)},
    )

    uniformity: float = 1.0
    """Weight of the uniformity term; 0 invites complete collapse."""
    t: float = 2.0
    """Of the Gaussian kernel exp(-t |x - y|^2)."""

    def __post_init__(self) -> None:
        require(self.uniformity >= 0, "method.uniformity", self.uniformity, "0 or more")
        require(self.t > 0, "method.t", self.t, "above 0")

    @property
    def needs(self) -> Needs:
        return Needs(reads=frozenset({"z"}))

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: AlignUniform(self))


class AlignUniform(Objective):
    """alignment = mean squared distance of two views; uniformity = log of the kernel's mean over pairs of images.

    Embeddings have unit length. Alignment is the mean over pairs of views, uniformity over views; several processes
    would each take the pairs of their own rows.
    """

    def __init__(self, config: AlignUniformConfig = AlignUniformConfig()) -> None:
        super().__init__()
        self.config = config

    def forward(self, views: Views, clock: Clock) -> Loss:
        z = F.normalize(views.read("z"), dim=-1)  # (V n D)
        num_views = len(z)
        # the mean over pairs of views is 2 V / (V - 1) times the mean squared distance to the mean view
        alignment = 2 * num_views / (num_views - 1) * (z - z.mean(dim=0)).square().sum(dim=-1).mean()
        kernel = torch.stack([torch.pdist(view).square().mul(-self.config.t).exp().mean().log() for view in z])
        return Loss({"alignment": alignment, "uniformity": self.config.uniformity * kernel.mean()})


def main() -> dict[float, ev.Run]:
    """Two runs, by the weight of uniformity."""
    folder = Path(tempfile.mkdtemp(prefix="own-objective-"))
    runs = {}
    for weight in (1.0, 0.0):
        method = AlignUniformConfig(uniformity=weight)
        runs[weight] = ev.pretrain(
            "digits", method=method, epochs=4, probe={"images": 500}, out=folder / f"uniformity-{weight:g}"
        )
    print("\nweight of uniformity   verdict                k-NN accuracy")
    for weight, run in runs.items():
        print(f"{weight:20g}   {run.verdict:20} {run.summary['knn']:15.1f}")
    print(f"runs and reports are in {folder}")
    return runs


if __name__ == "__main__":
    # imported under the name that a run records and a resumed run imports; __main__ would name no file
    from examples.own_objective import main as run_both

    run_both()
