"""Weights to start from: a file, a folder of timm, or a run of ours, read as numbers without executing anything."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from eigenview import runfiles
from eigenview.data.opening import kind_of
from eigenview.errors import UserError, require
from eigenview.models import libraries
from eigenview.models.encoders import OWN
from eigenview.models.matching import Match, Tensors, match, tables_of
from eigenview.runfiles.schema import Fields, Leaf, ListOf, integer, misfit, number

TEXT = Leaf("text", lambda value: isinstance(value, str))
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
"""Of files: safetensors, and what torch.save wrote."""
TIMM_CONFIG, TIMM_FILES = "config.json", ("model.safetensors", "pytorch_model.bin")
TIMM_KIND = Fields(
    required={"architecture": TEXT},
    optional={
        "pretrained_cfg": Fields(
            required={},
            optional={
                "mean": ListOf(number(), 3),
                "std": ListOf(number(0), 3),
                "interpolation": TEXT,
                "input_size": ListOf(integer(1), 3),
            },
        )
    },
)
RESAMPLING = ("bilinear", "bicubic")
"""Filters that images can be resized with here."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How the images were prepared that the weights were trained on."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    """Side in pixels."""
    interpolation: str = "bilinear"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors with what is known of them."""

    origin: str
    """As the user named them."""
    tables: list[Tensors]
    encoder: str | None
    """Name of their architecture, if they come with one."""
    preprocessing: Preprocessing | None
    """None: not known."""

    def load_into(self, network: nn.Module) -> Match:
        """Put them into a network, and say what was loaded. Raises UserError if too little fits; nothing is changed."""
        found = match(self.tables, network, where=self.origin)
        network.load_state_dict(found.tensors, strict=False)
        return found


def read_weights(origin: str) -> Weights:
    """The weights at a path.

    Raises: UserError for a missing, truncated or foreign file, and for one that holds anything but tensors and plain
    values: a pickle that names a function is refused before that is imported.
    """
    path = Path(origin)
    kind = kind_of(path)
    if kind == "folder" and (path / TIMM_CONFIG).exists() and any((path / name).exists() for name in TIMM_FILES):
        return _of_timm_folder(path, origin)
    if kind == "file" and path.suffix.lower() in SUFFIXES:
        return Weights(origin=origin, tables=tables_of(read_tensors(path)), encoder=named_by(path), preprocessing=None)
    what = "does not exist" if kind == "nothing" else "holds no weights"
    raise UserError(
        f"--weights {origin} {what}. Give a file ({', '.join(SUFFIXES)}), a folder with {TIMM_CONFIG} and "
        f"{TIMM_FILES[0]}, a run directory, or timm:NAME."
    )


def read_tensors(path: Path) -> Any:
    """The content of a weights file: tensors and plain values in dicts."""
    if path.suffix.lower() == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
            raise runfiles.damaged(path, error) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), "")
        raise UserError(
            f"{path} holds more than tensors and plain values; nothing of it was executed ({reason.strip()[:200]}). "
            "Save its state dict alone: torch.save(model.state_dict(), FILE)."
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise runfiles.damaged(path, error) from error


def _of_timm_folder(folder: Path, origin: str) -> Weights:
    """The folder that timm saves and uploads: config.json with architecture and preprocessing, and the tensors."""
    path = folder / TIMM_CONFIG
    try:
        config = runfiles.parse_json(runfiles.file_bytes(path))
    except ValueError as error:
        raise runfiles.damaged(path, error) from error
    found = misfit(config, TIMM_KIND)
    if found is not None:
        raise runfiles.damaged(path, found)
    tensors = next(folder / name for name in TIMM_FILES if (folder / name).exists())
    return Weights(
        origin=origin,
        tables=tables_of(read_tensors(tensors)),
        encoder=f"timm:{config['architecture']}",
        preprocessing=_preprocessing(config.get("pretrained_cfg", {}), str(path)),
    )


def _preprocessing(given: Mapping[str, Any], where: str) -> Preprocessing | None:
    """timm's description of the images; None if it is not complete."""
    if not {"mean", "std", "input_size"} <= set(given):
        return None
    (r, g, b), (s, t, u) = given["mean"], given["std"]
    require(min(s, t, u) > 0, f"{where}: std", given["std"], "three numbers above 0")
    interpolation = given.get("interpolation", "bilinear")
    require(interpolation in RESAMPLING, f"{where}: interpolation", interpolation, " or ".join(RESAMPLING))
    return Preprocessing(mean=(r, g, b), std=(s, t, u), size=given["input_size"][-1], interpolation=interpolation)


def named_by(path: Path) -> str | None:
    """The network that a file is named after, `resnet18-f37072fd.pth` or `tf_efficientnet_lite0.safetensors`."""
    stem = path.name.split(".")[0]
    for name in (stem, stem.rsplit("-", 1)[0]):
        if name in OWN:
            return name
        if name in libraries.torchvision_names() and libraries.torchvision_head(name) is not None:
            return f"torchvision:{name}"
        if libraries.is_timm_name(name):
            return f"timm:{name}"
    return None
