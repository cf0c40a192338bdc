"""Networks of timm and torchvision: their names, the arguments for an image size, and the modules to replace.

Replacing modules turns a classifier into an encoder, adds the small stem, and exchanges norms.

Modules are replaced in place and all others keep the library's parameter names, so that the weights can be loaded into
the plain library class after the same replacements (`replacement_code` writes them for an export).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from eigenview.models.norms import Norm, row_norms

Library = Literal["timm", "torchvision"]
Stem = Literal["auto", "small", "standard"]

SMALL_STEM_UP_TO = 64  # px: stem "auto" is small up to this size

_global_average = functools.partial(nn.AdaptiveAvgPool2d, 1)

# prefix of a torchvision name -> modules that replace the classifier. If the classifier starts with hidden layers (VGG,
# AlexNet, MobileNetV3), the encoder ends before them: H is the number of channels of the pooled trunk.
TORCHVISION_HEADS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "alexnet": {"avgpool": _global_average, "classifier": nn.Identity},
    "convnext": {"classifier.2": nn.Identity},
    "densenet": {"classifier": nn.Identity},
    "efficientnet": {"classifier": nn.Identity},
    "mnasnet": {"classifier": nn.Identity},
    "mobilenet": {"classifier": nn.Identity},
    "regnet": {"fc": nn.Identity},
    "resnet": {"fc": nn.Identity},
    "resnext": {"fc": nn.Identity},
    "shufflenet": {"fc": nn.Identity},
    "squeezenet": {"classifier": _global_average},
    "swin": {"head": nn.Identity},
    "vgg": {"avgpool": _global_average, "classifier": nn.Identity},
    "vit": {"heads": nn.Identity},
    "wide_resnet": {"fc": nn.Identity},
}
TORCHVISION_RESNETS = ("resnet", "resnext", "wide_resnet")


def torchvision_names() -> list[str]:
    """Image classifiers of torchvision."""
    import torchvision  # takes a second and a half, which runs with other networks should not spend

    return torchvision.models.list_models(module=torchvision.models)


def timm_names() -> list[str]:
    """Architectures of timm, without pretraining tags."""
    import timm  # takes half a second, which runs with other networks should not spend

    return timm.list_models()


def is_timm_name(model: str) -> bool:
    """Whether timm has this architecture; a tag of pretrained weights (resnet18.a1_in1k) may follow it.

    False for a source such as hf-hub:OWNER/NAME or local-dir:FOLDER, which would download or read untrusted files.
    """
    import timm

    return timm.is_model(model)


def is_published_by_timm(model: str) -> bool:
    """Whether timm publishes weights of this name; with a tag (resnet18.a1_in1k), those of that tag."""
    from timm.models import is_model_pretrained

    return is_model_pretrained(model)


def torchvision_head(model: str) -> dict[str, Callable[[], nn.Module]] | None:
    """The modules that replace the classifier; None if the head is not supported (several outputs, for example)."""
    return next((head for prefix, head in TORCHVISION_HEADS.items() if model.startswith(prefix)), None)


def is_resnet(library: Library, model: str) -> bool:
    """Whether the network begins with the ResNet stem, which can be replaced by the small one."""
    if library == "torchvision":
        return model.startswith(TORCHVISION_RESNETS)
    import timm

    return model.split(".")[0] in timm.list_models(module="resnet")


def has_small_stem(library: Library, model: str, size: int, stem: Stem) -> bool:
    """Whether a network of this name and size is built with the small stem."""
    return stem != "standard" and (stem == "small" or size <= SMALL_STEM_UP_TO) and is_resnet(library, model)


def stems(library: Library | None, model: str, size: int, first: Stem) -> tuple[Stem, ...]:
    """The stems that a network of this name can have: `first`, and for a ResNet then the other one."""
    if library is None or not is_resnet(library, model):
        return (first,)
    return first, "standard" if has_small_stem(library, model, size, first) else "small"


def arguments(library: Library, model: str, size: int, channels: int = 3) -> dict[str, Any]:
    """Keyword arguments of the library's factory for a network of this image size and number of channels."""
    if library == "torchvision":
        return {"image_size": size} if model.startswith("vit") else {}
    import timm

    published = timm.get_pretrained_cfg(model)
    fixed = published is not None and published.fixed_input_size
    given: dict[str, Any] = {"num_classes": 0, "img_size": size} if fixed else {"num_classes": 0}
    return given if channels == 3 else given | {"in_chans": channels}


def designed_size(library: Library, model: str) -> int:
    """Side in pixels of the images the architecture was published for."""
    if library == "torchvision":
        return 224
    import timm

    published = timm.get_pretrained_cfg(model)
    return published.input_size[-1] if published is not None else 224


class Traits(NamedTuple):
    """What matters about a network's image sizes."""

    patch: int
    """Side of the patches that the first convolution cuts, in pixels; 1 if it does not. It drops what is left over."""
    resizes: bool
    """Whether timm can interpolate its position embeddings to another size in the forward pass."""


@functools.cache
def traits(library: Library, model: str) -> Traits:
    """Read from the network at its published size, without allocating it."""
    with torch.device("meta"):
        network = create(library, model, designed_size(library, model))
    convolutions = (m for m in network.modules() if isinstance(m, nn.Conv2d))
    first = next(convolutions, None)
    cuts = first is not None and first.kernel_size == first.stride and first.padding in ((0, 0), 0, "valid")
    # an attribute of timm's vision transformers and no others
    return Traits(first.stride[0] if first is not None and cuts else 1, hasattr(network, "dynamic_img_size"))


def nearest_filter(interpolation: str) -> Literal["bilinear", "bicubic"]:
    """Of the filters that images are resized with here, the one nearest to a filter of timm."""
    return "bilinear" if interpolation in ("bilinear", "nearest", "random", "box") else "bicubic"


def pooling(model: str) -> str | None:
    """How a network of timm makes one vector of an image by default ("avg", "token"), where it says so."""
    with torch.device("meta"):
        network: Any = create("timm", model, designed_size("timm", model))
    found = getattr(network, "global_pool", None)  # text in transformers, a module in conv nets
    found = getattr(found, "pool_type", found)
    return found if isinstance(found, str) else None


def create(library: Library, model: str, size: int, *, resizes: bool = False, channels: int = 3) -> nn.Module:
    """The plain network of the library for this size, randomly initialised; nothing is ever downloaded.

    `resizes`: it takes images of other sizes too, by interpolated position embeddings (`Traits.resizes`). `channels`:
    of timm's networks; torchvision's have three until `replacements` are made.
    """
    given = arguments(library, model, size, channels)
    if resizes:
        given["dynamic_img_size"] = True
    if library == "torchvision":
        import torchvision

        return torchvision.models.get_model(model, weights=None, **given)
    import timm

    return timm.create_model(model, pretrained=False, **given)


def replacements(
    library: Library, model: str, network: nn.Module, *, small_stem: bool, norm: Norm = "batch", channels: int = 3
) -> dict[str, nn.Module]:
    """Dotted name -> new module: the head of a torchvision network and its first convolution for other `channels` than
    3, the small stem (3x3, stride 1, no pooling), norms that use no other image."""
    new: dict[str, nn.Module] = {}
    if library == "torchvision":
        new |= {path: make() for path, make in (torchvision_head(model) or {}).items()}
        if channels != 3:
            path, first = first_convolution(network)
            new[path] = with_channels(first, channels)
    if small_stem:
        width = len(network.get_parameter("bn1.weight"))  # whatever kind of norm it is
        stem = nn.Conv2d(channels, width, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as in both libraries' ResNets
        new |= {"conv1": stem, "maxpool": nn.Identity()}
    return new | row_norms(f"{library}:{model}", network, norm)


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Path and module of the convolution that takes the images: the first one of the network."""
    return next((name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d))


def with_channels(old: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A convolution like this one for so many input channels.

    Its weights are normal, their deviation that of the published initialisation times sqrt(3 / channels): what comes
    out of it is on the same scale.
    """
    kind = {name: vars(old)[name] for name in ("kernel_size", "stride", "padding", "dilation")}
    new = nn.Conv2d(channels, old.out_channels, **kind, bias=old.bias is not None)
    nn.init.normal_(new.weight, std=float(old.weight.detach().std()) * (3 / channels) ** 0.5)
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    return new


def replacement_code(library: Library, model: str, encoder: nn.Module, *, small_stem: bool) -> list[str]:
    """Lines of Python that replace the same modules in the library's `model` as were replaced in `encoder`."""
    paths = list(torchvision_head(model) or {}) if library == "torchvision" else []
    first, convolution = first_convolution(encoder)
    paths += [first] if library == "torchvision" and convolution.in_channels != 3 and not small_stem else []
    paths += ["conv1", "maxpool"] if small_stem else []
    # group norms that the library itself uses are among them; replacing them by equal ones changes nothing
    paths += [path for path, module in encoder.named_modules() if type(module) is nn.GroupNorm]
    return [f'model.set_submodule("{path}", nn.{encoder.get_submodule(path)!r})' for path in paths]
