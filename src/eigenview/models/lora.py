"""Low-rank adapters (LoRA) on the linear layers of a vision transformer, by the package peft.

Hu et al. 2021, arXiv 2106.09685: a layer W gets B A beside it, of rank r; W stays as it is, and B begins at 0, so that
the network begins as it was. Afterwards W + B A takes the place of W, under the library's own names.
"""

from __future__ import annotations

import copy
import importlib
import re
from typing import Any

import torch
from torch import nn

from eigenview.errors import UserError

SCALE = 2
"""B A is multiplied by this, whatever the rank: peft's lora_alpha is this times the rank."""


def add_adapters(encoder: nn.Module, rank: int, size: int, channels: int = 3) -> None:
    """Put adapters on the linear layers of an encoder, in place; they alone are trainable afterwards.

    Some networks read the weight of a layer without calling the layer, mostly in attention. Its adapter would never
    receive a gradient, so two black images of this size go forward and back, and only adapters with a gradient stay.

    Raises: UserError if peft is not installed, or if no linear layer can have an adapter.
    """
    option = f"--train lora:{rank}"
    layers = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UserError(f"{option}: this encoder has no linear layers; take a vision transformer, or --train norms.")
    try:
        peft: Any = importlib.import_module("peft")
    except ImportError as error:
        raise UserError(f"{option} needs the package peft: pip install 'eigenview[lora]', or --train norms.") from error
    config = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=layers)
    peft.inject_adapter_in_model(config, encoder)
    _take_out_unreached(encoder, size, channels)
    if not any(map(is_adapted, encoder.modules())):
        raise UserError(
            f"{option}: this encoder reads the weights of its linear layers without calling them, so that no adapter "
            "would take part. Use --train norms, or last:N."
        )


def _take_out_unreached(encoder: nn.Module, size: int, channels: int) -> None:
    was_training = encoder.training
    encoder.eval()  # averages of batch norm stay, and dropout draws nothing
    with torch.enable_grad():
        features = encoder(torch.zeros(2, channels, size, size))
        if features.requires_grad:  # not if no adapter is reached
            features.sum().backward()
    encoder.train(was_training)
    adapted: dict[str, Any] = {name: m for name, m in encoder.named_modules() if is_adapted(m)}
    for name, layer in adapted.items():
        if any(p.requires_grad and p.grad is None for p in layer.parameters()):
            encoder.set_submodule(name, layer.get_base_layer())
    encoder.zero_grad(set_to_none=True)


def unadapted(encoder: nn.Module) -> list[str]:
    """Linear layers and attentions without an adapter, in an encoder that has some; numbers in their names are *."""
    adapted = tuple(f"{name}." for name, module in encoder.named_modules() if is_adapted(module))
    found = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear | nn.MultiheadAttention) and not f"{name}.".startswith(adapted)
    ]
    return list(dict.fromkeys(re.sub(r"\d+", "*", name) for name in found))


def without_adapters(encoder: nn.Module) -> nn.Module:
    """The encoder with its adapters added to the layers they belong to; itself if it has none."""
    adapted: dict[str, Any] = {name: m for name, m in encoder.named_modules() if is_adapted(m)}
    if not adapted:
        return encoder
    plain = copy.deepcopy(encoder)
    for name in adapted:
        layer: Any = plain.get_submodule(name)
        layer.merge()
        plain.set_submodule(name, layer.get_base_layer())
    return plain


def is_adapted(module: nn.Module) -> bool:
    """Whether this is a layer of peft, which holds the layer it adapts."""
    return type(module).__module__.startswith("peft.tuners.lora")
