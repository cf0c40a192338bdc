"""Arrays, Parquet and Arrow data sets, CIFAR's pickles, and files of embeddings."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.damage import ARRAY_EDITS, FILES, JSON_EDITS, copy, damage
from tests.fuzz.folders import READERS, reading
from tests.fuzz.sandbox import Command
from tests.fuzz.values import JSON_VALUES, PLACES, Recipe

HEADERS = (
    "{'descr': '|u1', 'fortran_order': False, 'shape': (%s, 9, 10, 3), }",
    "{'descr': '|u1', 'fortran_order': True, 'shape': (80, 9, 10, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (80, -9, 10, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (80, 9.0, 10, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (True, 9, 10, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': 80, }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (), }",
    "{'descr': '|u1', 'fortran_order': 'no', 'shape': (80, 9, 10, 3), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (80, 9, 10, 3), }",
    "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (80, 9, 10, 3), }",
    "{'descr': 5, 'fortran_order': False, 'shape': (80, 9, 10, 3), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (60, 8), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (%s, 8), }",
    "{'shape': (1, 2), }",
    "[1, 2",
    "__import__('os').system('touch executed')",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (80, 9, 10, 3), " + "(" * 300,
)
HEADER_EDITS = st.fixed_dictionaries(
    {
        "how": st.just("header"),
        "text": st.sampled_from(HEADERS),
        "number": st.sampled_from([0, 1, 79, 81, 10**6, 10**12, 10**30, 2**63, -1]),
        "version": st.sampled_from([[1, 0], [2, 0], [3, 0], [9, 9]]),
    }
)
RECIPES_OF_ARRAYS = st.fixed_dictionaries(
    {
        "file": st.sampled_from(["images.npy", "images.npz", "halves.npz"]),
        "damages": st.lists(st.one_of(FILES, ARRAY_EDITS, ARRAY_EDITS, HEADER_EDITS), min_size=1, max_size=2),
        "labels": st.one_of(st.none(), JSON_VALUES),
        "reader": st.sampled_from(READERS),
    }
)


def build_arrays(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """A .npy or .npz of images."""
    path = copy(stock / recipe["file"], sandbox / f"data{Path(recipe['file']).suffix}")
    copy(stock / "vicreg", sandbox / "run")
    _damage_all(path, recipe["damages"])
    return reading(path.name, recipe["reader"])


def _damage_all(path: Path, damages: list[Recipe]) -> None:
    for each in damages:
        if each["how"] != "header":
            damage(path, each)
        elif path.suffix == ".npy" and path.is_file():
            _write_header(path, each)


def _write_header(path: Path, recipe: Recipe) -> None:
    """Another header before the same bytes."""
    text = recipe["text"].replace("%s", str(recipe["number"])).encode()
    size = 2 if recipe["version"] == [1, 0] else 4
    start = b"\x93NUMPY" + bytes(recipe["version"]) + (len(text) + 1).to_bytes(size, "little")
    path.write_bytes(start + text + b"\n" + path.read_bytes()[128:])


RECIPES_OF_EMBEDDINGS = st.fixed_dictionaries(
    {
        "file": st.sampled_from(["x.npy", "x.npz", "x.parquet"]),
        "damages": st.one_of(
            st.just([]), st.lists(st.one_of(FILES, ARRAY_EDITS, ARRAY_EDITS, HEADER_EDITS), max_size=2)
        ),
        "content": st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {
                    "shape": st.one_of(
                        st.sampled_from([[60, 8], [200, 3], [2, 2], [8, 60], [1000, 4]]),
                        st.lists(st.sampled_from([0, 1, 2, 3, 8, 60, 200]), min_size=0, max_size=3),
                    ),
                    "dtype": st.sampled_from(["f2", "f4", "f8", "i1", "u8", "?", "c8", "U2", "M8[s]", ">f4"]),
                    "values": st.sampled_from(
                        ["normal", "zeros", "same rows", "nan", "inf", "huge", "tiny", "some nan"]
                    ),
                }
            ),
        ),
        "column": st.sampled_from(
            [[], [], [], ["--column", "h"], ["--column", "x"], ["--column", "index"], ["--column", "no"]]
        ),
        "is_json": st.booleans(),
    }
)


def build_embeddings(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """A file of embeddings, of numbers of every kind."""
    path = copy(stock / recipe["file"], sandbox / recipe["file"])
    if recipe["content"] is not None:
        _write_embeddings(path, recipe["content"])
    for each in recipe["damages"]:
        if not (each["how"] == "array" and path.suffix == ".parquet"):
            _damage_all(path, [each])
    json = ["--json"] if recipe["is_json"] else []
    return Command(args=["diagnose", path.name, *recipe["column"], *json])


def _write_embeddings(path: Path, recipe: Recipe) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=recipe["shape"])
    fills = {"zeros": 0.0, "nan": np.nan, "inf": np.inf, "huge": 1e300, "tiny": 1e-320}
    if recipe["values"] in fills:
        x = np.full(recipe["shape"], fills[recipe["values"]])
    elif recipe["values"] == "same rows":
        x = np.ones(recipe["shape"])
    elif recipe["values"] == "some nan" and x.ndim:
        x[: len(x) // 2] = np.nan
    with np.errstate(all="ignore"):
        kind = np.dtype(recipe["dtype"])
        x = (
            np.nan_to_num(x, posinf=100, neginf=-100).clip(-100, 100).astype("i8").astype(kind)
            if kind.kind in "iu?M"
            else x.astype(kind)
        )
    if path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".npz":
        np.savez(path, x=x, other=np.arange(3))
    else:
        _write_parquet(path, x)


def _write_parquet(path: Path, x: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns: dict[str, Any] = {"h": list(x)} if x.ndim == 2 else {f"c{k}": x for k in range(3)}
        pq.write_table(pa.table(columns), path)
    except (pa.ArrowException, TypeError, ValueError):  # no such column in Parquet: the file stays as it was
        return


FILES_OF_SETS = {
    "arrow": ("state.json", "dataset_info.json", "data-00000-of-00001.arrow"),
    "parquet": ("train.parquet",),
}
CELLS = st.one_of(st.none(), JSON_VALUES, st.sampled_from(["picture", "path", "pipe", "nowhere"]))
RECIPES_OF_SETS = st.fixed_dictionaries(
    {
        "set": st.sampled_from(["arrow", "parquet"]),
        "file": PLACES,
        "damages": st.lists(st.one_of(FILES, JSON_EDITS), max_size=2),
        "options": st.sampled_from(
            [""] * 8
            + ["?streaming=1", "?streaming=1&buffer=8", "?split=train", "?image=image&label=label"] * 2
            + ["?split=no", "?image=label", "?label=image", "?buffer=0", "?x=1", "?split=", "?config=abc"]
        ),
        "table": st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {
                    "image": st.sampled_from(
                        ["bytes", "struct", "path", "text", "null", "some null", "numbers", "empty"]
                    ),
                    "label": st.sampled_from(["ints", "texts", "floats", "null", "none", "list", "large"]),
                    "rows": st.sampled_from([0, 1, 2, 40]),
                }
            ),
        ),
        "reader": st.sampled_from(READERS),
    }
)


def build_set(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """A data set of Parquet or Arrow files."""
    folder = copy(stock / recipe["set"], sandbox / "data")
    copy(stock / "vicreg", sandbox / "run")
    names = FILES_OF_SETS[recipe["set"]]
    path = folder / names[recipe["file"] % len(names)]
    if recipe["table"] is not None and recipe["set"] == "parquet":
        _write_images(path, recipe["table"], stock, sandbox)
    for each in recipe["damages"]:
        if not (each["how"] == "edit" and path.suffix != ".json"):
            damage(path, each)
    return reading(f"hf:data{recipe['options']}", recipe["reader"])


def _write_images(path: Path, recipe: Recipe, stock: Path, sandbox: Path) -> None:
    import os

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = recipe["rows"]
    picture = (stock / "photos/dark/00.png").read_bytes()
    pipe = sandbox / "pipe.png"
    os.mkfifo(pipe)
    paths = [[str(pipe), "nowhere.png", "/dev/zero", "", str(stock / "photos/dark/00.png")][k % 5] for k in range(rows)]
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = {
        "bytes": lambda: pa.array([picture] * rows, pa.binary()),
        "struct": lambda: pa.array([{"bytes": picture, "path": "x.png"}] * rows, struct),
        "path": lambda: pa.array([{"bytes": None, "path": each} for each in paths], struct),
        "text": lambda: pa.array(["abc"] * rows, pa.string()),
        "null": lambda: pa.array([None] * rows, pa.binary()),
        "some null": lambda: pa.array([picture if k % 3 else None for k in range(rows)], pa.binary()),
        "numbers": lambda: pa.array([1.5] * rows),
        "empty": lambda: pa.array([b""] * rows, pa.binary()),
    }
    labels = {
        "ints": lambda: pa.array([k % 3 for k in range(rows)], pa.int64()),
        "texts": lambda: pa.array([f"[bold]{k % 2}" for k in range(rows)], pa.string()),
        "floats": lambda: pa.array([0.5] * rows, pa.float64()),
        "null": lambda: pa.array([None] * rows, pa.int64()),
        "list": lambda: pa.array([[1, 2]] * rows, pa.list_(pa.int64())),
        "large": lambda: pa.array([2**63 - 1 - k % 2 for k in range(rows)], pa.int64()),
    }
    columns = {"image": images[recipe["image"]]()}
    if recipe["label"] != "none":
        columns["label"] = labels[recipe["label"]]()
    pq.write_table(pa.table(columns), path)


RECIPES_OF_CIFAR = st.fixed_dictionaries(
    {
        "file": st.sampled_from(["data_batch_1", "data_batch_3", "test_batch", "batches.meta"]),
        "damage": st.one_of(FILES, st.none()),
        "what": st.sampled_from(["data", "labels", "names", "key", "object"]),
        "value": JSON_VALUES,
        "dtype": st.sampled_from(["u1", "i8", "f4", "U1", "?"]),
        "shape": st.sampled_from([[16, 3072], [16, 3071], [3072], [0, 3072], [16, 3, 32, 32], [15, 3072]]),
        "reader": st.sampled_from(READERS),
    }
)


def build_cifar(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """CIFAR-10 with a damaged file, or with a value of another kind in a pickle."""
    folder = copy(stock / "cifar-10-batches-py", sandbox / "cifar-10-batches-py")
    copy(stock / "vicreg", sandbox / "run")
    path = folder / recipe["file"]
    if recipe["damage"] is not None:
        damage(path, recipe["damage"])
    else:
        made = np.zeros(recipe["shape"]).astype(recipe["dtype"])
        values: dict[str, dict[Any, Any]] = {
            "data": {"data": made},
            "labels": {"labels": recipe["value"]},
            "names": {"label_names": recipe["value"]},
            "key": {"data": recipe["value"], 5: None},
            "object": {"data": Path("x")},
        }
        content = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps(content | values[recipe["what"]], protocol=2))
    return reading("cifar-10-batches-py", recipe["reader"])
