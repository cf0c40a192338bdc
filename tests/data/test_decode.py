"""Images of every kind, written by Pillow and read back with pixel values known in advance."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview.config.reading import Reading
from eigenview.data.pixels.decode import decode, sample
from eigenview.data.pixels.deep import to_8_bits
from eigenview.data.pixels.geometry import square
from eigenview.data.pixels.headers import short_side
from eigenview.data.pixels.image_files import Unreadable
from tests.data.deep_files import write_png

HALVES = [0, 0, 1, 112, 255, 255]
"""255 / 204 times 9, 10, 11, 100, 214, 240 minus 10, rounded to the even of two equally near numbers."""
RED, WHITE = (255, 0, 0), (255, 255, 255)


def plain(mode: str, colour: object, side: int = 8) -> Image.Image:
    return Image.new(mode, (side, side), colour)  # type: ignore[arg-type]


def colour_of(path: Path, side: int = 8) -> tuple[int, ...]:
    """The one colour of a plain image."""
    pixels = decode(str(path), side, Reading(range="full"))
    assert pixels.shape == (3, side, side)
    assert pixels.dtype == np.uint8
    assert np.ptp(pixels.reshape(3, -1), axis=1).max() <= 1
    return tuple(int(v) for v in pixels[:, 0, 0])


def palette(transparent: bool) -> Image.Image:
    image = plain("P", 1)
    image.putpalette([0, 0, 0, *RED])
    if transparent:
        image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (plain("RGB", (10, 200, 30)), "png", (10, 200, 30)),
        (plain("RGB", (10, 200, 30)), "bmp", (10, 200, 30)),
        (plain("RGB", (10, 200, 30)), "tiff", (10, 200, 30)),
        (plain("L", 77), "png", (77, 77, 77)),
        (plain("1", 1), "png", WHITE),
        (plain("RGBA", (255, 0, 0, 255)), "png", RED),
        (plain("RGBA", (0, 0, 0, 0)), "png", WHITE),  # the black below full transparency is not a colour anyone sees
        (plain("RGBA", (255, 0, 0, 51)), "png", (255, 204, 204)),  # a fifth of red on white
        (plain("LA", (0, 0)), "png", WHITE),
        (palette(transparent=False), "png", RED),
        (palette(transparent=True), "png", WHITE),
        (palette(transparent=False), "gif", RED),
        (plain("CMYK", (0, 255, 255, 0)), "tiff", RED),
        (plain("I;16", 65535), "png", WHITE),
        (plain("I;16", 257 * 100), "png", (100, 100, 100)),
        (plain("I;16", 257 * 100), "tiff", (100, 100, 100)),
        (plain("F", 0.2), "tiff", (51, 51, 51)),
        (plain("F", 200.0), "tiff", WHITE),  # floats without a range: 0 to 1
        (plain("I", 100), "tiff", (128, 128, 128)),  # near the middle of the integers of 32 bits
    ],
)
def test_modes(tmp_path: Path, image: Image.Image, suffix: str, expected: tuple[int, ...]) -> None:
    path = tmp_path / f"image.{suffix}"
    image.save(path)
    assert colour_of(path) == expected


def test_lossy_formats_are_near(tmp_path: Path) -> None:
    plain("RGB", (10, 200, 30)).save(tmp_path / "a.jpg")
    plain("RGB", (10, 200, 30)).save(tmp_path / "a.webp")
    plain("CMYK", (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    assert np.abs(np.subtract(colour_of(tmp_path / "a.jpg"), (10, 200, 30))).max() <= 4
    assert np.abs(np.subtract(colour_of(tmp_path / "a.webp"), (10, 200, 30))).max() <= 6
    assert np.abs(np.subtract(colour_of(tmp_path / "cmyk.jpg"), RED)).max() <= 4


def test_16_bit_gradient_keeps_its_range(tmp_path: Path) -> None:
    gradient = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (256, 1))
    for suffix in ("png", "tif"):
        Image.fromarray(gradient).save(tmp_path / f"deep.{suffix}")
        row = decode(str(tmp_path / f"deep.{suffix}"), 256, Reading(range="full"))[0, 0]
        np.testing.assert_array_equal(row, np.arange(256))


def test_big_endian_16_bit_tiff(tmp_path: Path) -> None:
    values = np.full((8, 8), 257 * 9, ">u2")
    header = b"MM\x00*" + (8).to_bytes(4, "big")
    tags = [
        (256, 4, 8),
        (257, 4, 8),
        (258, 3, 16 << 16),
        (259, 3, 1 << 16),
        (262, 3, 1 << 16),
        (273, 4, 8 + 2 + 8 * 12 + 4),
    ]
    tags += [(278, 4, 8), (279, 4, 128)]
    body = len(tags).to_bytes(2, "big")
    for tag, kind, value in tags:
        body += tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + (1).to_bytes(4, "big") + value.to_bytes(4, "big")
    (tmp_path / "big.tif").write_bytes(header + body + bytes(4) + values.tobytes())
    assert colour_of(tmp_path / "big.tif") == (9, 9, 9)


def test_values_become_8_bits_by_hand() -> None:
    stretched = to_8_bits(np.array([[-1000.0, -999.0, 0.0, 1000.0, 1e6]], np.float32), -1000, 1000)
    np.testing.assert_array_equal(stretched, [[0, 0, 128, 255, 255]])
    for kind in ("uint8", "uint16", "<u2", ">u2", "int32", "float64"):
        np.testing.assert_array_equal(to_8_bits(np.array([9, 10, 11, 100, 214, 240], kind), 10, 214), HALVES)
    np.testing.assert_array_equal(to_8_bits(np.array([2**31 - 2, 2**31 - 1]), 2**31 - 2, 2**31 - 1), [0, 255])
    with pytest.raises(ValueError, match="not finite"):
        to_8_bits(np.array([[0.0, np.nan]], np.float32), 0, 1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (1, 1)), (6, (0, 1)), (8, (1, 0))])
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int, corner: tuple[int, int]) -> None:
    """A white quarter at the top left goes where the orientation says: 6 turns clockwise, 8 the other way, 3 around."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    bright = decode(str(path), 32, Reading())[0].reshape(2, 16, 2, 16).mean((1, 3)) > 128
    expected = np.zeros((2, 2), bool)
    expected[corner] = True
    np.testing.assert_array_equal(bright, expected)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    frames = [plain("RGB", (0, 0, 255), 16), plain("RGB", RED, 16)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {}))
    assert colour_of(path, 16) == (0, 0, 255)


def test_square_is_the_centre() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 36, 3), dtype=np.uint8)
    wide, tall = Image.fromarray(pixels), Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 0, 2)))
    np.testing.assert_array_equal(square(wide, 12), pixels[:, 12:24].transpose(2, 0, 1))
    np.testing.assert_array_equal(square(tall, 12), pixels[:, 12:24].transpose(2, 1, 0))


@pytest.mark.parametrize("side", [4, 24])
def test_square_equals_resizing_then_cropping(side: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 36, 3), dtype=np.uint8))
    whole = np.asarray(image.resize((3 * side, side), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.abs(square(image, side).astype(int) - whole[:, :, side : 2 * side]).max() <= 1


def test_reduced_jpeg_decoding_is_near_the_full_one(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 512)
    smooth = np.stack([np.add.outer(ramp, ramp) / 2, np.tile(ramp, (512, 1)), np.full((512, 512), 90)], -1).astype(
        np.uint8
    )
    Image.fromarray(smooth).save(tmp_path / "large.jpg", quality=95)
    full = square(Image.open(tmp_path / "large.jpg"), 32)
    assert np.abs(decode(str(tmp_path / "large.jpg"), 32, Reading()).astype(int) - full).max() <= 3


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(Unreadable) as caught:
            decode(str(path), 8, Reading())
        return str(caught.value)

    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello, I am no image\n" * 20)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for suffix in ("jpg", "png", "webp", "bmp", "tif", "gif"):
        noise.save(tmp_path / f"whole.{suffix}")
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(content[: len(content) // 2])
        assert reason(tmp_path / f"cut.{suffix}")
    assert "empty" in reason(tmp_path / "empty.jpg")
    assert "not an image" in reason(tmp_path / "text.jpg")
    assert "truncated" in reason(tmp_path / "cut.jpg")
    assert "No such file" in reason(tmp_path / "absent.jpg")
    assert short_side(str(tmp_path / "cut.jpg")) == 64  # its header is intact: only decoding shows the damage


def test_other_formats_stay_closed(tmp_path: Path) -> None:
    """A PostScript or PPM file called .png is not handed to another decoder of Pillow's."""
    plain("RGB", RED).save(tmp_path / "a.ppm")
    (tmp_path / "a.ppm").rename(tmp_path / "a.png")
    with pytest.raises(Unreadable, match="not an image"):
        decode(str(tmp_path / "a.png"), 8, Reading())


def test_a_range_does_not_apply_to_upper_bytes(tmp_path: Path) -> None:
    """Of 16-bit grey with transparency Pillow gives no more: without a range they are the pixels."""
    values = np.random.default_rng(0).integers(0, 65536, (5, 5, 2)).astype(np.uint16)
    values[..., 1] = 65535
    write_png(tmp_path / "a.png", values)
    np.testing.assert_array_equal(decode(str(tmp_path / "a.png"), 5, Reading())[0], values[..., 0] >> 8)
    for read in (sample, lambda path, reading: decode(path, 5, reading)):
        with pytest.raises(Unreadable, match=r"upper byte alone can be read, so no range applies; save it as grey"):
            read(str(tmp_path / "a.png"), Reading(range="0,4095"))


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    """Every format with bytes overwritten at random: an image or Unreadable, nothing else."""
    generator = np.random.default_rng(1)
    noise = Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    seen = {"image": 0, "unreadable": 0}
    for suffix in ("jpg", "png", "webp", "bmp", "tif", "gif"):
        noise.save(tmp_path / f"a.{suffix}")
        content = np.frombuffer((tmp_path / f"a.{suffix}").read_bytes(), np.uint8)
        for _ in range(40):
            hurt = content.copy()
            spots = generator.integers(0, min(len(hurt), 200), 6)
            hurt[spots] = generator.integers(0, 256, 6)
            (tmp_path / f"hurt.{suffix}").write_bytes(hurt.tobytes())
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    assert decode(str(tmp_path / f"hurt.{suffix}"), 8, Reading()).shape == (3, 8, 8)
                seen["image"] += 1
            except Unreadable:
                seen["unreadable"] += 1
    assert seen["image"] > 0
    assert seen["unreadable"] > 0


def test_what_the_decoder_logs_is_not_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TIFF that says it has 14,339 values for each pixel: the reason is returned, and nothing else is said."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a program that sets up no logging
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "many.tif")
    content = (tmp_path / "many.tif").read_bytes()
    tag = bytes([0x15, 0x01, 3, 0, 1, 0, 0, 0, 3, 0, 0, 0])  # SamplesPerPixel, a short, one value, 3
    assert content.count(tag) == 1
    (tmp_path / "many.tif").write_bytes(content.replace(tag, tag[:8] + (14339).to_bytes(4, "little")))
    with pytest.raises(Unreadable):
        decode(str(tmp_path / "many.tif"), 8, Reading())
    assert capfd.readouterr() == ("", "")
