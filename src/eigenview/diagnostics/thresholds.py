"""Every limit of the verdict, with the measurements it was chosen from."""

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

    first_judged_step: int = 30
    """Rows before this step are judged for divergence only: batch norm's running averages still hold 0.9^step of their
    start, and a healthy VICReg run shows z std 0.005 at step 5 that is 0.3 at step 30 and 0.49 at the end."""
    exploded_rms: float = 1e3
    """Root mean square entry of h or z: at most 2.4 in healthy runs and 6 in collapsed ones. With learning rate
    1e4, where batch norm keeps the run finite, the largest value is 37,000 to 5e10."""
    one_point_z: float = 0.1
    """Spread of the embedding (1: like independent features): 0.70 to 1.0 in healthy runs, 0.023 to 0.031 in SimSiam
    without stop-gradient and without a last batch norm. 0.1 is a mean cosine of 0.99 between different images."""
    one_point_h: float = 0.05
    """Spread of the representation, or of features of unknown origin, which may have a large common part: 0.28 to 0.55
    in healthy runs, 0.12 untrained, 0 to 0.03 in most runs with learning rate 1e4."""
    vanished_std: float = 0.1
    """Standard deviation of z in VICReg, whose variance term has the target 1: 0.48 in healthy runs, 0.009 to 0.019
    with invariance only, where the directions of the small embeddings still differ (spread 0.5 to 0.97)."""
    vanished_gain: float = 1e-3
    """Standard deviation of z over the root mean square of h, any method: 0.2 to 2.5 in healthy runs, 0.01 to 0.02 in
    VICReg with invariance only, which the limit above catches."""
    rank: float = 1.25
    """Effective rank of z over the cube root of min(N - 1, D), any method. Engine, 15 and 60 epochs, D = 512 (cube root
    7.1) and three seeds: 18 to 39 in healthy runs, 1.1 to 2.0 in VICReg without covariance, 2.5 to 3.7 in SimSiam
    without stop-gradient behind a batch norm. D = 32 (3.2): 10 to 12, 1.3 and 3.3; D = 16 (2.5): 8.4 to 12 in healthy
    runs. CIFAR-10, 10 epochs, D = 256 (6.3): 14 to 27. RankMe is unsuitable: it counts the many small directions
    that rounding and batch norm leave (51 to 57 in the broken SimSiam at 15 epochs, 46 in a healthy SimCLR)."""
    lost_rank: float = 0.24
    """Effective rank of h over the untrained network's, below which a healthy run gets a note. Of 166 healthy runs on
    CIFAR-10 (experiments, tiny and cpu) 5 are below. Four of them have a k-NN accuracy 11 to 13.5 points below raw
    pixels: the runs of 60 steps that are healthy by the rank of z. One is 0.1 points above. Runs from 0.24 to 0.5 are
    on both sides of raw pixels. The limit was chosen with these runs known, at the edge of the four, which are one
    setting (a batch of 1024). An earlier limit of 0.4, chosen on 145 runs, did not hold on the next 21. Digits: 1.5 to
    2.8."""
    agreement: float = 0.25
    """(cosine of two views of an image - cosine of two images) / (1 - the latter), below which a note is added: 0.76 to
    0.95 in healthy runs, 0.28 untrained, 0.10 in VICReg without invariance, 0 when views have nothing in common."""
    bias: float = 0.3
    """Participation ratio over batch size - 1, above which chance inflates squared covariances so much that a note is
    added; from theory, not calibrated (Gaussian features: relative bias (ratio + 1) / (n - 1))."""
    large_mean: float = 3.0
    """Length of the mean over the spread, above which a note is added for features of unknown origin: cosines between
    images are then above 0.9 whatever the images show. 1.2 to 1.9 for representations after a ReLU."""


THRESHOLDS = Thresholds()
