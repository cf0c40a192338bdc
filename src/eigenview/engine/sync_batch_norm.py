"""Batch norms over the images of all processes, on GPUs."""

from __future__ import annotations

from lightning.pytorch.plugins import LayerSync
from torch import nn

BATCH_NORM = nn.modules.batchnorm._BatchNorm


class SyncBatchNorms(LayerSync):
    """Replaces batch norms by synchronised ones while Lightning trains on several GPUs, and restores them afterwards.

    Lightning's own plugin turns every batch norm into torch's SyncBatchNorm, also timm's that contain an activation
    (EfficientNet, RegNet, DenseNet): those activations would be lost during training and afterwards.
    """

    def __init__(self) -> None:
        self.originals: dict[str, nn.Module] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with synchronised batch norms, which hold the same parameters and buffers."""
        from timm.layers.norm_act import (
            convert_sync_batchnorm,
        )  # imported here: it takes seconds, and only runs on several GPUs need it

        modules = model.named_modules(remove_duplicate=False)
        self.originals = {
            name: each
            for name, each in modules
            if isinstance(each, BATCH_NORM) and not isinstance(each, nn.SyncBatchNorm)
        }
        return convert_sync_batchnorm(model)  # type: ignore[no-any-return]

    def revert(self, model: nn.Module) -> nn.Module:
        """The model with its original batch norms, which get the trained parameters and buffers."""
        for name, original in self.originals.items():
            above, _, last = name.rpartition(".")
            current = model.get_submodule(name)
            for key, value in (*current.named_parameters(recurse=False), *current.named_buffers(recurse=False)):
                setattr(original, key, value)
            setattr(model.get_submodule(above), last, original.train(current.training))
        self.originals = {}
        return model
