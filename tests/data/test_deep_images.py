"""Images of more than 8 bits: exact values from every kind of file, one range for a set, and what is printed of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview.config import LoaderConfig
from eigenview.config.reading import Reading, parse_range
from eigenview.data.load import load_images, load_probe_sets
from eigenview.data.packing import PackOptions, write_pack
from eigenview.data.pixels.decode import decode, given_picture, sample
from eigenview.data.pixels.headers import header
from eigenview.data.pixels.image_files import Unreadable
from eigenview.data.pixels.ranges import is_same_range, sampled_rows
from eigenview.errors import UserError
from tests.data.conftest import MakeImages
from tests.data.deep_files import write_png, write_tiff

COLOUR = np.random.default_rng(0).integers(0, 65536, (6, 5, 4)).astype(np.uint16)
STORED = {
    "grey": COLOUR[..., :1],
    "colour": COLOUR[..., :3],
    "transparent": COLOUR,
    "signed": (COLOUR[..., :1].astype(np.int64) - 30000).astype(np.int16),
    "32 bits": COLOUR[..., :1].astype(np.int32) * -30000,
    "floats": COLOUR[..., :1].astype(np.float32) / 7,
}


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_values_of_a_tiff_are_those_that_were_written(
    tmp_path: Path, name: str, order: str, is_compressed: bool
) -> None:
    """Sides of 6 x 5: all values are looked at. Pillow itself keeps 8 of 16 bits of colour."""
    values, path = STORED[name], tmp_path / "a.tif"
    write_tiff(path, values, order, is_compressed=is_compressed)
    found = sample(str(path), Reading())
    np.testing.assert_array_equal(found.values, np.moveaxis(values[..., :3], -1, 0).reshape(-1, 30))
    bits = 8 * values.dtype.itemsize
    assert tuple(header(str(path))) == (5, 6, bits, 1, values.shape[2], False)
    assert (
        found.ends
        == {"u": (0, 65535), "i": (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1), "f": (0, 1)}[values.dtype.kind]
    )


@pytest.mark.parametrize("name", ["grey", "colour", "signed", "32 bits", "floats"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_separate_planes_are_refused(tmp_path: Path, name: str, is_compressed: bool) -> None:
    """Pillow reads 16 bits there as 8. One plane of floats in Intel's order it reads rightly."""
    values, path = STORED[name], tmp_path / "a.tif"
    for order in "<>":
        write_tiff(path, values, order, is_compressed=is_compressed, in_planes=True)
        if (name, order) == ("floats", "<"):
            np.testing.assert_array_equal(sample(str(path), Reading()).values, values.reshape(1, 30))
            continue
        for read in (header, lambda each: sample(each, Reading()), lambda each: decode(each, 5, Reading(range="full"))):
            with pytest.raises(Unreadable, match=r"channels of (16|32) bits in separate planes.*save it interleaved"):
                read(str(path))
    write_tiff(path, (COLOUR[..., :3] >> 8).astype(np.uint8), in_planes=True, is_compressed=is_compressed)
    np.testing.assert_array_equal(decode(str(path), 5, Reading())[0, :, 0], COLOUR[:5, 0, 0] >> 8)


def test_a_page_in_separate_planes_is_refused(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", COLOUR[..., :3])
    first = bytearray((tmp_path / "a.tif").read_bytes())
    write_tiff(tmp_path / "b.tif", COLOUR[..., :3], in_planes=True, at=len(first))
    end = 10 + 12 * int.from_bytes(first[8:10], "little")  # of the table of tags, where the place of the next one is
    first[end : end + 4] = len(first).to_bytes(4, "little")
    path = tmp_path / "ab.tif"
    path.write_bytes(first + (tmp_path / "b.tif").read_bytes()[len(first) :])
    assert header(str(path)).pages == 2
    decode(str(path), 5, Reading(range="full"))
    with pytest.raises(Unreadable, match="separate planes"):
        decode(f"{path}\0#1", 5, Reading(range="full"))


@pytest.mark.parametrize("name", ["grey", "floats"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_negative_is_inverted_as_one_of_8_bits_is(tmp_path: Path, name: str, is_compressed: bool) -> None:
    values, path = STORED[name], tmp_path / "a.tif"
    write_tiff(path, values, is_negative=True, is_compressed=is_compressed)
    most = 65535 if name == "grey" else 1
    np.testing.assert_array_equal(sample(str(path), Reading()).values[0], (most - values).reshape(30))
    reading = Reading(low=(0,), high=(most,))
    ours = decode(str(path), 5, reading)
    np.testing.assert_array_equal(given_picture(Image.open(path).crop((0, 0, 5, 5)), 5, reading), 255 - ours)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(given_picture(picture, 5, reading), ours)
    if name == "grey":
        write_tiff(path, (values >> 8).astype(np.uint8), is_negative=True, is_compressed=is_compressed)
        np.testing.assert_allclose(ours.astype(int), decode(str(path), 5, Reading()), atol=1)  # rounded, not cut off


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_values_of_a_png_are_those_that_were_written(tmp_path: Path, channels: int) -> None:
    write_png(tmp_path / "a.png", COLOUR[..., :channels])
    found = sample(str(tmp_path / "a.png"), Reading())
    np.testing.assert_array_equal(found.values, np.moveaxis(COLOUR[..., : min(channels, 3)], -1, 0).reshape(-1, 30))


def test_colour_of_16_bits_is_decoded_by_the_range(tmp_path: Path) -> None:
    pixels = (COLOUR[:5, :5, :3] >> 4).astype(np.uint16)  # 12 bits
    write_png(tmp_path / "a.png", pixels)
    ours = decode(str(tmp_path / "a.png"), 5, Reading(range="0,4095"))
    np.testing.assert_array_equal(ours, np.rint(np.moveaxis(pixels, -1, 0) * (255 / 4095)))
    # on white where it is transparent, whatever the range
    clear = np.concatenate([pixels, np.zeros((5, 5, 1), np.uint16)], axis=2)
    write_png(tmp_path / "clear.png", clear)
    assert (decode(str(tmp_path / "clear.png"), 5, Reading(range="0,4095")) == 255).all()


def ramp(path: Path, least: int, most: int, dtype: str = "uint16") -> np.ndarray:
    """An image of 20 x 20 whose values rise evenly from `least` to `most`."""
    values = np.linspace(least, most, 400).astype(dtype).reshape(20, 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return values


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """(h, w) -> (3, h, w) of 8 bits."""
    grey = np.rint(np.clip((values.astype(float) - low) * (255 / (high - low)), 0, 255))
    return np.stack([grey] * 3)


def test_one_range_for_the_set_from_its_percentiles(tmp_path: Path) -> None:
    """Five ramps 100 to 2,950 and one dead pixel: 0.1 % of 2,000 values lie below the third and above the third last.

    The same numbers come from the cache, and when images are decoded as they are read.
    """
    for i in range(5):
        values = ramp(tmp_path / "a" / f"{i}.png", 100, 2950)
    values[0, 0], values[0, 1] = 4095, 1
    Image.fromarray(values).save(tmp_path / "a" / "4.png")
    for loader in (LoaderConfig(), LoaderConfig(), LoaderConfig(cache_gb=0)):
        images = load_images(str(tmp_path / "a"), size=20, loader=loader)
        assert images.reading == Reading(low=(100,), high=(2950,))
        assert images.pixel_notes == (
            "values 1 to 4,095 of 16 bits: range 100 to 2,950 (0.1 to 99.9 %), kept with the encoder",
        )
        np.testing.assert_array_equal(images.read(np.array([4]))[0], stretched(values, 100, 2950))


def test_the_range_of_one_set_is_used_for_another(tmp_path: Path) -> None:
    """As an encoder uses the range that it was trained with: a brighter set stays brighter."""
    ramp(tmp_path / "a" / "0.png", 0, 1000)
    values = ramp(tmp_path / "b" / "0.png", 500, 1500)
    reading = load_images(str(tmp_path / "a"), size=20).reading
    images = load_images(str(tmp_path / "b"), size=20, reading=reading)
    np.testing.assert_array_equal(images.read(np.array([0]))[0], stretched(values, 0, 1000))
    assert images.pixel_notes == ("range 0 to 1,000, as the encoder was trained with",)
    assert images.reading == reading


def test_probes_are_read_by_the_range_of_their_training_part(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        ramp(tmp_path / "train" / name / "0.png", 0, 1000)
        test = ramp(tmp_path / "test" / name / "0.png", 0, 2000)
    pair = load_probe_sets(str(tmp_path), size=20)
    assert pair is not None
    np.testing.assert_array_equal(pair[1].read(np.array([0]))[0], stretched(test, 0, 1000))


@pytest.mark.parametrize(
    ("text", "low", "high"), [("full", 0, 65535), ("0,4095", 0, 4095), ("0%,25%", 0, 1026), ("-100,1e3", -100, 1000)]
)
def test_a_range_that_is_asked_for(tmp_path: Path, text: str, low: float, high: float) -> None:
    values = ramp(tmp_path / "a" / "0.tif", 0, 4095)
    images = load_images(str(tmp_path / "a"), size=20, reading=Reading(range=text))
    np.testing.assert_array_equal(images.read(np.array([0]))[0], stretched(values, low, high))
    ends = "the full range of their type" if text == "full" else f"range {low:,} to {high:,}"
    assert images.pixel_notes[0].startswith(f"values 0 to 4,095 of 16 bits: {ends}")


def test_two_ranges_of_a_set_lie_in_the_cache_side_by_side(tmp_path: Path, cache: Path) -> None:
    values = ramp(tmp_path / "a" / "0.png", 0, 4095)
    for _ in range(2):
        for high in (4095, 2000):
            images = load_images(str(tmp_path / "a"), size=20, reading=Reading(range=f"0,{high}"))
            np.testing.assert_array_equal(images.read(np.array([0]))[0], stretched(values, 0, high))
    assert len(list(cache.glob("*.20.npy"))) == 2


def test_percentiles_that_differ_in_the_last_digits_are_measured_apart(tmp_path: Path, cache: Path) -> None:
    ramp(tmp_path / "a" / "0.png", 0, 4095)
    for text in ("0%,99.99996%", "0%,100%"):
        load_images(str(tmp_path / "a"), size=20, reading=Reading(range=text))
    assert len(list(cache.glob("*.range-*"))) == 2


def test_8_bits_stay_as_they_are_unless_a_range_is_asked_for(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "a", 3)
    before = load_images(str(tmp_path / "a"), size=20)
    assert before.notes == before.pixel_notes == ()
    assert before.reading == Reading()
    again = load_images(str(tmp_path / "a"), size=20, reading=Reading(low=(12,), high=(2950,)))  # a 16-bit encoder's
    np.testing.assert_array_equal(again.read(np.arange(3)), before.read(np.arange(3)))
    asked = load_images(str(tmp_path / "a"), size=20, reading=Reading(range="55,106"))
    expected = np.clip((before.read(np.arange(3)).astype(int) - 55) * 5, 0, 255)
    np.testing.assert_array_equal(asked.read(np.arange(3)), expected)


def test_files_of_8_bits_among_deep_ones(tmp_path: Path, make_images: MakeImages) -> None:
    (path, *_) = make_images(tmp_path / "a", 2)
    ramp(tmp_path / "a" / "deep.png", 0, 4095)
    images = load_images(str(tmp_path / "a"), size=20)
    np.testing.assert_array_equal(images.read(np.array([0]))[0], np.moveaxis(np.asarray(Image.open(path)), -1, 0))
    assert images.pixel_notes[0].endswith("; 2 of 3 images have 8 bits and stay as they are")


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", ">u2", "float32", "float64"])
@pytest.mark.parametrize("side", [20, 10])
def test_arrays_of_more_than_8_bits(tmp_path: Path, dtype: str, side: int) -> None:
    """The same pixels as of the same values in 8 bits, which they are made of here: 0 to 255 times 7, plus 10."""
    grey = np.random.default_rng(0).integers(0, 256, (4, 20, 20), dtype=np.uint8)
    grey[:, 0, 0], grey[:, 0, 1] = 0, 255
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "deep.npy", (grey.astype(int) * 7 + 10).astype(dtype))
    plain = load_images(str(tmp_path / "grey.npy"), size=side, source_size=side)
    deep = load_images(str(tmp_path / "deep.npy"), size=side, source_size=side)
    np.testing.assert_array_equal(deep.read(np.arange(4)), plain.read(np.arange(4)))
    assert (deep.reading.low, deep.reading.high) == ((10,), (1795,))
    assert deep.pixel_notes[0].startswith(f"values 10 to 1,795 of {8 * np.dtype(dtype).itemsize} bits")


def test_a_pack_keeps_the_range(tmp_path: Path) -> None:
    ramp(tmp_path / "a" / "0.png", 0, 1000)
    write_pack(PackOptions(data=str(tmp_path / "a"), out=tmp_path / "pack", image_size=20))
    packed, plain = load_images(str(tmp_path / "pack")), load_images(str(tmp_path / "a"), size=20)
    np.testing.assert_array_equal(packed.read(np.array([0])), plain.read(np.array([0])))
    assert packed.reading == plain.reading == Reading(low=(0,), high=(1000,))
    assert any("range 0 to 1,000" in note for note in packed.notes)
    lazily = load_images(str(tmp_path / "pack"), loader=LoaderConfig(cache_gb=0))
    np.testing.assert_array_equal(lazily.read(np.array([0])), plain.read(np.array([0])))
    for reading in (Reading(range="0,4095"), Reading(low=(12,), high=(2950,))):  # asked for, and an encoder's
        with pytest.raises(UserError, match=r"packed with range 0 to 1,000, and range .* is asked for"):
            load_images(str(tmp_path / "pack"), reading=reading)
    with pytest.raises(UserError, match="holds images of 3 channels, and --channels is 1"):
        load_images(str(tmp_path / "pack"), reading=Reading(channels=1))


@pytest.mark.parametrize(
    ("packed", "asked", "is_same"),
    [
        ("auto", "1%,99%", False),
        ("auto", "full", True),  # 8 bits stay as they are
        ("auto", "window", True),
        ("auto", "0,255", False),
        ("1%,99%", "auto", True),
        ("1%,99%", "1.0%,99.0%", True),
        ("1%,99%", "2%,99%", False),
        ("1%,99%", "full", False),
        ("full", "1%,99%", False),
        ("full", "auto", True),
    ],
)
def test_a_pack_of_8_bits_has_the_range_of_its_making(
    tmp_path: Path, make_images: MakeImages, packed: str, asked: str, is_same: bool
) -> None:
    make_images(tmp_path / "a", 3)
    write_pack(PackOptions(data=str(tmp_path / "a"), out=tmp_path / "pack", image_size=20, range=packed))
    if is_same:
        theirs = Reading(range=asked if packed == "auto" else packed)
        plain = load_images(str(tmp_path / "a"), size=20, reading=theirs)
        ours = load_images(str(tmp_path / "pack"), reading=Reading(range=asked))
        np.testing.assert_array_equal(ours.read(np.arange(3)), plain.read(np.arange(3)))
        return
    with pytest.raises(UserError, match=r"was packed with range .*, and range .* is asked for .*pack them again"):
        load_images(str(tmp_path / "pack"), reading=Reading(range=asked))


def test_an_encoder_s_range_beside_those_of_packs() -> None:
    """Of two sets that differ in whether a DICOM's own window counts, the measured range may be the same."""
    measured = Reading(low=(12,), high=(2950,))
    of_window, of_percent = (dataclasses.replace(measured, range=text) for text in ("window", "1%,99%"))
    assert is_same_range(own=measured, asked=measured)
    assert is_same_range(own=Reading(), asked=measured)  # 8 bits
    assert not is_same_range(own=Reading(range="full"), asked=measured)
    assert not is_same_range(own=Reading(), asked=of_percent)
    assert not is_same_range(own=of_window, asked=measured)
    assert not is_same_range(own=measured, asked=Reading(range="full"))
    assert is_same_range(own=of_window, asked=Reading(range="window"))


def test_a_range_that_leaves_one_grey_level_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    few = np.zeros((200, 200), np.uint16)
    few[0, :10] = 900  # less than 0.1 %
    Image.fromarray(few).save(tmp_path / "a" / "0.png")
    message = r"--range auto \(0 to 0\) leaves one grey level of the values, 0 to 900.*such as --range=0,900"
    with pytest.raises(UserError, match=message):
        load_images(str(tmp_path / "a"))
    asked = load_images(str(tmp_path / "a"), size=200, source_size=200, reading=Reading(range="0,900"))
    assert asked.read(np.array([0])).max() == 255
    for text in ("1000,2000", "-5,-1"):
        with pytest.raises(UserError, match=rf"--range {text} leaves one grey level of the values, 0 to 900"):
            load_images(str(tmp_path / "a"), reading=Reading(range=text))
    np.save(tmp_path / "constant.npy", np.full((4, 20, 20), 7, np.uint16))
    with pytest.raises(UserError, match="every value that was looked at is 7"):
        load_images(str(tmp_path / "constant.npy"))


@pytest.mark.parametrize("text", ["900,100", "5,5", "99%,1%"])
def test_a_low_end_above_the_high_one_is_refused(text: str) -> None:
    with pytest.raises(
        UserError, match=rf"--range is '{text}', whose low end is not below its high end; allowed: auto"
    ):
        parse_range(text)


@pytest.mark.parametrize("text", ["", "12", "a,b", "1,2,3", "nan,4", "0,inf", "1%,4", "-1%,50%", "0%,101%", "Full"])
def test_a_text_that_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--range is '.*allowed: "):
        parse_range(text)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((80, 20, 20)).astype(np.float32)
    values[:, 3, 3] = np.nan
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match=r"a: values are not finite.*np.nan_to_num"):
        load_images(str(tmp_path / "a.npy"))
    with pytest.raises(UserError, match="a: image 0 holds values that are not finite"):
        load_images(str(tmp_path / "a.npy"), reading=Reading(low=(0,), high=(1,)))


@pytest.mark.parametrize("is_looked_at", [True, False])
def test_a_file_with_values_that_are_not_finite_is_skipped_and_named(tmp_path: Path, is_looked_at: bool) -> None:
    """Whether it is among those that are looked at for the range or not."""
    rng = np.random.default_rng(0)
    looked_at = set(sampled_rows(np.arange(80)).tolist())
    bad = next(i for i in range(80) if (i in looked_at) == is_looked_at)
    for i in range(80):
        values = rng.random((8, 8), dtype=np.float32)
        values[0, 0] = np.nan if i == bad else 0
        Image.fromarray(values).save(tmp_path / f"{i:02}.tif")
    images = load_images(str(tmp_path), size=8)
    assert len(images) == 79
    assert [(Path(each.path).stem, each.reason) for each in images.skipped] == [
        (f"{bad:02}", "holds values that are not finite")
    ]


def test_nearly_constant_images_are_a_warning(tmp_path: Path) -> None:
    """Three grey levels of 255, as a DICOM of 12 bits that is taken for one of 16."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "dark.npy", rng.integers(0, 3, (20, 20, 20), dtype=np.uint8))
    (note,) = load_images(str(tmp_path / "dark.npy"), size=20).pixel_notes
    assert note.startswith("warning: the images are nearly constant: half of the 20 looked at vary by less than 0.8 of")
    assert "(median grey level 1, 100% of the pixels black)" in note
    assert note.endswith("--range=0.1%,99.9% takes the range from their values")
    write_pack(PackOptions(data=str(tmp_path / "dark.npy"), out=tmp_path / "pack"))
    (note,) = load_images(str(tmp_path / "pack")).pixel_notes
    assert note.endswith("pack them again: --range=0.1%,99.9% takes the range from their values")
    again = load_images(str(tmp_path / "dark.npy"), size=20, reading=Reading(range="0.1%,99.9%"))
    assert not any("warning" in note for note in again.pixel_notes)
    assert again.read(np.arange(20)).max() == 255


def test_pages_of_tiffs_are_counted(tmp_path: Path, make_images: MakeImages) -> None:
    paths = make_images(tmp_path / "a", 5)
    first, *others = [Image.open(path) for path in paths]
    first.save(tmp_path / "a" / "pages.tif", save_all=True, append_images=others)
    (note,) = (note for note in load_images(str(tmp_path / "a"), size=20).pixel_notes if "pages" in note)
    assert note.startswith("1 TIFF file holds several pages, 5 in all; the first page of each is used (--pages ")


def test_arrays_of_other_kinds_are_refused_with_the_way_to_convert_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 20, 20, 3), bool))
    message = r"is bool of shape \(4, 20, 20, 3\); images are integers or floats of shape.* Save a.astype"
    with pytest.raises(UserError, match=message):
        load_images(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_numbers_of_channels_are_refused_with_advice(tmp_path: Path, channels: int) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 20, 20, channels), np.uint8))
    message = rf"no axis is colour, 1 or 3 channels.*To train on all of them give pretrain --channels {channels}"
    with pytest.raises(UserError, match=message):
        load_images(str(tmp_path / "a.npy"))
