"""Encoders by name: our small conv nets, and every suitable network of timm and torchvision, without weights."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eigenview.errors import UserError, nearest, require
from eigenview.models import libraries
from eigenview.models.cpu_convolutions import prepare_for_cpu
from eigenview.models.libraries import Library, Stem
from eigenview.models.norms import Norm, row_norms
from eigenview.models.small import conv_medium, conv_small, conv_tiny


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One row of `eigenview list encoders`; a field is None if it depends on the size, or needs the built network."""

    name: str
    width: int | None
    """Representation width H."""
    parameters: int | None
    minimum_size: int | None
    """Side in pixels of the smallest images it takes."""
    note: str


# name -> constructor, H, smallest side that leaves at least one pixel after the last pooling, intended use
OWN: dict[str, tuple[Callable[[int], nn.Module], int, int, str]] = {
    "conv-tiny": (conv_tiny, 128, 4, "images of about 16 px; about 0.4 s an epoch of digits on two CPU cores"),
    "conv-small": (
        conv_small,
        128,
        9,
        "images of 16 to 64 px; about 50 s an epoch of CIFAR-10 at 24 px on two CPU cores",
    ),
    "conv-medium": (
        conv_medium,
        256,
        8,
        "images of 24 to 96 px; about 2 minutes an epoch of CIFAR-10 on two CPU cores",
    ),
}


def resolve(name: str) -> tuple[Library | None, str]:
    """The library of an encoder name (None for our own networks) and the model's name within it.

    A name without a prefix is looked up in torchvision first, then in timm.

    Raises: UserError for an unknown name, with the nearest known one.
    """
    if name in OWN:
        return None, name
    prefix, colon, model = name.partition(":")
    if colon and prefix == "torchvision":
        if model not in libraries.torchvision_names():
            raise _unknown(name, [f"torchvision:{n}" for n in libraries.torchvision_names()])
        return "torchvision", model
    if colon and prefix == "timm":
        if not libraries.is_timm_name(model):
            raise _unknown(name, [f"timm:{n}" for n in libraries.timm_names()])
        return "timm", model
    if not colon and name in libraries.torchvision_names():
        return "torchvision", name
    if not colon and libraries.is_timm_name(name):
        return "timm", name
    raise _unknown(name, [*OWN, *libraries.torchvision_names(), *libraries.timm_names()])


def canonical_name(name: str) -> str:
    """The name with its library as prefix: resnet18 -> torchvision:resnet18."""
    library, model = resolve(name)
    return f"{library}:{model}" if library else model


def build_encoder(
    name: str,
    *,
    size: int,
    stem: Stem = "auto",
    norm: Norm = "batch",
    local_size: int | None = None,
    channels: int = 3,
) -> tuple[nn.Module, int]:
    """A randomly initialised encoder, float (n channels size size) -> (n H), and H.

    **Names** - conv-tiny, conv-small, conv-medium; timm:NAME and torchvision:NAME, also bare (`resolve`). Nothing is
    downloaded. timm networks are made with `num_classes=0` and, if their input size is fixed, with `img_size=size`;
    torchvision networks lose their classifier (`libraries.TORCHVISION_HEADS`).

    **Channels** - timm networks are made with `in_chans`; of torchvision's the first convolution is replaced.

    **Stem** - small replaces a ResNet's 7x7 stride 2 convolution and max pool by one 3x3 stride 1 convolution, as usual
    on CIFAR; auto does so up to 64 px. Other architectures have no small stem; for them auto is the published stem.

    **Local size** - with local crops, a vision transformer of timm interpolates its position embeddings to their size.

    **Channels** - with other than 3, the first convolution is made for them: by timm's `in_chans`, in torchvision's
    networks and ours by an otherwise equal convolution.

    **Norms** - group and layer replace every batch norm by a norm over one image (`norms.row_norm`).

    **Initialisation** - the library's own. In particular the scale of the last batch norm in each residual block stays
    at the library's default: 0 in timm's ResNets, 1 in torchvision's.

    **Raises** - UserError for an unknown name, norms that cannot be replaced, a size the network cannot take (tried
    with two images), a network that does not return one feature vector per image, and a small stem for an architecture
    without one.
    """
    library, model = resolve(name)
    if library is None:
        make, width, minimum, _ = OWN[model]
        require(
            stem != "small", "network.stem", stem, f"auto or standard with {name}", "Only ResNets have a small stem."
        )
        require(size >= minimum, "--image-size", size, f"{minimum} px or more with {name}")
        own = make(channels)
        _replace(own, row_norms(name, own, norm))
        return own, width
    _check_supported(library, model, stem)
    try:
        resizes = local_size is not None and libraries.traits(library, model).resizes
        encoder = libraries.create(library, model, size, resizes=resizes, channels=channels)
        small_stem = libraries.has_small_stem(library, model, size, stem)
        new = libraries.replacements(library, model, encoder, small_stem=small_stem, norm=norm, channels=channels)
        _replace(encoder, new)
        prepare_for_cpu(encoder)
        features = features_of_zeros(encoder, size, channels)
    except UserError:  # a ValueError too
        raise
    except (RuntimeError, AssertionError, ValueError, TypeError, ZeroDivisionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"--image-size {size}: {library}:{model} cannot take images of {size} px ({reason}). Give another one (it "
            f"was published for {libraries.designed_size(library, model)} px), or --encoder conv-small (9 px or more)."
        ) from error
    return encoder, vector_width(features, f"{library}:{model}")


def list_encoders(pattern: str = "") -> list[Encoder]:
    """Our encoders, then a row for each library; with a pattern (timm:*vit_tiny*), every name it matches."""
    with torch.device("meta"):  # counts parameters without allocating them
        rows = [
            Encoder(name=name, width=width, parameters=count_parameters(make(3)), minimum_size=minimum, note=note)
            for name, (make, width, minimum, note) in OWN.items()
        ]
    ours = [n for n in libraries.torchvision_names() if libraries.torchvision_head(n) is not None]
    names = {"torchvision": ours, "timm": libraries.timm_names()}
    if pattern:
        full = [f"{library}:{model}" for library, models in names.items() for model in models]
        rows = [row for row in rows if fnmatch.fnmatchcase(row.name, pattern)]
        return rows + [_library_row(name, "") for name in full if fnmatch.fnmatchcase(name, pattern)]
    return rows + [
        _library_row(f"{library}:NAME", f"{len(models)} architectures, such as {library}:{example}")
        for (library, models), example in zip(names.items(), ("resnet18", "vit_small_patch16_224"), strict=True)
    ]


def _replace(network: nn.Module, modules: dict[str, nn.Module]) -> None:
    for path, module in modules.items():
        network.set_submodule(path, module)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in network.parameters())


def _library_row(name: str, note: str) -> Encoder:
    return Encoder(name=name, width=None, parameters=None, minimum_size=None, note=note)


def _unknown(name: str, known: list[str]) -> UserError:
    hint = nearest(name, known)
    return UserError(f"--encoder {name}: no such encoder. {hint + ' ' if hint else ''}(eigenview list encoders)")


def _check_supported(library: Library, model: str, stem: Stem) -> None:
    if library == "torchvision" and libraries.torchvision_head(model) is None:
        known = ", ".join(libraries.TORCHVISION_HEADS)
        raise UserError(
            f"--encoder torchvision:{model}: its classifier cannot be removed; networks of torchvision that can be "
            f"used begin with {known}. timm may have the same network (eigenview list encoders)."
        )
    if stem == "small" and not libraries.is_resnet(library, model):
        raise UserError(
            f"network.stem is 'small'; allowed: auto or standard with {library}:{model}. "
            "Only ResNets have a small stem."
        )


def patches_of(*names: str | None) -> int:
    """The side of which a view's side must be a multiple, so that these encoders see every pixel; None: no encoder."""
    sides = [libraries.traits(library, model).patch for library, model in map(resolve, filter(None, names)) if library]
    return math.lcm(*sides)


def check_patches(name: str, option: str, size: int) -> None:
    """Raises UserError if the encoder's patches do not cover images of this size; the rest would not be seen."""
    patch = patches_of(name)
    below, above = size // patch * patch, -(-size // patch) * patch
    nearest_sides = f"{below} or {above}" if below else f"{above}"
    require(
        below == size,
        option,
        size,
        f"{nearest_sides} with {name}, whose patches of {patch} px would not cover the rest",
    )


def check_local_size(name: str, encoder: nn.Module, size: int | None, channels: int = 3) -> None:
    """Raises UserError if an encoder built for one size cannot take local crops of `size` px; None: no local crops."""
    if size is None:
        return
    check_patches(name, "--local-size", size)
    try:
        features_of_zeros(encoder, size, channels)
    except (RuntimeError, AssertionError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"--local-size {size}: {name} cannot take crops of {size} px in addition to its views. Give a "
            "larger --local-size, or an encoder without a fixed input size (conv nets, ResNets, timm's ViTs)."
        ) from error


def vector_width(features: Any, name: str) -> int:
    """H of features (n H). Raises UserError if the network returned anything else."""
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise UserError(
            f"--encoder {name}: does not return one feature vector per image; choose another encoder "
            "(eigenview list encoders)."
        )
    return features.shape[1]


@torch.no_grad()
def features_of_zeros(encoder: nn.Module, size: int, channels: int = 3) -> Any:
    """Features of two black images, in evaluation mode, so that running statistics do not change."""
    encoder.eval()
    features = encoder(torch.zeros(2, channels, size, size))
    encoder.train()
    return features
