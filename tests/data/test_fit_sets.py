"""--fit of folders, lists, arrays and packs: which squares, which note, tiles that stay together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview.config import LoaderConfig, ProbeConfig, RunConfig, with_fields
from eigenview.config.reading import Reading
from eigenview.data.images import ImageSet
from eigenview.data.load import find_source, load_images, load_probe_sets
from eigenview.data.packing import PackOptions, write_pack
from eigenview.data.pixels.byte_ranges import original
from eigenview.data.pixels.geometry import Place, square
from eigenview.data.splitting import files_of, fitting_images, split_set
from eigenview.engine.plan import make_plan
from eigenview.errors import UserError

SHAPES = [(20, 20), (50, 20), (20, 44), (60, 20), (30, 20)]
"""Width and height; with tiles:2 an image has two tiles unless it is square."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """photos/ with the classes a and b, ten images each."""
    for folder in "ab":
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for i in range(10):
            width, height = SHAPES[i % 5]
            pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{i:02}.png")
    return tmp_path


def load(root: Path, fit: str, **options: object) -> ImageSet:
    return load_images(str(root / "photos"), size=16, source_size=16, reading=Reading(fit=fit), **options)  # type: ignore[arg-type]


def all_of(images: ImageSet) -> np.ndarray:
    return images.read(np.arange(len(images)))


@pytest.mark.parametrize("fit", ["crop", "pad", "squash", "tiles:2", "tiles:3"])
def test_a_folder_from_cache_and_decoded_when_read(root: Path, fit: str) -> None:
    expected, labels = [], []
    for path in sorted((root / "photos").rglob("*.png")):
        picture = Image.open(path)
        short, long = sorted(picture.size)
        count = min(int(fit[6:]), -(-long // short)) if fit.startswith("tiles") else 1
        expected += [square(picture, 16, Place(fit, k, count)) for k in range(count)]
        labels += [int(path.parent.name == "b")] * count
    for loader in (LoaderConfig(), LoaderConfig(), LoaderConfig(cache_gb=0)):
        images = load(root, fit, loader=loader)
        assert np.array_equal(all_of(images), np.stack(expected))
        assert images.labels is not None
        assert images.labels.tolist() == labels
        assert len(images.files) == 20
        assert images.reading.fit == fit


def test_ways_to_fit_have_their_own_entries_in_the_cache(root: Path) -> None:
    before = all_of(load(root, "crop"))
    others = [all_of(load(root, fit)) for fit in ("pad", "squash", "tiles:2")]
    assert all(len(each) != len(before) or not np.array_equal(each, before) for each in others)
    again = load(root, "crop")
    assert np.array_equal(all_of(again), before)


def test_the_note_has_the_share_of_images_that_lose_half(root: Path) -> None:
    lost = "16 of 20 images are not square, of which the centred square is used: 60 % lose more than half of their area"
    assert load(root, "crop").pixel_notes == (f"{lost} (--fit pad, squash or tiles:N use the rest)",)
    assert "padded with the median colour of their border" in load(root, "pad").pixel_notes[0]
    assert "16 of 20 images are not square and are squashed" in load(root, "squash").pixel_notes[0]
    assert "20 images are cut into 36 tiles, up to 2 of one image" in load(root, "tiles:2").pixel_notes
    for path in (root / "photos").rglob("*.png"):
        Image.effect_noise((20, 20), 50).save(path)
    assert load(root, "crop").pixel_notes == load(root, "tiles:2").pixel_notes == ()


def test_no_note_of_halves_where_none_is_lost(root: Path) -> None:
    for path in (root / "photos").rglob("*.png"):
        Image.effect_noise((30, 20), 50).save(path)
    assert "none loses more than half" in load(root, "crop").pixel_notes[0]


@pytest.mark.parametrize("seed", range(3))
def test_tiles_of_an_image_lie_on_one_side(root: Path, seed: int) -> None:
    found = load_probe_sets(str(root / "photos"), size=16, reading=Reading(fit="tiles:3"), seed=seed)
    assert found is not None
    train, test = ({original(path) for path in each.paths} for each in found)
    assert not train & test
    assert len(train) == 16
    assert len(test) == 4
    some = fitting_images(found[0], ProbeConfig(label_fraction=0.5), seed)
    assert len({original(path) for path in some.paths}) == 8
    assert all(path in some.paths for path in found[0].paths if original(path) in map(original, some.paths))


def test_tiles_of_an_image_are_held_out_together(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(40):
        Image.effect_noise((60, 20), 50).save(tmp_path / "photos" / f"{i:02}.png")
    config = RunConfig(data=str(tmp_path / "photos"), fit="tiles:3", batch_size=8, image_size=16)
    plan = make_plan(with_fields(config, {"monitor": {"images": 10}}))
    assert not {original(path) for path in plan.train.paths} & {original(path) for path in plan.held_out.paths}
    assert len(plan.held_out) == 12
    assert len(plan.train) == 120 - 12


@pytest.mark.parametrize("stratified", [False, True])
def test_a_share_of_the_data_has_all_tiles_of_an_image_or_none(root: Path, stratified: bool) -> None:
    config = RunConfig(data=str(root / "photos"), fit="tiles:3", batch_size=4, image_size=16)
    config = dataclasses.replace(config, data_fraction=0.5, stratified=stratified)
    plan = make_plan(config)
    assert plan.train.of_file is not None
    chosen = np.unique(plan.train.of_file)
    assert len(chosen) == 10
    whole = load(root, "tiles:3").of_file
    assert whole is not None
    np.testing.assert_array_equal(plan.train.of_file, whole[np.isin(whole, chosen)])
    if stratified:
        assert (chosen < 10).sum() == 5  # of class a


def test_an_image_with_tiles_is_one_image_of_its_class(root: Path) -> None:
    images = load(root, "tiles:3")
    alone = images.take(np.array([i for i, path in enumerate(images.paths) if "/a/" in path or "/b/01" in path]))
    with pytest.raises(UserError, match="1 has the 2 images that a split takes"):
        split_set(alone, seed=0)


def test_labels_of_a_file_are_those_of_all_tiles(root: Path) -> None:
    (root / "labels.csv").write_text("a/01.png,x\nb/03.png,y\n")
    source = find_source(str(root / "photos"), str(root / "labels.csv"))
    images = load_images(str(root / "photos"), size=16, reading=Reading(fit="tiles:3"), source=source)
    assert images.labels is not None
    labelled = [Path(original(path)).name for path, k in zip(images.paths, images.labels, strict=True) if k >= 0]
    assert labelled == ["01.png"] * 3 + ["03.png"] * 3


def test_arrays(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 20, 50, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    for fit in ("crop", "pad", "squash"):
        images = load_images(str(tmp_path / "x.npy"), size=16, source_size=16, reading=Reading(fit=fit))
        expected = np.stack([square(Image.fromarray(each), 16, Place(fit)) for each in pixels])
        assert np.array_equal(all_of(images), expected)
        assert images.pixel_notes[0].startswith("4 of 4 images are not square")
    with pytest.raises(UserError, match=r"--fit tiles:2 cuts image files, and x is an array.* Give a folder of image"):
        load_images(str(tmp_path / "x.npy"), reading=Reading(fit="tiles:2"))
    np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.uint8, (400, 300, 310, 3)).flush()
    big = {"size": 256, "source_size": 256, "loader": LoaderConfig(cache_gb=0), "reading": Reading(fit="pad")}
    with pytest.raises(UserError, match="as squares of 8 bits the images take"):
        load_images(str(tmp_path / "big.npy"), **big)
    np.save(tmp_path / "x.npy", pixels[:, :, :20])
    assert len(load_images(str(tmp_path / "x.npy"), reading=Reading(fit="tiles:2"))) == 4


def test_packs(root: Path) -> None:
    write_pack(PackOptions(data=str(root / "photos"), fit="pad", image_size=16, out=root / "pack"))
    packed = load_images(str(root / "pack"))
    assert packed.reading.fit == "pad"
    assert np.array_equal(all_of(packed), all_of(load_images(str(root / "photos"), size=16, reading=packed.reading)))
    with pytest.raises(UserError, match="was packed with --fit pad, and squash is asked for"):
        load_images(str(root / "pack"), reading=Reading(fit="squash"))


@pytest.mark.parametrize("loader", [LoaderConfig(), LoaderConfig(cache_gb=0)])
def test_a_pack_of_tiles_has_the_split_of_the_folder(root: Path, loader: LoaderConfig) -> None:
    write_pack(PackOptions(data=str(root / "photos"), fit="tiles:3", image_size=16, out=root / "pack"))
    reading = Reading(fit="tiles:3")
    pairs = [load_probe_sets(str(root / name), size=16, reading=reading, loader=loader) for name in ("photos", "pack")]
    assert pairs[0] is not None
    assert pairs[1] is not None
    for plain, packed in zip(*pairs, strict=True):
        assert packed.reading.fit == "tiles:3"
        np.testing.assert_array_equal(all_of(packed), all_of(plain))
        np.testing.assert_array_equal(files_of(packed), files_of(plain))  # type: ignore[arg-type]
    both = load_images(str(root / "pack"), split="all", loader=loader)
    np.testing.assert_array_equal(files_of(both), files_of(load(root, "tiles:3")))  # type: ignore[arg-type]
    write_pack(PackOptions(data=str(root / "photos"), image_size=16, out=root / "crops"))
    with pytest.raises(
        UserError, match=r"packed with --fit crop, and tiles:3 is.*pack them again with --fit tiles:3\."
    ):
        load_images(str(root / "crops"), reading=reading)


def test_no_file_is_in_two_parts_of_a_pack(tmp_path: Path) -> None:
    for part in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "x" / part).mkdir(parents=True)
        Image.effect_noise((40, 20), 50).save(tmp_path / "x" / part / "0.png")
    write_pack(PackOptions(data=str(tmp_path / "x"), fit="tiles:2", out=tmp_path / "pack"))
    images = load_images(str(tmp_path / "pack"), split="all")
    assert images.of_file is not None
    assert images.of_file.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("fits", [("crop", "tiles:8"), ("tiles:8", "crop")])
def test_the_range_is_that_of_whole_images_whichever_fit_came_first(tmp_path: Path, fits: tuple[str, str]) -> None:
    """100 small images, of which 10 are bright and eight times as long: of their tiles almost half are bright."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(100):
        bright = i % 10 == 0
        values = rng.integers(0, 1000, (8, 64 if bright else 8)) + 30000 * bright
        Image.fromarray(values.astype(np.uint16)).save(tmp_path / "photos" / f"{i:02}.png")
    for loader in (LoaderConfig(), LoaderConfig(cache_gb=0)):
        found = [
            load_images(str(tmp_path / "photos"), size=8, reading=Reading(fit=fit, range="20%,80%"), loader=loader)
            for fit in fits
        ]
        assert found[0].reading.low == found[1].reading.low
        assert found[0].reading.high == found[1].reading.high
