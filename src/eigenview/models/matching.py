"""Matches the tensors of a weights file to the names of a network.

Wrappers of other programs are peeled off the names, shapes that can be adapted are adapted, and what is missing or left
over is listed. Nothing here reads a file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from eigenview.errors import UserError

Tensors = dict[str, Tensor]

PREFERRED = (
    "teacher",  # DINO, iBOT, DINOv2
    "state_dict_ema",  # timm, which takes it itself before state_dict
    "model_ema",  # ConvNeXt, torchvision
    "ema",
    "encoder_q",  # MoCo and MoCo v2
    "base_encoder",  # MoCo v3, whose linear evaluation leaves momentum_encoder out
    "online_encoder",  # BYOL keeps this one
    "target_encoder",  # I-JEPA, beside encoder
    "encoder",
    "student",
)
"""Of several networks in a checkpoint that fit equally well, the one that its authors evaluate."""
AVERAGES = ("running_mean", "running_var")
"""Last parts of the names of batch norm's averages."""
COUNTER = "num_batches_tracked"
"""Batch norm's counter of batches, which many files lack and no feature depends on."""
SHARE_NEEDED = 0.99
"""Of the network's values, those that must be in the file."""
SHOWN = 3
"""Names shown of each side where weights do not fit."""


class FirstLayerMisfit(UserError):
    """Weights that fit but for the layer that takes the images, such as a ResNet's small stem."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """What of a weights file goes into a network."""

    tensors: Tensors
    """By the network's names, in its shapes."""
    missing: tuple[str, ...]
    """Names of the network that the file lacks; they keep their initial values."""
    left_over: tuple[str, ...]
    """Names of the file that the network lacks: classifiers, projectors, other networks."""
    prefix: str
    """What was taken off the file's names."""
    adapted: tuple[str, ...]
    """What was changed, a few words each."""
    share: float
    """Of the network's values, those that the file has."""
    unusable: tuple[str, ...] = ()
    """Names of the network whose values in the file are no numbers for it, with the reason; `share` counts them."""
    first: tuple[int, ...] | None = None
    """Shape of the values that the file has for the first convolution; None: none."""
    passed_over: tuple[str, ...] = ()
    """Other networks of the file that fit too, by what would be taken off their names."""

    def sentence(self) -> str:
        """What was loaded, in one line."""
        text = f"{100 * self.share:.3g} % of the encoder's values loaded"
        text += f", names without {self.prefix!r}" if self.prefix else ""
        others = ", ".join(repr(prefix) if prefix else "the names without a prefix" for prefix in self.passed_over)
        text += f"; another network that fits was passed over: {others}" if others else ""
        for what, names in (("missing", self.missing), ("not used", self.left_over)):
            text += f"; {what}: {_listed(names)}" if names else ""
        return text + "".join(f"; {each}" for each in self.adapted)


def match(tables: Iterable[Tensors], network: nn.Module, *, where: str, averages: bool = True) -> Match:
    """The table and the prefix whose names fit the network's best.

    tables: `tables_of` a checkpoint. where: the file, for errors. averages: whether the network is going to normalise
    by the running averages of batch norm.

    Raises: UserError if less than SHARE_NEEDED of the network's values are found; it shows names of both sides. Also if
    its first convolution is not, as the rest would be of no use behind random values; if `averages` are missing; for
    values that are not finite, and for tensors that hold no values, or quantised ones. FirstLayerMisfit is the second.
    """
    expected = {name: value for name, value in network.state_dict().items() if not name.endswith(COUNTER)}
    found = [_matched(table, prefix, network, expected) for table in tables for prefix in prefixes_of(table)]
    if not found:
        raise UserError(f"{where} holds no tensors. Give a state dict, or a checkpoint that holds one.")
    best = max(found, key=_rank)
    if best.unusable:
        raise UserError(
            f"{where} has {_listed(best.unusable)}; allowed: dense tensors of floating-point numbers, or of integers "
            "where the encoder has those. Save the weights as such."
        )
    if best.share < SHARE_NEEDED:
        raise UserError(
            f"{where} does not fit the encoder: {100 * best.share:.3g} % of its values are in the file, "
            f"{100 * SHARE_NEEDED:g} % are needed. The encoder has {_listed(best.missing)}; the file has "
            f"{_listed(best.left_over)}. Name the architecture of these weights with --encoder."
        )
    first = first_layer(expected)
    if first in best.missing:
        raise FirstLayerMisfit(_first_misfit(where, first, best.first, tuple(expected[first].shape)))
    lacking = lacks_averages(network, best.tensors)
    if averages and lacking:
        raise UserError(
            f"{where} lacks averages of batch norm: {_listed(lacking)}. Without them the encoder would normalise by "
            "mean 0 and variance 1. Give a whole state dict, not the parameters alone; or train with --batch-norm "
            "follow, which takes the averages from the images."
        )
    broken = [name for name, value in best.tensors.items() if not value.isfinite().all()]
    if broken:
        raise UserError(f"{where} has values that are not finite (nan or inf) in {_listed(broken)}. Take another file.")
    others = [each for each in found if each.share >= SHARE_NEEDED and not each.unusable and _differ(each, best)]
    return replace(best, passed_over=tuple(each.prefix for each in others))


def lacks_averages(network: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the network's averages of batch norm that are not among `tensors`."""
    return [name for name in network.state_dict() if name.endswith(AVERAGES) and name not in tensors]


def _differ(one: Match, other: Match) -> bool:
    """Whether they give the network other values: otherwise they are the same tensors under another prefix."""
    return any(not torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors.keys() & other.tensors)


def _first_misfit(where: str, name: str, given: tuple[int, ...] | None, expected: tuple[int, ...]) -> str:
    """Why the values of the first convolution cannot be used, in a sentence, and what to do."""
    if given is None or len(given) != 4:
        return f"{where} has no values for the encoder's first layer, {name}."
    ours, theirs = (f"{s[0]} kernels of {s[2]} x {s[3]} px for {s[1]} channels" for s in (expected, given))
    text = f"{where} has another first layer, {name}: {theirs}; the encoder's: {ours}."
    if given[1] != expected[1] and given[1] not in (1, 3):
        return f"{text} Only weights for 1 or 3 channels can be changed to others. Use --channels {given[1]}."
    return f"{text} A kernel is never made larger." if given[2] < expected[2] or given[3] < expected[3] else text


def first_layer(expected: Mapping[str, Tensor]) -> str | None:
    """Name of the first convolution, which takes the images."""
    return next((name for name, value in expected.items() if value.ndim == 4), None)


def _rank(found: Match) -> tuple[float, bool, int, int]:
    """More values first, then values that can be used, then the preferred network, then the shorter prefix."""
    places = [k for k, name in enumerate(PREFERRED) if name in found.prefix.split(".")]
    return round(found.share, 6), not found.unusable, -min(places, default=len(PREFERRED)), -len(found.prefix)


def tables_of(content: Any, most_depth: int = 4) -> list[Tensors]:
    """Every dict of tensors in a checkpoint; the dicts around it become part of its names: teacher.backbone.NAME."""
    found: list[Tensors] = []

    def visit(value: Mapping[Any, Any], prefix: str, depth: int) -> None:
        tensors = {f"{prefix}{name}": each for name, each in value.items() if isinstance(each, Tensor)}
        if tensors:
            found.append(tensors)
        for name, each in value.items():
            if isinstance(name, str) and isinstance(each, Mapping) and depth < most_depth:
                visit(each, f"{prefix}{name}.", depth + 1)

    if isinstance(content, Mapping):
        visit(content, "", 0)
    return found


def prefixes_of(names: Iterable[str], most_parts: int = 5) -> list[str]:
    """Every beginning `a.`, `a.b.` of the names, and the empty one."""
    found = {""}
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[:k]) + "." for k in range(1, min(len(parts), most_parts + 1))}
    return sorted(found)


def _matched(table: Tensors, prefix: str, network: nn.Module, expected: Tensors) -> Match:
    given = {name.removeprefix(prefix): value for name, value in table.items() if name.startswith(prefix)}
    as_saved, given = given, by_library(given, network)
    tensors: Tensors = {}
    unusable: dict[str, str] = {}
    adapted: dict[str, None] = {}
    for name, value in given.items():  # timm resizes them without a word
        before = as_saved.get(name)
        if before is None or before.ndim != value.ndim or before.shape == value.shape:
            continue
        if value.ndim == 3:
            adapted[f"position embeddings from {before.shape[1]} to {value.shape[1]} tokens"] = None
        if value.ndim == 4:
            adapted[f"{name} from {before.shape[2]} to {value.shape[2]} px"] = None
    if not set(given) & set(expected) and (ordered := in_order(given, expected)) is not None:
        given = ordered
        adapted["by their order and shapes, because the names are numbers of modules"] = None
    first = first_layer(expected)
    for name, value in expected.items():
        if name in given:
            unusable |= {name: why} if (why := _why_unusable(given[name], value)) else {}
        if name in given and name not in unusable:
            fitted, change = fitted_to(given[name], value, is_first=name == first)
            if fitted is not None:
                tensors[name] = fitted
                adapted |= {change: None} if change else {}
    total = sum(value.numel() for value in expected.values())
    values = sum(value.numel() for name, value in expected.items() if name in tensors or name in unusable)
    return Match(
        tensors=tensors,
        missing=tuple(name for name in expected if name not in tensors),
        left_over=tuple(name for name in given if name not in tensors and not name.endswith(COUNTER)),
        prefix=prefix,
        adapted=tuple(adapted),
        share=values / total,
        unusable=tuple(f"{name} {why}" for name, why in unusable.items()),
        first=tuple(given[first].shape) if first in given else None,
    )


def in_order(given: Tensors, expected: Tensors) -> Tensors | None:
    """`given` under the names of `expected`, if names begin with numbers and all shapes agree one after another: a
    network that was cut into a sequence of its children, as lightly saves it. None otherwise."""
    values = {name: value for name, value in given.items() if not name.endswith(COUNTER)}
    if not values or not all(name.split(".")[0].isdigit() for name in values):
        return None
    shapes = [value.shape for value in expected.values()]
    if [value.shape for value in values.values()][: len(shapes)] != shapes:
        return None
    return dict(zip([*expected, *list(values)[len(expected) :]], values.values(), strict=True))


def by_library(given: Tensors, network: nn.Module) -> Tensors:
    """`given` as timm itself converts it for its own networks: other programs' names, position embeddings' sizes."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None or not type(network).__module__.startswith("timm."):
        return given
    try:
        return {name: value for name, value in convert(dict(given), network).items() if isinstance(value, Tensor)}
    except (KeyError, AttributeError, RuntimeError, ValueError, TypeError, IndexError):
        return given  # names of another architecture: what fits is counted afterwards


def _why_unusable(given: Tensor, expected: Tensor) -> str:
    """Why the values of a tensor are none that the network can have, a few words; empty if they are."""
    if given.is_meta:
        return "without values (on the device meta)"
    if given.layout != torch.strided:
        return f"as a sparse tensor ({given.layout})"
    is_same = given.is_floating_point() == expected.is_floating_point() and not given.is_complex()
    return "" if is_same and not given.is_quantized else f"as {given.dtype}"


def fitted_to(given: Tensor, expected: Tensor, *, is_first: bool) -> tuple[Tensor | None, str]:
    """A tensor in the expected shape with a few words on the change, or None where the shapes cannot be adapted."""
    if given.shape == expected.shape:
        return given.to(expected.dtype), ""
    if is_first and given.ndim == expected.ndim == 4 and given.shape[0] == expected.shape[0]:
        return _first_layer(given, expected)
    if given.ndim == expected.ndim == 3 and given.shape[::2] == expected.shape[::2] and len(given) == 1:
        return _positions(given, expected)
    return None, ""


def _first_layer(given: Tensor, expected: Tensor) -> tuple[Tensor | None, str]:
    """Other channels by timm's rule (summed for one, repeated and scaled for more), a smaller kernel by resizing.

    None for a larger kernel: a ResNet's small stem in its standard one would give features that nobody has trained. And
    None for channels that are neither one nor three, which would be left out or repeated whatever they show.
    """
    from timm.models import adapt_input_conv

    changes = []
    before, channels, kernel = given.shape[1], expected.shape[1], tuple(expected.shape[2:])
    if given.shape[2] < kernel[0] or given.shape[3] < kernel[1]:
        return None, ""
    if before != channels:
        if before not in (1, 3):
            return None, ""
        changes.append(f"first layer from {before} to {channels} channels")
        given = adapt_input_conv(channels, given) if before == 3 else given.float().repeat(1, channels, 1, 1) / channels
    if tuple(given.shape[2:]) != kernel:
        changes.append(f"first layer's kernel from {given.shape[2]} to {kernel[0]} px")
        area = kernel[0] * kernel[1]
        resized = functional.interpolate(given.float(), kernel, mode="bilinear", antialias=True)
        resized *= given.shape[2] * given.shape[3] / area
        # the response to a constant image stays as it was, to the last digit
        given = resized + (given.sum((2, 3), keepdim=True) - resized.sum((2, 3), keepdim=True)) / area
    return given.to(expected.dtype), " and ".join(changes)


def _positions(given: Tensor, expected: Tensor) -> tuple[Tensor | None, str]:
    """Position embeddings (1 tokens width) of a square grid, with or without a class token, for another grid."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    old, new = given.shape[1], expected.shape[1]
    for prefix in (0, 1):
        sides = [round((tokens - prefix) ** 0.5) for tokens in (old, new)]
        if all(side > 0 and side * side + prefix == tokens for side, tokens in zip(sides, (old, new), strict=True)):
            resized = resample_abs_pos_embed(given, [sides[1]] * 2, [sides[0]] * 2, num_prefix_tokens=prefix)
            return resized.to(expected.dtype), f"position embeddings from {old} to {new} tokens"
    return None, ""


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "") or "nothing"
