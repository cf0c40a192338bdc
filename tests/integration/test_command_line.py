"""The command line as a person meets it: quick help, one-line errors with a way out, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eigenview import runfiles
from eigenview.cli import main, run
from eigenview.commands import pretrain
from eigenview.config import RunConfig
from eigenview.errors import ReplacedImages

SMALL = ["--epochs", "1", "--batch-size", "64", "--monitor.images", "32", "--probe.few-label-draws", "1"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures in two classes; a flat copy of ten of them."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for k in range(120):
        folder = root / "photos" / ("dark", "bright")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (20, 24, 3)) + 130 * (k % 2)
        Image.fromarray(pixels.astype("uint8")).save(folder / f"{k}.png")
    (root / "one").mkdir()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(root / "one" / "a.png")
    (root / "empty").mkdir()
    (root / "texts").mkdir()
    (root / "texts" / "a.jpg").write_text("not an image")
    (root / "flat").mkdir()
    for k in range(100):
        Image.fromarray(rng.integers(0, 255, (20, 20, 3)).astype("uint8")).save(root / "flat" / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    assert run(["pretrain", str(photos / "photos"), *SMALL, "--out", str(out)]) == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], args: list[str], *said: str) -> None:
    """Exit code 2 and one line on standard error that says all of `said`."""
    try:
        code = run(args)
    except SystemExit as stop:  # tyro's own refusals
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2, error
    assert "Traceback" not in error
    assert error.startswith("eigenview: ")
    assert error.count("\n") == 1
    assert "  " not in error
    for part in said:
        assert part in error, error


HELP = [
    ["--help"],
    ["pretrain", "--help"],
    ["preview", "--help"],
    ["list", "augmentations"],
    ["report", "--help"],
    ["list", "methods"],
    ["simulate", "modes", "--help"],
]


@pytest.mark.parametrize("args", HELP)
def test_help_and_lists_do_not_import_torch(args: list[str]) -> None:
    program = f"import sys; from eigenview.cli import run\ntry: run({args!r})\nexcept SystemExit: pass\n"
    program += "assert not {'torch', 'scipy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_importing_the_package_does_not_import_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, eigenview; assert 'torch' not in sys.modules"], check=True)


def test_help_of_a_method_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["pretrain", "--method", "vicreg", "--help"])
    assert "--method.covariance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["pretrian"], ("pretrian", "pretrain")),
        (["pretrain", "--method", "vicrge"], ("vicrge", "Did you mean vicreg?")),
        (["pretrain", "--epohcs", "3"], ("epohcs", "Did you mean --epochs?")),
        (["pretrain", "--pretrained", "x"], ("--pretrained", "It is named --weights")),
        (["pretrain", "--weights", "x"], ("--weights: x does not exist", "a run directory")),
        (["pretrain", "--config", "x"], ("--config", "--recipe MODULE:FUNCTION")),
        (["pretrain", "--logger", "x"], ("--logger", "metrics.jsonl")),
        (["finetune"], ("finetune: no such verb. (eigenview --help)",)),
        (["pretrain", "--epochs", "0"], ("--epochs", "0", "1 or more")),
        (["pretrain", "--views", "1"], ("--views", "2 or more")),
        (["pretrain", "--optim.lr-per-256", "-1"], ("optim.lr_per_256", "above 0")),
        (["pretrain", "--encoder", "resnet81"], ("resnet81", "resnet18")),
        (["pretrain", "--recipe", "small-vicrge"], ("small-vicrge", "small-vicreg")),
        (["pretrain", "--method.variance2", "1"], ("--method.variance2", "VICReg", "--method.variance,")),
        (["pretrain", "--method", "simclr", "--method.variance", "1"], ("--method.variance", "SimCLR", "temperature")),
        (["pack", "{root}/photos", "--image-size", "9" * 400], ("--image-size", "8 to 4096")),
        (["pack", "{root}/photos", "--size", "8"], ("--size", "--image-size")),
        (["pretrain", "{root}/nowhere"], ("nowhere",)),
        (["pretrain", "{root}/empty"], ("empty",)),
        (["pretrain", "{root}/texts"], ("texts",)),
        (["pretrain", "{root}/one"], ("1 readable image", "--batch-size")),
        (["pretrain", "{root}/photos"], ("120 readable images", "128", "--batch-size")),
        (["pretrain", "{root}/photos", *SMALL, "--image-size", "8", "--encoder", "conv-small"], ("8", "conv-small")),
        (["pretrain", "{root}/photos", "--batch-size", "64", "--probe-data", "{root}/flat"], ("flat", "labels")),
        (["pretrain", "--batch-size", "64", "--devices", "3"], ("--devices 3", "multiple of 3")),
        (["pretrain", "--resume"], ("--out",)),
        (["pretrain", "--resume", "--out", "{root}/one/a.png"], ("a.png", "is a file")),
        (["pretrain", "", "--epochs", "1"], ("empty text", "a folder")),
        (["pretrain", "~no-such-user/x", "--epochs", "1"], ("~no-such-user/x", "neither a path that exists")),
        (["pretrain", "--recipe", ":"], ("--recipe :", "MODULE:FUNCTION")),
        (["probe", "{root}/nowhere", "--seed", "-1"], ("--seed", "0 or more")),
        (["list", "experiments"], ("no folder experiments/ here",)),
        (["report"], ("report",)),
        (["report", "{root}/empty"], ("empty",)),
        (["list", "methds"], ("methods",)),
        (["diagnose", "{root}/nowhere.npy"], ("nowhere.npy",)),
        (["embed", "{root}/empty", "digits"], ("empty",)),
        (["experiment", "nothing"], ("nothing",)),
    ],
)
def test_bad_input_is_one_line_with_a_way_out_and_leaves_nothing(
    args: list[str],
    said: tuple[str, ...],
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(capsys, [arg.format(root=photos) for arg in args], *said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "encoder", "epochs"),
    [
        (["--method", "byol", "{root}/photos"], "conv-small", 40),
        (["{root}/photos", "--method", "byol"], "conv-small", 40),
        (["--epochs", "7", "{root}/photos"], "conv-small", 7),
        (["--method", "byol", "digits"], "conv-tiny", 60),
        (["--method", "byol"], "conv-tiny", 60),
    ],
)
def test_the_recipe_is_that_of_the_data_wherever_they_stand(
    args: list[str], encoder: str, epochs: int, photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[RunConfig[Any]] = []
    monkeypatch.setattr(pretrain, "_train", lambda config, directory: seen.append(config) or 0)
    assert run(["pretrain", *(arg.format(root=photos) for arg in args)]) == 0
    assert (seen[0].decided().encoder, seen[0].epochs) == (encoder, epochs)
    assert Path(seen[0].data).name == Path(args[-1].format(root=photos) if "root" in args[-1] else seen[0].data).name


def test_a_finished_run_holds_every_file_of_the_design(finished: Path) -> None:
    names = [runfiles.CONFIG, runfiles.ENVIRONMENT, runfiles.SUMMARY, runfiles.PROBES, runfiles.METRICS]
    names += [runfiles.DIAGNOSTICS, runfiles.SPECTRA, runfiles.GALLERY, runfiles.REPORT, runfiles.CHECKPOINT]
    names += [runfiles.ENCODER, runfiles.ENCODER_CARD, "data_files.npz", runfiles.PROBE_HITS]
    assert {str(n) for n in names} == {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    summary = runfiles.read_json(finished / runfiles.SUMMARY)
    assert summary["finished"] is True
    assert set(summary["baselines"]) == {"raw pixels", "untrained encoder"}
    assert summary["knn"] is not None


def test_a_directory_with_another_run_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    refused(capsys, ["pretrain", "--out", str(finished)], "already holds another run", "--resume")
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


def test_a_resumed_run_keeps_its_configuration(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for other in (["--views", "3"], ["--recipe", "small-byol"]):
        refused(capsys, ["pretrain", "--out", str(finished), "--resume", *other], "keeps its own configuration")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "pickle"])
def test_a_damaged_or_foreign_checkpoint_is_refused_and_never_run(
    content: bytes | str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    import torch

    out = tmp_path / "run"
    shutil.copytree(finished, out)
    marker = tmp_path / "executed"
    if content == "pickle":

        class Attack:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return (__import__("os").system, (f"touch {marker}",))

        torch.save({"state_dict": Attack()}, out / runfiles.CHECKPOINT)
    else:
        assert isinstance(content, bytes)
        (out / runfiles.CHECKPOINT).write_bytes(content)
    refused(capsys, ["pretrain", "--out", str(out), "--resume"], "last.ckpt", "--out")
    assert not marker.exists()


def test_probe_embed_diagnose_report_export(
    finished: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    import pyarrow.parquet as pq

    data = str(photos / "photos")
    assert run(["probe", str(finished), "--data", data, "--labels-per-class", "5", "--out", f"{tmp_path}/p.json"]) == 0
    table = runfiles.read_json(tmp_path / "p.json")
    assert [row["features"] for row in table["rows"]] == ["raw pixels", "untrained encoder", "this encoder"]
    assert "96 training and 24 test images" in table["protocols"]["linear"]
    assert run(["probe", str(finished), "--data", data, "--images", "40", "--out", f"{tmp_path}/p.json"]) == 0
    assert "40 training and 24 test images" in runfiles.read_json(tmp_path / "p.json")["protocols"]["linear"]
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    capsys.readouterr()
    both = ["probe", str(finished), str(again), "--data", data, "--protocol", "linear", "--out", f"{tmp_path}/p.json"]
    assert run(both) == 0
    rows = runfiles.read_json(tmp_path / "p.json")["rows"]
    assert [row["features"] for row in rows] == ["raw pixels", "untrained encoder", str(finished), str(again)]
    assert rows[2]["linear"] == rows[3]["linear"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{finished}: ")
    assert lines[1].startswith(f"{again}: ")
    assert lines[2].startswith("None of these can be recommended")
    refused(capsys, ["probe", str(finished), str(finished)], "named twice")
    refused(capsys, ["probe"], "eigenview probe RUN")
    one = str(photos / "one")  # refused before the notes on how its images are read
    refused(capsys, ["diagnose", str(finished), "--data", one], "holds 1 readable image; allowed: 2 or more")
    parquet = tmp_path / "e.parquet"
    assert run(["embed", str(finished), data, "--out", str(parquet)]) == 0
    rows = pq.read_table(parquet)
    assert rows.num_rows == 120
    assert set(rows.column_names) == {"index", "path", "label", "h"}
    capsys.readouterr()
    for what in (str(finished), str(parquet)):
        assert run(["diagnose", what, "--json"]) == 0
        assert '"verdict"' in capsys.readouterr().out
    assert run(["report", str(finished), str(finished), "--out", f"{tmp_path}/r.html"]) == 0
    assert "<html" in (tmp_path / "r.html").read_text()
    refused(capsys, ["export", str(finished), "--format", "timm"], "conv-small")


def test_images_without_a_row_are_counted(
    finished: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(photos / "flat", tmp_path / "some")
    (tmp_path / "some" / "[bold].png").touch()
    for args in (
        ["embed", str(finished), "some", "--out", f"{tmp_path}/e.parquet"],
        ["diagnose", str(finished), "--data", "some"],
    ):
        assert run([arg if arg != "some" else str(tmp_path / "some") for arg in args]) == 0
        assert "left out: 1 unreadable, the first" in (said := capsys.readouterr().err)
        assert "[bold].png: empty file" in said


def test_damaged_embeddings_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    x = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x)
    (tmp_path / "array.NPZ").write_bytes((tmp_path / "x.npy").read_bytes())
    (tmp_path / "archive.npy").write_bytes((tmp_path / "x.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:900])
    pq.write_table(pa.table({"h": [[1.0, 2.0], None, [3.0, 4.0]]}), tmp_path / "null.parquet")
    for name in ("array.NPZ", "archive.npy", "cut.npz"):
        refused(capsys, ["diagnose", str(tmp_path / name)], f"{name} cannot be read")
    refused(capsys, ["diagnose", str(tmp_path / "null.parquet")], "column h has no vector in row 1")
    pq.write_table(pa.table({"h": [[1.0, 2.0], [3.0]]}), tmp_path / "ragged.parquet")
    refused(capsys, ["diagnose", str(tmp_path / "ragged.parquet")], "holds no numbers in rows of one length")


def test_two_rows_are_too_few_for_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2, 8)))
    assert run(["diagnose", str(tmp_path / "x.npy"), "--json"]) == 0
    assert '"verdict": "too early to judge"' in capsys.readouterr().out


def test_diagnose_tells_collapsed_embeddings_from_healthy_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    point = np.ones((400, 32)) + 1e-6 * rng.normal(size=(400, 32))
    plane = rng.normal(size=(400, 1)) @ rng.normal(size=(1, 32)) + 1e-4 * rng.normal(size=(400, 32))
    for x, label in ((rng.normal(size=(400, 32)), "healthy"), (point, "complete"), (plane, "dimensional")):
        np.save(tmp_path / "x.npy", x)
        assert run(["diagnose", str(tmp_path / "x.npy"), "--json"]) == 0
        assert f'"verdict": "{label}' in capsys.readouterr().out


def test_tables_of_another_shape_or_range_and_files_of_another_format(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "deep.npy", np.zeros((4, 3, 2)))
    refused(capsys, ["diagnose", str(tmp_path / "deep.npy")], "(4, 3, 2)", "Reshape it")
    np.save(tmp_path / "large.npy", np.random.default_rng(0).normal(size=(50, 4)) * 1e300)
    assert run(["diagnose", str(tmp_path / "large.npy")]) == 0
    printed = capsys.readouterr()
    assert "50 of 50 rows contain nan or infinity" in printed.out
    assert printed.err == ""
    for name in ("x.txt", "x.npz", "x"):
        refused(capsys, ["embed", str(finished), "digits", "--out", str(tmp_path / name)], name, ".parquet")


@pytest.mark.parametrize("verb", ["report", "probe", "embed", "diagnose", "check", "export", "pretrain", "pack"])
def test_a_path_that_no_file_can_have(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    more = {"embed": ["digits"], "export": ["--format", "timm", "--out", "out"], "pack": ["--out", "out"]}
    refused(capsys, [verb, "9" * 300, *more.get(verb, [])], "999")


def test_images_that_broke_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python would print the file and line of the source before a warning; other warnings it shows as always."""
    usual: list[str] = []
    monkeypatch.setattr(sys, "argv", ["eigenview", "--version"])
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: usual.append(str(message)))
    with pytest.raises(SystemExit):
        main()
    warnings.showwarning(ReplacedImages("1 image of x broke\nand was replaced"), ReplacedImages, "x.py", 3)
    warnings.showwarning(RuntimeWarning("an overflow"), RuntimeWarning, "y.py", 4)
    assert capsys.readouterr().err == "note      1 image of x broke\\nand was replaced\n"
    assert usual == ["an overflow"]
