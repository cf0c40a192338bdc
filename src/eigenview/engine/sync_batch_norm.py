"""Batch norms over the images of all processes, on GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from eigenview.models.norms import KeepsStatistics

BATCH_NORM = nn.modules.batchnorm._BatchNorm


@contextmanager
def synchronised(model: nn.Module, *, is_on: bool) -> Iterator[None]:
    """In this block, if `is_on`, the batch norms inside `model` take the images of all processes.

    Afterwards the model has its original batch norms again, with the trained parameters and buffers. timm converts its
    norms that contain an activation (EfficientNet, RegNet, DenseNet); torch's own conversion would lose those.
    """
    originals = convert(model) if is_on else {}
    try:
        yield
    finally:
        revert(model, originals)


def convert(model: nn.Module) -> dict[str, nn.Module]:
    """Replace the batch norms inside `model` that take a batch's averages; returns the originals by name."""
    from timm.layers.norm_act import convert_sync_batchnorm  # takes seconds, and only runs on several GPUs need it

    modules = model.named_modules(remove_duplicate=False)
    originals: dict[str, nn.Module] = {
        name: each for name, each in modules if isinstance(each, BATCH_NORM) and not isinstance(each, nn.SyncBatchNorm)
    }
    kept = {name: each for name, each in originals.items() if isinstance(each, KeepsStatistics)}
    convert_sync_batchnorm(model)
    for name, original in kept.items():
        above, _, last = name.rpartition(".")
        setattr(model.get_submodule(above), last, original)
    return {name: each for name, each in originals.items() if name not in kept}


def revert(model: nn.Module, originals: dict[str, nn.Module]) -> None:
    """Put the originals back; they get the trained parameters and buffers."""
    for name, original in originals.items():
        above, _, last = name.rpartition(".")
        current = model.get_submodule(name)
        for key, value in (*current.named_parameters(recurse=False), *current.named_buffers(recurse=False)):
            setattr(original, key, value)
        setattr(model.get_submodule(above), last, original.train(current.training))
