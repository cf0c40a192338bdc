"""Damaged shards: the damage is listed, the images before it are used, nothing hangs."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from eigenview.config import LoaderConfig
from eigenview.data.load import load_images
from eigenview.errors import UserError
from tests.data.test_shards import ids, png, samples, write_tar


def damaged(path: Path, kind: str) -> None:
    content = path.read_bytes()
    third = content.index(b"000002.png")
    if kind == "in the data":
        path.write_bytes(content[: third + 700])
    elif kind == "in a header":
        path.write_bytes(content[: third + 100])
    elif kind == "between members":
        path.write_bytes(content[:third])
    elif kind == "overwritten":
        path.write_bytes(content[:third] + b"\xff" * 512 + content[third + 512 :])
    elif kind == "length below zero":
        header = bytearray(content[third : third + 512])
        header[124:136] = b"\xff" * 12  # base 256: -1
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        path.write_bytes(content[:third] + bytes(header) + content[third + 512 :])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["in the data", "in a header", "between members", "overwritten", "length below zero"])
def test_a_shard_that_ends_or_breaks_in_the_middle_is_listed_and_used_so_far(tmp_path: Path, kind: str) -> None:
    broken = write_tar(tmp_path / "0.tar", samples(range(4), "none"), tarfile.USTAR_FORMAT)
    write_tar(tmp_path / "1.tar", samples(range(4, 8), "none"))
    damaged(broken, kind)
    images = load_images(str(tmp_path), size=20)
    assert ids(tmp_path) == [0, 1, 4, 5, 6, 7]
    (skipped,) = images.skipped
    assert skipped.path == str(broken)
    reason = "is damaged or no uncompressed tar" if kind in ("overwritten", "length below zero") else "ends mid-file"
    assert skipped.reason == f"{reason}, 2 images before that are used"
    with pytest.raises(UserError, match=rf"0\.tar {reason}.*--strict"):
        load_images(str(tmp_path), loader=LoaderConfig(strict=True))


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (bytes(3 << 20), "ends mid-file"),  # allocated in full, copied in part
        (b"", "goes on after its end mark"),
    ],
    ids=["zeros", "two tars in one"],
)
def test_what_follows_the_end_of_a_shard_is_not_silently_lost(tmp_path: Path, tail: bytes, reason: str) -> None:
    first = write_tar(tmp_path / "0.tar", samples(range(4), "none"))
    first.write_bytes(
        first.read_bytes() + (tail or write_tar(tmp_path / "x" / "1.tar", samples(range(4, 6))).read_bytes())
    )
    (skipped,) = load_images(str(first), size=20).skipped
    assert skipped.reason == f"{reason}, 4 images before that are used"
    assert ids(first) == [0, 1, 2, 3]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [1 << 20, 1 << 40, 1 << 64])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_is_too_long_is_damage(tmp_path: Path, kind: bytes, size: int) -> None:
    """PAX records are searched in quadratic time: a megabyte of digits would take hours."""
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, size
    head = member.tobuf(tarfile.GNU_FORMAT)[:512]
    good = write_tar(tmp_path / "good.tar", samples(range(2), "none"), tarfile.USTAR_FORMAT).read_bytes()
    content = good[: good.rindex(png(1)) + -(-len(png(1)) // 512) * 512] + head
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.tar").write_bytes(content + b"1" * (1 << 20) + bytes(1024))
    images = load_images(str(tmp_path / "bad"), size=20)
    assert [each.reason for each in images.skipped] == [
        "is damaged or no uncompressed tar, 2 images before that are used"
    ]
