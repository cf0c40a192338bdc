"""How strongly features are pushed apart, for a projector of a given width: Ghosh et al.'s published sweep as a rule.

Stronger orthogonality lets a narrow projector do what a wide one does: the best weight falls with the width D. Their
best weights on CIFAR-10 (two views, ResNet-50, 100 epochs; docs/views.md) lie between 1.5/D and 6.6/D for
Barlow Twins: about 5/D up to 512 and about 2/D from 768 to 2,560. For VICReg they vary the weight of invariance and
variance (lambda = mu) with covariance 1: 25 at 256 and 750 at 8192, which is 10.2 and 10.9 times lambda/D.

Reference: Ghosh, Agrawal, Sodhani, Oberman, Richards 2023, arXiv 2312.10725.
"""

from __future__ import annotations

import math
from typing import Any

NARROW, WIDE = 512, 1024  # between these widths the rule goes from 5/D to 2/D
FAR_BELOW, FAR_ABOVE = 10.0, 50.0
"""How many times below or above the rule is called far. The settings published for ImageNet at 8192 lie
21 (Barlow Twins) and 30 (VICReg) times above, and are left in peace."""


def barlow_twins_weight(width: int) -> float:
    """lambda: 5/D up to 512, 2/D from 1024, between them straight in log."""
    share = min(max((math.log(width) - math.log(NARROW)) / (math.log(WIDE) - math.log(NARROW)), 0.0), 1.0)
    return math.exp((1 - share) * math.log(5) + share * math.log(2)) / width


def vicreg_weight(width: int, invariance: float) -> float:
    """nu, for the weight of invariance: 10.5 lambda / D."""
    return 10.5 * invariance / width


def vicreg_rule(config: Any, width: int) -> float:
    """The same for an objective's options: the paper's invariance is a sum over dimensions, D times the code's."""
    return vicreg_weight(width, config.invariance * (width if config.convention == "paper" else 1))


def note(method: str, config: Any, width: int) -> str | None:
    """What to say of an objective's weight at this embedding width before a run: the value behind auto, or a warning
    where a weight lies far from the rule; None where there is nothing to say."""
    if method == "barlow-twins":
        field, given, rule = "off-diagonal", config.off_diagonal, barlow_twins_weight(width)
    elif method == "vicreg":
        field, given, rule = "covariance", config.covariance, vicreg_rule(config, width)
    else:
        return None
    if given == "auto":
        return f"--objective.{field} auto is {rule:.3g} for an embedding of width {width} (Ghosh et al.'s sweep)"
    if not given or not rule or rule / FAR_BELOW <= given <= rule * FAR_ABOVE:
        return None  # 0 removes the term, on purpose
    side = "below" if given < rule else "above"
    return (
        f"--objective.{field} {given:g} is {max(given / rule, rule / given):.0f} times {side} what was best at width "
        f"{width} in Ghosh et al.'s sweep: {rule:.2g}, or --objective.{field} auto"
    )
