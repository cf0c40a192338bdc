"""The law of the drawn parameters: torchvision's, with the probabilities asked for."""

from dataclasses import replace

import pytest
import torch
from torchvision.transforms import v2

from eigenview.data.views.draw import draw
from eigenview.data.views.presets import PRESETS
from eigenview.data.views.specs import ViewSpec

PLAIN = PRESETS["none"].specs[0]
FULL = ViewSpec(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, solarize=0.3)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_count_of_draws_does_not_depend_on_the_spec():
    states = []
    for spec in (FULL, PLAIN, replace(FULL, blur=0.0, jitter=0.0)):
        generator = seeded(11)
        draw(10, spec, 32, generator)
        states.append(generator.get_state())
    assert all(torch.equal(s, states[0]) for s in states)


@pytest.mark.parametrize("source", [8, 32])
@pytest.mark.parametrize(("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.9, 1.0), (1.5, 3.0))])
def test_crop_law_is_torchvisions(source, scale, ratio):
    """Means within five standard errors, and equal quantiles up to two pixels' share, over 4000 draws.

    The second law rejects most proposals, so that the central fallback is common.
    """
    n = 4000
    spec = replace(PLAIN, crop_scale=scale, crop_ratio=ratio)
    params = draw(n, spec, source, seeded(18))
    crop = v2.RandomResizedCrop(8, scale, ratio)
    image = torch.empty(3, source, source)
    with torch.random.fork_rng():
        torch.manual_seed(19)
        theirs = [crop.make_params([image]) for _ in range(n)]
    for name in ("top", "left", "height", "width"):
        a = getattr(params, name)
        b = torch.tensor([float(p[name]) for p in theirs])
        error = ((a.var() + b.var()) / n).sqrt().item() + 1e-9
        assert abs(a.mean() - b.mean()).item() < 5 * error
        for value in b.unique():
            below = (a <= value).float().mean(), (b <= value).float().mean()
            assert abs(below[0] - below[1]) < 5 * (0.5 / n) ** 0.5  # Kolmogorov-Smirnov, far beyond 1e-6
    assert (params.top + params.height <= source).all()
    assert (params.left + params.width <= source).all()
    assert (params.height >= 1).all()


def test_probabilities_and_ranges():
    n = 20000
    spec = replace(FULL, flip=0.3, jitter=0.8, grayscale=0.2, blur=0.1, solarize=0.6, brightness=1.4)
    params = draw(n, spec, 32, seeded(20))
    for name in ("flip", "jitter", "grayscale", "blur", "solarize"):
        p = getattr(spec, name)
        assert abs(getattr(params, name).float().mean().item() - p) < 5 * (p * (1 - p) / n) ** 0.5
    low, high = params.factors.amin(0), params.factors.amax(0)
    torch.testing.assert_close(low, torch.tensor([0.0, 0.2, 0.2]), atol=2e-3, rtol=0)
    torch.testing.assert_close(high, torch.tensor([2.4, 1.8, 1.8]), atol=2e-3, rtol=0)
    assert abs(params.hue.mean().item()) < 5 * 0.4 / (12 * n) ** 0.5
    assert params.hue.min() >= -0.2
    assert params.hue.max() <= 0.2
    assert abs(params.sigma.mean().item() - 1.05) < 5 * 1.9 / (12 * n) ** 0.5
    # Flip and blur are independent draws.
    both = (params.flip & params.blur).float().mean().item()
    assert abs(both - 0.03) < 5 * (0.03 / n) ** 0.5


def test_all_24_orders_are_equally_likely():
    n = 24000
    order = draw(n, FULL, 32, seeded(21)).order
    assert torch.equal(order.sort(1).values, torch.arange(4).expand(n, 4))
    counts = torch.bincount((order * torch.tensor([64, 16, 4, 1])).sum(1))
    counts = counts[counts > 0]
    assert len(counts) == 24
    assert ((counts - 1000).abs() < 5 * 1000**0.5).all()
