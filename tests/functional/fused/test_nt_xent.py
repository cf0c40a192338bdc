"""NT-Xent by strips: published limits, tiny temperatures, rows without direction, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from eigenview.errors import UserError
from eigenview.functional.contrast import contrast
from eigenview.functional.fused import strips
from eigenview.functional.fused.nt_xent import is_bounded, log_denominators
from tests.draws import random
from tests.functional import naive
from tests.functional.fused.cases import nt_xent_terms


@pytest.mark.parametrize("positives", ["outside", "inside"])
@pytest.mark.parametrize("views", [2, 3, 5])
def test_equal_embeddings(views: int, positives: str) -> None:
    """Every other row is equally likely: log(VN - 1), and log of the share of positives when they are summed inside."""
    samples = 6
    z = random(1, 1, 4).expand(views, samples, 4)
    loss = sum(nt_xent_terms(z, 0.3, positives))  # type: ignore[arg-type]
    others, own = views * samples - 1, 1 if positives == "outside" else views - 1
    assert float(loss) == pytest.approx(math.log(others / own), rel=1e-12)


@pytest.mark.parametrize("tau", [0.5, 0.05])
def test_aligned_orthogonal_pairs(tau: float) -> None:
    n = 5
    z = torch.eye(n, dtype=torch.float64).expand(2, n, n)
    assert float(sum(nt_xent_terms(z, tau))) == pytest.approx(math.log(1 + (2 * n - 2) * math.exp(-1 / tau)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("positives", ["outside", "inside"])
@pytest.mark.parametrize("tau", [0.03, 0.02, 0.005, 1e-3])
def test_a_tiny_temperature(tau: float, positives: str, dtype: torch.dtype) -> None:
    """On both sides of where exp(1 / tau) leaves the range of numbers, opposite rows included: as the plain form."""
    z = random(3, 5, 6).to(dtype)
    z[:, 0] = -z[:, 1]
    exact = z.double().requires_grad_()
    expected = torch.stack(naive.nt_xent_terms(exact, tau, positives))  # type: ignore[arg-type]
    x = z.clone().requires_grad_()
    found = torch.stack(nt_xent_terms(x, tau, positives))  # type: ignore[arg-type]
    # a cosine's rounding is divided by tau
    digits = torch.finfo(dtype).eps * 8 / tau
    torch.testing.assert_close(found.double(), expected, rtol=digits, atol=digits)
    gradient, other = (torch.autograd.grad(v.sum(), at)[0] for v, at in ((found, x), (expected, exact)))
    assert (gradient - other).norm() <= digits * other.norm()


def test_where_the_exponential_is_safe() -> None:
    """0.4 of the exponents float32 and float64 can hold: 35 and 284."""
    assert is_bounded(0.029, torch.float32)
    assert not is_bounded(0.028, torch.float32)
    assert is_bounded(0.0036, torch.float64)
    assert not is_bounded(0.0035, torch.float64)


@pytest.mark.parametrize("tau", [0.5, 1e-3])
@pytest.mark.parametrize("shortest", [1, 3, 128])
def test_log_denominators_of_a_naive_loop(shortest: int, tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(strips.SHORTEST, "cpu", shortest)
    u = torch.nn.functional.normalize(random(7, 4), dim=1)
    naive = [torch.stack([u[i] @ u[k] / tau for k in range(7) if k != i]).logsumexp(0) for i in range(7)]
    torch.testing.assert_close(log_denominators(u, tau), torch.stack(naive), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("positives", ["outside", "inside"])
def test_a_row_without_direction(positives: str) -> None:
    """Its cosines are 0 and it receives no gradient; the others receive what the plain form gives them."""
    z = random(2, 4, 5)
    z[0, 1] = 0
    z[1, 2] = 1e-14
    grads = []
    for form in (nt_xent_terms, naive.nt_xent_terms):
        x = z.clone().requires_grad_()
        sum(form(x, 0.5, positives)).backward()  # type: ignore[arg-type, union-attr]
        assert x.grad is not None
        assert not x.grad[0, 1].any()
        assert not x.grad[1, 2].any()
        grads.append(x.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)


def test_refusals() -> None:
    z = torch.zeros(2, 4, 3)
    for bad, message in (
        ((z[:1], 0.5), r"views is 1.*2 or more"),
        ((z[:, :1], 0.5), r"samples in the batch is 1.*2 or more"),
        ((z, 0.0), r"temperature is 0\.0.*above 0"),
    ):
        with pytest.raises(UserError, match=message):
            contrast(*bad)  # type: ignore[arg-type]
    with pytest.raises((UserError, TypeError), match=r"positives|middle"):
        contrast(z, 0.5, positives="middle")  # type: ignore[arg-type]
