"""The last two checkpoints are kept; a damaged one is never loaded, and the one before it takes its place."""

from __future__ import annotations

import io
import os
import random
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from eigenview import runfiles
from eigenview.engine import callbacks
from eigenview.engine.callbacks import Checkpoints, save_checkpoint
from eigenview.engine.resume import Checkpoint, read_checkpoint
from eigenview.errors import UserError
from eigenview.terminal import Console

PLAN: Any = SimpleNamespace(config=SimpleNamespace(data="digits"), steps_per_epoch=3)
RESUMED: Any = SimpleNamespace(stored=SimpleNamespace(epochs=3), allow_changed_data=False)
LOG: Any = SimpleNamespace(state_dict=lambda: {"seconds": 2.5})
BATCHES: Any = SimpleNamespace(state_dict=lambda: {"step": 1, "seed": 0, "batch_size": 4, "images": 9})


class Module(nn.Module):
    """What a checkpoint needs of a run's module, trained for `step` steps of SGD with momentum."""

    steps, steps_per_epoch, device = 9, 3, torch.device("cpu")

    def __init__(self, step: int = 0, *, frozen_epochs: float = 0.0, momentum: float = 0.9) -> None:
        super().__init__()
        self.frozen_epochs, self.momentum = frozen_epochs, momentum
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)
        self.optimizer = self.configure_optimizers()
        self.step = step
        for done in range(step):
            self.optimizer.zero_grad()
            if done / self.steps_per_epoch >= frozen_epochs:
                self.layer(torch.ones(1, 3)).sum().backward()
            self.optimizer.step()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = [{"params": list(self.layer.parameters()), "frozen_epochs": self.frozen_epochs}]
        return torch.optim.SGD(groups, lr=0.1, momentum=self.momentum)

    def raise_non_finite(self) -> None: ...


def save(directory: Path, step: int) -> Any:
    module: Any = Module(step)
    save_checkpoint(directory, module, LOG, BATCHES)
    return module


def read(directory: Path, console: Console | None = None) -> Checkpoint:
    module: Any = Module()
    found = read_checkpoint(directory, module, PLAN, RESUMED, console)
    assert found is not None
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def test_the_last_two_are_kept_and_the_last_is_read(tmp_path: Path) -> None:
    save(tmp_path, 1)
    assert not (tmp_path / runfiles.PREVIOUS_CHECKPOINT).exists()
    for step in (2, 3):
        module = save(tmp_path, step)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}
    found = read(tmp_path)
    assert (found.step, found.log_state) == (3, {"seconds": 2.5})
    for name, value in module.state_dict().items():
        assert torch.equal(found.state_dict[name], value)


def test_a_damaged_one_is_named_and_the_one_before_it_is_used(tmp_path: Path) -> None:
    for step in (2, 3):
        save(tmp_path, step)
    flip(tmp_path / runfiles.CHECKPOINT)
    out = io.StringIO()
    console = Console(file=out)
    assert read(tmp_path, console).step == 2
    said = out.getvalue()
    assert "last.ckpt is damaged" in said
    assert "previous.ckpt, step 2, instead" in said
    assert said.count("\n") == 1
    assert read(tmp_path).step == 2, "also the next time, before a checkpoint was written"
    save(tmp_path, 4)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"damaged.ckpt", "last.ckpt", "previous.ckpt"}, "the damaged one did not become the previous one"
    assert read(tmp_path).step == 4
    flip(tmp_path / runfiles.CHECKPOINT)
    flip(tmp_path / runfiles.PREVIOUS_CHECKPOINT)
    with pytest.raises(UserError, match=r"last\.ckpt is damaged.*previous\.ckpt is damaged") as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("is_archive", [True, False])
def test_no_pickle_ends_in_a_traceback(tmp_path: Path, *, is_archive: bool, recwarn: pytest.WarningsRecorder) -> None:
    """An archive of an earlier version, which has no checksum, with any instructions in the place of its content."""
    save(tmp_path, 2)
    path, whole = tmp_path / runfiles.CHECKPOINT, zipfile.ZipFile(tmp_path / runfiles.CHECKPOINT)
    parts = {name: whole.read(name) for name in whole.namelist()}
    drawn = random.Random(0)
    for _ in range(200):
        content = (
            b"\x80\x02" + bytes(drawn.choices(b"QabcRstpq01JXM}])\x80\x85\x86\x93\x81\x88K\x01Nehj\x00", k=8)) + b"."
        )
        if is_archive:
            with zipfile.ZipFile(path, "w") as archive:
                for name, value in parts.items():
                    archive.writestr(name, content if name.endswith("data.pkl") else value)
        else:
            path.write_bytes(content)
        with pytest.raises(UserError) as error:
            read(tmp_path)
        assert "\n" not in str(error.value)
    assert not recwarn.list


def test_a_folder_in_the_place_of_the_previous_one_leaves_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / runfiles.PREVIOUS_CHECKPOINT / "something").mkdir(parents=True)
    before = sorted((tmp_path / "checkpoints").rglob("*"))
    with pytest.raises(UserError, match=r"last\.ckpt cannot be written"):
        save(tmp_path, 2)
    assert sorted((tmp_path / "checkpoints").rglob("*")) == before
    assert read(tmp_path).step == 1


def test_a_failed_writer_leaves_the_last_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(content: Any, file: Any) -> None:
        file.write(b"PK\3\4" * 100)
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"last\.ckpt cannot be written.*No space left.*--resume"):
        save(tmp_path, 2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    monkeypatch.undo()
    assert read(tmp_path).step == 1


def test_where_links_are_unknown_the_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(source: Path, target: Path) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(os, "link", unknown)
    for step in (1, 2):
        save(tmp_path, step)
    assert read(tmp_path).step == 2
    (tmp_path / runfiles.CHECKPOINT).unlink()  # killed between the two renames
    assert read(tmp_path).step == 1


def test_nothing_of_a_checkpoint_lies_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr("tempfile.tempdir", None)
    save(tmp_path / "run", 1)
    assert read(tmp_path / "run").step == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state["state"].clear(), "the state of all parameters is missing"),
        (lambda state: state["param_groups"].append(state["param_groups"][0]), "this version makes ["),
        (lambda state: state["param_groups"][0].update(lr="abc"), "lr of a group of parameters is 'abc'"),
        (lambda state: state["state"].update({7: {}}), "its state of parameter 7 belongs to none"),
        (lambda state: state["state"].update({0: 5}), "its state of parameter 0 belongs to none"),
        (lambda state: state["state"][0].update(momentum_buffer=torch.zeros(7)), "has shape (7,)"),
        (lambda state: state["state"][0].update(momentum_buffer="abc"), "momentum_buffer of parameter 0 is abc"),
        (lambda state: state["state"][0].update(step=None), "step of parameter 0 is 'None'"),
        (lambda state: state["state"][0].update(step=torch.zeros(2)), "step of parameter 0 has shape (2,)"),
        (lambda state: state["state"][0].clear(), "different kinds of state"),
    ],
)
def test_a_state_of_the_optimiser_that_does_not_fit_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    save(tmp_path, 2)
    path = tmp_path / runfiles.CHECKPOINT
    content = torch.load(path, weights_only=True)
    change(content["optimizer_states"][0])
    torch.save(content | {"eigenview": {"steps": 9}}, path)
    with pytest.raises(UserError, match=r"last\.ckpt does not fit this run's optimiser") as error:
        read(tmp_path)
    assert said in str(error.value).replace("'abc'", "abc" if "buffer" in said else "'abc'")


@pytest.mark.parametrize(
    ("options", "step", "is_whole"),
    [
        ({"frozen_epochs": 1.0}, 3, True),  # the last step is the last of the frozen epoch
        ({"frozen_epochs": 1.0}, 4, False),
        ({"momentum": 0.0}, 4, True),  # SGD without momentum has no state
    ],
)
def test_only_what_has_moved_needs_a_state(
    tmp_path: Path, options: dict[str, Any], step: int, *, is_whole: bool
) -> None:
    module: Any = Module(step, **options)
    assert bool(module.optimizer.state) is not is_whole
    module.optimizer.state.clear()
    save_checkpoint(tmp_path, module, LOG, BATCHES)
    fresh: Any = Module(**options)
    if is_whole:
        found = read_checkpoint(tmp_path, fresh, PLAN, RESUMED)
        assert found is not None
        assert found.step == step
    else:
        with pytest.raises(UserError, match="the state of all parameters is missing"):
            read_checkpoint(tmp_path, fresh, PLAN, RESUMED)


def test_checkpoints_take_no_more_than_their_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes a second and a checkpoint three: one each 375 seconds, although each third step ends an epoch."""
    now, saved = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slow(directory: Path, module: Any, log: Any, batches: Any) -> None:
        now[0] += 3.0
        saved.append(module.step)

    monkeypatch.setattr(callbacks, "save_checkpoint", slow)
    module: Any = Module()
    module.steps = 500
    saver = Checkpoints(tmp_path, 2.0, 10, LOG, BATCHES)
    saver.start(module)
    for step in range(1, 501):
        now[0] += 1.0
        module.step = step
        saver.after_step(module)
    saver.end()
    assert saved == [6, 381, 500]
