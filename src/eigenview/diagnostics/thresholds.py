"""Every number the verdict turns on, with the measurements it was set between."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Limits of the verdict.

    Calibrated on short runs on digits (8 px images at 16 px, 20 epochs of 5 steps, AdamW 2e-3, small conv net,
    D = 512, 360 held-out images, evaluation mode), seeds 0 to 2: all five methods; and, deliberately broken, VICReg
    with invariance only, VICReg without covariance, SimSiam without stop-gradient (with and without batch norm at the
    projector's end), and learning rate 1e4.
    """

    settled_step: int = 30
    """Rows before this step are judged for divergence only: batch norm's running averages still hold 0.9^step of their
    start, and a healthy VICReg run shows z std 0.005 at step 5 that is 0.3 at step 30 and 0.49 at the end."""
    exploded_rms: float = 1e3
    """Root mean square entry of h or z: at most 1.3 in healthy runs, 6 in collapsed ones, 37,000 to 5e10 at its peak
    with learning rate 1e4 where batch norm keeps the run finite."""
    one_point_z: float = 0.1
    """Spread of the embedding (1: as independent features): 0.70 to 1.0 in healthy runs, 0.031 in SimSiam without
    stop-gradient, 0 to 0.1 with learning rate 1e4. 0.1 is a mean cosine of 0.99 between different images."""
    one_point_h: float = 0.05
    """Spread of the representation, or of features of unknown origin, which may have a large common part: 0.44 to 0.55
    in healthy runs, 0.12 untrained, 0 to 0.03 in most runs with learning rate 1e4."""
    vanished_std: float = 0.1
    """Standard deviation of z under VICReg, whose variance term asks for 1: 0.48 in healthy runs, 0.009 to 0.011 with
    invariance only, where the directions of what is left still differ (spread 0.5)."""
    vanished_gain: float = 1e-3
    """Standard deviation of z over the root mean square of h, any method: 0.7 to 2.5 in healthy runs."""
    rank_decorrelating: float = 1.75
    """Centred RankMe of z over sqrt(min(N - 1, D)), for methods that push dimensions or images apart: 4.7 to 4.9
    (rank 88 to 92) in healthy runs of VICReg, Barlow Twins and SimCLR, 0.5 to 0.7 (10 to 13) in VICReg without
    covariance."""
    rank_predicting: float = 0.6
    """The same for methods with a predictor, and for features of unknown origin: 1.2 to 2.0 (rank 22 to 37) in healthy
    runs of BYOL and SimSiam, 0.29 to 0.33 (5.4 to 6.3) in SimSiam without stop-gradient behind a batch norm. With D = 32
    the square root holds: VICReg 2.9, SimSiam 1.8, VICReg without covariance 0.79."""
    agreement: float = 0.1
    """(cosine of two views of an image - cosine of two images) / (1 - the latter), below which a note is given: 0.8 to
    0.93 in healthy runs, 0.28 untrained, 0 when views have nothing in common."""
    bias: float = 0.3
    """Participation ratio over batch size - 1, above which chance inflates squared covariances so much that a note is
    given: by theory, not by calibration (Gaussian features: relative bias (ratio + 1) / (n - 1))."""
    large_mean: float = 3.0
    """Length of the mean over the spread, above which a note is given for features of unknown origin: cosines between
    images are then above 0.9 whatever the images show. 1.2 to 1.9 for representations after a ReLU."""


THRESHOLDS = Thresholds()
