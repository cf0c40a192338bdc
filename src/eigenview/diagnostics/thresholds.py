"""Every number the verdict turns on, with the measurements it was set between."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Limits of the verdict.

    Calibrated on digits (8 px images at 16 px), 359 held-out images in evaluation mode, in two ways. "Loop": a plain
    torch loop in float32, 20 epochs of 5 steps, D = 512, one to three seeds of all five methods, of VICReg with
    invariance only and without covariance, of SimSiam without stop-gradient with and without batch norm at the
    projector's end, and of learning rate 1e4. "Engine": `eigenview pretrain --epochs 12` (132 steps, bf16), one to
    three seeds of the same with each method's default network.
    """

    settled_step: int = 30
    """Rows before this step are judged for divergence only: batch norm's running averages still hold 0.9^step of their
    start, and a healthy VICReg run shows z std 0.005 at step 5 that is 0.3 at step 30 and 0.49 at the end."""
    exploded_rms: float = 1e3
    """Root mean square entry of h or z: at most 2.4 in healthy runs, 6 in collapsed ones; with learning rate 1e4, where
    batch norm keeps the run finite, at its peak 37,000 to 5e10."""
    one_point_z: float = 0.1
    """Spread of the embedding (1: as independent features): 0.70 to 1.0 in healthy runs, 0.023 to 0.031 in SimSiam
    without stop-gradient and without a last batch norm. 0.1 is a mean cosine of 0.99 between different images."""
    one_point_h: float = 0.05
    """Spread of the representation, or of features of unknown origin, which may have a large common part: 0.28 to 0.55
    in healthy runs, 0.12 untrained, 0 to 0.03 in most runs with learning rate 1e4."""
    vanished_std: float = 0.1
    """Standard deviation of z under VICReg, whose variance term asks for 1: 0.48 in healthy runs, 0.009 to 0.019 with
    invariance only, where the directions of what is left still differ (spread 0.5 to 0.97)."""
    vanished_gain: float = 1e-3
    """Standard deviation of z over the root mean square of h, any method: 0.2 to 2.5 in healthy runs, 0.01 to 0.02 in
    VICReg with invariance only, which the limit above catches."""
    rank_decorrelating: float = 0.5
    """Effective rank of z over sqrt(min(N - 1, D)), for methods that push dimensions or images apart (VICReg, Barlow
    Twins, SimCLR): 1.3 to 2.0 in healthy runs (18 to 39), 0.06 to 0.10 in VICReg without covariance (1.1 to 2.0), 0.33
    there with D = 32. RankMe does not do here: the rounding noise of bf16 lifts it from 11 to 33 in such a run."""
    rank_predicting: float = 0.6
    """Centred RankMe of z over the same root, for methods with a predictor (BYOL, SimSiam) and for features of unknown
    origin: 1.2 to 4.7 in healthy runs (rank 10 with D = 32, 22 to 75 else), 0.27 to 0.39 (5.2 to 7.4) in SimSiam
    without stop-gradient behind a batch norm. Effective ranks are 2.6 to 10 and 1.5 to 1.9: too near to each other."""
    agreement: float = 0.25
    """(cosine of two views of an image - cosine of two images) / (1 - the latter), below which a note is given: 0.76 to
    0.95 in healthy runs, 0.28 untrained, 0.10 in VICReg without invariance, 0 when views have nothing in common."""
    bias: float = 0.3
    """Participation ratio over batch size - 1, above which chance inflates squared covariances so much that a note is
    given: by theory, not by calibration (Gaussian features: relative bias (ratio + 1) / (n - 1))."""
    large_mean: float = 3.0
    """Length of the mean over the spread, above which a note is given for features of unknown origin: cosines between
    images are then above 0.9 whatever the images show. 1.2 to 1.9 for representations after a ReLU."""


THRESHOLDS = Thresholds()
