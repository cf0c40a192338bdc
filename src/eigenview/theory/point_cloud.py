"""Noisy views of images in the plane, the smallest case on which `spectral` can be seen: points and their graph.

Views are Gaussian about their image, so that the kernel of T_M is known in closed form and can be evaluated anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial.distance import cdist  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from eigenview.errors import check
from eigenview.theory.simulation import check_number


class PointCloud(NamedTuple):
    """Noisy views of images in the plane; images come in clusters."""

    points: Float[ndarray, "n 2"]
    """The views, n = images * views."""
    images: Float[ndarray, "images 2"]
    """What was blurred."""
    image: Int[ndarray, " n"]
    """Which image each view shows."""
    cluster: Int[ndarray, " n"]
    """Which cluster its image is in."""


def point_cloud(
    *, clusters: int = 5, images: int = 6, views: int = 8, spread: float = 0.25, noise: float = 0.35, seed: int = 0
) -> PointCloud:
    """`clusters` centres on the unit circle times 1.2, `images` around each, `views` of each image.

    Images have standard deviation `spread` about their centre, views `noise` about their image, in each coordinate.

    Raises
        UserError for counts below 1 or standard deviations that are negative (noise: not above 0).
    """
    for name, count in (("clusters", clusters), ("images", images), ("views", views)):
        check(count >= 1, name, count, "1 or more")
    check_number("spread", spread, 0.0)
    check_number("noise", noise, 0.0, strict=True)
    generator = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(clusters) / clusters
    centres = 1.2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    shown = np.repeat(centres, images, axis=0) + spread * generator.standard_normal((clusters * images, 2))
    image = np.repeat(np.arange(len(shown)), views)
    points = shown[image] + noise * generator.standard_normal((len(image), 2))
    return PointCloud(points, shown, image, image // images)


def view_affinity(
    x: Float[ndarray, "q 2"], y: Float[ndarray, "n 2"], images: Float[ndarray, "images 2"], noise: float
) -> Float[ndarray, "q n"]:
    """w(x, y) = sum over images of p(image | x) p(image | y): the kernel of T_M for views with Gaussian noise.

    p(x, y) / (p(x) p(y)), up to a factor, for two views of an image drawn uniformly. Between points drawn as the views
    are, it makes a graph whose T_M tends to the continuous one as points are added; its rank is at most that of the
    number of images. Symmetric for x = y.
    """
    check_number("noise", noise, 0.0, strict=True)
    return _posterior(x, images, noise) @ _posterior(y, images, noise).T


def _posterior(x: ndarray, images: ndarray, noise: float) -> ndarray:
    distance = cdist(x, images, "sqeuclidean") / (2 * noise**2)
    likelihood = np.exp(distance.min(axis=1, keepdims=True) - distance)
    return likelihood / likelihood.sum(axis=1, keepdims=True)
