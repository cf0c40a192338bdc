"""Streams of Hugging Face data sets: windows, any position, several processes, and runs that resume within a window."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eigenview.cli import run
from eigenview.data.batches import Batches
from eigenview.data.load import load_images
from eigenview.data.packing import PackOptions, write_pack
from eigenview.data.pixels.contrast import LOOKED_AT
from eigenview.data.sources.hugging_face_rows import Columns
from eigenview.data.sources.streams import StreamedSet
from eigenview.errors import UserError
from tests.data.conftest import MakeImages
from tests.data.test_hugging_face import (  # noqa: F401
    CLASSES,
    IN_PLACE,
    ROWS,
    both,
    ids,
    library,
    names_of,
    photos,
    stopped_and_resumed,
    table,
    write_parquet,
    written,
)
from tests.data.test_pack import FIELDS, loss_curve
from tests.data.test_shards import png


def test_a_stream_that_fits_is_read_twice_once_and_then_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = written(table(range(9)), tmp_path / "set", "parquet, streamed")
    passes: list[str] = []
    sample = Columns.sample

    def noted(columns: Columns, example: Any) -> Any:
        passes.append("row")
        return sample(columns, example)

    monkeypatch.setattr(Columns, "sample", noted)
    load_images(spec, size=20)
    assert len(passes) == 2 * 9
    assert names_of(load_images(spec, size=20)) == [CLASSES[k % 3] for k in range(9)]
    assert len(passes) == 2 * 9
    assert not [path for path in tmp_path.rglob("*.arrow") if "hf-cache" in str(path)]


def streamed(tmp_path: Path, rows: int, buffer: int) -> StreamedSet:
    spec = written(table(range(rows)), tmp_path / "set", "parquet, streamed")
    images = load_images(f"{spec}&buffer={buffer}", size=20, loader=ROWS)
    assert isinstance(images, StreamedSet)
    return images


@pytest.mark.parametrize(("buffer", "longest"), [(1, 1), (8, 2), (11, 2), (16, 4), (400, 13)])
def test_windows(tmp_path: Path, buffer: int, longest: int) -> None:
    """53 rows in batches of 4: windows are disjoint runs of the stream, in its order, each shuffled, none too long."""
    images = streamed(tmp_path, 53, buffer)
    seen: set[tuple[int, ...]] = set()
    for epoch in range(6):
        order, starts = images.shuffled(4, seed=5, epoch=epoch)
        again, _ = images.shuffled(4, seed=5, epoch=epoch)
        np.testing.assert_array_equal(order, again)
        assert order.shape == (13, 4)
        assert starts[0] == 0
        assert len(np.unique(order)) == 52
        low = int(order.min())
        for start, end in itertools.pairwise([*starts, 13]):
            assert 1 <= end - start <= longest
            assert sorted(order[start:end].reshape(-1)) == list(range(low + 4 * start, low + 4 * end))
        seen.add(tuple(order.reshape(-1).tolist()))
    assert len(seen) == 6


@pytest.mark.parametrize("start", [0, 1, 4, 5, 6, 12])
def test_streamed_batches_are_the_order_from_any_position(tmp_path: Path, start: int) -> None:
    images = streamed(tmp_path, 27, 8)  # six batches of four an epoch, windows of one or two
    batches = Batches(images, batch_size=4, seed=3, epochs=3)
    batches.start(start // 6, start % 6)
    expected = np.concatenate([batches.order(epoch) for epoch in range(3)])[start:]
    got = list(batches)
    assert len(got) == len(expected)
    for batch, rows in zip(got, expected, strict=True):
        assert batch["index"] is not None
        assert batch["images"] is not None
        assert batch["index"].tolist() == rows.tolist()
        assert batch["images"][:, 0, 0, 0].tolist() == rows.tolist()  # the first pixel is the row
    assert batches.state_dict()["step"] == 18


def test_streamed_batches_of_two_processes_and_of_a_part(tmp_path: Path) -> None:
    images = streamed(tmp_path, 31, 8)
    part = images.take(np.arange(2, 30))
    whole = [batch["images"] for batch in Batches(part, batch_size=4, seed=1)]
    halves = [[b["images"] for b in Batches(part, batch_size=4, seed=1, rank=r, world=2)] for r in range(2)]
    assert len(whole) == 7
    for all_images, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(torch.cat(parts), all_images)  # type: ignore[arg-type]
        assert all(2 <= k < 30 for k in all_images[:, 0, 0, 0].tolist())  # type: ignore[index]


def test_a_streamed_image_that_breaks_is_replaced_and_counted(tmp_path: Path) -> None:
    """Its header is whole, so that only decoding shows it."""
    spec = written(table(range(12), {5: {"bytes": png(5)[:700], "path": None}}), tmp_path / "set", "parquet, streamed")
    images = load_images(spec, size=20, loader=ROWS)
    assert len(images) == 12
    batches = Batches(images, batch_size=12, seed=0)
    (batch,) = batches
    assert batch["index"] is not None
    assert 5 not in batch["index"].tolist()
    (replaced,) = batches.replaced
    assert replaced.path == f"{spec}/row 5"


def test_leaving_an_epoch_early_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = streamed(tmp_path, 40, 8)
    monkeypatch.setenv("EIGENVIEW_CACHE", str(tmp_path / "spools"))
    batches = iter(Batches(images, batch_size=4, seed=0))
    next(batches)
    assert list((tmp_path / "spools").iterdir())
    batches.close()  # type: ignore[attr-defined]
    assert not list((tmp_path / "spools").iterdir())


def test_the_folder_for_temporary_files_is_not_needed_and_one_for_the_cache_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    images = streamed(tmp_path, 12, 4)
    assert ids(images) == list(range(12))
    (tmp_path / "file").touch()
    monkeypatch.setenv("EIGENVIEW_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written to the cache .*file: .*EIGENVIEW_CACHE.*buffer="):
        images.read(np.arange(3))


@pytest.mark.slow
def test_the_library_is_imported_only_for_its_data_and_an_open_stream_ends_without_a_word(tmp_path: Path) -> None:
    code = """if True:
        import sys
        import eigenview, eigenview.cli
        from eigenview.config import LoaderConfig
        from eigenview.data.load import find_source, load_images
        find_source("hf:owner/name")
        assert "datasets" not in sys.modules
        images = load_images(sys.argv[1], size=20, loader=LoaderConfig(cache_gb=0))
        images.read([3])
        assert "datasets" in sys.modules
    """
    spec = written(table(range(12)), tmp_path / "set", "parquet, streamed")
    done = subprocess.run([sys.executable, "-c", code, spec], check=True, capture_output=True, text=True)
    assert done.stdout + done.stderr == ""


def test_a_stream_that_shrank_while_training(tmp_path: Path) -> None:
    images = streamed(tmp_path, 12, 4)
    for file in (tmp_path / "set").glob("*.parquet"):
        file.unlink()
    write_parquet(table(range(3)), tmp_path / "set" / "train-00000-of-00002.parquet")
    write_parquet(table(range(3)), tmp_path / "set" / "train-00001-of-00002.parquet")
    with pytest.raises(UserError, match=r"ends before row \d+"):
        list(Batches(images, batch_size=4, seed=0))


def test_it_can_be_packed(tmp_path: Path) -> None:
    spec = both(tmp_path, "parquet, streamed")
    packed = write_pack(PackOptions(data=spec, out=tmp_path / "pack", image_size=20)).folder
    assert ids(load_images(str(packed))) == list(range(12))
    assert ids(load_images(str(packed), split="test")) == list(range(20, 26))


@pytest.mark.slow
def test_a_streamed_run_resumes_within_a_window(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too large for the cache: the stream's order, shuffled by windows of three batches; the curve has no seam.

    Its rows are read once for each purpose: survey, held-out images, two epochs, features of the probes' training and
    test images, the gallery's candidates and its pictures. The untrained encoder's statistics take a part of them, and
    so does the look at their contrast.
    """
    spec = written(photos(tmp_path / "photos", make_images), tmp_path / "set", "parquet, streamed") + "&buffer=48"
    read, sample = [0], Columns.sample

    def counted(columns: Columns, example: Any) -> Any:
        read[0] += 1
        return sample(columns, example)

    with monkeypatch.context() as patch:
        patch.setattr(Columns, "sample", counted)
        assert run(["pretrain", spec, *FIELDS, *IN_PLACE, "--out", str(tmp_path / "whole")]) == 0
    assert 8 * 160 < read[0] <= 9 * 160 + LOOKED_AT
    stopped_and_resumed(spec, tmp_path / "parted", *IN_PLACE)
    assert len(loss_curve(tmp_path / "whole")) == 20
    assert loss_curve(tmp_path / "parted") == loss_curve(tmp_path / "whole")
