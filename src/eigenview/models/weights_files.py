"""Weights of other programs as they lie on disk: files of tensors, and timm's folders. Nothing in them is executed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from eigenview import runfiles
from eigenview.errors import UserError, require
from eigenview.models import libraries
from eigenview.models.encoders import OWN
from eigenview.runfiles.schema import OBJECT, TEXT, Fields, ListOf, Maybe, integer, misfit, number

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
"""Of files: safetensors, and what torch.save wrote."""
RESAVE = "Save its state dict alone: torch.save(model.state_dict(), FILE)."
IMAGES = Fields(
    required={},
    optional={
        "mean": ListOf(number()),
        "std": ListOf(number(0)),
        "interpolation": TEXT,
        "input_size": ListOf(integer(1), 3),
    },
)
TIMM_KIND = Fields(
    required={"architecture": TEXT},
    optional={"pretrained_cfg": IMAGES, "model_args": OBJECT, "global_pool": Maybe(TEXT)},
)
ARGUMENTS = ("num_classes", "in_chans", "img_size", "global_pool", "drop_rate", "drop_path_rate", "proj_drop_rate")
"""Arguments of timm's networks that do not change which network it is (of global_pool another value would)."""


def read_tensors(path: Path) -> Any:
    """The content of a weights file: tensors and plain values in dicts.

    Raises: UserError for a damaged file, and for a pickle that names anything else than tensors.
    """
    try:
        runfiles.open_regular(path).close()  # a library would wait for a pipe without end
    except OSError as error:
        raise runfiles.damaged(path, error) from error
    if path.suffix.lower() == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
            raise runfiles.damaged(path, error) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "global" in line.lower()), "")
        if not reason:  # torch's own words would advise to execute what the file holds
            raise runfiles.damaged(path, "it is no file of torch.save", RESAVE) from error
        raise UserError(
            f"{path} holds more than tensors and plain values; nothing of it was executed ({reason.strip()[:200]}). "
            + RESAVE
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, zipfile.BadZipFile, MemoryError) as error:
        if "legacy" in str(error):
            raise runfiles.damaged(path, "it is no file of torch.save, or one of before 2018", RESAVE) from error
        raise runfiles.damaged(path, error) from error


def read_timm_config(path: Path) -> tuple[str, dict[str, Any] | None]:
    """Architecture (timm:NAME) and preprocessing, if that is complete, in the config.json of a folder of timm.

    Raises: UserError if it is damaged, or describes a network with other arguments than eigenview builds.
    """
    try:
        config = runfiles.parse_json(runfiles.file_bytes(path))
    except ValueError as error:
        raise runfiles.damaged(path, error) from error
    found = misfit(config, TIMM_KIND)
    if found is not None:
        raise runfiles.damaged(path, found)
    given = config.get("model_args", {})
    foreign = [name for name in given if name not in ARGUMENTS]
    require(not foreign, f"{path}: model_args", ", ".join(foreign), f"{', '.join(ARGUMENTS)}, or none")
    name = config["architecture"].split(".")[0]
    require(libraries.is_timm_name(name), f"{path}: architecture", name, "a network that this version of timm has")
    built = libraries.pooling(name)
    for pool in (config.get("global_pool"), given.get("global_pool")):
        require(pool is None or built is None or pool == built, f"{path}: global_pool", pool, f"{built} with {name}")
    return f"timm:{name}", images_in(config.get("pretrained_cfg", {}), str(path))


def images_in(given: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """What timm's description of a network says of its images; None if it is not complete.

    Raises: UserError, which begins with `where`, for values that cannot be.
    """
    present = {name: given[name] for name in IMAGES.optional if given.get(name) is not None}
    images = {name: list(each) if isinstance(each, tuple) else each for name, each in present.items()}
    found = misfit(images, IMAGES)
    if found is not None:
        raise UserError(f"{where} cannot be used: {found}.")
    if not {"mean", "std", "input_size"} <= set(images):
        return None
    channels = images["input_size"][0]
    for name, is_allowed, words in (("mean", _is_share, "from 0 to 1"), ("std", _is_deviation, "above 0, up to 1")):
        is_fit = len(images[name]) == channels and all(map(is_allowed, images[name]))
        require(
            is_fit, f"{where}: {name}", images[name], f"a number {words} for each of its channels, {channels} in all"
        )
    return images


def _is_share(value: float) -> bool:
    return 0 <= value <= 1


def _is_deviation(value: float) -> bool:
    return 0 < value <= 1


def named_by(path: Path) -> str | None:
    """The network that a file is named after: `resnet18-f37072fd.pth`, `tf_efficientnet_lite0.safetensors`, or with a
    tag of timm, such as `resnet18.a1_in1k.safetensors`, timm's network with the images of that tag."""
    if "." in path.stem and libraries.is_published_by_timm(path.stem):
        return f"timm:{path.stem}"
    stem = path.name.split(".")[0]
    for name in (stem, stem.rsplit("-", 1)[0]):
        if name in OWN:
            return name
        if name in libraries.torchvision_names() and libraries.torchvision_head(name) is not None:
            return f"torchvision:{name}"
        if libraries.is_timm_name(name):
            return f"timm:{name}"
    return None
