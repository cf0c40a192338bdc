"""Tables of labels, lists of images and patterns, complete ones and odd ones, as labels or as images."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.damage import FILES, copy, damage
from tests.fuzz.options import mostly
from tests.fuzz.sandbox import Command
from tests.fuzz.stock import SMALL
from tests.fuzz.values import WILD_TEXTS, Recipe

OF_PROBES = ("--label-fraction", "--labels-per-class")
TAKEN = {"plan": (*OF_PROBES, "--labels"), "train": (*OF_PROBES, "--labels"), "probe": (*OF_PROBES, "--labels")}
TAKEN |= {"embed": ("--labels",), "pack": ("--labels",)}
"""The options that each reader has."""
CELLS = st.one_of(
    st.sampled_from(["dark/00.png", "bright/01.png", "photos/dark/00.png", "dark", "../x.png", "nowhere.png", "", " "]),
    st.sampled_from(["a", "b", "0", "1", "train", "test", "val", "-1", "nan", '"', '"a', "a,b", "\t", ";"]),
    st.sampled_from(WILD_TEXTS),
)
HEADERS = (
    ["path", "label"],
    ["path", "label", "split"],
    ["label", "path"],
    ["FILE", "Class"],
    ["x", "y"],
    ["path"],
    [],
)
RECIPES = st.fixed_dictionaries(
    {
        "header": mostly(st.sampled_from(HEADERS[:2]), st.sampled_from(HEADERS)),
        "complete": st.sampled_from([True, True, True, True, False]),
        "rows": mostly(st.just([]), st.lists(st.lists(CELLS, max_size=4), max_size=3)),
        "separator": mostly(st.just(","), st.sampled_from([";", "\t", "|"])),
        "end": st.sampled_from(["\n", "\n", "\r\n", "\r"]),
        "encoding": mostly(st.just("utf-8"), st.sampled_from(["utf-8-sig", "utf-16", "latin-1"])),
        "bytes": mostly(st.just([]), st.lists(FILES, max_size=1)),
        "use": st.sampled_from(["labels", "labels", "labels of shards", "data", "text", "pattern", "probe data"]),
        "pattern": st.sampled_from(
            ["photos/*", "photos/**/*.png", "**", "photos/[", "photos/[a-z]*", "nowhere/*", "*"]
        ),
        "options": st.lists(
            st.one_of(
                mostly(st.sampled_from(["0.1", "0.5", "1"]), st.sampled_from(["0", "1.5", "nan", "1e-9"])).map(
                    lambda value: ["--label-fraction", value]
                ),
                mostly(st.sampled_from(["1", "3", "9"]), st.sampled_from(["0", "1000000", "x"])).map(
                    lambda value: ["--labels-per-class", value]
                ),
                st.sampled_from(["none", "auto", "x"]).map(lambda value: ["--labels", value]),
            ),
            max_size=1,
        ),
        "reader": st.sampled_from(["plan", "probe", "train", "pack", "embed"]),
    }
)


def build(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """A table or list, and a command that takes it as labels or as images."""
    copy(stock / "photos", sandbox / "photos")
    copy(stock / "vicreg", sandbox / "run")
    if recipe["use"] == "labels of shards":
        copy(stock / "shards", sandbox / "shards")
    name = "list.txt" if recipe["use"] == "text" else "list.csv"
    path = sandbox / name
    path.write_bytes(_table(recipe, stock).encode(recipe["encoding"], "replace"))
    for each in recipe["bytes"]:
        damage(path, each)
    options = [word for option in recipe["options"] if option[0] in TAKEN.get(recipe["reader"], ()) for word in option]
    match recipe["use"]:
        case "labels":
            data, more = "photos", ["--labels", name]
        case "labels of shards":
            data, more = "shards", ["--labels", name]
        case "pattern":
            data, more = recipe["pattern"], []
        case "probe data" if recipe["reader"] in ("plan", "train"):
            data, more = "photos", ["--probe-data", name]
        case _:
            data, more = name, []
    return reading(recipe["reader"], data, [*more, *options])


def _table(recipe: Recipe, stock: Path) -> str:
    root = stock / "photos"
    rows: list[list[str]] = [recipe["header"]] if recipe["header"] else []
    if recipe["complete"]:
        prefix = "photos/" if recipe["use"] in ("data", "text", "probe data") else ""
        for k, image in enumerate(sorted(each for each in root.rglob("*") if each.is_file())):
            cells = {
                "path": f"{prefix}{image.relative_to(root)}",
                "label": "ab"[k % 2],
                "split": ("train", "test")[k % 3 == 0],
            }
            cells |= {"FILE": cells["path"], "Class": cells["label"]}
            names = recipe["header"] or (["path"] if recipe["use"] == "text" else ["path", "label"])
            rows.append([cells.get(column, "x") for column in names])
    return recipe["end"].join(recipe["separator"].join(row) for row in [*rows, *recipe["rows"]])


def reading(reader: str, data: str, options: list[str]) -> Command:
    """A command that reads the images `data` with these options; the run that encodes them is `run`."""
    if reader not in ("probe", "embed", "pack"):
        options = [f"--probe.{word[2:]}" if word in OF_PROBES else word for word in options]
    match reader:
        case "probe":
            return Command(args=["probe", "run", "--data", data, "--few-label-draws", "1", *options])
        case "embed":
            args = ["embed", "run", data, *options, "--out", "e.parquet"]
            return Command(args=args, may_write=("e.parquet",), makes=("e.parquet",))
        case "pack":
            args = ["pack", data, *options, "--out", "out"]
            return Command(args=args, may_write=("out",), makes=("out/eigenview-pack.json",))
        case "preview":
            args = ["preview", data, *SMALL, *options, "--images", "2", "--out", "sheet.html"]
            return Command(args=args, may_write=("sheet.html",), makes=("sheet.html",))
        case "train":
            makes = ("out/summary.json", "out/encoder.safetensors", "out/report.html")
            return Command(args=["pretrain", data, "--out", "out", *SMALL, *options], may_write=("out",), makes=makes)
        case _:
            return Command(args=["pretrain", data, *SMALL, *options, "--dry-run"])
