"""Blocks of encoders, and what of them is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eigenview.errors import UserError
from eigenview.models import libraries
from eigenview.models.encoders import OWN, build_encoder, resolve
from eigenview.models.layers import EncoderTraining, blocks, encoder_groups, set_trainable

# stem and residual blocks; patches, layers of the transformer, as their papers count them
BLOCKS = {
    "conv-tiny": 3,
    "conv-small": 7,
    "torchvision:resnet18": 9,
    "timm:resnet18": 9,
    "timm:resnet50": 17,
    "timm:vit_tiny_patch16_224": 13,
    "torchvision:vit_b_16": 13,
    "torchvision:efficientnet_b0": 1 + 16 + 1,  # stem, MBConvs, last convolution
    "timm:efficientnet_b0": 1 + 16 + 1,
    "torchvision:mobilenet_v2": 1 + 17 + 1,
    "torchvision:regnet_y_400mf": 1 + 16,
    "torchvision:convnext_tiny": 1 + 18 + 3,
    "timm:convnext_tiny": 1 + 18 + 3,
    "torchvision:swin_t": 1 + 12 + 3,  # 2 + 2 + 6 + 2 layers, patches joined between the stages
    "timm:swin_tiny_patch4_window7_224": 1 + 12 + 3,
    "timm:convnext_atto": 1 + 12 + 3,  # patches, 2 + 2 + 6 + 2 layers, a convolution before each of three stages
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_those_of_the_paper(name: str) -> None:
    with torch.device("cpu" if "regnet" in name else "meta"):  # torchvision reads the widths of a RegNet from tensors
        encoder = build(name)
    found = blocks(encoder)
    assert len(found) == BLOCKS[name]
    named = [id(p) for block in found for p in block]
    assert len(named) == len(set(named))
    assert set(named) == {id(p) for p in encoder.parameters()}


def build(name: str) -> nn.Module:
    """The encoder without trying it, which a meta device cannot."""
    library, model = resolve(name)
    if library is None:
        return OWN[model][0](3)
    network = libraries.create(library, model, 224)
    for path, module in libraries.replacements(library, model, network, small_stem=False).items():
        network.set_submodule(path, module)
    return network


@pytest.mark.parametrize(
    ("train", "expected"), [("head", set()), ("last:1", {"6", "7"}), ("all", {"0", "1", "3", "4", "6", "7"})]
)
def test_what_is_trained_of_a_net_of_three_convolutions(train: str, expected: set[str]) -> None:
    encoder, _ = build_encoder("conv-tiny", size=16)
    set_trainable(encoder, train, 16)
    moving = {name.rsplit(".", 1)[0] for name, p in encoder.named_parameters() if p.requires_grad}
    names = {"0": "0.0", "1": "0.1", "3": "2.0", "4": "2.1", "6": "4.0", "7": "4.1"}
    assert moving == {names[each] for each in expected}


def test_norms_alone() -> None:
    for name, kinds in (("timm:test_resnet", nn.BatchNorm2d), ("timm:test_vit", nn.LayerNorm)):
        encoder, _ = build_encoder(name, size=64)
        set_trainable(encoder, "norms", 64)
        moving = {id(p) for p in encoder.parameters() if p.requires_grad}
        assert moving == {id(p) for m in encoder.modules() if isinstance(m, kinds) for p in m.parameters()}
        assert moving


def test_more_blocks_than_there_are() -> None:
    encoder, _ = build_encoder("conv-tiny", size=16)
    with pytest.raises(UserError, match="--train is 'last:4'; allowed: last:1 to last:3"):
        set_trainable(encoder, "last:4", 16)
    with pytest.raises(UserError, match="has no norms"):
        set_trainable(nn.Sequential(nn.Conv2d(3, 4, 3)), "norms", 16)


def test_rates_fall_towards_the_image() -> None:
    encoder, _ = build_encoder("conv-tiny", size=16)
    groups = encoder_groups(encoder, EncoderTraining(lr_factor=0.4, layer_decay=0.5, frozen_epochs=2))
    assert [group.lr_factor for group in groups] == [0.1, 0.2, 0.4]
    assert {group.frozen_epochs for group in groups} == {2}
    assert [p for group in groups for p in group.params] == list(encoder.parameters())
    (one,) = encoder_groups(encoder, EncoderTraining(lr_factor=0.4))
    assert (one.name, one.lr_factor, len(one.params)) == ("encoder", 0.4, len(list(encoder.parameters())))
