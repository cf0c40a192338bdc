"""--fit: squares of a picture against Pillow's own operations, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from eigenview.config.fit import Fit, parse_fit
from eigenview.data.pixels.byte_ranges import (
    Piece,
    as_piece,
    file_shown,
    original,
    page_path,
    shown,
    split_tile,
    tile_path,
)
from eigenview.data.pixels.geometry import Place, square
from eigenview.errors import UserError

BICUBIC = Image.Resampling.BICUBIC


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.fromarray(pixels if bands > 1 else pixels[..., 0])


def expected(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


SIZES = [(60, 40), (40, 60), (50, 50), (32, 32), (90, 31), (20, 10)]
"""With a factor of less than six, beyond which pictures are first shrunk by an integer."""


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", SIZES)
def test_squash_is_pillow_s_resize(size: tuple[int, int], mode: str) -> None:
    image = picture(*size, mode)
    assert np.array_equal(square(image, 32, Place("squash")), expected(image.resize((32, 32), BICUBIC)))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", SIZES)
def test_pad_is_pillow_s_pad_with_the_median_of_the_border(size: tuple[int, int], mode: str) -> None:
    image = picture(*size, mode)
    pixels = square(image, 32, Place("pad"))
    inside = expected(ImageOps.contain(image, (32, 32), BICUBIC))
    border = [inside[:, 0], inside[:, -1], inside[:, 1:-1, 0], inside[:, 1:-1, -1]]
    middle = np.rint(np.median(np.concatenate(border, axis=1), axis=1)).astype(int).tolist()
    colour = tuple(middle) if mode == "RGB" else middle[0]
    spare = 32 - min(inside.shape[1:])
    half = 0.5 if spare % 2 == 0 else 0.49  # of an odd number of pixels the larger half comes last
    assert np.array_equal(pixels, expected(ImageOps.pad(image, (32, 32), BICUBIC, colour, (half, half))))


def test_pad_by_hand() -> None:
    """A picture of 4 x 2 in a square of 4: its border is all of it."""
    values = np.array([[10, 20, 30, 40], [50, 60, 70, 85]], np.uint8)
    pixels = square(Image.fromarray(values), 4, Place("pad"))
    middle = [45] * 4  # between 40 and 50
    assert pixels.tolist() == [[middle, *values.tolist(), middle]]
    line = square(Image.fromarray(np.full((1, 400), 7, np.uint8)), 16, Place("pad"))  # never thinner than a pixel
    assert line.shape == (1, 16, 16)
    assert (line == 7).all()


@pytest.mark.parametrize("size", [(60, 40), (40, 60), (50, 50), (900, 300)])
def test_crop_is_the_centred_square(size: tuple[int, int]) -> None:
    image = picture(*size)
    left, top = ((each - min(size)) // 2 for each in size)
    box = (left, top, left + min(size), top + min(size))
    assert np.array_equal(square(image, 32), expected(image.resize((32, 32), BICUBIC, box, 3.0)))
    assert np.array_equal(square(image, 32, Place("tiles:4", 0, 1)), square(image, 32))


def test_tiles_lie_evenly_from_one_end_to_the_other() -> None:
    values = np.arange(70, dtype=np.uint8).repeat(10).reshape(70, 10)
    for image, axis in ((Image.fromarray(values), 1), (Image.fromarray(values.T.copy()), 2)):
        tiles = [square(image, 10, Place("tiles:4", k, 4)) for k in range(4)]
        assert [int(tile.min()) for tile in tiles] == [0, 20, 40, 60]
        assert [int(tile.max()) for tile in tiles] == [9, 29, 49, 69]
        assert all((np.diff(tile.astype(int), axis=axis) == 1).all() for tile in tiles)


def test_as_many_tiles_as_cover_the_picture() -> None:
    fit = parse_fit("tiles:3")
    assert fit == Fit("tiles", 3)
    sides = [(10, 10), (10, 11), (10, 20), (10, 21), (10, 500), (0, 0)]
    assert [fit.squares_of(*each) for each in sides] == [1, 2, 2, 3, 3, 1]
    assert [parse_fit("pad").squares_of(*each) for each in sides] == [1] * 6


def test_paths_of_tiles() -> None:
    piece = Piece("x.tar", "a.png", 512, 100)
    for path, name in (("a/b.png", "a/b.png"), (piece.path(), "x.tar/a.png")):
        for page in (path, page_path(path, 2)):
            tile = tile_path(page, 1, 3)
            assert split_tile(tile) == (page, 1, 3)
            assert original(tile) == page
            assert file_shown(tile) == file_shown(page) == name
            assert shown(tile) == f"{name}{' page 3' if page != path else ''} tile 2 of 3"
            assert as_piece(tile) == (None if path == name else piece)
    assert tile_path("a/b.png", 0, 1) == "a/b.png"
    assert split_tile("a/b.png") == ("a/b.png", 0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiles:0", r"--fit is 'tiles:0'; allowed: tiles:N with N from 2 to 64, such as tiles:3"),
        ("tiles:x", "tiles:N with N from 2 to 64"),
        ("tiles:", "tiles:N with N from 2 to 64"),
        ("tiles", "tiles:N with N from 2 to 64"),
        ("tiles:65", "tiles:N with N from 2 to 64"),
        ("tiles:²", "tiles:N with N from 2 to 64"),
        ("pat", r"--fit is 'pat'; allowed: crop, pad, squash, tiles:N\. Did you mean pad\?"),
        ("stretch", "allowed: crop, pad, squash, tiles:N"),
        ("", "allowed: crop, pad, squash, tiles:N"),
    ],
)
def test_other_words_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_fit(text)
