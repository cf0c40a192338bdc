"""Files that accidents or people changed: each is refused in one line that names it, before anything in it is used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eigenview import runfiles
from eigenview.commands.diagnose import diagnose
from eigenview.engine.resume import load
from eigenview.engine.train import note_environment, note_skipped
from eigenview.errors import UserError
from eigenview.report.read import read_run
from eigenview.run import read_config
from eigenview.runfiles.whole import READERS, check_run
from eigenview.terminal import Console
from tests.report.synthetic_run import make_hits, write_run

JSON_FILES = (runfiles.CONFIG, runfiles.ENVIRONMENT, runfiles.SUMMARY, runfiles.PROBES)
ROW_FILES = (runfiles.METRICS, runfiles.DIAGNOSTICS)
FILES = (*JSON_FILES, *ROW_FILES, runfiles.SPECTRA, runfiles.GALLERY, runfiles.PROBE_HITS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, bytes]]:
    """A run, and what is in its files."""
    run = write_run(tmp_path_factory.mktemp("whole") / "run", width=8)
    runfiles.write_hits(run, make_hits(np.random.default_rng(0), images=5000))
    return run, {path: path.read_bytes() for path in run.iterdir()}


@pytest.fixture
def run(whole: tuple[Path, dict[Path, bytes]]) -> Path:
    """The run as it was."""
    path, contents = whole
    for file, content in contents.items():
        file.write_bytes(content)
    return path


def bits(content: bytes, num: int) -> Iterator[bytes]:
    """The content with one bit flipped, at `num` random places."""
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), num):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(0, 8))
        yield bytes(changed)


def refusal(read: Callable[[], Any]) -> str | None:
    """The one line with which `read` refuses; None if it returns."""
    try:
        read()
    except UserError as error:
        said = str(error)
    else:
        return None
    assert "\n" not in said
    return said


def plain(value: Any) -> Any:
    """Values that can be compared, of what a reader returns."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, runfiles.Hits):
        return plain(vars(value))
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return value


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_or_changes_nothing(run: Path, name: str) -> None:
    path, read = run / name, READERS[name]
    expected, content, refused = plain(read(run)), path.read_bytes(), 0
    for changed in bits(content, 40):
        path.write_bytes(changed)
        said = refusal(lambda: read(run))
        if said is None:
            assert plain(read(run)) == expected
        else:
            assert name in said
            refused += 1
    assert refused >= 30, "most bits matter: the rest are dates and the like in an archive, or white space"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint as the engine writes it."""
    path = tmp_path_factory.mktemp("checkpoint") / "last.ckpt"
    weights = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    with path.open("wb") as file, runfiles.sealed(file) as archive:
        torch.save(content_of(weights), archive)
    return path


def content_of(weights: torch.Tensor) -> dict[str, Any]:
    return {
        "global_step": 3,
        "state_dict": {"w": weights},
        "optimizer_states": [{"state": {0: {"momentum_buffer": weights}}, "param_groups": [{"params": [0]}]}],
        "callbacks": {"MetricsWriter": {"seconds": 1.5}},
        "batches": {"step": 3, "seed": 0, "batch_size": 4, "images": 9},
        "eigenview": {"steps": 9, "sealed": True},
    }


def test_a_flipped_bit_of_a_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    assert load(checkpoint)["global_step"] == 3
    for changed in bits(checkpoint.read_bytes(), 40):
        path.write_bytes(changed)
        said = refusal(lambda: load(path))
        assert said is not None
        assert str(path) in said
        assert "damaged" in said or "not a checkpoint" in said
        assert said.count(str(path)) == 1


def test_a_checkpoint_without_a_checksum_is_of_an_earlier_version(checkpoint: Path, tmp_path: Path) -> None:
    path, content = tmp_path / "old.ckpt", load(checkpoint)
    torch.save(content | {"eigenview": {"steps": 9}}, path)
    assert torch.equal(load(path)["state_dict"]["w"], content["state_dict"]["w"])
    torch.save(content, path)  # it says that it was written with one
    with pytest.raises(UserError, match="lost the checksum"):
        load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"global_step": "abc"}, "global_step is 'abc'"),
        ({"global_step": -1}, "global_step is -1; expected a whole number, 0 or more"),
        ({"state_dict": {"w": 1.0}}, "state_dict.w is 1.0; expected a tensor"),
        ({"optimizer_states": []}, "optimizer_states is a list of 0 values"),
        ({"optimizer_states": [{"param_groups": []}]}, "state is missing"),
        ({"callbacks": {"MetricsWriter": {"seconds": float("nan")}}}, "seconds is nan"),
        ({"batches": {"step": 1}}, "batches.seed is missing"),
        ({"eigenview": None}, "eigenview is None"),
    ],
)
def test_fields_of_a_checkpoint_of_another_kind_are_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    torch.save(content_of(torch.zeros(2)) | change, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt is not a checkpoint that eigenview wrote") as error:
        load(tmp_path / "last.ckpt")
    assert said in str(error.value)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2].rstrip(b"\n") + b"\n",
    "no text": lambda content: b"\xff\xfe\x00" + content,
    "nested deeply": lambda content: b"[" * 100_000 + b"]" * 100_000,
    "nested": lambda content: b'{"step": ' + b"[" * 100 + b"]" * 100 + b"}",
    "5,000 digits": lambda content: b'{"step": ' + b"9" * 5000 + b"}",
    "too large": lambda content: b'{"step": 1e999}',
    "NaN": lambda content: b'{"step": NaN}',
    "a list": lambda content: b"[1, 2]",
    "a number": lambda content: b"7",
}


# a file without rows is no damage: it is that of a run that has just begun
@pytest.mark.parametrize(
    ("name", "damage"), [(n, d) for n in FILES for d in DAMAGES if not (n in ROW_FILES and d == "empty")]
)
def test_every_damage_is_one_line_with_the_name_of_the_file(run: Path, name: str, damage: str) -> None:
    path = run / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    verbs: list[Callable[[], Any]] = [lambda: read_run(run)]
    if name == runfiles.CONFIG:
        verbs.append(lambda: read_config(run))
    if name in (runfiles.SUMMARY, runfiles.DIAGNOSTICS):
        verbs.append(lambda: diagnose(str(run), None, None, Console()))
    if name == runfiles.ENVIRONMENT:
        verbs.append(lambda: note_environment(run, {}, 0))
    for verb in verbs:
        said = refusal(verb)
        assert said is not None
        assert str(path.resolve()) in said
    assert [each.name for each in check_run(run) if each.state == "damaged"] == [name]


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run: Path) -> None:
    """Each file, and both checkpoints: opening a pipe would block until somebody writes into it."""
    checkpoints = (run / runfiles.CHECKPOINT, run / runfiles.PREVIOUS_CHECKPOINT)
    checkpoints[0].parent.mkdir(exist_ok=True)
    for path in (*(run / name for name in FILES), *checkpoints):
        content = path.read_bytes() if path.exists() else None
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        said = refusal(lambda: READERS[str(path.relative_to(run))](run))  # noqa: B023
        assert said is not None
        assert str(path) in said
        if path in checkpoints:
            said = refusal(lambda: load(path))  # noqa: B023
            assert said is not None
            assert "a pipe, a socket or a device, not a file" in said
        path.unlink()
        if content is not None:
            path.write_bytes(content)


WRONG = ["abc", -1, 1.5, 10**30, [], [[]], {}, {"a": {"b": 1}}, None]


@pytest.mark.parametrize("name", [*JSON_FILES, *ROW_FILES])
def test_a_value_of_another_kind_never_ends_in_a_traceback(run: Path, name: str) -> None:
    """Each field of each file with nine values of every kind, as somebody would write them by hand: no checksum."""
    path, refused = run / name, 0
    content = runfiles.read_json(path) if name in JSON_FILES else runfiles.read_rows(path)[-1]
    for field in content:
        for wrong in WRONG:
            path.write_text(json.dumps(content | {field: wrong}) + "\n")
            said = refusal(lambda: READERS[name](run))
            assert said is None or str(path) in said
            if name == runfiles.CONFIG:  # what the reader lets pass, the configuration checks
                said = refusal(lambda: read_config(run))
                assert said is not None or read_config(run)
            refused += said is not None
    assert refused >= 4 * len(content) // 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("optim", "lr_per_256"), "abc"),
        (("optim", "momentum"), None),
        (("network", "projector_layers"), [2]),
        (("loader", "workers"), 10**400),
        (("probe", "images"), {"a": 1}),
        (("monitor", "images"), True),
        (("method", "variance"), "much"),
        (("method", "name"), ["vicreg"]),
        (("method",), 5),
        (("optim",), [1]),
        (("local_scale",), [0.1]),
        (("epochs",), 2.5),
    ],
)
def test_an_option_of_another_kind_is_named(run: Path, path: tuple[str, ...], value: Any) -> None:
    config = runfiles.read_json(run / runfiles.CONFIG)
    *above, last = path
    inner = config
    for name in above:
        inner = inner[name]
    inner[last] = value
    (run / runfiles.CONFIG).write_text(json.dumps(config))
    said = refusal(lambda: read_config(run))
    assert said is not None
    assert last in said or "digits" in said or "method" in said


def test_a_file_that_was_changed_on_purpose_is_accepted_without_its_checksum(run: Path) -> None:
    path = run / runfiles.CONFIG
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"epochs": 99}))
    with pytest.raises(UserError, match='delete "checksum" from it'):
        read_config(run)
    del content["checksum"]
    path.write_text(json.dumps(content | {"epochs": 99}))
    assert read_config(run).epochs == 99


def test_a_damaged_row_is_named_and_a_cut_last_row_left_out(run: Path) -> None:
    path = run / runfiles.METRICS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    assert len(runfiles.read_metrics(run)) == len(lines) - 1
    path.write_bytes(b"".join([*lines[:4], lines[4].replace(b'"loss": ', b'"loss": 1'), *lines[5:]]))
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged: line 5: its content does not fit the checksum"):
        runfiles.read_metrics(run)


def test_a_list_of_skipped_images_that_is_no_table_is_refused_or_read(run: Path) -> None:
    (run / runfiles.SKIPPED).write_bytes(b"path,reason\n\xff\0.png,cut\n")
    assert list(runfiles.read_table(run / runfiles.SKIPPED).values()) == ["cut"]
    (run / runfiles.SKIPPED).write_bytes(b'path,reason\n"' + b"x" * 200_000)
    for read in (lambda: note_skipped(run, ()), lambda: read_run(run)):
        said = refusal(read)
        assert said is not None
        assert "skipped.csv is damaged" in said


def test_spectra_are_those_of_the_archive_and_of_the_rows_behind_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{"h": rng.normal(size=5).astype(np.float32), "z": rng.normal(size=3)} for _ in range(5)]
    arrays = {"step": np.arange(3), **{name: np.stack([row[name] for row in rows[:3]]) for name in ("h", "z")}}
    runfiles.write_arrays(tmp_path / runfiles.SPECTRA, arrays)
    for step in (2, 3, 4):  # step 2 is in the archive already: the run was killed before the rows were deleted
        runfiles.append_row(tmp_path / runfiles.SPECTRA_ROWS, runfiles.spectra_row(step, rows[step]))
    found = runfiles.read_spectra(tmp_path)
    assert found["step"].tolist() == [0, 1, 2, 3, 4]
    for name, kind in (("h", np.float32), ("z", np.float64)):
        np.testing.assert_array_equal(found[name], np.stack([row[name] for row in rows]))
        assert found[name].dtype == kind
    other = runfiles.spectra_row(5, {"h": np.zeros(4, np.float32), "z": np.zeros(3)})
    runfiles.append_row(tmp_path / runfiles.SPECTRA_ROWS, other)
    with pytest.raises(UserError, match=r"spectra\.jsonl is damaged: h does not have as many values in each row"):
        runfiles.read_spectra(tmp_path)


def test_images_without_pixels_are_refused(run: Path) -> None:
    arrays = runfiles.read_gallery(run)
    runfiles.write_arrays(run / runfiles.GALLERY, arrays | {"originals": arrays["originals"][..., :0]})
    with pytest.raises(UserError, match=r"gallery\.npz is damaged: originals is uint8 of shape \(\d+, 3, \d+, 0\)"):
        runfiles.read_gallery(run)


def test_an_archive_that_would_fill_the_memory_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / runfiles.SPECTRA
    np.savez_compressed(path, step=np.zeros(2_000_000, np.int64))
    with pytest.raises(UserError, match=r"spectra\.npz is damaged: its arrays take 0\.0 GB"):
        runfiles.read_arrays(path, most_bytes=1e6)
