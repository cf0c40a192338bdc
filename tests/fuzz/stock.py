"""Good inputs, made once in a process of their own: each case copies what it damages."""

from __future__ import annotations

import contextlib
import importlib
import io
import multiprocessing
import os
import pkgutil
import sys
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import eigenview
from eigenview import runfiles
from eigenview.cli import run
from tests.fuzz.sandbox import environment, fresh

PRELOAD = ("torch", "torch._dynamo", "datasets", "sklearn.linear_model", "timm", "torchvision", "hypothesis")
IMAGES = 80
SMALL = ("--encoder", "conv-tiny", "--epochs", "1", "--batch-size", "32", "--image-size", "8", "--monitor.images", "16")
SMALL += ("--network.projector-hidden", "32", "--network.projector-width", "32", "--probe.few-label-draws", "1")
"""Options of the smallest run there is: two steps."""
NETWORK = "test_resnet"
"""Of timm, small: the network whose weights cases start from."""
THEORIES = ("byol-eigenvalues", "directset", "isoloss", "infonce", "two-layers")
"""Simulations that take less than a second."""


def prepare(folder: Path) -> None:
    """Fill `folder` with good inputs of every kind, and import everything that commands import while they run.

    This process does not train: torch cannot compute gradients in the fork of a process that has computed some.
    """
    os.environ.update(environment(folder))  # which libraries read when they are imported
    for name in (*PRELOAD, *(each.name for each in pkgutil.walk_packages(eigenview.__path__, "eigenview."))):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    context = multiprocessing.get_context("fork")
    names = context.SimpleQueue()
    child = context.Process(target=_make_in_child, args=(folder, names))
    child.start()
    imported = names.get()
    child.join()
    if child.exitcode != 0:
        raise RuntimeError("the good inputs could not be made")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in imported:
            with contextlib.suppress(ImportError):  # made up by a library while it runs
                importlib.import_module(name)


def _make_in_child(folder: Path, names: Any) -> None:
    known = set(sys.modules)
    try:
        make_stock(folder)
    finally:
        names.put([name for name in sys.modules if name not in known])


def make_stock(folder: Path) -> None:
    """Fill `folder` (empty, or missing) with good inputs of every kind."""
    fresh(folder)
    os.environ.update(environment(folder))
    os.chdir(folder)
    rng = np.random.default_rng(0)
    _folders(folder, rng)
    _arrays(folder, rng)
    _tables(folder, rng)
    _tar(folder)
    _cifar(folder, rng)
    _weights(folder)
    for args in (
        ["pretrain", "photos", "--out", "vicreg", *SMALL],
        ["pretrain", "photos", "--out", "byol", "--method", "byol", *SMALL],
        ["pretrain", "photos", "--out", "byol", "--resume", "--epochs", "2"],
        ["pack", "photos", "--out", "pack"],
    ):
        quietly(args, code=0)
    for name in ("vicreg", "byol"):  # a page of 5 MB that no case reads
        (folder / name / runfiles.REPORT).write_text("<html>a report</html>\n")
    _warm_up()


def quietly(args: list[str], code: int | None = None) -> None:
    """A command in this process, without its output. `code`: the exit code that it must have."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            ended = run(args)
        except SystemExit as stop:
            ended = stop.code
    if code is not None and ended != code:
        raise RuntimeError(f"eigenview {' '.join(args)} ended with {ended}: {said.getvalue()}")


def _warm_up() -> None:
    """Run what imports further modules, so that forked cases find them imported."""
    for args in (
        ["embed", "vicreg", "photos", "--out", "e.parquet"],
        ["probe", "vicreg"],
        ["report", "byol", "--theory", "--out", "r.html"],
        ["diagnose", "e.parquet"],
        ["diagnose", "timm:nothing"],
        ["export", "vicreg"],
        ["export", "vicreg", "--format", "hf"],
        ["export", "vicreg", "--format", "onnx"],
        ["pretrain", "hf:arrow?streaming=1", "--dry-run", *SMALL],
        ["pretrain", "hf:parquet", "--dry-run", *SMALL],
        ["pretrain", "photos", "--dry-run", *SMALL, "--encoder", "timm:resnet10t"],
        ["pretrain", "cifar-10-batches-py", "--dry-run", *SMALL],
        ["probe", "backbone", "--data", "photos", "--few-label-draws", "1"],
        ["preview", "photos", *SMALL, "--weights", "backbone", "--encoder", f"timm:{NETWORK}", "--out", "sheet.html"],
        ["list", "encoders"],
        *(["simulate", theory, "--out", f"simulated/{theory}"] for theory in THEORIES),
    ):
        quietly(args)


def picture(rng: np.random.Generator, brightness: int, width: int = 10, height: int = 9) -> Image.Image:
    """A random picture."""
    return Image.fromarray((rng.integers(0, 120, (height, width, 3)) + brightness).astype(np.uint8))


def _folders(folder: Path, rng: np.random.Generator) -> None:
    for k in range(IMAGES):
        bright = k % 2
        suffix = ("png", "png", "png", "jpg", "gif", "bmp", "webp", "tif")[k // 2 % 8]
        path = folder / "photos" / ("dark", "bright")[bright] / f"{k:02}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(rng, 130 * bright, 9 + k % 4, 9 + k % 3).save(path)
        part = folder / "parts" / ("train", "train", "test")[k % 3] / path.parent.name / f"{k}.png"
        part.parent.mkdir(parents=True, exist_ok=True)
        picture(rng, 130 * bright).save(part)


def _arrays(folder: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 255, (IMAGES, 9, 10, 3), dtype=np.uint8)
    labels = np.arange(IMAGES) % 3
    np.save(folder / "images.npy", images)
    np.savez(folder / "images.npz", images=images, labels=labels)
    halves = {"x_train": images[:60], "y_train": labels[:60], "x_test": images[60:], "y_test": labels[60:]}
    np.savez_compressed(folder / "halves.npz", **halves)
    x = rng.normal(size=(60, 8)).astype(np.float32)
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", x=x, other=np.arange(60))


def _tables(folder: Path, rng: np.random.Generator) -> None:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    x = rng.normal(size=(60, 8)).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 8)
    pq.write_table(pa.table({"index": np.arange(60), "label": ["a", "b"] * 30, "h": vectors}), folder / "x.parquet")
    images = {"image": [picture(rng, 130 * (k % 2)) for k in range(IMAGES)], "label": [k % 2 for k in range(IMAGES)]}
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "bright"])})
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict(images, features=kinds)
    data.save_to_disk(folder / "arrow")
    (folder / "parquet").mkdir()
    data.to_parquet(folder / "parquet" / "train.parquet")


def _tar(folder: Path) -> None:
    (folder / "shards").mkdir()
    paths = sorted((folder / "photos").rglob("*.png"))
    for number in range(2):
        with tarfile.open(folder / "shards" / f"x-{number}.tar", "w") as tar:
            for k, path in enumerate(paths[number::2] * 2):
                tar.add(path, f"{k:03}.png")
                label = str(int(path.parent.name == "bright")).encode()
                member = tarfile.TarInfo(f"{k:03}.cls")
                member.size = len(label)
                tar.addfile(member, io.BytesIO(label))


def _cifar(folder: Path, rng: np.random.Generator) -> None:
    """A CIFAR-10 of 16 images a file, pickled as its publisher does."""
    import pickle

    root = folder / "cifar-10-batches-py"
    root.mkdir()
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        batch = {"data": rng.integers(0, 255, (16, 3072), dtype=np.uint8), "labels": [k % 10 for k in range(16)]}
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = {"label_names": list("abcdefghij")}
    (root / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))


def _weights(folder: Path) -> None:
    """The weights of one network as a safetensors file, as a file of torch, and as a folder of timm."""
    import json

    import safetensors.torch
    import timm
    import torch

    torch.manual_seed(0)
    network = timm.create_model(NETWORK, num_classes=3)
    state = network.state_dict()
    (folder / "backbone").mkdir()
    for path in ("weights.safetensors", "backbone/model.safetensors"):
        safetensors.torch.save_file(state, folder / path)
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, folder / "weights.pth"
    )
    images = {"mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 32, 32], "interpolation": "bicubic"}
    config = {"architecture": NETWORK, "num_classes": 3, "pretrained_cfg": images, "model_args": {}}
    (folder / "backbone/config.json").write_text(json.dumps(config))
