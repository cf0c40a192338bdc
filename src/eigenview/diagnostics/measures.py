"""Numbers that describe the features of N images seen in V views: scale, angles, directions in use.

Everything is computed on the CPU in float64, so that very large and very small features can be measured too. Statistics
over images are taken within each view and averaged over views, so that they are comparable for any number of views.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.moments import standard_deviations
from eigenview.functional.similarity import (
    alignment,
    off_diagonal_correlation,
    uniformity,
    unit,
    unit_standard_deviation,
)
from eigenview.functional.spectrum import (
    covariance_eigenvalues,
    effective_rank,
    participation_ratio,
    power_law,
    rankme,
)

MEASURES = (
    "spread",
    "std",
    "std_min",
    "std_l2",
    "rms",
    "mean_to_spread",
    "rankme",
    "rankme_centred",
    "effective_rank",
    "participation_ratio",
    "bias_ratio",
    "alpha",
    "correlation",
    "alignment",
    "uniformity",
    "cosine_views",
    "cosine_others",
)
"""The keys of `measure`, in the order in which they are written."""

WIDE = 2048
"""From this width on the width x width correlations are computed in float32: half of the time, and an error of 1e-6."""
RANKME_EPS = 1e-7  # Garrido et al. 2023, arXiv 2210.02885, equation 1


def spectrum(x: Tensor) -> np.ndarray:
    """Eigenvalues of the unbiased covariance of the images within a view, averaged over views of x (V N width).

    float64, descending, of length width: with N images at most N - 1 of them are not zero. All nan if x is not
    finite.
    """
    return _padded(_eigenvalues(_on_cpu(x)), x.shape[2])


def measure(x: Tensor) -> dict[str, float]:
    """All of `MEASURES` for x (V N width), N >= 2 images in V >= 1 views; rows u are x over their length.

    spread          sqrt(mean |u|^2 - cosine_others): 0, all images at one point; 1, as for independent features
    std             standard deviation over images (N - 1), mean over features, in the units of x
    std_min         the same of the feature that varies least
    std_l2          standard deviation of the features of u, times sqrt(width): 1 isotropic, 0 one point
    rms             root mean square entry of x, in the units of x
    mean_to_spread  length of the mean over the root mean square distance to it
    rankme          effective rank of the singular values, not centred, 1 to min(N, width); rankme_centred: centred
    effective_rank  the same of the eigenvalues of the covariance; participation_ratio: (sum)^2 / sum of squares
    bias_ratio      participation_ratio / (N - 1): how far the squared covariance of N samples is inflated by chance
    alpha           decay of the eigenvalues over ranks 4 to 50, eigenvalue ~ rank^-alpha; nan with too few of them
    correlation     mean absolute correlation of two features
    alignment       mean |u - u'|^2 over two views of an image, 0 to 4; nan with one view, as cosine_views
    uniformity      log mean exp(-2 |u_i - u_j|^2) over images, -8 to 0
    cosine_views    mean cosine of two views of one image; cosine_others: of two different images, any two views

    If x contains nan or infinity, all are nan.
    """
    return measure_and_spectrum(x)[0]


def measure_and_spectrum(x: Tensor) -> tuple[dict[str, float], np.ndarray]:
    """`measure` and `spectrum` of x (V N width), from one decomposition."""
    require(x.ndim == 3, "features", tuple(x.shape), "three axes: views, images, width")
    views, images, width = x.shape
    require(images >= 2, "images", images, "2 or more")
    require(width >= 2, "width", width, "2 or more")
    x = _on_cpu(x)
    if not x.isfinite().all():
        return dict.fromkeys(MEASURES, math.nan), np.full(width, np.nan)
    eigenvalues = _eigenvalues(x)
    std, centre = standard_deviations(x), x.mean(dim=(0, 1))
    u = unit(x)
    others = _cosine_others(u)
    ratio = participation_ratio(eigenvalues)
    aligned = alignment(x).item() if views > 1 else math.nan
    values = {
        "spread": math.sqrt(max(0.0, u.square().sum(dim=2).mean().item() - others)),
        "std": std.mean(),
        "std_min": std.amin(dim=1).mean(),
        "std_l2": _over_views(x, unit_standard_deviation) * math.sqrt(width),
        "rms": x.square().mean().sqrt(),
        "mean_to_spread": centre.norm() / (x - centre).square().sum(dim=2).mean().sqrt(),
        "rankme": _over_views(x, rankme),
        "rankme_centred": effective_rank(eigenvalues.sqrt(), RANKME_EPS),
        "effective_rank": effective_rank(eigenvalues),
        "participation_ratio": ratio,
        "bias_ratio": ratio / (images - 1),
        "alpha": power_law(eigenvalues).alpha,
        "correlation": _over_views(x.float() if width >= WIDE else x, _mean_correlation),
        "alignment": aligned,
        "uniformity": _over_views(x, uniformity),
        "cosine_views": 1 - aligned / 2,
        "cosine_others": others,
    }
    return {name: float(values[name]) for name in MEASURES}, _padded(eigenvalues, width)


def _padded(eigenvalues: Tensor, width: int) -> np.ndarray:
    """With zeros up to `width`; all nan if any is."""
    values = np.zeros(width)
    values[: len(eigenvalues)] = eigenvalues.numpy()
    return values if np.isfinite(values).all() else np.full(width, np.nan)


def _on_cpu(x: Tensor) -> Tensor:
    """float64 on the CPU: not every accelerator has it, and a batch of features is small."""
    return x.detach().cpu().double()


def _eigenvalues(x: Tensor) -> Tensor:
    """min(N, width) eigenvalues of the covariance, averaged over views; nan if x is not finite."""
    if not x.isfinite().all():
        return torch.full((min(x.shape[1:]),), math.nan, dtype=x.dtype)
    return torch.stack([covariance_eigenvalues(view) for view in x]).mean(dim=0)


def _over_views(x: Tensor, of_one_view: Callable[[Tensor], Tensor]) -> float:
    return math.fsum(float(of_one_view(view)) for view in x) / len(x)


def _mean_correlation(view: Tensor) -> Tensor:
    return off_diagonal_correlation(view)[0]


def _cosine_others(u: Tensor) -> float:
    """Mean of u_ai . u_bj over images i != j and all views a, b, from sums alone: no N x N matrix."""
    views, images, _ = u.shape
    of_image = u.sum(dim=0)
    pairs = of_image.sum(dim=0).square().sum() - of_image.square().sum()
    return pairs.item() / (views**2 * images * (images - 1))
