"""Noisy views of images in the plane and their augmentation graph: a small example for `spectral` and `vicreg`.

Views are Gaussian around their image, so the kernel of T_M is known in closed form and can be evaluated anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial.distance import cdist  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from eigenview.errors import require
from eigenview.theory.augmentation_graph import Eigenfunctions
from eigenview.theory.simulation import check_number


class PointCloud(NamedTuple):
    """Noisy views of images in the plane; images come in clusters."""

    points: Float[ndarray, "n 2"]
    """The views, n = images * views."""
    images: Float[ndarray, "images 2"]
    """The images themselves, without view noise."""
    image: Int[ndarray, " n"]
    """Index of the image of each view."""
    cluster: Int[ndarray, " n"]
    """Index of the cluster of that image."""


def point_cloud(
    *, clusters: int = 5, images: int = 6, views: int = 8, spread: float = 0.25, noise: float = 0.35, seed: int = 0
) -> PointCloud:
    """`clusters` centres on a circle of radius 1.2, `images` images around each, `views` views of each image.

    Images have standard deviation `spread` around their centre, views `noise` around their image, in each coordinate.

    Raises
        UserError for a count below 1, a negative `spread`, or a `noise` not above 0.
    """
    for name, count in (("clusters", clusters), ("images", images), ("views", views)):
        require(count >= 1, name, count, "1 or more")
    check_number("spread", spread, 0.0)
    check_number("noise", noise, 0.0, strict=True)
    generator = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(clusters) / clusters
    centres = 1.2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    shown = np.repeat(centres, images, axis=0) + spread * generator.standard_normal((clusters * images, 2))
    image = np.repeat(np.arange(len(shown)), views)
    points = shown[image] + noise * generator.standard_normal((len(image), 2))
    return PointCloud(points, shown, image, image // images)


class Augmentation(NamedTuple):
    """The graph of a point cloud as a distribution: draw an image, then two of its views independently."""

    image: Float[ndarray, " images"]
    """p(x): probability of each image. Sums to 1."""
    views: Float[ndarray, "n images"]
    """p(a | x): probability of each point as a view of an image. Columns sum to 1."""


class PlaneEigenfunctions(NamedTuple):
    """A grid of points that covers the distribution of views, and the eigenfunctions of T_M on it."""

    points: Float[ndarray, "n 2"]
    pi: Float[ndarray, " n"]
    """Probability that a view falls into the cell of each point. Sums to 1."""
    eigenfunctions: Eigenfunctions
    """Eigenfunctions of the continuous T_M, at the points."""


def view_affinity(
    x: Float[ndarray, "q 2"], y: Float[ndarray, "n 2"], images: Float[ndarray, "images 2"], noise: float
) -> Float[ndarray, "q n"]:
    """w(x, y) = sum over images of p(image | x) p(image | y): the kernel of T_M for views with Gaussian noise.

    Proportional to p(x, y) / (p(x) p(y)) for two views of an image drawn uniformly. Between points drawn from the
    distribution of views it defines a graph whose T_M tends to the continuous one as points are added. Its rank is at
    most the number of images. Symmetric for x = y.
    """
    check_number("noise", noise, 0.0, strict=True)
    return _posterior(x, images, noise) @ _posterior(y, images, noise).T


def augmentation(points: Float[ndarray, "n 2"], images: Float[ndarray, "images 2"], noise: float) -> Augmentation:
    """The distribution whose graph is `view_affinity` between the points: sum_x p(x) p(a | x) p(b | x) = w_ab / sum w.

    With q_x = sum_a p(x | a) it is p(a | x) = p(x | a) / q_x and p(x) = q_x^2 / sum_y q_y^2, nearly uniform for points
    drawn as views.
    """
    check_number("noise", noise, 0.0, strict=True)
    posterior = _posterior(points, images, noise)
    q = posterior.sum(axis=0)
    return Augmentation(np.square(q) / np.square(q).sum(), posterior / q)


def plane_eigenfunctions(
    images: Float[ndarray, "images 2"], noise: float, num: int, *, step: float = 0.25
) -> PlaneEigenfunctions:
    """The `num` leading eigenfunctions of the continuous T_M: images drawn uniformly, views Gaussian around them.

    (T_M f)(v) = sum_x p(x | v) E[f | x] has the number of images as its rank. Integrals over the plane are sums over a
    square grid of spacing `step` times `noise`, up to 6 `noise` from the nearest image. For smooth integrands the error
    of this rule falls faster than any power of the step: as e^(-2 pi^2 / (step r)) if neighbouring images are r `noise`
    apart, which is 1e-7 for the default step and r = 5.

    Raises
        UserError for a noise or step not above 0, more than a million points, or more functions than images.
    """
    check_number("noise", noise, 0.0, strict=True)
    check_number("step", step, 0.0, strict=True)
    require(1 <= num <= len(images), "the number of functions", num, f"1 to {len(images)}, the number of images")
    x, y = (_grid_line(images[:, axis], 6 * noise, step * noise) for axis in (0, 1))
    total = len(x) * len(y)
    require(total <= 1e6, "step", step, f"a grid of up to a million points, not {total}", "Use a larger step.")
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    distance = cdist(points, images, "sqeuclidean") / (2 * noise**2)
    is_close = distance.min(axis=1) <= 18  # 6^2 / 2
    points, density = points[is_close], np.exp(-distance[is_close]).sum(axis=1)
    pi = density / density.sum()
    # sqrt(pi) T_M / sqrt(pi) = B B^T with B_vx = sqrt(pi_v) p(x | v) / sqrt(p(x))
    root = np.sqrt(pi)[:, None]
    vectors, sizes, _ = np.linalg.svd(root * _posterior(points, images, noise) * len(images) ** 0.5, False)
    return PlaneEigenfunctions(points, pi, Eigenfunctions(np.square(sizes[:num]), vectors[:, :num] / root))


def _grid_line(values: Float[ndarray, " images"], margin: float, step: float) -> Float[ndarray, " n"]:
    """Numbers with spacing `step` that cover all values and a margin on both sides."""
    return np.arange(float(values.min()) - margin, float(values.max()) + margin + step, step)


def _posterior(x: ndarray, images: ndarray, noise: float) -> ndarray:
    """p(image | x) (n images), shifted in the exponent so that points far from all images do not give 0 / 0."""
    distance = cdist(x, images, "sqeuclidean") / (2 * noise**2)
    likelihood = np.exp(distance.min(axis=1, keepdims=True) - distance)
    return likelihood / likelihood.sum(axis=1, keepdims=True)
