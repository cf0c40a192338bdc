"""Images of more bits, pages and channels than photographs have, with options of how to read them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.damage import FILES, copy, damage
from tests.fuzz.lists import reading
from tests.fuzz.sandbox import Command
from tests.fuzz.values import PLACES, Recipe, at

TAGS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel", "RescaleSlope")
TAGS += ("RescaleIntercept", "WindowWidth", "WindowCenter", "NumberOfFrames", "PhotometricInterpretation", "PixelData")
"""Of a DICOM file."""
DTYPES = ("uint16", "int16", "int32", "uint32", "float32", "float64", "uint8", "int8", "bool", "float16")
RECIPES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["npy", "npy", "tif", "tif", "png", "dcm"]),
        "dtype": st.sampled_from(DTYPES),
        "channels": st.sampled_from([1, 2, 3, 4, 5]),
        "pages": st.sampled_from([1, 1, 3, 5]),
        "values": st.sampled_from(["ramp", "ramp", "ramp", "constant", "nan", "inf", "huge", "negative"]),
        "damages": st.lists(st.fixed_dictionaries({"file": PLACES, "damage": FILES}), max_size=2),
        "tags": st.lists(
            st.tuples(
                st.sampled_from(TAGS),
                st.sampled_from([None, 0, 1, 7, 12, 16, 65535, "MONOCHROME1", "PALETTE COLOR", "x", "1e400", "-1"]),
            ).map(list),
            max_size=2,
        ),
        "options": st.lists(
            st.one_of(
                st.sampled_from(
                    ["auto", "full", "window", "0,4095", "5,5", "1%,99%", "-1e9,1e9", "nan,1", "0,1e-30"]
                ).map(lambda value: [f"--range={value}"]),
                st.sampled_from(["first", "images", "channels"]).map(lambda value: ["--pages", value]),
                st.sampled_from(["1", "2", "3", "4", "5", "15"]).map(lambda value: ["--channels", value]),
                st.sampled_from(["crop", "pad", "squash", "tiles:2", "tiles:9", "tiles:0", "x"]).map(
                    lambda value: ["--fit", value]
                ),
                st.sampled_from(["microscopy", "medical", "satellite", "document", "natural"]).map(
                    lambda value: ["--augmentation", value]
                ),
            ),
            max_size=3,
        ),
        "reader": st.sampled_from(["plan", "plan", "pack", "preview", "train", "probe", "embed"]),
    }
)


def build(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """Images of other depths than 8 bits, of other numbers of channels, or with several pages."""
    copy(stock / "vicreg", sandbox / "run")
    rng = np.random.default_rng(0)
    if recipe["kind"] == "npy":
        path = sandbox / "data.npy"
        np.save(path, np.stack([_values(rng, recipe, recipe["channels"], k) for k in range(48)]))
        files = [path]
    else:
        path, files = sandbox / "data", []
        for k in range(48):
            place = path / "ab"[k % 2] / f"{k}.{recipe['kind']}"
            place.parent.mkdir(parents=True, exist_ok=True)
            _write_picture(place, rng, recipe, stock, k)
            files.append(place)
    for each in recipe["damages"]:
        damage(files[at(each["file"], len(files))], each["damage"])
    options = [word for option in recipe["options"] for word in option]
    if recipe["reader"] in ("probe", "embed"):
        options = []  # how images are read is what the run kept
    elif recipe["reader"] == "pack":
        options = [word for option in recipe["options"] if option[0] != "--augmentation" for word in option]
    return reading(recipe["reader"], path.name, options)


def _values(rng: np.random.Generator, recipe: Recipe, channels: int, k: int) -> np.ndarray:
    """An image (9, 10, channels) of the type and kind that is asked for."""
    values = rng.random((9, 10, channels)) * 3000 + 500 * (k % 2)
    match recipe["values"]:
        case "constant":
            values[:] = 7
        case "huge":
            values *= 1e30
        case "negative":
            values -= 1e4
        case "nan" | "inf" if k % 3 == 0:
            values[0, 0, 0] = float(recipe["values"])
        case _:
            pass
    with np.errstate(all="ignore"):
        return values.astype(recipe["dtype"])


def _write_picture(path: Path, rng: np.random.Generator, recipe: Recipe, stock: Path, k: int) -> None:
    if path.suffix == ".dcm":
        _write_dicom(path, rng, recipe, k)
        return
    pages: list[Any] = []
    for _ in range(recipe["pages"]):
        values = _values(rng, recipe, 1, k)[..., 0]
        try:
            pages.append(Image.fromarray(values))
        except TypeError:  # a type that Pillow has no mode for
            pages.append(Image.fromarray(values.astype(np.float32)))
    try:
        if path.suffix == ".tif":
            pages[0].save(path, save_all=True, append_images=pages[1:])
        else:
            pages[0].save(path)
    except (OSError, ValueError):  # a type that the format does not hold
        copy(stock / "photos/dark/00.png", path)


def _write_dicom(path: Path, rng: np.random.Generator, recipe: Recipe, k: int) -> None:
    """A small DICOM file of 16 bits, with the tags of the recipe set, or taken out where they are None."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(k)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 9, 10, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = (rng.random((9, 10)) * 3000 + 500 * (k % 2)).astype("<u2").tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in recipe["tags"]:
            try:
                if value is None:
                    delattr(data, name) if name in data else None
                elif name == "PixelData":
                    data.PixelData = str(value).encode() * 2
                else:
                    setattr(data, name, value)
            except (ValueError, TypeError):
                continue
        try:
            data.save_as(path, enforce_file_format=True)
        except Exception:  # a value that its library refuses to write
            path.write_bytes(b"\0" * 128 + b"DICM")
