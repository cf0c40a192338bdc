"""Local crops: seen and compared, never predicted; the same on several processes; in a real run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import RunConfig
from eigenview.engine.plan import make_plan
from eigenview.engine.train import build_module
from eigenview.errors import UserError
from eigenview.functional.similarity import cosine
from eigenview.methods import OBJECTIVES, objective_class
from eigenview.methods.byol import BYOL
from eigenview.methods.simsiam import SimSiam
from eigenview.recipes import default
from eigenview.run import with_fields
from eigenview.views import Views, ordered_pairs
from tests.contract.step import loss_and_gradients
from tests.process_pool import ProcessPool

LOCAL = {"views": 2, "local_views": 3, "local_size": 8, "monitor": {"images": 16}, "batch_size": 16}


def config(method: str, **fields: Any) -> RunConfig[Any]:
    return with_fields(default(method, "digits"), {**LOCAL, **fields})


def test_pairs_predict_whole_views_only() -> None:
    assert ordered_pairs(2) == [(0, 1), (1, 0)]
    assert ordered_pairs(4, 2) == [(0, 1), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]


def test_byol_and_simsiam_by_hand() -> None:
    p, t = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    by_hand = torch.stack([cosine(p[a], t[b]).mean() for a in range(4) for b in range(2) if a != b]).mean()
    byol = BYOL()(Views(p=p, z_target=t[:2], targets=2))["similarity"]
    torch.testing.assert_close(byol, 2 * (2 - 2 * by_hand))
    simsiam = SimSiam()(Views(p=p, z=t, targets=2))["similarity"]
    torch.testing.assert_close(simsiam, -by_hand)


def test_targets_must_be_views_that_are_there() -> None:
    z = torch.randn(3, 4, 5)
    for targets in (1, 4):
        with pytest.raises(ValueError, match=f"targets is {targets}; expected 2 to the number of views, 3"):
            Views(z=z, targets=targets)
    with pytest.raises(ValueError, match="disagree"):
        Views(z=z, z_target=z[:2])
    assert Views(z=z, z_target=z[:2], targets=2).detach().targets == 2


@pytest.mark.parametrize("method", list(OBJECTIVES))
def test_every_method_trains_with_them(method: str) -> None:
    module = build_module(make_plan(config(method)))
    images = torch.arange(16)
    views = module.make_views(module._pixels[images], 0)
    assert [view.shape[-1] for view in views] == [16, 16, 8, 8, 8]
    loss = module.training_step({"index": images}, 0)
    assert loss.isfinite()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.network.encoder.parameters())


@pytest.mark.parametrize("method", ["isoloss", "directcopy"])
def test_whole_views_alone_are_predicted_with_their_own_matrices(method: str) -> None:
    """As in a diagnosis, which sees no local crops; `order` before keeps a matrix for each view."""
    module = build_module(make_plan(config(method, objective={"order": "before"})))
    module.training_step({"index": torch.arange(16)}, 0)
    guess = module.objective.predictor
    assert len(guess.W) == 5
    z = torch.randn(2, 6, guess.W.shape[-1])
    found = module.predict(z)
    assert found is not None
    for k in range(2):
        torch.testing.assert_close(found[k], z[k] @ guess.W[k].to(z.dtype).T)


@pytest.mark.ddp
@pytest.mark.parametrize("method", ["byol", "simsiam", "isoloss", "vicreg"])
def test_processes_agree(processes: ProcessPool, method: str) -> None:
    loss, found = loss_and_gradients(method, 4, 5, None, 2)
    for theirs, gradients in processes.run(2, loss_and_gradients, method, 4, 5, None, 2):
        assert theirs == pytest.approx(loss, abs=1e-10)
        for name, value in found.items():
            np.testing.assert_allclose(gradients[name], value, rtol=1e-10, atol=1e-10)


def test_a_run_with_them_ends_with_its_report(tmp_path: Path) -> None:
    args = ["pretrain", "--local-views", "2", "--epochs", "1", "--monitor.images", "16", "--method", "byol"]
    assert run([*args, "--out", str(tmp_path / "run")]) == 0
    assert runfiles.read_arrays(tmp_path / "run" / runfiles.GALLERY)["views"].shape[0] == 2
    assert runfiles.read_json(tmp_path / "run" / runfiles.SUMMARY)["finished"] is True


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"local_views": -1, "local_size": None}, r"--local-views is -1; allowed: 0 or more"),
        ({"local_views": 0}, r"--local-size is 8; allowed: 4 or more, with --local-views above 0"),
        ({"local_scale": (0.5, 0.2)}, r"--local-scale is \(0.5, 0.2\); allowed: two shares"),
        ({"local_size": 16}, r"--local-size is 16; allowed: below the views' 16 px"),
        ({"encoder": "timm:test_vit"}, r"--local-size 8: timm:test_vit cannot take crops of 8 px"),
        ({"encoder": "conv-small"}, r"--local-size 8: conv-small cannot take crops of 8 px"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_module(make_plan(config("vicreg", **fields)))


def test_the_state_of_an_objective_knows_all_views() -> None:
    module = build_module(make_plan(config("unbiased-vicreg", objective={"hinge": "dual"})))
    assert objective_class("unbiased-vicreg") is type(module.objective)
    assert module.objective.running.shape[0] == 5
