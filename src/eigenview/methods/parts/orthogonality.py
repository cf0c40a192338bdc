"""How strongly features are pushed apart, for a projector of a given width: Ghosh et al.'s published sweep as a rule.

Stronger orthogonality lets a narrow projector do what a wide one does: the best weight falls with the width D. Their
best weights on CIFAR-10 (two views, ResNet-50, 100 epochs; docs/views.md) lie between 1.5/D and 6.6/D for
Barlow Twins: about 5/D up to 512 and about 2/D from 768 to 2,560. For VICReg they vary the weight of invariance and
variance (lambda = mu) with covariance 1: 25 at 256 and 750 at 8192, which is 10.2 and 10.9 times lambda/D.

Reference: Ghosh, Agrawal, Sodhani, Oberman, Richards 2023, arXiv 2312.10725.
"""

from __future__ import annotations

import math

NARROW, WIDE = 512, 1024  # between these widths the rule goes from 5/D to 2/D
FAR_BELOW, FAR_ABOVE = 10.0, 50.0
"""Factors below and above the rule beyond which a weight is called far from it. The settings published for ImageNet at
8192 lie 21 (Barlow Twins) and 30 (VICReg) times above and give no warning."""


def barlow_twins_weight(width: int) -> float:
    """lambda: 5/D up to 512, 2/D from 1024, between them straight in log."""
    share = min(max((math.log(width) - math.log(NARROW)) / (math.log(WIDE) - math.log(NARROW)), 0.0), 1.0)
    return math.exp((1 - share) * math.log(5) + share * math.log(2)) / width


def vicreg_weight(width: int, invariance: float) -> float:
    """nu, for the weight of invariance: 10.5 lambda / D."""
    return 10.5 * invariance / width


def note(option: str, given: float | str, rule: float, width: int) -> str | None:
    """A sentence about an orthogonality weight before a run: the value behind "auto", or a warning if a weight is far
    from the rule; None if there is nothing to say."""
    if given == "auto":
        return f"{option} auto is {rule:.3g} for an embedding of width {width} (Ghosh et al.'s sweep)"
    assert not isinstance(given, str)
    if not given or not rule or rule / FAR_BELOW <= given <= rule * FAR_ABOVE:
        return None  # 0 removes the term, on purpose
    side = "below" if given < rule else "above"
    return (
        f"{option} {given:g} is {max(given / rule, rule / given):.0f} times {side} what was best at width "
        f"{width} in Ghosh et al.'s sweep: {rule:.2g}, or {option} auto"
    )
