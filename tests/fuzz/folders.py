"""Folders of images, tar shards and packs, damaged, and read by the verbs that take images."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.damage import ARRAY_EDITS, FILES, JSON_EDITS, REPLACED, copy, damage
from tests.fuzz.sandbox import Command
from tests.fuzz.stock import SMALL
from tests.fuzz.values import PLACES, Recipe, at

READERS = ("plan", "plan", "pack", "embed", "diagnose", "probe", "train", "uncached", "strict")
TRAINED = tuple(
    f"out/{name}" for name in ("summary.json", "encoder.safetensors", "report.html", "checkpoints/last.ckpt")
)


def reading(data: str, reader: str) -> Command:
    """A command that reads the images `data`; the run that encodes them is `run`."""
    match reader:
        case "pack":
            return Command(args=["pack", data, "--out", "out"], may_write=("out",), makes=("out/eigenview-pack.json",))
        case "strict":
            return Command(
                args=["pack", data, "--out", "out", "--strict"], may_write=("out",), makes=("out/eigenview-pack.json",)
            )
        case "embed":
            return Command(
                args=["embed", "run", data, "--out", "e.parquet"], may_write=("e.parquet",), makes=("e.parquet",)
            )
        case "diagnose":
            return Command(args=["diagnose", "run", "--data", data])
        case "probe":
            return Command(args=["probe", "run", "--data", data, "--few-label-draws", "1"])
        case "train":
            return Command(args=["pretrain", data, "--out", "out", *SMALL], may_write=("out",), makes=TRAINED)
        case "uncached":
            own = ["--loader.cache-gb", "0", "--loader.workers", "0", "--dry-run"]
            return Command(args=["pretrain", data, *SMALL, *own])
        case _:
            return Command(args=["pretrain", data, *SMALL, "--dry-run"])


ODD_NAMES = (
    *(
        "[bold]x.png",
        "a\nb.png",
        "ä漢.png",
        "\udcff.png",
        " .png",
        "-x.png",
        ".hidden.png",
        "x" * 200 + ".png",
        "x.PNG",
    ),
    *("x.png.txt", "x.txt", "x.svg", "%s.png", "a:b.png", "x.tar", "x.npy", "dataset_dict.json", "eigenview-pack.json"),
    *(
        "train/x.png",
        "test/c/x.png",
        "c/d/e/f.png",
        "data_batch_1",
        "\x1b[31m.png",
        "x..png",
        "x.png/y.png",
        "state.json",
    ),
)
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F", "HSV", "LAB", "PA")
FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM", "ICO", "TGA")
PICTURES = st.fixed_dictionaries(
    {
        "how": st.just("picture"),
        "mode": st.sampled_from(MODES),
        "size": st.tuples(st.sampled_from([1, 2, 7, 9, 300]), st.sampled_from([1, 2, 9, 40])).map(list),
        "format": st.sampled_from(FORMATS),
        "pages": st.sampled_from([1, 1, 1, 2, 5]),
    }
)
NAMED = st.fixed_dictionaries({"how": st.just("name"), "name": st.sampled_from(ODD_NAMES)})
CHANGES = (
    "pipe",
    "link to a pipe",
    "link to its parent",
    "linked classes",
    "closed folder",
    "one class",
    "one of each",
)
CHANGES += ("no subfolders", "empty folder", "few images", "deep", "socket", "link to nothing", "a class of one")
TREES = st.fixed_dictionaries(
    {
        "how": st.just("tree"),
        "what": st.sampled_from(CHANGES),
    }
)
RECIPES = st.fixed_dictionaries(
    {
        "data": st.sampled_from(["photos", "photos", "parts"]),
        "damages": st.lists(
            st.fixed_dictionaries({"file": PLACES, "damage": st.one_of(FILES, PICTURES, PICTURES, NAMED, TREES)}),
            min_size=1,
            max_size=4,
        ),
        "many": st.booleans(),
        "reader": st.sampled_from(READERS),
    }
)


def build(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """A folder in which some files are damaged, or most (`many`)."""
    folder = copy(stock / recipe["data"], sandbox / "data")
    copy(stock / "vicreg", sandbox / "run")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for each in recipe["damages"]:
        path, what = paths[at(each["file"], len(paths))], each["damage"]
        if what["how"] == "tree":
            _change_tree(folder, path, what["what"])
        elif what["how"] in ("picture", "name"):
            _change_picture(folder, path, what)
        else:
            for one in paths[:: 1 if at(each["file"], 2) else 2] if recipe["many"] else [path]:
                damage(one, what)
    return reading("data", recipe["reader"])


def _change_picture(folder: Path, path: Path, recipe: Recipe) -> None:
    if not path.is_file():
        return
    if recipe["how"] == "picture":
        path.write_bytes(picture_of(recipe))
        return
    new = folder / recipe["name"]
    if not new.parent.exists() or new.parent.is_dir():
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)


def picture_of(recipe: Recipe) -> bytes:
    """A picture of a mode, size and format; PNG where the format has no such mode, and grey if that has none either."""
    shade = np.random.default_rng(0).integers(0, 255, recipe["size"][::-1]).astype(np.uint8)
    image = Image.fromarray(shade)
    for mode, kind in ((recipe["mode"], recipe["format"]), (recipe["mode"], "PNG"), ("L", "PNG")):
        buffer = io.BytesIO()
        try:
            page = image.convert("RGB").convert("LAB" if mode == "LAB" else mode) if mode != "LAB" else image
            pages = (
                {"save_all": True, "append_images": [page] * (recipe["pages"] - 1)} if kind in ("TIFF", "GIF") else {}
            )
            page.save(buffer, kind, **pages)
            return buffer.getvalue()
        except (OSError, ValueError, KeyError):
            continue
    raise AssertionError("a grey PNG can be written")


def _change_tree(folder: Path, path: Path, what: str) -> None:
    match what:
        case "pipe":
            os.mkfifo(folder / "pipe.png") if not (folder / "pipe.png").exists() else None
        case "link to a pipe":
            if not (folder / "link.png").is_symlink():
                os.mkfifo(folder / "hidden")
                (folder / "link.png").symlink_to("hidden")
        case "link to its parent":
            if not (path.parent / "loop").is_symlink():
                (path.parent / "loop").symlink_to("..")
        case "linked classes":
            for k in range(8):
                (folder / f"linked{k}").mkdir(exist_ok=True)
                for other in range(8):
                    link = folder / f"linked{k}" / f"to{other}"
                    link.symlink_to(f"../linked{other}") if not link.is_symlink() else None
        case "closed folder":
            path.parent.chmod(0)
        case "one class":
            for each in folder.rglob("*bright*/*"):
                each.unlink()
        case "one of each":
            for k, each in enumerate(sorted(p for p in folder.rglob("*.png") if p.is_file())):
                (folder / f"class{k}").mkdir(exist_ok=True)
                each.rename(folder / f"class{k}" / "x.png")
        case "no subfolders":
            for k, each in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
                each.rename(folder / f"flat{k}{each.suffix}")
        case "empty folder":
            (folder / "empty").mkdir(exist_ok=True)
        case "few images":
            for each in sorted(p for p in folder.rglob("*") if p.is_file())[3:]:
                each.unlink()
        case "deep":
            deep = folder.joinpath(*(f"d{k}" for k in range(60)))
            deep.mkdir(parents=True, exist_ok=True)
            path.rename(deep / path.name) if path.is_file() else None
        case "socket":
            import socket

            with socket.socket(socket.AF_UNIX) as one:
                place = os.path.relpath(folder / "socket.png")
                one.bind(place) if not (folder / "socket.png").exists() and len(place) < 100 else None
        case "link to nothing":
            (folder / "gone.png").symlink_to("nowhere") if not (folder / "gone.png").is_symlink() else None
        case _:
            (folder / "single").mkdir(exist_ok=True)
            path.rename(folder / "single" / path.name) if path.is_file() else None


MEMBERS = (
    "x.png",
    "x.cls",
    "x.json",
    "x.txt",
    ".png",
    "",
    "/abs.png",
    "../up.png",
    "a/b/x.png",
    "x.seg.png",
    "x" * 120,
)
MEMBERS += ("ä.png", "\udcff.png", "a\nb.png", "[bold].png", "000.png", "000.cls")
RECIPES_OF_SHARDS = st.fixed_dictionaries(
    {
        "bytes": st.lists(st.fixed_dictionaries({"file": st.integers(0, 1), "damage": FILES}), max_size=1),
        "members": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from(MEMBERS),
                    "type": st.sampled_from(
                        ["0", "0", "0", "\0", "1", "2", "3", "5", "6", "7", "S", "x", "g", "L", "K", "V"]
                    ),
                    "size": st.sampled_from([0, 1, 3, 511, 512, 513, 10**6, 2**33, -1]),
                    "content": st.one_of(
                        st.binary(max_size=12).map(list),
                        st.sampled_from(
                            [b"7", b"-3", b"cat", b'{"label": 3}', b"[]", b"9" * 100, b"9" * 5000, b'{"label": NaN}']
                        ).map(list),
                        st.just("picture"),
                    ),
                    "is_true": st.sampled_from([True, True, True, False]),
                    "at": PLACES,
                }
            ),
            max_size=4,
        ),
        "data": st.sampled_from(["data"] * 5 + ["data/x-0.tar", "data/x-{0..1}.tar", "data/x-{0..2}.tar"]),
        "reader": st.sampled_from(READERS),
    }
)


def build_shards(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """Shards with further members, true and false ones, and damaged bytes."""
    folder = copy(stock / "shards", sandbox / "data")
    copy(stock / "vicreg", sandbox / "run")
    if recipe["members"]:
        path = folder / "x-0.tar"
        content = path.read_bytes()
        with tarfile.open(path) as tar:
            starts = [member.offset for member in tar]
        for start, each in sorted(
            ((starts[at(each["at"], len(starts))], each) for each in recipe["members"]), key=_start
        ):
            content = content[:start] + _member(each, stock) + content[start:]
        path.write_bytes(content)
    for each in recipe["bytes"]:
        damage(folder / f"x-{each['file']}.tar", each["damage"])
    return reading(recipe["data"], recipe["reader"])


def _start(member: tuple[int, Recipe]) -> int:
    """The last first, so that the others' places still hold."""
    return -member[0]


def _member(recipe: Recipe, stock: Path) -> bytes:
    """Header and blocks of one member; the header's size is that of the content only if `is_true`."""
    is_picture = recipe["content"] == "picture"
    content = (stock / "photos/dark/00.png").read_bytes() if is_picture else bytes(recipe["content"])
    member = tarfile.TarInfo(recipe["name"])
    member.type = recipe["type"].encode()
    member.linkname = "000.png" if recipe["type"] in "12" else ""
    member.size = len(content) if recipe["is_true"] else recipe["size"]
    header = member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return header + content.ljust(-(-len(content) // 512) * 512, b"\0")


RECIPES_OF_PACKS = st.fixed_dictionaries(
    {
        "file": st.sampled_from(["eigenview-pack.json", "eigenview-pack.json", "train.npy", "train-labels.npy"]),
        "damage": st.one_of(FILES, JSON_EDITS, JSON_EDITS, ARRAY_EDITS, REPLACED),
        "reader": st.sampled_from(READERS),
    }
)


def build_pack(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """A pack with a damaged file."""
    folder = copy(stock / "pack", sandbox / "data")
    copy(stock / "vicreg", sandbox / "run")
    how = recipe["damage"]["how"]
    is_json = recipe["file"].endswith(".json")
    if not (how == "edit" and not is_json) and not (how == "array" and is_json):
        damage(folder / recipe["file"], recipe["damage"])
    return reading("data", recipe["reader"])
