"""An encoder from anywhere: a finished run, or weights of another program in a network of their architecture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from eigenview.errors import require
from eigenview.models import saved
from eigenview.models.encoders import build_encoder, check_patches
from eigenview.models.saved import FORMAT, LARGEST_SIZE, LoadedEncoder
from eigenview.models.weights import is_weights, read_weights


def load_encoder(
    source: Path | str | nn.Module, *, encoder: str = "auto", image_size: int | None = None
) -> LoadedEncoder:
    """The encoder of a run, or a network with weights of another program, in evaluation mode.

    source: a run directory or its encoder.safetensors, or weights as `eigenview pretrain --weights` takes them: a file,
    a folder of timm, timm:NAME, hf:OWNER/NAME, a module. encoder: the architecture of weights that do not name theirs.
    image_size: side in pixels to which images are brought; default: that of the run, or that of the weights.

    Raises: UserError for anything missing, damaged or not an encoder, and for weights that do not fit the architecture.
    """
    if not isinstance(source, nn.Module) and not is_weights(str(source)):
        loaded = saved.load_encoder(source)
        require(
            encoder in ("auto", loaded.name),
            "--encoder",
            encoder,
            f"{loaded.name}, which is what {source} holds, or auto",
        )
        require(
            image_size in (None, loaded.size),
            "--image-size",
            image_size,
            f"{loaded.size}, the size that {source} was trained at",
        )
        return loaded
    weights = read_weights(source)
    name = weights.architecture(encoder)
    images = weights.preparation(name)
    size = image_size or images.size or 224
    require(1 <= size <= LARGEST_SIZE, "--image-size", size, f"1 to {LARGEST_SIZE}")
    check_patches(name, "--image-size", size)
    with torch.random.fork_rng(devices=[]):
        network, width = build_encoder(name, size=size, stem="standard")
    network.load_state_dict(weights.fit(network).tensors, strict=False)
    card = {
        "format": FORMAT,
        "encoder": name,
        "stem": "standard",
        "size": size,
        "width": width,
        "method": None,
        "run": {},
    }
    card |= {"mean": list(images.mean), "std": list(images.std), "interpolation": images.interpolation}
    return LoadedEncoder(network, card | {"weights": weights.origin})
