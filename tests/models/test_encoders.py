"""Encoders by name: shapes, sizes, stems, and the errors for a wrong name or size."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from eigenview.errors import UserError
from eigenview.models import libraries
from eigenview.models.encoders import OWN, build_encoder, canonical_name, count_parameters, list_encoders


def features(encoder: nn.Module, size: int, n: int = 3) -> torch.Tensor:
    images = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return encoder.eval()(images)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("size", ["minimum", 16, 33, 64])
def test_own_nets_give_their_width_at_every_size_from_the_minimum(name, size):
    _, width, minimum, _ = OWN[name]
    side = minimum if size == "minimum" else size
    encoder, told = build_encoder(name, size=side)
    assert told == width
    assert features(encoder, side).shape == (3, width)


@pytest.mark.parametrize("name", OWN)
def test_the_stated_minimum_is_the_true_one(name):
    make, _, minimum, _ = OWN[name]
    with pytest.raises((RuntimeError, IndexError)):
        features(make(), minimum - 1)
    with pytest.raises(UserError, match=rf"--image-size.*{minimum - 1}.*{minimum}.*{name}"):
        build_encoder(name, size=minimum - 1)


@pytest.mark.parametrize("name", OWN)
def test_own_nets_train_in_bf16_and_channels_last(name):
    encoder, _ = build_encoder(name, size=16)
    encoder.to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 16, 16).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = encoder(images)
    h.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("timm:mobilenetv3_small_050", 1024),
        ("timm:test_vit", 64),
        ("torchvision:resnet18", 512),
        ("torchvision:mobilenet_v3_small", 576),
        ("torchvision:shufflenet_v2_x0_5", 1024),
        ("torchvision:squeezenet1_1", 512),
        ("torchvision:regnet_y_400mf", 440),
        ("torchvision:efficientnet_b0", 1280),
        ("torchvision:mnasnet0_5", 1280),
        ("torchvision:densenet121", 1024),
        ("torchvision:convnext_tiny", 768),
        ("torchvision:swin_t", 768),
        ("torchvision:alexnet", 256),
        ("torchvision:vit_b_32", 768),
    ],
)
def test_library_networks_become_encoders_of_their_trunk_width(name, width):
    torch.manual_seed(0)
    encoder, told = build_encoder(name, size=64)
    assert told == width
    assert features(encoder, 64, n=2).shape == (2, width)


def test_the_same_seed_gives_plain_timm_and_our_encoder_the_same_features():
    torch.manual_seed(5)
    encoder, _ = build_encoder("timm:test_vit", size=32)
    torch.manual_seed(5)
    plain = timm.create_model("test_vit", num_classes=0, img_size=32)
    assert torch.equal(features(encoder, 32), features(plain, 32))


def test_torchvision_features_are_what_its_classifier_reads():
    encoder, _ = build_encoder("torchvision:resnet18", size=65)
    plain = torchvision.models.resnet18()
    plain.load_state_dict(encoder.state_dict(), strict=False)
    seen = []
    plain.fc.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    features(plain, 65)
    assert torch.equal(features(encoder, 65), seen[0])


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize(
    ("size", "stem", "small"),
    [(64, "auto", True), (65, "auto", False), (65, "small", True), (32, "standard", False)],
)
def test_the_small_stem_keeps_the_resolution(library, size, stem, small):
    encoder, width = build_encoder(f"{library}:resnet18", size=size, stem=stem)
    sides = []
    encoder.get_submodule("layer1").register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    assert features(encoder, size).shape == (3, width)
    assert sides == [size if small else -(-size // 4)]


def test_the_small_stem_of_a_network_with_other_norms():
    encoder, width = build_encoder("timm:resnet50_gn", size=32)
    assert features(encoder, 32).shape == (3, width)
    assert encoder.get_submodule("conv1").stride == (1, 1)


def test_the_last_norm_of_a_block_starts_as_the_library_has_it():
    for library, value in (("timm", 0.0), ("torchvision", 1.0)):
        encoder, _ = build_encoder(f"{library}:resnet18", size=32)
        assert torch.all(encoder.get_parameter("layer1.0.bn2.weight") == value)


def test_trying_out_the_size_leaves_no_trace():
    encoder, _ = build_encoder("timm:resnet18", size=32)
    assert encoder.training
    assert int(encoder.get_buffer("bn1.num_batches_tracked")) == 0
    assert torch.all(encoder.get_buffer("bn1.running_mean") == 0)


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("resnet18", "torchvision:resnet18"),
        ("vit_small_patch16_224", "timm:vit_small_patch16_224"),
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
        ("conv-small", "conv-small"),
    ],
)
def test_bare_names_find_their_library(given, canonical):
    assert canonical_name(given) == canonical


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conv-smal", "conv-smal.*conv-small"),
        ("resnt18", "resnt18.*resnet18"),
        ("timm:resnt18", "timm:resnt18.*timm:resnet18"),
        ("torchvision:resnet81", "torchvision:resnet81.*torchvision:resnet18"),
        ("keras:XQ", "keras:XQ.*eigenview list encoders"),
        ("timm:hf-hub:someone/resnet18", "timm:hf-hub:someone/resnet18.*no such encoder"),
        ("timm:local-dir:/some/where", "timm:local-dir:/some/where.*no such encoder"),
        ("torchvision:googlenet", "torchvision:googlenet.*classifier"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name, message):
    with pytest.raises(UserError, match=message):
        build_encoder(name, size=32)


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("timm:test_vit", 8, "published for 160 px"),
        ("torchvision:vit_b_32", 40, "indivisible"),
        ("torchvision:alexnet", 32, "published for 224 px"),
    ],
)
def test_sizes_a_network_cannot_take_are_refused(name, size, reason):
    with pytest.raises(UserError, match=rf"--image-size {size}.*{name}.*{reason}.*conv-small"):
        build_encoder(name, size=size)


@pytest.mark.parametrize("name", ["conv-tiny", "timm:mobilenetv3_small_050", "torchvision:convnext_tiny"])
def test_a_small_stem_is_refused_where_there_is_none(name):
    with pytest.raises(UserError, match=rf"network.stem.*small.*auto.*{name}.*ResNets"):
        build_encoder(name, size=32, stem="small")


def test_the_list_tells_the_truth():
    rows = {row.name: row for row in list_encoders()}
    for name in OWN:
        encoder, width = build_encoder(name, size=rows[name].minimum_size)
        assert (rows[name].width, rows[name].parameters) == (width, count_parameters(encoder))
    assert {"timm:NAME", "torchvision:NAME"} < set(rows)
    assert [row.name for row in list_encoders("torchvision:resnet1*")] == [
        "torchvision:resnet101",
        "torchvision:resnet152",
        "torchvision:resnet18",
    ]


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize(
    "name",
    ["conv-tiny", "conv-small", "conv-medium", "timm:resnet18", "torchvision:resnet18", "torchvision:mobilenet_v2"],
)
def test_other_channels_change_the_first_convolution_alone(name, channels):
    plain, width = build_encoder(name, size=32)
    other, other_width = build_encoder(name, size=32, channels=channels)
    assert other_width == width
    assert other(torch.zeros(2, channels, 32, 32)).shape == (2, width)
    shapes = {key: tuple(value.shape) for key, value in plain.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in other.state_dict().items()}
    assert list(found) == list(shapes)
    (changed,) = [key for key in shapes if found[key] != shapes[key]]
    out, three, *kernel = shapes[changed]
    assert three == 3
    assert found[changed] == (out, channels, *kernel)


def test_an_encoder_for_other_channels_exports_code_that_loads_it():
    encoder, _ = build_encoder("torchvision:mobilenet_v2", size=65, channels=4)
    lines = libraries.replacement_code("torchvision", "mobilenet_v2", encoder, small_stem=False)
    (line,) = [line for line in lines if "Conv2d(4, 32" in line]
    assert line.startswith('model.set_submodule("features.0.0", nn.Conv2d(')
