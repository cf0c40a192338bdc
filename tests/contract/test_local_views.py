"""Local crops: seen and compared, never predicted; the same on several processes; in a real run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import RunConfig, with_fields
from eigenview.engine.optim import build_optimizer
from eigenview.engine.plan import make_plan
from eigenview.engine.step import accumulate_gradients, train_step
from eigenview.engine.train import build_module
from eigenview.errors import UserError
from eigenview.functional.similarity import cosine
from eigenview.methods import METHODS
from eigenview.methods.byol import BYOL
from eigenview.methods.simsiam import SimSiam
from eigenview.recipes import default
from eigenview.views import Views
from tests.contract.step import two_steps
from tests.process_pool import ProcessPool

LOCAL = {"views": 2, "local_views": 3, "local_size": 8, "monitor": {"images": 16}, "batch_size": 16}


def config(name: str, **fields: Any) -> RunConfig[Any]:
    return with_fields(default(name, "digits"), {**LOCAL, **fields})


def test_pairs_predict_whole_views_only() -> None:
    z = torch.zeros(4, 1, 1)
    assert Views(z=z[:2]).pairs() == [(0, 1), (1, 0)]
    assert Views(z=z, whole=2).pairs() == [(0, 1), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]
    assert Views(z=z[:1], z_target=z[:1], online=(0,), targets=(1,)).pairs() == [(0, 0)]  # view 0 predicts view 1


def test_byol_and_simsiam_by_hand() -> None:
    p, t = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    by_hand = torch.stack([cosine(p[a], t[b]).mean() for a in range(4) for b in range(2) if a != b]).mean()
    byol = BYOL()(Views(p=p, z_target=t[:2], whole=2)).terms["similarity"]
    torch.testing.assert_close(byol, 2 * (2 - 2 * by_hand))
    simsiam = SimSiam()(Views(p=p, z=t, whole=2)).terms["similarity"]
    torch.testing.assert_close(simsiam, -by_hand)


def test_targets_must_be_views_that_are_there() -> None:
    z = torch.randn(3, 4, 5)
    for whole in (1, 4):
        with pytest.raises(ValueError, match=rf"whole is {whole}.*3"):
            Views(z=z, whole=whole)
    with pytest.raises(ValueError, match="disagree"):
        Views(z=z, z_target=z[:2])
    assert len(Views(z=z, z_target=z[:2], whole=2).pairs()) == 4


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_with_them(method: str) -> None:
    module = build_module(make_plan(config(method)))
    made = module.make_batch(module._pixels[torch.arange(16)], 0)
    assert [view.shape[-1] for view in made.views] == [16, 16, 8, 8, 8]
    loss = accumulate_gradients(module.method, made, module.clock(0), module.options)
    assert loss.total.isfinite()
    (encoder,) = module.method.encoders().values()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.ddp
@pytest.mark.parametrize("method", ["byol", "simsiam", "isoloss", "vicreg"])
def test_processes_agree(processes: ProcessPool, method: str) -> None:
    losses, found = two_steps(method, 4, 5, None, 2)
    for theirs, state in processes.run(2, two_steps, method, 4, 5, None, 2):
        assert theirs == pytest.approx(losses, abs=1e-10)
        for name, value in found.items():
            np.testing.assert_allclose(state[name], value, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_a_run_with_them_ends_with_its_report(tmp_path: Path) -> None:
    args = ["pretrain", "--local-views", "2", "--epochs", "1", "--monitor.images", "16", "--method", "byol"]
    assert run([*args, "--out", str(tmp_path / "run")]) == 0
    assert runfiles.read_arrays(tmp_path / "run" / runfiles.GALLERY)["views"].shape[0] == 2
    assert runfiles.read_json(tmp_path / "run" / runfiles.SUMMARY)["finished"] is True


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"local_views": -1, "local_size": None}, r"--local-views is -1; allowed: 0 or more"),
        ({"local_views": 0}, r"--local-size is 8; allowed: 4 to 4096, with --local-views above 0"),
        ({"local_scale": (0.5, 0.2)}, r"--local-scale is \(0.5, 0.2\); allowed: two shares"),
        ({"local_size": 16}, r"--local-size is 16; allowed: below the views' 16 px"),
        ({"encoder": "timm:test_vit"}, r"--local-size is 8; allowed: 16 with timm:test_vit"),
        ({"encoder": "conv-small"}, r"--local-size 8: conv-small cannot take crops of 8 px"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_module(make_plan(config("vicreg", **fields)))


def test_the_state_of_an_objective_knows_all_views() -> None:
    module = build_module(make_plan(config("unbiased-vicreg", method={"hinge": "dual"})))
    optimizer = build_optimizer(module.config.optim, module.method, batch_size=16)
    made = module.make_batch(module._pixels[torch.arange(16)], 0)
    train_step(module.method, made, module.clock(0), optimizer, module.options)
    running = module.method.objective.running
    assert running.shape[0] == 5
    assert (running > 0).all()
