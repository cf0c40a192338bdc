"""The weight by width: the published sweep, auto in a run, and who is warned."""

from __future__ import annotations

import pytest
import torch

from eigenview.errors import UserError
from eigenview.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from eigenview.methods.orthogonality import barlow_twins_weight, note, vicreg_weight
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
    ours = cls.build(config, representation=8, width=32, views=2)(z)
    expected = cls(explicit)(z)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value)
    with pytest.raises(ValueError, match="depends on the width"):
        cls(config)


def test_only_weights_far_from_the_rule_are_warned_of() -> None:
    assert note("simclr", None, 128) is None
    assert note("vicreg", VICRegConfig(), 8192) is None  # published
    assert note("barlow-twins", BarlowTwinsConfig(), 8192) is None  # published
    assert note("vicreg", VICRegConfig(covariance=0.0), 128) is None  # a term removed on purpose
    told = note("barlow-twins", BarlowTwinsConfig(off_diagonal=0.002), 128)
    assert told is not None
    assert "20 times below what was best at width 128" in told
    assert "0.039, or --objective.off-diagonal auto" in told
    assert "auto is 0.0391 for an embedding of width 128" in str(
        note("barlow-twins", BarlowTwinsConfig(off_diagonal="auto"), 128)
    )


def test_the_rule_knows_the_papers_sum_over_dimensions() -> None:
    """invariance 25 per sample and dimension is 25 / D of the paper's sum: the same loss has the same rule."""
    code = VICRegConfig(invariance=25.0, variance=25.0, covariance="auto")
    paper = VICRegConfig(invariance=25 / 64, variance=12.5, covariance="auto", convention="paper")
    z = Views(z=torch.randn(2, 20, 64))
    first, second = (VICReg.build(each, representation=8, width=64, views=2)(z) for each in (code, paper))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value)
    same = VICRegConfig(invariance=25 / 512, variance=12.5, covariance=1.0, convention="paper")
    assert note("vicreg", VICRegConfig(), 512) is None
    assert note("vicreg", same, 512) is None


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(UserError, match=r"objective\.covariance is -0.5; allowed: 0 or more, or auto"):
        VICRegConfig(covariance=-0.5)
    with pytest.raises(UserError, match=r"objective\.off_diagonal is -1; allowed: 0 or more, or auto"):
        BarlowTwinsConfig(off_diagonal=-1)
