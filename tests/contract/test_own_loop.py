"""An objective in a training loop of one's own on several processes: `clock=ev.Clock(processes=ev.processes())`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import eigenview as ev
from tests.process_pool import ProcessPool

ROWS, WIDTH = 8, 6


def embeddings() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, ROWS, WIDTH)))


def own_share(method: str) -> tuple[float, np.ndarray]:
    """Loss and gradient of this process's rows."""
    clock = ev.Clock(processes=ev.processes())
    n = ROWS // clock.processes.size
    z = embeddings()[:, clock.processes.rank * n :][:, :n].requires_grad_()
    loss = getattr(ev, method)()(z[0], z[1], clock=clock)
    loss.backward()
    assert z.grad is not None
    return float(loss.detach()), z.grad.numpy()


@pytest.mark.ddp
@pytest.mark.parametrize("method", ["VICReg", "BarlowTwins", "SimCLR"])
def test_the_loss_is_that_of_all_rows(processes: ProcessPool, method: str) -> None:
    (loss, gradient), shares = own_share(method), processes.run(2, own_share, method)
    assert np.mean([share for share, _ in shares]) == pytest.approx(loss, rel=1e-10)
    found = np.concatenate([share / 2 for _, share in shares], axis=1)  # DDP takes the mean
    np.testing.assert_allclose(found, gradient, atol=1e-10)


def unequal(method: str, axis: int) -> str:
    """What is said if the second process has one row, or one view, less."""
    z = embeddings()[:, :5] if axis == 1 else torch.cat([embeddings()] * 2)
    z = z.narrow(axis, 0, z.shape[axis] - torch.distributed.get_rank())
    try:
        getattr(ev, method)()(*z, clock=ev.Clock(processes=ev.processes()))
    except ev.UserError as error:
        return str(error)
    return ""


@pytest.mark.ddp
@pytest.mark.parametrize("method", ["VICReg", "UnbiasedVICReg", "BarlowTwins", "SimCLR", "InfoNCE"])
@pytest.mark.parametrize(("axis", "first", "second"), [(1, (2, 5, 6), (2, 4, 6)), (0, (4, 8, 6), (3, 8, 6))])
def test_unequal_shares_are_refused_on_every_process(
    processes: ProcessPool, method: str, axis: int, first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    for said in processes.run(2, unequal, method, axis):
        assert f"on process 1 is {second}; allowed: {first}, as on process 0" in said
        assert "drop_last" in said
