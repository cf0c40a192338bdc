"""What happens to files: bits flip, ends are cut, fields are edited, something else lies in their place."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from eigenview import runfiles
from eigenview.runfiles.writing import checksum, row_line
from tests.fuzz.values import JSON_VALUES, PLACES, WILD_TEXTS, Recipe, at

OTHER_CONTENTS: dict[str, bytes] = {
    "text": b"not what it is called\n",
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "nested": b'{"a": ' * 200 + b"1" + b"}" * 200,
    "deeper": b"[" * 100_000,
    "digits": b'{"step": ' + b"9" * 5000 + b"}\n",
    "NaN": b'{"step": NaN, "loss": -Infinity}\n',
    "UTF-16": '{"step": 1}\n'.encode("utf-16"),
    "pickle": b"cos\nsystem\n(S'touch executed'\ntR.",
    "zip": b"PK\x05\x06" + b"\0" * 18,
    "NPY": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 3), }".ljust(128),
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "Parquet": b"PAR1" + b"\0" * 20 + b"PAR1",
    "zeros": b"\0" * 4096,
}
IN_PLACE = ("missing", "folder", "pipe", "link to nothing", "link to itself", "closed", "empty")

FLIPS = st.fixed_dictionaries({"how": st.just("flip"), "at": PLACES, "bit": st.integers(0, 7)})
BYTES = st.one_of(
    FLIPS,
    st.fixed_dictionaries({"how": st.just("cut"), "at": PLACES}),
    st.fixed_dictionaries({"how": st.just("set"), "at": PLACES, "to": st.binary(min_size=1, max_size=8).map(list)}),
    st.fixed_dictionaries({"how": st.just("zeros"), "at": PLACES, "count": st.integers(1, 4096)}),
    st.fixed_dictionaries({"how": st.just("insert"), "at": PLACES, "to": st.binary(min_size=1, max_size=8).map(list)}),
    st.fixed_dictionaries({"how": st.just("delete"), "at": PLACES, "count": st.integers(1, 512)}),
    st.fixed_dictionaries({"how": st.just("append"), "to": st.binary(min_size=1, max_size=64).map(list)}),
    st.fixed_dictionaries({"how": st.just("twice")}),
)
REPLACED = st.one_of(
    st.fixed_dictionaries({"how": st.just("other"), "what": st.sampled_from(sorted(OTHER_CONTENTS))}),
    st.fixed_dictionaries({"how": st.just("place"), "what": st.sampled_from(IN_PLACE)}),
)
FILES = st.one_of(BYTES, BYTES, BYTES, REPLACED)
"""Any damage of a file whose format does not matter."""

JSON_EDITS = st.fixed_dictionaries(
    {
        "how": st.just("edit"),
        "line": PLACES,
        "path": st.lists(PLACES, max_size=4),
        "do": st.sampled_from(["set", "set", "alike", "alike", "alike", "delete", "add", "rename"]),
        "value": JSON_VALUES,
        "number": st.sampled_from(
            [0, 1, -1, 2, 3, 7, 31, 64, 1000, 10**6, 10**9, 10**15, 0.1, 0.9, 1e30, 1e300, 1e-300]
        ),
        "text": st.sampled_from(WILD_TEXTS),
        "checksum": st.sampled_from(["none", "right", "right", "old"]),
    }
)
ARRAY_EDITS = st.fixed_dictionaries(
    {
        "how": st.just("array"),
        "name": PLACES,
        "do": st.sampled_from(["drop", "dtype", "shape", "cut", "fill", "empty", "text", "objects", "structured"]),
        "dtype": st.sampled_from(["u1", "i8", "f2", "f4", "f8", "c8", "?", "U3", "S2", "M8[s]", "u8", ">i4"]),
        "fill": st.sampled_from([0.0, -1.0, 1e300, float("inf"), float("nan"), 255.0]),
    }
)


def damage(path: Path, recipe: Recipe) -> None:
    """Damage the file at `path` as drawn from one of the strategies above; a missing file stays missing."""
    if not path.is_file():
        return
    match recipe["how"]:
        case "place":
            _put_in_place(path, recipe["what"])
        case "other":
            path.write_bytes(OTHER_CONTENTS[recipe["what"]])
        case "edit":
            _edit_json(path, recipe)
        case "array":
            _edit_arrays(path, recipe)
        case _:
            path.write_bytes(changed(path.read_bytes(), recipe))


def changed(content: bytes, recipe: Recipe) -> bytes:
    """`content` after one damage of BYTES."""
    place = at(recipe.get("at", 0), len(content))
    match recipe["how"]:
        case "flip" if content:
            return content[:place] + bytes([content[place] ^ 1 << recipe["bit"]]) + content[place + 1 :]
        case "cut":
            return content[:place]
        case "set":
            return content[:place] + bytes(recipe["to"]) + content[place + len(recipe["to"]) :]
        case "zeros":
            end = min(place + recipe["count"], len(content))
            return content[:place] + b"\0" * (end - place) + content[end:]
        case "insert":
            return content[:place] + bytes(recipe["to"]) + content[place:]
        case "delete":
            return content[:place] + content[place + recipe["count"] :]
        case "append":
            return content + bytes(recipe["to"])
        case "twice":
            return content + content
        case _:
            return content


def _put_in_place(path: Path, what: str) -> None:
    content = path.read_bytes()
    path.unlink()
    match what:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to nothing":
            path.symlink_to("nowhere")
        case "link to itself":
            path.symlink_to(path.name)
        case "closed":  # no hindrance for root
            path.write_bytes(content)
            path.chmod(0)
        case "empty":
            path.touch()
        case _:
            pass


def _edit_json(path: Path, recipe: Recipe) -> None:
    """Edit a value of a JSON file, or of a line of a .jsonl file; a file that is no JSON stays as it is."""
    is_rows = path.suffix == ".jsonl"
    lines = path.read_bytes().splitlines() if is_rows else [path.read_bytes()]
    if not lines:
        return
    place = at(recipe["line"], len(lines))
    try:
        value = json.loads(lines[place])
    except (ValueError, RecursionError):  # damaged already
        return
    old = value.pop("checksum", None) if isinstance(value, dict) else None
    value = edited(value, recipe)
    kind = recipe["checksum"]
    value = json.loads(json.dumps(value), parse_constant=str)  # the checksum is that of JSON, which has no NaN
    if kind == "right" and isinstance(value, dict):
        content = row_line(value).rstrip() if is_rows else json.dumps(value | {"checksum": checksum(value)}).encode()
    else:
        content = json.dumps(value | {"checksum": old} if kind == "old" and isinstance(value, dict) else value).encode()
    lines[place] = content
    path.write_bytes(b"\n".join(lines) + (b"\n" if is_rows else b""))


def edited(value: Any, recipe: Recipe) -> Any:
    """`value` with one of its values changed: `path` says which, a step for each level."""
    whole = {"": value}
    holder: Any = whole
    key: Any = ""
    for step in recipe["path"]:
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        holder, key = inner, (list(inner) if isinstance(inner, dict) else range(len(inner)))[at(step, len(inner))]
    match recipe["do"]:
        case "delete":
            del holder[key]
        case "add" if isinstance(holder[key], dict):
            holder[key]["added"] = recipe["value"]
        case "add" if isinstance(holder[key], list):
            holder[key].append(recipe["value"])
        case "rename" if isinstance(holder, dict):
            holder[f"{key}2"] = holder.pop(key)
        case "alike":
            holder[key] = _alike(holder[key], recipe)
        case _:
            holder[key] = recipe["value"]
    return next(iter(whole.values()), None)


def _alike(value: Any, recipe: Recipe) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return int(recipe["number"])
        case float():
            return float(recipe["number"])
        case str():
            return recipe["text"]
        case list():
            return value[1:] if recipe["line"] % 2 else [*value, *value]
        case dict():
            return dict(list(value.items())[1:])
        case _:
            return recipe["number"]


def _edit_arrays(path: Path, recipe: Recipe) -> None:
    """Change one array of a .npz, or the array of a .npy."""
    is_one = path.suffix == ".npy"
    try:
        loaded = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        arrays = {"": loaded} if is_one else {name: loaded[name] for name in loaded.files}
    except (*runfiles.ARRAY_ERRORS, OSError):  # damaged already
        return
    if not arrays:
        return
    name = list(arrays)[at(recipe["name"], len(arrays))]
    array = edited_array(arrays.pop(name), recipe)
    if array is not None:
        arrays[name] = array
    buffer = io.BytesIO()
    if is_one:
        np.save(buffer, next(iter(arrays.values()), np.empty(0)), allow_pickle=True)
    else:
        np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue())


def edited_array(array: np.ndarray, recipe: Recipe) -> np.ndarray | None:
    """`array` with another dtype, shape or content; None where it is to be left out."""
    match recipe["do"]:
        case "drop":
            return None
        case "dtype":
            numbers = array if array.dtype.kind in "biuf" else np.zeros(array.shape)
            with np.errstate(all="ignore"):
                return numbers.astype("i8").astype(recipe["dtype"])
        case "shape":
            return array[..., None] if recipe["name"] % 2 else array.reshape(-1)
        case "cut":
            return array[: at(recipe["name"], len(array))] if array.ndim else array
        case "fill":
            with np.errstate(all="ignore"):
                return np.full_like(array, recipe["fill"] if array.dtype.kind == "f" else 7)
        case "empty":
            return array[..., :0] if array.ndim else array
        case "text":
            return np.array(["a", "\U0010ffff", "\ud800"[:0]])
        case "objects":
            return np.array([{}, None], dtype=object)
        case _:
            return np.zeros(array.shape[:1], dtype=[("x", "u1"), ("y", "f4")])


def copy(source: Path, target: Path) -> Path:
    """A copy of a file or folder, links kept."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target)
    return target
