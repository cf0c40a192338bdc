"""The weight by width: the published sweep, auto in a run, and who is warned."""

from __future__ import annotations

import re

import pytest
import torch

from eigenview.errors import UserError
from eigenview.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from eigenview.methods.parts.orthogonality import barlow_twins_weight, note, vicreg_weight
from eigenview.methods.simclr import SimCLRConfig
from eigenview.methods.vicreg import VICReg, VICRegConfig
from eigenview.views import Views

# width -> best weight of Barlow Twins on CIFAR-10, two views (Ghosh et al.; formulas.md 1.12)
SWEEP = {64: 0.04, 128: 0.04, 256: 0.02, 512: 0.01, 768: 0.002, 1024: 0.002, 1536: 0.001, 2048: 0.001}
SWEEP |= {2304: 0.001, 2560: 0.0008, 3072: 0.001, 4096: 0.0004, 6144: 0.001, 8192: 0.0008}


def test_the_rule_is_within_a_factor_of_three_and_a_half_of_every_published_weight() -> None:
    for width, best in SWEEP.items():
        assert 1 / 3.5 < barlow_twins_weight(width) / best < 3.5, width
    assert [barlow_twins_weight(w) * w for w in (128, 512, 1024, 8192)] == pytest.approx([5, 5, 2, 2])
    for width, weight in ((256, 25.0), (8192, 750.0)):
        assert vicreg_weight(width, weight) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(
    ("cls", "config", "explicit"),
    [
        (BarlowTwins, BarlowTwinsConfig(off_diagonal="auto"), BarlowTwinsConfig(off_diagonal=5 / 32)),
        (VICReg, VICRegConfig(covariance="auto"), VICRegConfig(covariance=10.5 * 25 / 32)),
    ],
)
def test_auto_is_the_weight_of_the_width(cls, config, explicit) -> None:
    z = Views(z=torch.randn(2, 20, 32))
    ours = cls(config, width=32)(z).terms
    expected = cls(explicit)(z).terms
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value)
    with pytest.raises(ValueError, match=r"auto.*width=D"):
        cls(config)


def test_only_weights_far_from_the_rule_are_warned_of() -> None:
    assert SimCLRConfig().needs.weight_note(128) is None
    assert VICRegConfig().needs.weight_note(8192) is None  # published
    assert BarlowTwinsConfig().needs.weight_note(8192) is None  # published
    assert VICRegConfig(covariance=0.0).needs.weight_note(128) is None  # a term removed on purpose
    told = BarlowTwinsConfig(off_diagonal=0.002).needs.weight_note(128)
    assert told is not None
    assert re.search(
        r"--method\.off-diagonal 0\.002 .*20 times.*below.*width 128.*0\.039.*--method\.off-diagonal auto", told
    )
    auto = BarlowTwinsConfig(off_diagonal="auto").needs.weight_note(128)
    assert re.search(r"--method\.off-diagonal.*auto.*0\.0391.*width 128", str(auto))
    above = note("--method.covariance", 100.0, 1.0, 64)
    assert re.search(r"--method\.covariance 100 .*100 times.*above.*width 64", str(above))


def test_the_rule_scales_with_the_invariance() -> None:
    """All weights times one factor are the same loss times it: "auto" and the warning must agree."""
    z = Views(z=torch.randn(2, 20, 64))
    plain = VICRegConfig(covariance="auto")
    scaled = VICRegConfig(invariance=25 / 64, variance=25 / 64, covariance="auto")
    first, second = (VICReg(each, width=64)(z).terms for each in (plain, scaled))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value / 64)
    assert VICRegConfig().needs.weight_note(512) is None
    assert VICRegConfig(invariance=25 / 64, variance=25 / 64, covariance=1 / 64).needs.weight_note(512) is None


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(UserError, match=r"method\.covariance is -0\.5.*0 or more, or auto"):
        VICRegConfig(covariance=-0.5)
    with pytest.raises(UserError, match=r"method\.off_diagonal is -1.*0 or more, or auto"):
        BarlowTwinsConfig(off_diagonal=-1)
