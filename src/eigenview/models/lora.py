"""Low-rank adapters (LoRA) on the linear layers of a vision transformer, by the package peft.

Hu et al. 2021, arXiv 2106.09685: a layer W gets B A beside it, of rank r; W stays as it is, and B begins at 0, so that
the network begins as it was. Afterwards W + B A takes the place of W, under the library's own names.
"""

from __future__ import annotations

import copy
import importlib
from typing import Any

from torch import nn

from eigenview.errors import UserError

SCALE = 2
"""B A is multiplied by this, whatever the rank: peft's lora_alpha is this times the rank."""


def add_adapters(encoder: nn.Module, rank: int) -> None:
    """Put adapters on every linear layer of an encoder, in place; they alone are trainable afterwards.

    Raises: UserError if peft is not installed, or if the encoder has no linear layers.
    """
    layers = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UserError(
            f"--train lora:{rank}: this encoder has no linear layers; take a vision transformer, or --train norms."
        )
    try:
        peft: Any = importlib.import_module("peft")
    except ImportError as error:
        raise UserError(
            f"--train lora:{rank} needs the package peft: pip install 'eigenview[lora]', or --train norms."
        ) from error
    config = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=layers)
    peft.inject_adapter_in_model(config, encoder)


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
