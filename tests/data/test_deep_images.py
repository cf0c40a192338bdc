"""Images of more than 8 bits or several pages are converted, and the notes say how and what is lost."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview.data.load import load_images
from eigenview.data.pixels.decode import header
from tests.data.conftest import MakeImages


def colour_16(path: Path, value: int) -> None:
    """A PNG of 16-bit RGB, which Pillow reads but does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + struct.pack(">H", value) * 3 * 20 for _ in range(20))
    parts = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)), chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))


def grey_16(path: Path, most: int) -> None:
    Image.fromarray(np.linspace(0, most, 400).astype(np.uint16).reshape(20, 20)).save(path)


def test_a_low_range_of_16_bits_is_a_warning(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "a", 3)
    for i in range(5):
        grey_16(tmp_path / "a" / f"deep{i}.png", 4095)
    for _ in range(2):  # read, and from the cache
        (note,) = (note for note in load_images(str(tmp_path / "a"), size=20).notes if "bits" in note)
        assert note.startswith("warning: 5 images have 16 bits a value and are divided by 257; in the 1 looked at")
        assert "between 0 and 4,095: only 17 of 256 grey levels are left" in note


def test_a_full_range_and_floats_are_noted_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    grey_16(tmp_path / "a" / "deep.png", 65535)
    Image.fromarray(np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)).save(tmp_path / "a" / "float.tif")
    notes = load_images(str(tmp_path / "a"), size=20).notes
    assert any("1 images have 16 bits" in note and "grey levels" not in note for note in notes)
    assert any("1 images have 32 bits" in note and "between 0 and 1" in note for note in notes)


def test_16_bit_colour_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    colour_16(tmp_path / "a" / "x.png", 1000)
    assert header(str(tmp_path / "a" / "x.png")) == (20, 16, 1)
    assert any("1 images have 16 bits" in note for note in load_images(str(tmp_path / "a"), size=20).notes)


def test_pages_of_tiffs_are_counted(tmp_path: Path, make_images: MakeImages) -> None:
    paths = make_images(tmp_path / "a", 5)
    first, *others = [Image.open(path) for path in paths]
    first.save(tmp_path / "a" / "pages.tif", save_all=True, append_images=others)
    (note,) = (note for note in load_images(str(tmp_path / "a"), size=20).notes if "pages" in note)
    assert note == "1 TIFF files hold several pages, 5 in all; the first page of each is used"


def test_files_of_8_bits_have_no_note(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "a", 3)
    assert load_images(str(tmp_path / "a"), size=20).notes == ()


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "bool"])
def test_arrays_of_other_kinds_are_refused_with_the_way_to_convert_them(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 20, 20, 3), dtype))
    with pytest.raises(ValueError, match=rf"is {dtype} of shape \(4, 20, 20, 3\); images are uint8.* [Ss]ave "):
        load_images(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_numbers_of_channels_are_refused_with_advice(tmp_path: Path, channels: int) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 20, 20, channels), np.uint8))
    with pytest.raises(ValueError, match=r"no axis is colour, 1 or 3 channels.*Save three of the channels"):
        load_images(str(tmp_path / "a.npy"))
