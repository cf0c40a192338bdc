"""Which values of an encoder a run trains, and how fast: its blocks from the image to the features.

A block is a child of the network, or, where that is a sequence of modules or a stage that holds one (`_is_stage`), each
of its children in turn; one without a weight of two axes or more (a norm, an activation) belongs to the block before
it. A ResNet of timm or torchvision has
its stem and each residual block, a vision transformer its patches and each layer, a network of ours each convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from eigenview.errors import UserError, require
from eigenview.models.lora import add_adapters
from eigenview.views import Group

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
SEQUENCES = (nn.Sequential, nn.ModuleList)


@dataclass(frozen=True, kw_only=True)
class EncoderTraining:
    """What of the encoder moves. The defaults train all of it like everything else."""

    train: str = "all"
    """all, norms, last:N, lora:R or head."""
    lr_factor: float = 1.0
    """Learning rate as a multiple of the heads'."""
    layer_decay: float = 1.0
    """Learning rate of a block as a multiple of that of the block after it."""
    frozen_epochs: float = 0.0
    """Epochs at the start in which it does not move."""
    keeps_statistics: bool = False
    """Whether its batch norms keep their running averages, and normalise by them in training too."""

    @property
    def is_plain(self) -> bool:
        """Whether the encoder is trained like everything else."""
        return self == EncoderTraining()


def blocks(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each block, from the image to the features. Those of no block (class token, position
    embeddings) are part of the first."""
    found: list[list[nn.Parameter]] = [[]]
    has_weights = False
    for part in _parts(encoder):
        own = list(part.parameters())
        is_new = any(p.ndim >= 2 for p in own)
        if is_new and has_weights:
            found.append([])
        has_weights = has_weights or is_new
        found[-1] += own
    seen = {id(p) for block in found for p in block}
    found[0] = [p for p in encoder.parameters() if id(p) not in seen] + found[0]
    return found


def _parts(network: nn.Module) -> Iterator[nn.Module]:
    for child in network.children():
        if isinstance(child, SEQUENCES) or _is_stage(child):
            yield from _parts(child)
        else:
            yield child


def _is_stage(module: nn.Module) -> bool:
    """Whether a module holds blocks one after another, such as torchvision's Encoder of a vision transformer or timm's
    stage of a ConvNeXt: a sequence whose parts have two layers or more each.

    The sequence in a residual block, such as torchvision's MBConv, has single layers among its parts.
    """
    sequences = [child for child in module.children() if isinstance(child, SEQUENCES)]
    return any(len(each) > 1 and all(_layers(part) > 1 for part in each) for each in sequences)


def _layers(module: nn.Module) -> int:
    """Weights of two axes or more."""
    return sum(p.ndim >= 2 for p in module.parameters())


def set_trainable(encoder: nn.Module, train: str, size: int, channels: int = 3) -> None:
    """Turn gradients off for what `train` leaves as it is; running averages of batch norm are another matter.

    size, channels: of the images, on which adapters are tried.

    Raises: UserError if the encoder has fewer blocks than asked for, no norms, or no layers for adapters.
    """
    if train == "all":
        return
    if train.startswith("lora:"):
        add_adapters(encoder, int(train.removeprefix("lora:")), size, channels)
        return
    kept: set[int] = set()
    if train == "norms":
        kept = {id(p) for module in encoder.modules() if isinstance(module, NORMS) for p in module.parameters()}
        kept |= {id(p) for module in encoder.modules() if _is_norm_of_timm(module) for p in module.parameters()}
        if not kept:
            raise UserError("--train norms: this encoder has no norms with values of their own. Use --train last:1.")
    elif train.startswith("last:"):
        count, parts = int(train.removeprefix("last:")), blocks(encoder)
        require(count <= len(parts), "--train", train, f"last:1 to last:{len(parts)}, the blocks of this encoder")
        kept = {id(p) for block in parts[-count:] for p in block}
    for parameter in encoder.parameters():
        parameter.requires_grad_(id(parameter) in kept)


def _is_norm_of_timm(module: nn.Module) -> bool:
    """timm's own norms, such as GRN of ConvNeXt V2, inherit from Module alone."""
    return type(module).__module__.startswith("timm.layers") and "norm" in type(module).__name__.lower()


def encoder_groups(encoder: nn.Module, training: EncoderTraining) -> list[Group]:
    """The encoder's trainable parameters for the optimiser: one group, or with layer decay one a block."""
    parts = blocks(encoder) if training.layer_decay != 1 else [list(encoder.parameters())]
    groups: list[Group] = []
    for k, block in enumerate(parts):
        factor = training.lr_factor * training.layer_decay ** (len(parts) - 1 - k)
        moving = [p for p in block if p.requires_grad]
        name = "encoder" if len(parts) == 1 else f"encoder block {k}"
        if moving:
            groups.append(Group(name, moving, factor, frozen_epochs=training.frozen_epochs))
    return groups
