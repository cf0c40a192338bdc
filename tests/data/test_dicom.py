"""DICOM files: values against pydicom's own, by hand for what a few files lack, and what is no image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eigenview.cli import run
from eigenview.config import LoaderConfig
from eigenview.config.reading import Reading
from eigenview.data.load import load_images
from eigenview.data.pixels.decode import decode, sample
from eigenview.data.pixels.dicom import about
from eigenview.data.pixels.headers import header
from eigenview.data.pixels.image_files import Unreadable
from eigenview.data.sources.source import Request
from eigenview.data.sources.streams import Origin, Sample, Stream, load_stream
from eigenview.errors import UserError
from eigenview.models.given_images import as_images

pydicom: Any = pytest.importorskip("pydicom")


def given(name: str) -> Path:
    """A file of pydicom's wheel."""
    return Path(pydicom.__file__).parent / "data" / "test_files" / name


def write(path: Path, stored: np.ndarray, **elements: Any) -> Path:
    """A grey DICOM of 16 or 8 bits, (h, w) or (frames, h, w), with these elements beside the necessary ones."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["a"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.Rows, data.Columns = stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = (8, 8, 7) if stored.dtype == np.uint8 else (16, 12, 11)
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    if stored.ndim == 3:
        data.NumberOfFrames = len(stored)
    for name, value in elements.items():
        setattr(data, name, value)
    data.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    data["PixelData"].VR = "OB" if stored.dtype == np.uint8 else "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path)
    return path


RAMP = np.linspace(0, 4095, 400).astype(np.uint16).reshape(20, 20)


def grey(path: Path, reading: Reading, side: int = 20) -> np.ndarray:
    pixels = decode(str(path), side, reading)
    assert (pixels == pixels[:1]).all()
    return pixels[0]


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values.astype(float) - low) * (255 / (high - low)), 0, 255))


def test_values_are_hounsfield_units_as_pydicom_rescales_them() -> None:
    from pydicom.pixels.processing import apply_rescale

    data = pydicom.dcmread(given("CT_small.dcm"))
    expected = apply_rescale(data.pixel_array, data)
    found = sample(str(given("CT_small.dcm")), Reading())
    np.testing.assert_array_equal(found.values.ravel(), expected.ravel())
    assert (found.values.min(), found.values.max()) == (-896, 1167)
    ours = grey(given("CT_small.dcm"), Reading(range="-200,300"), 128)
    np.testing.assert_array_equal(ours, stretched(expected, -200, 300))


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "MR_small_padded.dcm"])
def test_one_slice_in_every_encoding(name: str) -> None:
    expected = pydicom.dcmread(given("MR_small.dcm")).pixel_array
    np.testing.assert_array_equal(grey(given(name), Reading(range="0,2000"), 64), stretched(expected, 0, 2000))
    assert tuple(header(str(given(name)))) == (64, 64, 16, 1, 1, True)


@pytest.mark.parametrize("name", ["SC_rgb_rle.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_ybr_full_422_uncompressed.dcm"])
def test_colour_is_rgb(name: str) -> None:
    """The same bars in RGB, in YBR within a JPEG, and in YBR as it is: red is red in all of them."""
    pixels = decode(str(given(name)), 100, Reading())
    red, green, blue = (pixels[:, y, 50].astype(int) for y in (5, 25, 45))
    assert np.abs(red - (255, 0, 0)).max() <= 6  # of JPEG and of YBR rounded to 8 bits
    assert np.abs(green - (0, 255, 0)).max() <= 6  # of JPEG and of YBR rounded to 8 bits
    assert np.abs(blue - (0, 0, 255)).max() <= 6  # of JPEG and of YBR rounded to 8 bits


def test_a_palette_is_applied() -> None:
    from pydicom.pixels.processing import apply_color_lut

    data = pydicom.dcmread(given("examples_palette.dcm"))
    colours = (apply_color_lut(data.pixel_array, data) >> 8).astype(np.uint8)
    left = (800 - 350) // 2
    expected = np.moveaxis(colours[:, left : left + 350], -1, 0)
    np.testing.assert_array_equal(decode(str(given("examples_palette.dcm")), 350, Reading()), expected)


def test_rescaling_by_slope_and_intercept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP, RescaleSlope="0.5", RescaleIntercept="-10.25")
    np.testing.assert_array_equal(sample(str(path), Reading()).values.ravel(), RAMP.ravel() * 0.5 - 10.25)
    assert sample(str(path), Reading()).ends == (-10.25, 4095 * 0.5 - 10.25)
    full = grey(path, Reading(range="full"))
    np.testing.assert_array_equal(full, stretched(RAMP * 0.5 - 10.25, -10.25, 4095 * 0.5 - 10.25))


def test_values_of_a_modality_table(tmp_path: Path) -> None:
    """As pydicom applies it: here the table inverts 12 bits and lifts them."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "US"
    table.add_new("LUTData", "US", (5000 - np.arange(4096)).tolist())
    path = write(tmp_path / "a.dcm", RAMP, ModalityLUTSequence=Sequence([table]))
    found = sample(str(path), Reading())
    np.testing.assert_array_equal(found.values.ravel(), 5000 - RAMP.ravel())
    assert found.ends == (0, 65535)
    assert header(str(path)).bits == 16


def test_low_values_are_bright_in_monochrome_1(tmp_path: Path) -> None:
    plain, inverted = (write(tmp_path / f"{k}.dcm", RAMP, PhotometricInterpretation=f"MONOCHROME{k}") for k in (2, 1))
    reading = Reading(range="0,4095")
    np.testing.assert_array_equal(grey(inverted, reading), 255 - grey(plain, reading))
    assert grey(inverted, reading)[0, 0] == 255


def test_the_window_of_a_file(tmp_path: Path) -> None:
    """Centre 1000 and width 200: 900 to 1099; a file without one has the range of the set."""
    path = write(tmp_path / "a" / "0.dcm", RAMP, WindowCenter=["1000", "40"], WindowWidth=["200", "400"])
    plain = write(tmp_path / "a" / "1.dcm", RAMP)
    images = load_images(str(tmp_path / "a"), size=20, reading=Reading(range="window"))
    np.testing.assert_array_equal(grey(path, images.reading), stretched(RAMP, 900, 1099))
    np.testing.assert_array_equal(grey(plain, images.reading), stretched(RAMP, 0, 4095))
    assert "range 0 to 4,095 (0.1 to 99.9 %) where a DICOM names no window" in images.pixel_notes[0]


@pytest.mark.parametrize(("function", "last"), [("LINEAR", 1099), ("LINEAR_EXACT", 1100), ("SIGMOID", 1100)])
def test_the_function_of_a_window(tmp_path: Path, function: str, last: float) -> None:
    path = write(tmp_path / "0.dcm", RAMP, WindowCenter="1000", WindowWidth="200", VOILUTFunction=function)
    ours = grey(path, Reading(range="window", low=(0,), high=(1,)))
    np.testing.assert_array_equal(ours, stretched(RAMP, 900, last))


def test_padding_does_not_count_for_the_range(tmp_path: Path) -> None:
    stored = RAMP.astype(np.int16) - 1000
    stored[:5] = -2000
    write(tmp_path / "a" / "0.dcm", stored, PixelPaddingValue=-2000, BitsStored=16, HighBit=15)
    images = load_images(str(tmp_path / "a"), size=20)
    assert images.reading.low == (float(stored[5:].min()),)
    assert images.read(np.array([0])).min() == 0


def test_each_frame_is_an_image_and_may_be_a_channel(tmp_path: Path) -> None:
    frames = np.stack([RAMP, RAMP.T, RAMP[::-1], RAMP[:, ::-1]])
    for name in ("cat", "dog"):
        write(tmp_path / "a" / name / "0.dcm", frames)
    for _ in range(2):  # from the cache too
        images = load_images(str(tmp_path / "a"), size=20, reading=Reading(range="0,4095"))
        expected = np.stack([stretched(frame, 0, 4095) for frame in frames])
        np.testing.assert_array_equal(images.read(np.arange(8))[:, 0], np.concatenate([expected, expected]))
        assert images.pixel_notes[0] == "2 DICOM files hold several frames, 8 in all; each frame is an image"
        assert images.labels is not None
        np.testing.assert_array_equal(images.labels, [0] * 4 + [1] * 4)
    four = load_images(str(tmp_path / "a"), size=20, reading=Reading(range="0,4095", pages="channels", channels=4))
    np.testing.assert_array_equal(four.read(np.array([0]))[0], expected)


def test_frames_of_8_bits_are_decoded_once(tmp_path: Path, decoded: list[str]) -> None:
    """As of ultrasound. With the defaults no option tells the pixels from the headers in the cache."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 4, 20, 20), dtype=np.uint8)
    for files, expected in ((3, 12), (3, 12), (4, 16), (4, 16)):
        for i in range(files):
            if not (tmp_path / "a" / f"{i}.dcm").exists():
                write(tmp_path / "a" / f"{i}.dcm", frames[i])
        images = load_images(str(tmp_path / "a"), size=20)
        np.testing.assert_array_equal(images.read(np.arange(len(images)))[:, 0], frames[:files].reshape(-1, 20, 20))
        assert len(decoded) == expected


def test_frames_in_a_stream_are_refused_without_blaming_an_option(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "0.dcm", np.stack([RAMP, RAMP.T]))
    origin = Origin(spec="scans", name="scans", place=tmp_path, files=(), what="")
    stream = Stream(origin, lambda row: iter([Sample(str(path))][row:]))
    for pages in ("first", "images"):
        with pytest.raises(UserError, match=r"^scans: DICOM files of several frames.* in 1 rows; .* Give a folder"):
            load_stream(stream, 8, Request(reading=Reading(pages=pages), loader=LoaderConfig(cache_gb=0)))


def test_frames_that_the_file_cannot_hold_are_not_images(tmp_path: Path) -> None:
    """A damaged number would otherwise be two million images, each opened in turn."""
    write(tmp_path / "a" / "0.dcm", np.stack([RAMP, RAMP.T]))
    write(tmp_path / "a" / "1.dcm", RAMP, NumberOfFrames=2_000_000)
    images = load_images(str(tmp_path / "a"), size=20, reading=Reading(range="0,4095"))
    assert len(images) == 3
    assert [Path(each.path).name for each in images.skipped] == ["1.dcm page 2"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about odd but readable files
def test_whole_files_have_the_frames_that_they_say() -> None:
    seen = 0
    for path in sorted(given("").iterdir()):
        try:
            with path.open("rb") as file:
                found = about(file)
        except (ValueError, OSError, AttributeError):
            continue
        said = int(pydicom.dcmread(path, stop_before_pixels=True).get("NumberOfFrames", 1) or 1)
        assert found.frames == said, path.name
        seen += said > 1
    assert seen > 2


def test_frames_with_a_rescaling_each(tmp_path: Path) -> None:
    """Functional groups: of each frame, else shared by all."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def group(slope: int) -> Dataset:
        values, outer = Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = str(slope), "0", "US"
        outer.PixelValueTransformationSequence = Sequence([values])
        return outer

    each = {"PerFrameFunctionalGroupsSequence": Sequence([group(1), Dataset()])}
    path = write(tmp_path / "a.dcm", np.stack([RAMP, RAMP]), **each, SharedFunctionalGroupsSequence=[group(3)])
    assert [sample(f"{path}\0#{k}", Reading()).values.max() for k in range(2)] == [4095, 3 * 4095]


def test_what_holds_no_pixels_is_skipped_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_expb.dcm"):
        (tmp_path / "a" / name).write_bytes(given(name).read_bytes())
    for name in ("rtplan.dcm", "image_dfl.dcm", "JPEGLSNearLossless_16.dcm"):
        (tmp_path / "a" / name).write_bytes(given(name).read_bytes())
    (tmp_path / "a" / "text.dcm").write_text("nothing")
    images = load_images(str(tmp_path / "a"))
    assert len(images) == 4
    reasons = {Path(each.path).name: each.reason for each in images.skipped}
    assert reasons["rtplan.dcm"] == reasons["image_dfl.dcm"] == "a DICOM file without pixels"
    assert reasons["text.dcm"] == "not a DICOM file: it has no DICOM header"
    assert reasons["JPEGLSNearLossless_16.dcm"].startswith("Unable to decompress 'JPEG-LS Lossy")
    assert not any("\n" in reason for reason in reasons.values())
    with pytest.raises(Unreadable, match="cannot reshape array"):
        decode(str(given("MR_truncated.dcm")), 64, Reading(range="full"))


def test_a_folder_without_the_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a" / "0.dcm", RAMP)
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a" / "1.png")
    deep = tmp_path / "deep"
    write(deep / "0.dcm", RAMP)
    load_images(str(deep), size=20)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for what in (str(deep / "0.dcm"), [deep / "0.dcm"]):
        with pytest.raises(UserError, match=r"0.dcm is a DICOM file, which needs the package pydicom"):
            as_images(what, 20, Reading(low=(0,), high=(4095,)))
    for asked in ("0,100", "1%,99%"):  # the headers are in the cache
        with pytest.raises(UserError, match=r"0.dcm is a DICOM file, which needs the package pydicom"):
            load_images(str(deep), size=20, reading=Reading(range=asked))
    assert len(load_images(str(deep), size=20)) == 1  # and the pixels
    with pytest.raises(UserError, match=r"0.dcm is a DICOM file, which needs the package pydicom: uv sync --extra dic"):
        load_images(str(tmp_path / "a"))
    assert run(["pretrain", str(tmp_path / "a"), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "pip install 'eigenview[dicom]'" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
