"""Folders and files that hurt: pipes, folders linked to each other, bombs, huge images, and what may not be read."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from eigenview.cli import run
from eigenview.config.reading import Reading
from eigenview.data import npz
from eigenview.data.load import load_images, load_probe_sets
from eigenview.data.pixels.budget import Budget
from eigenview.data.pixels.decode import decode, to_rgb
from eigenview.data.pixels.image_files import Unreadable
from eigenview.data.sources.folder import scan
from eigenview.embeddings_file import open_embeddings
from eigenview.errors import UserError
from eigenview.models.saved import load_encoder
from tests.data.conftest import MakeImages


def test_a_link_to_a_pipe_is_not_opened(tmp_path: Path, make_images: MakeImages) -> None:
    root = tmp_path / "photos"
    make_images(root, 3)
    os.mkfifo(tmp_path / "pipe")
    (root / "x.png").symlink_to(tmp_path / "pipe")
    (root / "zero.png").symlink_to("/dev/zero")
    images = load_images(str(root), size=20)
    assert (len(images), images.skipped) == (3, ())
    assert any("2 files are not used: 2 .png that is a pipe" in note for note in images.notes)
    with pytest.raises(Unreadable, match="a pipe, a socket or a device"):  # it became one after the folder was listed
        decode(str(root / "x.png"), 20, Reading())
    with pytest.raises(UserError, match="is a pipe, a socket or a device"):
        load_images(str(tmp_path / "pipe"))


@pytest.mark.parametrize("name", ["train.npy", "train-labels.npy", "eigenview-pack.json"])
def test_a_pipe_in_a_pack_is_an_error(tmp_path: Path, make_images: MakeImages, name: str) -> None:
    for each in ("cat", "dog"):
        make_images(tmp_path / "set" / each, 2)
    assert run(["pack", str(tmp_path / "set"), "--out", str(tmp_path / "pack")]) == 0
    (tmp_path / "pack" / name).unlink()
    os.mkfifo(tmp_path / "pack" / name)
    with pytest.raises(UserError):
        load_images(str(tmp_path / "pack"))


def test_folders_linked_to_each_other_are_listed_once(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"f{i}" for i in range(7)]
    for name in names:
        make_images(tmp_path / name, 1)
        for other in names:
            if other != name:
                (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    make_images(tmp_path.parent / "outside", 1)
    for link in ("b", "a"):
        (tmp_path / link).symlink_to(tmp_path.parent / "outside")
    listed: list[str] = []
    scandir = os.scandir

    def counting(path: str) -> object:
        listed.append(str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    found = scan(tmp_path)
    assert len(listed) == 7 + 2  # each folder, the one outside, and the top
    assert [file.name for file in found.files] == ["a/000.png", *(f"{name}/000.png" for name in names)]
    assert found.links == 7 * 6 + 1


def test_huge_images_are_decoded_one_after_another() -> None:
    budget, most, now = Budget(100), [0], [0]
    lock = threading.Lock()

    def work(pixels: int) -> None:
        with budget.held(pixels):
            with lock:
                now[0] += pixels
                most[0] = max(most[0], now[0])
            threading.Event().wait(0.002)
            with lock:
                now[0] -= pixels

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (40, 300, 60, 20, 90, 10, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 300  # one that is larger than the budget, alone
    assert budget.held_now == 0


def test_transparency_in_bands_is_transparency_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from eigenview.data.pixels import decode as module

    pixels = np.random.default_rng(0).integers(0, 256, (13, 7, 4), dtype=np.uint8)
    for mode in ("RGBA", "LA", "PA"):
        image = Image.fromarray(pixels).convert(mode)
        whole = np.asarray(to_rgb(image))
        monkeypatch.setattr(module, "_BAND_PIXELS", 14)  # two rows
        np.testing.assert_array_equal(np.asarray(to_rgb(image)), whole)
        monkeypatch.undo()


def bomb(path: Path, shape: tuple[int, ...], dtype: str, claimed: int | None = None) -> Path:
    """A .npz of one array whose packed bytes are few: zeros, or fewer of them than its header names."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize if claimed is None else claimed
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(count))
    return path


def test_an_archive_that_unpacks_a_thousandfold_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "_SMALL_BYTES", 1_000_000)  # in place of 1 GB
    read = np.lib.format.read_array
    monkeypatch.setattr(np.lib.format, "read_array", lambda *a, **k: pytest.fail("unpacked"))
    images = bomb(tmp_path / "images.npz", (1000, 40, 40), "|u1")
    with pytest.raises(UserError, match=r"images unpacks from 0\.0 MB to 0\.0 GB, more than 200-fold"):
        load_images(str(images))
    with pytest.raises(UserError, match="200-fold"):
        next(open_embeddings(bomb(tmp_path / "table.npz", (1000, 400), "<f4"), None).blocks())
    monkeypatch.setattr(npz, "_SMALL_BYTES", 10**9)
    monkeypatch.setattr(npz, "_memory_bytes", lambda: 1000)
    with pytest.raises(UserError, match="this machine has"):
        load_images(str(images))
    monkeypatch.undo()
    for claimed in (0, 10):  # the header names more than there is
        with pytest.raises(UserError, match="should have 1,600,000 bytes"):
            load_images(str(bomb(tmp_path / "short.npz", (1000, 40, 40), "|u1", claimed)))
    assert np.lib.format.read_array is read


def test_a_parquet_table_that_unpacks_a_thousandfold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(npz, "_SMALL_BYTES", 100_000)
    table = pa.table({f"c{k}": np.zeros(100_000, np.float32) for k in range(2)})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, compression="zstd")
    with pytest.raises(UserError, match="200-fold"):
        open_embeddings(tmp_path / "a.parquet", None)


@contextmanager
def without_access(*closed: Path) -> Iterator[None]:
    """Nobody may look into or read `closed`; root, whom nothing stops, becomes another user."""
    for path in closed:
        path.chmod(0)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path in closed:
            path.chmod(0o700)


@pytest.mark.parametrize("name", ["photos", "x.npz", "x.tar", "x.png", "hf:set", "x-{0..1}.tar", "photos/cat"])
def test_a_closed_folder_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "root" / "photos" / "cat").mkdir(parents=True)
    place = tmp_path / "root" / name.removeprefix("hf:")
    with without_access(tmp_path / "root"):
        for read in (load_images, load_probe_sets):
            with pytest.raises(UserError, match="permission denied"):
                read(f"hf:{place}" if "hf:" in name else str(place), size=16)
        with pytest.raises(UserError, match="permission denied"):
            open_embeddings(place.with_suffix(".npy"), None)
        with pytest.raises(UserError, match="permission denied"):
            load_encoder(place)


def test_a_closed_file_is_one_line(make_images: MakeImages, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder may be listed, a file in it not be read."""
    with TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        monkeypatch.setenv("EIGENVIEW_CACHE", str(folder / "cache"))
        (folder / "cache").mkdir()
        (folder / "cache").chmod(0o777)
        pixels = np.zeros((4, 20, 20, 3), np.uint8)
        np.save(folder / "x.npy", pixels)
        np.savez(folder / "x.npz", images=pixels)
        paths = make_images(folder / "photos", 3)
        make_images(folder / "photos" / "inside", 1)
        with without_access(folder / "x.npy", folder / "x.npz", paths[1], folder / "photos" / "inside"):
            for array in ("x.npy", "x.npz"):
                for read in (load_images, lambda path: open_embeddings(Path(path), None)):
                    with pytest.raises(UserError, match="permission denied"):
                        read(str(folder / array))
            skipped = load_images(str(folder / "photos"), size=20).skipped
    assert [(Path(each.path).name, each.reason) for each in skipped] == [
        ("inside", "cannot be listed: Permission denied"),
        ("001.png", "Permission denied"),
    ]


def test_an_image_over_the_pixel_limit_says_so_and_the_limit_can_be_raised(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow refuses from twice as many
    make_images(tmp_path / "photos", 3)
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / "large.png")
    images = load_images(str(tmp_path / "photos"), size=16)
    assert len(images) == 3
    (skipped,) = images.skipped
    said = "its 1,600 pixels are over the limit of 1,000; to read it set EIGENVIEW_MAX_PIXELS=1600"
    assert skipped.reason == said
    monkeypatch.setenv("EIGENVIEW_MAX_PIXELS", "1600")
    assert len(load_images(str(tmp_path / "photos"), size=16)) == 4  # not what the cache holds of the first time
    for text in ("abc", "0", "1e9", "9" * 5000):
        monkeypatch.setenv("EIGENVIEW_MAX_PIXELS", text)
        with pytest.raises(UserError, match=r"EIGENVIEW_MAX_PIXELS is .*allowed: a number of pixels"):
            load_images(str(tmp_path / "photos"), size=16)
