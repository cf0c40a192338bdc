"""Weights of other programs, and the images that people adapt a backbone to: what is refused, and what is read."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from tests.fuzz.damage import FILES, JSON_EDITS, REPLACED, copy, damage
from tests.fuzz.sandbox import Command
from tests.fuzz.stock import NETWORK
from tests.fuzz.values import JSON_VALUES, PLACES, WILD_TEXTS, Recipe, at

SMALL = ("--epochs", "1", "--batch-size", "32", "--monitor.images", "16", "--probe.few-label-draws", "1")
SMALL += ("--network.projector-hidden", "32", "--network.projector-width", "32")
FILES_OF_WEIGHTS = ("weights.safetensors", "weights.pth", "backbone/config.json", "backbone/model.safetensors")
PREFIXES = ("module.", "backbone.", "encoder_q.", "model.", "x.", "module.module.", "\udcff.", "[bold].", "")
STATES = st.fixed_dictionaries(
    {
        "how": st.just("state"),
        "do": st.sampled_from(
            [
                "prefix",
                "drop",
                "rename",
                "dtype",
                "shape",
                "nan",
                "value",
                "nested",
                "list",
                "code",
                "own class",
                "empty",
            ]
        ),
        "key": PLACES,
        "count": st.sampled_from([1, 2, 30, 1000]),
        "prefix": st.sampled_from(PREFIXES),
        "dtype": st.sampled_from(["float16", "float64", "bfloat16", "int64", "uint8", "bool", "complex64"]),
        "shape": st.sampled_from([[], [0], [1], [3, 3], [1, 1, 1, 1, 1]]),
        "value": JSON_VALUES,
        "text": st.sampled_from(WILD_TEXTS),
    }
)
"""Edits of a state dict, written again as it was."""
OPTIONS = st.one_of(
    st.sampled_from(["all", "norms", "head", "last:1", "last:0", "last:999", "lora:2", "lora:0", "last:", ""]).map(
        lambda value: ["--train", value]
    ),
    st.sampled_from(
        [f"timm:{NETWORK}", "timm:test_vit", "timm:resnet18", "conv-tiny", "torchvision:resnet18", "x"]
    ).map(lambda value: ["--encoder", value]),
    st.sampled_from(["1", "2", "3", "4", "5", "0"]).map(lambda value: ["--channels", value]),
    st.sampled_from(["8", "20", "32", "33", "1"]).map(lambda value: ["--image-size", value]),
    st.sampled_from(["0", "1", "2", "-1"]).map(lambda value: ["--freeze-epochs", value]),
    st.sampled_from(["0", "0.5", "1", "2", "nan"]).map(lambda value: ["--optim.layer-decay", value]),
    st.sampled_from(["small", "standard"]).map(lambda value: ["--network.stem", value]),
)
READERS = ("plan", "plan", "embed", "probe", "diagnose", "train", "preview")
RECIPES = st.fixed_dictionaries(
    {
        "file": st.sampled_from(FILES_OF_WEIGHTS),
        "damages": st.lists(st.one_of(FILES, REPLACED, STATES, STATES, STATES, JSON_EDITS), max_size=2),
        "options": st.lists(OPTIONS, max_size=2),
        "names network": st.sampled_from([True, True, True, False]),
        "reader": st.sampled_from(READERS),
    }
)


def build(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """A damaged file of weights, or a folder of timm with a damaged file, and a command that reads it."""
    root = recipe["file"].split("/")[0]
    copy(stock / root, sandbox / root)
    copy(stock / "photos", sandbox / "photos")
    path = sandbox / recipe["file"]
    for each in recipe["damages"]:
        is_json = path.suffix == ".json"
        if each["how"] == "state" and not is_json:
            _edit_state(path, each)
        elif each["how"] not in ("state", "edit") or (each["how"] == "edit" and is_json):
            damage(path, each)
    names = ["--encoder", f"timm:{NETWORK}"] if root != "backbone" and recipe["names network"] else []
    options = [word for option in recipe["options"] for word in option]
    if recipe["reader"] in ("plan", "train", "preview"):
        args = ["photos", "--weights", root, *SMALL, "--image-size", "32", *names, *options]
        if recipe["reader"] == "preview":
            return Command(
                args=["preview", *args, "--images", "2", "--out", "sheet.png"],
                may_write=("sheet.png",),
                makes=("sheet.png",),
            )
        dry = ["--dry-run"] if recipe["reader"] == "plan" else []
        makes = () if dry else ("out/summary.json", "out/encoder.safetensors", "out/report.html")
        return Command(args=["pretrain", *args, "--out", "out", *dry], may_write=("out",), makes=makes)
    kept = [word for option in recipe["options"] if option[0] == "--encoder" for word in option][-2:] or names
    match recipe["reader"]:
        case "embed":
            args = ["embed", root, "photos", *kept, "--out", "e.parquet"]
            return Command(args=args, may_write=("e.parquet",), makes=("e.parquet",))
        case "probe":
            return Command(args=["probe", root, "--data", "photos", *kept, "--few-label-draws", "1"])
        case _:
            return Command(args=["diagnose", root, "--data", "photos", *kept])


class Harmful:
    """What a pickle may hold that runs a command when it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def _edit_state(path: Path, recipe: Recipe) -> None:
    """Change the state dict in a file; a file that is none any more stays as it is."""
    import safetensors
    import safetensors.torch

    is_safe = path.suffix == ".safetensors"
    try:
        state = safetensors.torch.load(path.read_bytes()) if is_safe else torch.load(path, weights_only=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        EOFError,
        pickle.UnpicklingError,
        safetensors.SafetensorError,
    ):
        return
    if not isinstance(state, dict) or not state:
        return
    changed = edited_state(state, recipe)
    if is_safe:
        tensors = {str(k): v.contiguous() for k, v in changed.items() if isinstance(v, torch.Tensor)} if changed else {}
        path.write_bytes(safetensors.torch.save({k.encode("utf-8", "replace").decode(): v for k, v in tensors.items()}))
        return
    buffer = io.BytesIO()
    torch.save(changed, buffer)
    path.write_bytes(buffer.getvalue())


def edited_state(state: dict[str, Any], recipe: Recipe) -> Any:
    """`state` after one edit of STATES."""
    keys = list(state)
    start = at(recipe["key"], len(keys))
    chosen = keys[start : start + recipe["count"]]
    match recipe["do"]:
        case "prefix":
            return {recipe["prefix"] + key: value for key, value in state.items()}
        case "drop":
            return {key: value for key, value in state.items() if key not in chosen}
        case "rename":
            return {recipe["text"] + key if key in chosen else key: value for key, value in state.items()}
        case "dtype":
            return state | {key: state[key].to(getattr(torch, recipe["dtype"])) for key in _tensors(state, chosen)}
        case "shape":
            return state | {key: torch.zeros(recipe["shape"]) for key in chosen}
        case "nan":
            return state | {key: torch.full_like(state[key].float(), torch.nan) for key in _tensors(state, chosen)}
        case "value":
            return state | dict.fromkeys(chosen, recipe["value"])
        case "nested":
            return {"epoch": recipe["value"], "state_dict": {"model": state}, recipe["text"]: recipe["value"]}
        case "list":
            return [state, recipe["value"]]
        case "code":
            return state | {"args": Harmful()}
        case "own class":
            return state | {"args": Path("x")}
        case _:
            return {}


def _tensors(state: dict[str, Any], keys: list[str]) -> list[str]:
    return [key for key in keys if isinstance(state[key], torch.Tensor)]
