"""WebDataset shards: the same images, labels, order and loss as the folder; damage is listed and never hangs."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import LoaderConfig
from eigenview.data.batches import Batches
from eigenview.data.images import printable
from eigenview.data.load import load_images, load_probe_sets
from eigenview.data.packing import PackOptions, write_pack
from eigenview.data.sources.packs import MANIFEST
from eigenview.errors import UserError
from eigenview.run import pretrain
from tests.data.conftest import MakeImages
from tests.data.test_pack import FIELDS, all_of, loss_curve, stop_at

ROWS = LoaderConfig(cache_gb=0)


def png(value: int, side: int = 20) -> bytes:
    """A picture whose first pixel has this red value."""
    pixels = np.random.default_rng(value).integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels[0, 0, 0] = value
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(values: range, labels: str = "cls") -> dict[str, bytes]:
    """Images named after their value, with the label value % 3."""
    members: dict[str, bytes] = {}
    for k in values:
        members[f"{k:06}.png"] = png(k)
        if labels == "cls":
            members[f"{k:06}.cls"] = b"%d\n" % (k % 3)
        elif labels == "json":
            members[f"{k:06}.json"] = json.dumps({"label": ("cat", "dog", "ant")[k % 3], "width": 20}).encode()
    return members


def ids(spec: Path | str, loader: LoaderConfig = ROWS) -> list[int]:
    return all_of(load_images(str(spec), size=20, loader=loader))[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("loader", [LoaderConfig(), ROWS], ids=["cached", "read in place"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_pattern_a_folder_and_a_single_shard(tmp_path: Path, loader: LoaderConfig, format: int) -> None:
    for shard in range(3):
        write_tar(tmp_path / "sh" / f"a-{shard + 9:03}.tar", samples(range(4 * shard, 4 * shard + 4)), format)
    (tmp_path / "sh" / "README.txt").write_text("about")
    for spec in (tmp_path / "sh", tmp_path / "sh" / "a-{009..011}.tar"):
        assert ids(spec, loader) == list(range(12))
        images = load_images(str(spec), loader=loader)
        assert images.name == "sh"
        assert images.labels is not None
        assert images.labels.tolist() == [k % 3 for k in range(12)]
        assert images.class_names == ("0", "1", "2")
    assert ids(tmp_path / "sh" / "a-{010..011}.tar", loader) == list(range(4, 12))
    assert ids(tmp_path / "sh" / "a-010.tar", loader) == list(range(4, 8))
    assert printable(images.paths[4]) == f"{tmp_path}/sh/a-010.tar/000004.png"
    assert sorted(path.name for path in (tmp_path / "sh").iterdir() if path.suffix != ".tar") == ["README.txt"]


def test_several_ranges_and_equal_names_in_different_shards(tmp_path: Path) -> None:
    for i, (a, b) in enumerate(((0, 8), (0, 9), (1, 8), (1, 9))):
        write_tar(tmp_path / f"{a}" / f"x{b}.tar", {"0.png": png(i)})
    assert ids(tmp_path / "{0..1}" / "x{8..9}.tar", LoaderConfig()) == [0, 1, 2, 3]


def test_samples_are_grouped_by_key_and_have_one_image(tmp_path: Path) -> None:
    members = {
        "b/7.cls": b"1",
        "b/7.PNG": png(5),
        "b/7.seg.png": png(6),
        "a/7.png": png(4),
        "a/7.json": b'{"label": 0}',
    }
    members |= {"a/.hidden.png": png(1), "a/text.txt": b"no image", "a/" + "long" * 40 + ".png": png(3)}
    write_tar(tmp_path / "x.tar", members)
    images = load_images(str(tmp_path / "x.tar"), size=20)
    assert ids(tmp_path / "x.tar") == [5, 4, 3]
    assert images.labels is None
    assert images.notes == ("1 further images of samples that have one already are left alone",)
    assert images.label_notes == ("no labels: 1 of 3 samples have none",)


def test_labels_are_numbers_or_texts(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", samples(range(4), "json"))
    images = load_images(str(tmp_path / "x.tar"))
    assert images.class_names == ("ant", "cat", "dog")
    assert images.labels is not None
    assert images.labels.tolist() == [1, 2, 0, 1]
    write_tar(tmp_path / "y.tar", {"0.png": png(0), "0.cls": b"10", "1.png": png(1), "1.cls": b"9"})
    images = load_images(str(tmp_path / "y.tar"))
    assert images.class_names == ("9", "10")  # as numbers, not as texts
    write_tar(tmp_path / "z.tar", {"0.png": png(0), "0.cls": b"\x80\x04", "0.pyd": b"cos\nsystem\n"})
    assert load_images(str(tmp_path / "z.tar")).labels is None


def test_an_image_that_cannot_be_decoded_is_skipped_with_its_label(tmp_path: Path) -> None:
    members = samples(range(6))
    members["000001.png"] = b"no image"
    members["000003.png"] = members["000003.png"][:600]
    members["000004.png"] = b""
    write_tar(tmp_path / "x.tar", members)
    images = load_images(str(tmp_path / "x.tar"), size=20)
    assert images.pixels is not None
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 2, 5]
    assert images.labels is not None
    assert [images.class_names[k] for k in images.labels] == ["0", "2", "2"]
    skipped = {Path(each.path).name: each.reason for each in images.skipped}
    assert set(skipped) == {"000001.png", "000003.png", "000004.png"}
    assert skipped["000004.png"] == "empty file"


def test_a_label_that_is_half_a_character_is_none(tmp_path: Path) -> None:
    members = samples(range(2), "json")
    members["000001.json"] = b'{"label": "\\ud83d"}'
    images = load_images(str(write_tar(tmp_path / "0.tar", members)), size=20)
    assert images.labels is None
    assert images.label_notes == ("no labels: 1 of 2 samples have none",)


def test_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    write_tar(Path(folder) / "0.tar", samples(range(3)))
    assert ids(folder, LoaderConfig()) == [0, 1, 2]


def test_shards_that_are_missing_or_hold_nothing(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", samples(range(4), "none"))
    with pytest.raises(UserError, match=r"2 of 3 shards are missing \(.*1\.tar, .*2\.tar\)"):
        load_images(str(tmp_path / "{0..2}.tar"))
    for pattern in ("{2..0}.tar", "{0..99999999}.tar"):
        with pytest.raises(UserError, match="upwards"):
            load_images(str(tmp_path / pattern))
    with pytest.raises(UserError, match="neither a path that exists"):
        load_images(str(tmp_path / "nothing.tar"))
    (tmp_path / "1.tar").symlink_to(tmp_path / "gone" / "1.tar")
    with pytest.raises(UserError, match=r"1 of 2 shards are missing \(.*1\.tar\)"):
        load_images(str(tmp_path))
    (tmp_path / "1.tar").unlink()
    write_tar(tmp_path / "1.tar", {"a.txt": b"text"})
    (tmp_path / "2.tar").write_bytes(b"")
    (tmp_path / "3.tar").write_bytes(b"\x1f\x8b nonsense" * 100)
    with tarfile.open(tmp_path / "4.tar", "w:gz") as tar:
        member = tarfile.TarInfo("0.png")
        member.size = len(png(0))
        tar.addfile(member, io.BytesIO(png(0)))
    images = load_images(str(tmp_path), size=20)
    assert len(images) == 4
    reasons = [f"{Path(each.path).name} {each.reason}" for each in images.skipped]
    assert reasons[0] == "1.tar holds no images"
    assert [reason.split(",")[0] for reason in reasons[1:]] == [
        "2.tar ends mid-file",
        "3.tar is damaged or no uncompressed tar",
        "4.tar is damaged or no uncompressed tar",
    ]
    with pytest.raises(UserError, match=r"1\.tar holds no images: .*1\.tar holds no images"):
        load_images(str(tmp_path / "1.tar"))
    with pytest.raises(UserError, match="no test images of their own"):
        load_images(str(tmp_path), split="test")


@pytest.mark.parametrize(
    "spec",
    [
        "pipe:touch pwned",
        "pipe:touch pwned; cat x-{000..012}.tar",
        "s3://photos/x-{000..012}.tar",
        "https://example.com/x.tar",
        "x-{000..012}.tar.gz",
        "x.tgz",
        "0.tar::1.tar",
        "x-{a,b}.tar",
        "*.tar",
        "x-{0..2.tar",
    ],
)
def test_what_others_take_for_shards_is_refused_with_the_way_out(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "0.tar", samples(range(3)))
    with pytest.raises(UserError, match=r"cannot be read as shards. Shards are uncompressed .tar files") as error:
        load_images(spec)
    assert spec in str(error.value)
    assert [each.name for each in tmp_path.iterdir() if each.name != "cache"] == ["0.tar"]


def test_a_file_that_is_there_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "photo::1.png").write_bytes(png(5))
    assert ids(tmp_path / "photo::1.png") == [5]
    assert ids(write_tar(tmp_path / "x*.tar", samples(range(3)))) == [0, 1, 2]


def test_nothing_is_unpacked_and_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(99))
    path = tmp_path / "sh" / "x.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name, kind, target in (("0.png", tarfile.SYMTYPE, str(secret)), ("1.png", tarfile.LNKTYPE, "2.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
        member = tarfile.TarInfo("../../2.png")
        member.size = len(png(2))
        tar.addfile(member, io.BytesIO(png(2)))
    assert ids(path, LoaderConfig()) == [2]
    assert load_images(str(path)).notes == ("2 images that are links or sparse files in their shards are left alone",)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["cache", "secret.png", "sh"]
    assert [each.name for each in path.parent.iterdir()] == ["x.tar"]


def test_a_changed_shard_is_indexed_and_decoded_again(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", samples(range(3)))
    assert ids(path, LoaderConfig()) == [0, 1, 2]
    write_tar(path, samples(range(10, 14)))
    assert ids(path, LoaderConfig()) == [10, 11, 12, 13]


def test_a_shard_that_is_gone_while_training(tmp_path: Path) -> None:
    for shard in range(2):
        write_tar(tmp_path / f"{shard}.tar", samples(range(4 * shard, 4 * shard + 4)))
    images = load_images(str(tmp_path), loader=ROWS)
    (tmp_path / "1.tar").unlink()
    batches = Batches(images, batch_size=8, seed=0)
    (batch,) = batches
    assert batch["index"] is not None
    assert set(batch["index"].tolist()) == {0, 1, 2, 3}
    assert sorted(os.path.basename(each.path) for each in batches.replaced) == [f"00000{k}.png" for k in range(4, 8)]


def test_a_folder_with_images_stays_a_folder(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 3)
    write_tar(tmp_path / "set" / "backup.tar", samples(range(5)))
    assert len(load_images(str(tmp_path / "set"))) == 3


def test_shards_can_be_packed(tmp_path: Path) -> None:
    for shard in range(2):
        write_tar(tmp_path / "sh" / f"{shard}.tar", samples(range(4 * shard, 4 * shard + 4)))
    write_tar(tmp_path / "sh" / "2.tar", {"8.png": b"no image"})
    (tmp_path / "sh").rename(tmp_path / "sh0")
    pack = write_pack(
        PackOptions(data=str(tmp_path / "sh{0..0}" / "{0..2}.tar"), out=tmp_path / "pack", image_size=20)
    ).folder
    assert ids(pack) == list(range(8))
    assert str(tmp_path) not in (pack / MANIFEST).read_text()


def test_a_run_on_shards_has_the_folder_s_loss_curve_and_resumes_within_an_epoch(
    tmp_path: Path, make_images: MakeImages
) -> None:
    root, whole, parted = tmp_path / "photos", tmp_path / "whole", tmp_path / "parted"
    files = [path for name in ("bright", "dark") for path in make_images(root / name, 80, 20)]
    for shard in range(4):
        members: dict[str, bytes] = {}
        for k in range(40 * shard, 40 * shard + 40):
            members[f"{k:06}.png"] = files[k].read_bytes()
            members[f"{k:06}.cls"] = b"%d" % (k // 80)
        write_tar(tmp_path / "shards" / f"{shard:06}.tar", members)
    shards = str(tmp_path / "shards" / "{000000..000003}.tar")
    pairs = [load_probe_sets(spec, size=16, seed=0) for spec in (str(root), shards)]
    for part in range(2):
        ours, theirs = (all_of(pair[part]) for pair in pairs if pair is not None)
        np.testing.assert_array_equal(ours, theirs)
    assert run(["pretrain", str(root), *FIELDS, "--out", str(whole)]) == 0
    stopper = threading.Thread(target=stop_at, args=(parted, 13))
    stopper.start()
    in_place = ["--loader.cache-gb", "0", "--loader.workers", "0"]
    assert run(["pretrain", shards, *FIELDS, *in_place, "--out", str(parted)]) == 130
    stopper.join()
    step = torch.load(parted / runfiles.CHECKPOINT, weights_only=True)["global_step"]
    assert 10 < step < 20  # within the second of two epochs of ten steps
    assert pretrain(out=parted, resume=True).verdict
    assert len(loss_curve(whole)) == 20
    assert loss_curve(parted) == loss_curve(whole)
