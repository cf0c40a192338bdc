"""Images of any number of channels: which axis, band or page each is, its own range, and what cannot be one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eigenview.config import LoaderConfig
from eigenview.config.reading import Reading
from eigenview.data.load import load_images, load_probe_sets
from eigenview.data.packing import PackOptions, write_pack
from eigenview.data.splitting import files_of
from eigenview.data.views.augment import augment, prepare, to_uint8
from eigenview.data.views.channel_statistics import channel_statistics
from eigenview.data.views.colour import blend_
from eigenview.data.views.presets import PRESETS
from eigenview.data.views.specs import ViewSpec
from eigenview.errors import UserError
from tests.data.deep_files import write_png

NOISE = np.random.default_rng(0).integers(0, 256, (6, 5, 20, 20), dtype=np.uint8)


def read(spec: Path, reading: Reading, **options: object) -> np.ndarray:
    images = load_images(str(spec), size=20, source_size=20, reading=reading, **options)  # type: ignore[arg-type]
    assert images.reading.channels == reading.channels
    return images.read(np.arange(len(images)))


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize("is_last", [False, True])
def test_arrays(tmp_path: Path, channels: int, is_last: bool) -> None:
    array = NOISE[:, :channels]
    np.save(tmp_path / "a.npy", array.transpose(0, 2, 3, 1) if is_last else array)
    np.testing.assert_array_equal(read(tmp_path / "a.npy", Reading(channels=channels)), array)


def test_arrays_of_another_side_are_resized_channel_by_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NOISE)
    images = load_images(str(tmp_path / "a.npy"), size=10, source_size=10, reading=Reading(channels=5))
    one = np.asarray(Image.fromarray(NOISE[3, 4]).resize((10, 10), Image.Resampling.BICUBIC, reducing_gap=3.0))
    np.testing.assert_array_equal(images.read(np.array([3]))[0, 4], one)


def test_deep_channels_have_a_range_each(tmp_path: Path) -> None:
    """Channel c holds 0 to 255 times 10^c: a common range would leave the first ones black."""
    grey = NOISE[:, :3].astype(np.int64)
    grey[:, :, 0, 0], grey[:, :, 0, 1] = 0, 255
    deep = np.concatenate([grey, grey], axis=1)[:, :4] * np.array([1, 10, 100, 1000])[:, None, None]
    np.save(tmp_path / "a.npy", deep.astype(np.float32))
    images = load_images(str(tmp_path / "a.npy"), size=20, source_size=20, reading=Reading(channels=4))
    assert images.reading.high == (255, 2550, 25500, 255000)
    expected = np.concatenate([grey, grey], axis=1)[:, :4]
    np.testing.assert_array_equal(images.read(np.arange(6)), expected)
    assert (
        "ranges 0 to 255, 0 to 2,550, 0 to 25,500, 0 to 255,000 (0.1 to 99.9 % of each channel)"
        in (images.pixel_notes[0])
    )


@pytest.mark.parametrize(("dtype", "asked"), [("uint16", "auto"), ("uint8", "1%,99%")])
def test_grey_arrays_have_no_pages(tmp_path: Path, dtype: str, asked: str) -> None:
    """As grey files of one page do where pages would be channels, they become three equal channels."""
    grey = NOISE[:, 0].astype(dtype)
    np.save(tmp_path / "grey.npy", grey)
    ours = read(tmp_path / "grey.npy", Reading(range=asked, pages="channels"))
    np.testing.assert_array_equal(ours, read(tmp_path / "grey.npy", Reading(range=asked)))
    (tmp_path / "files").mkdir()
    for i, plane in enumerate(grey):
        Image.fromarray(plane).save(tmp_path / "files" / f"{i}.png")
    np.testing.assert_array_equal(ours, read(tmp_path / "files", Reading(range=asked, pages="channels")))


@pytest.mark.parametrize("asked", ["auto", "0%,100%"])
def test_bands_are_those_that_the_header_counts(tmp_path: Path, asked: str) -> None:
    """Transparency of one colour is a band, and CMYK has four."""
    for name in ("colour", "grey", "cmyk"):
        (tmp_path / name).mkdir()
    for i, planes in enumerate(NOISE[:3, :4]):
        cmyk = Image.merge("CMYK", [Image.fromarray(plane) for plane in planes])
        cmyk.save(tmp_path / "cmyk" / f"{i}.tif")
        colour = Image.merge("RGB", cmyk.split()[:3])
        colour.save(tmp_path / "colour" / f"{i}.png", transparency=tuple(planes[:3, 0, 0].tolist()))
        colour.getchannel(0).save(tmp_path / "grey" / f"{i}.png", transparency=int(planes[0, 0, 0]))
    for name, channels in (("colour", 4), ("grey", 2), ("cmyk", 4)):
        found = read(tmp_path / name, Reading(range=asked, channels=channels))
        expected = NOISE[:3, :channels].copy()
        if name != "cmyk":
            expected[:, -1] = np.where((expected[:, :-1] == expected[:, :-1, :1, :1]).all(1), 0, 255)
        # not every channel has both 0 and 255, so that its range may be a little smaller
        np.testing.assert_allclose(found.astype(int), expected, atol=1)


def test_an_empty_channel_is_refused_by_its_number(tmp_path: Path) -> None:
    deep = NOISE.astype(np.uint16)
    deep[:, 2] = 7
    np.save(tmp_path / "a.npy", deep)
    with pytest.raises(UserError, match="every value of channel 2 that was looked at is 7, so one grey level is left"):
        read(tmp_path / "a.npy", Reading(channels=5))


def pages(path: Path, planes: np.ndarray) -> None:
    first, *others = [Image.fromarray(plane) for plane in planes]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=others)


@pytest.mark.parametrize("loader", [LoaderConfig(), LoaderConfig(cache_gb=0)])
def test_pages_are_channels_or_images_or_the_first_is_used(tmp_path: Path, loader: LoaderConfig) -> None:
    for i in range(6):
        pages(tmp_path / "a" / "xy"[i % 2] / f"{i}.tif", NOISE[i])
    order = [0, 2, 4, 1, 3, 5]  # by class folder
    for _ in range(2):  # from the cache too
        channels = read(tmp_path / "a", Reading(pages="channels", channels=5), loader=loader)
        np.testing.assert_array_equal(channels, NOISE[order])
        first = read(tmp_path / "a", Reading(channels=1), loader=loader)
        np.testing.assert_array_equal(first, NOISE[order, :1])
        images = load_images(
            str(tmp_path / "a"), size=20, source_size=20, reading=Reading(pages="images", channels=1), loader=loader
        )
        np.testing.assert_array_equal(images.read(np.arange(30)), NOISE[order].reshape(30, 1, 20, 20))
        assert images.labels is not None
        np.testing.assert_array_equal(images.labels, [0] * 15 + [1] * 15)
        assert images.pixel_notes == ("6 TIFF files hold several pages, 30 in all; each page is an image",)
    assert len(images.files) == 6


def test_pages_of_a_file_lie_on_one_side(tmp_path: Path) -> None:
    for i in range(40):
        pages(tmp_path / "xy"[i % 2] / f"{i}.tif", NOISE[i % 6])
    found = load_probe_sets(str(tmp_path), size=20, reading=Reading(pages="images", channels=1))
    assert found is not None
    train, test = ({path.partition("\0")[0] for path in each.paths} for each in found)
    assert not train & test
    assert len(train) + len(test) == 40
    files = files_of(found[1])
    assert files is not None
    np.testing.assert_array_equal(np.bincount(files), np.full(len(test), 5))


def test_a_pack_of_pages_has_the_split_of_the_folder(tmp_path: Path) -> None:
    for i in range(10):
        pages(tmp_path / "a" / "xy"[i % 2] / f"{i}.tif", NOISE[i % 6])
    reading = Reading(pages="images", channels=1)
    write_pack(PackOptions(data=str(tmp_path / "a"), out=tmp_path / "pack", image_size=20, pages="images", channels=1))
    plain, packed = (load_probe_sets(str(tmp_path / name), size=20, reading=reading) for name in ("a", "pack"))
    assert plain is not None
    assert packed is not None
    for ours, theirs in zip(packed, plain, strict=True):
        np.testing.assert_array_equal(ours.read(np.arange(len(ours))), theirs.read(np.arange(len(theirs))))
        np.testing.assert_array_equal(files_of(ours), files_of(theirs))  # type: ignore[arg-type]


def test_a_pack_has_the_pages_of_its_making(tmp_path: Path) -> None:
    pages(tmp_path / "a" / "0.tif", NOISE[0])
    write_pack(PackOptions(data=str(tmp_path / "a"), out=tmp_path / "pack", channels=1))
    with pytest.raises(UserError, match=r"with --pages first, and images is asked.*again with --pages images\."):
        load_images(str(tmp_path / "pack"), reading=Reading(pages="images", channels=1))


def test_pages_beside_files_of_one(tmp_path: Path) -> None:
    """Each page is an image, a damaged file is listed, and messages name the page."""
    pages(tmp_path / "a" / "0.tif", NOISE[0, :2])
    (tmp_path / "a" / "1.tif").write_bytes(b"nothing")
    Image.fromarray(NOISE[1, 0]).save(tmp_path / "a" / "2.png")
    for _ in range(2):
        images = load_images(str(tmp_path / "a"), size=20, source_size=20, reading=Reading(pages="images", channels=1))
        np.testing.assert_array_equal(images.read(np.arange(3))[:, 0], [NOISE[0, 0], NOISE[0, 1], NOISE[1, 0]])
        assert [skipped.path for skipped in images.skipped] == [str(tmp_path / "a" / "1.tif")]
    lazily = {"reading": Reading(pages="images", channels=1), "loader": LoaderConfig(cache_gb=0)}
    images = load_images(str(tmp_path / "a"), size=20, source_size=20, **lazily)
    pages(tmp_path / "a" / "0.tif", NOISE[0, :1])  # it has lost its second page since
    with pytest.warns(UserWarning, match=r"1 image of a broke and was replaced .*0.tif page 2: "):
        images.read(np.array([1, 2]))


def test_deep_pages_are_channels_only_where_there_are_several(tmp_path: Path) -> None:
    """--pages channels over files of one page: one range, as for any grey; beside such files each page has its own."""
    one = NOISE[0, 0].astype(np.uint16) * 16
    one[0, :2] = 0, 4080
    Image.fromarray(one).save(tmp_path / "0.tif")
    for _ in range(2):  # from the cache too
        images = load_images(str(tmp_path), size=20, source_size=20, reading=Reading(pages="channels"))
        assert (images.reading.low, images.reading.high) == ((0,), (4080,))
        np.testing.assert_array_equal(images.read(np.array([0]))[0], np.broadcast_to(one // 16, (3, 20, 20)))
    three = NOISE[1, :3].astype(np.uint16) * np.array([1, 10, 100], np.uint16)[:, None, None]
    three[:, 0, 0], three[:, 0, 1] = 0, (255, 2550, 25500)
    pages(tmp_path / "1.tif", three)
    images = load_images(str(tmp_path), size=20, source_size=20, reading=Reading(pages="channels"))
    assert images.reading.high == (255, 2550, 25500)
    expected = three // np.array([1, 10, 100], np.uint16)[:, None, None]
    np.testing.assert_array_equal(images.read(np.array([1]))[0], expected)


def test_deep_files_with_other_bands_are_left_out_of_the_range(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    four = rng.integers(0, 4096, (20, 20, 4)).astype(np.uint16)
    four[0, 0], four[0, 1] = 0, 4095
    write_png(tmp_path / "0.png", four)
    write_png(tmp_path / "1.png", four)
    write_png(tmp_path / "2.png", four[..., :3] * 16)
    images = load_images(str(tmp_path), size=20, source_size=20, reading=Reading(channels=4))
    assert images.reading.high == (4095,) * 4
    assert [skipped.reason for skipped in images.skipped] == ["has 3 channels, not 4"]


def test_bands_of_files(tmp_path: Path) -> None:
    """Two bands are grey and transparency, four are RGBA, as they are stored; one is grey whatever the file holds."""
    bands = NOISE[0].transpose(1, 2, 0)
    for name, mode, count in (("la", "LA", 2), ("rgba", "RGBA", 4)):
        (tmp_path / name).mkdir()
        planes = [Image.fromarray(np.ascontiguousarray(bands[..., c])) for c in range(count)]
        Image.merge(mode, planes).save(tmp_path / name / "0.png")
        np.testing.assert_array_equal(read(tmp_path / name, Reading(channels=count))[0], NOISE[0, :count])
    (tmp_path / "rgb").mkdir()
    Image.fromarray(np.ascontiguousarray(bands[..., :3])).save(tmp_path / "rgb" / "0.png")
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(bands[..., :3])).convert("L"))
    np.testing.assert_array_equal(read(tmp_path / "rgb", Reading(channels=1))[0, 0], grey)
    np.save(tmp_path / "rgb.npy", bands[None, ..., :3])
    np.testing.assert_array_equal(read(tmp_path / "rgb.npy", Reading(channels=1))[0, 0], grey)


def test_channels_that_the_data_do_not_have_are_refused(tmp_path: Path) -> None:
    pages(tmp_path / "a" / "0.tif", NOISE[0])
    with pytest.raises(UserError, match=r"files have 5 pages.*and --channels is 3. Give --channels 5"):
        read(tmp_path / "a", Reading(pages="channels"))
    with pytest.raises(UserError, match=r"files have 1 channel, and --channels is 5. Leave it out. With --pages chan"):
        read(tmp_path / "a", Reading(channels=5))
    np.save(tmp_path / "a.npy", NOISE)
    with pytest.raises(UserError, match=r"no axis is colour, 4 channels \(--channels\); .* give pretrain --channels 5"):
        read(tmp_path / "a.npy", Reading(channels=4))
    np.save(tmp_path / "grey.npy", NOISE[:, 0])
    with pytest.raises(UserError, match="grey images, and --channels is 5: give --channels 1 or leave it out"):
        read(tmp_path / "grey.npy", Reading(channels=5))
    with pytest.raises(UserError, match="digits has images of 1 channel, and --channels is 5"):
        load_images("digits", reading=Reading(channels=5))
    with pytest.raises(UserError, match="--pages is 'last'; allowed: first, images, channels"):
        Reading(pages="last")  # type: ignore[arg-type]


def test_a_pack_keeps_the_channels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NOISE)
    write_pack(PackOptions(data=str(tmp_path / "a.npy"), out=tmp_path / "pack", image_size=20, channels=5))
    reading = Reading(channels=5)
    for loader in (LoaderConfig(), LoaderConfig(cache_gb=0)):
        np.testing.assert_array_equal(read(tmp_path / "pack", reading, loader=loader), NOISE)
    with pytest.raises(UserError, match=r"holds images of 5 channels, and --channels is 3 .*Give --channels 5"):
        load_images(str(tmp_path / "pack"))


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", ["asymmetric", "simclr", "digits"])
def test_every_preset_makes_views_of_any_channels(name: str, channels: int) -> None:
    """Crop, flip, blur and solarisation treat channels alike and apart from each other: one channel, repeated, gives
    the same view in each; so do brightness and contrast."""
    images = torch.from_numpy(np.repeat(NOISE[:, :1], channels, axis=1))
    for spec in PRESETS[name].specs:
        spec = dataclasses.replace(spec, mean=(0.5,) * channels, std=(0.25,) * channels)
        view = augment(images, spec, 16, torch.Generator().manual_seed(3))
        assert view.shape == (6, channels, 16, 16)
        torch.testing.assert_close(view, view[:, :1].expand_as(view))


def test_jitter_of_channels_by_hand() -> None:
    """Brightness f x, contrast f x + (1 - f) mean of the channel; saturation and hue leave them as they are."""
    x = torch.rand(2, 5, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 2
    f = torch.tensor([0.5, 1.5], dtype=torch.float64)
    zero, column = torch.zeros_like(f), f[:, None, None, None]
    torch.testing.assert_close(blend_(x.clone(), f, zero, zero), column * x)
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(blend_(x.clone(), f, zero, 1 - f), (column * x + (1 - column) * mean).clamp(0, 1))
    torch.testing.assert_close(blend_(x.clone(), f, 1 - f, zero), x)
    spec = ViewSpec(brightness=0, contrast=0, jitter=1.0, grayscale=1.0, mean=(0.0,) * 5, std=(1.0,) * 5)
    pixels = torch.from_numpy(NOISE)
    view = augment(pixels, spec, 16, torch.Generator().manual_seed(3))
    still = ViewSpec(jitter=0.0, grayscale=0.0, mean=(0.0,) * 5, std=(1.0,) * 5)
    torch.testing.assert_close(view, augment(pixels, still, 16, torch.Generator().manual_seed(3)))


def test_statistics_of_the_channels(tmp_path: Path) -> None:
    array = NOISE.copy()
    array[:, 4] = 51
    np.save(tmp_path / "a.npy", array)
    images = load_images(str(tmp_path / "a.npy"), size=20, source_size=20, reading=Reading(channels=5))
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, array.mean((0, 2, 3)) / 255, atol=1e-4)
    np.testing.assert_allclose(std[:4], array[:, :4].std((0, 2, 3)) / 255, atol=1e-4)
    assert (mean[4], std[4]) == (0.2, round(1 / 255, 4))
    prepared = prepare(torch.from_numpy(array), 20, mean, std)
    spec = ViewSpec(mean=mean, std=std)
    np.testing.assert_array_equal(to_uint8(prepared, spec).numpy(), array)
