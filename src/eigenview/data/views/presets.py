"""The published sets of views, and what each kind of image changes about them. Free of torch so that help is quick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from eigenview.data.views.specs import ViewSpec
from eigenview.errors import UserError, hint, require

SMALL_SIDE = 64  # views up to this side take the small-image version of a preset


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named augmentation: one ViewSpec, or a pair that alternates over the views."""

    summary: str
    specs: tuple[ViewSpec, ...]


# SimCLR: Chen et al. 2020 (arXiv:2002.05709), appendix A: colour strength 1, bicubic crops, blur half of the time.
_SIMCLR = ViewSpec(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, interpolation="bicubic")
# The pair of BYOL (Grill et al. 2020, arXiv:2006.07733, table 6), used unchanged by Barlow Twins and VICReg.
_BYOL_1 = ViewSpec(saturation=0.2, blur=1.0, interpolation="bicubic")
_BYOL_2 = replace(_BYOL_1, blur=0.1, solarize=0.2)
# MoCo v2 (Chen et al. 2020, arXiv:2003.04297), taken over by SimSiam: crops from a fifth of the area.
_MOCO_V2 = ViewSpec(crop_scale=(0.2, 1.0), blur=0.5)
# Small images: SimCLR's appendix B.9 halves the colour strength and leaves the blur out; the other small versions
# leave it out too, as solo-learn's settings of the asymmetric pair for CIFAR do: 32 px have little detail to lose. (Its
# settings of SimCLR and SimSiam keep it, and SimSiam's crops go down to 0.08: simsiam-small is MoCo v2's instead.)
# Digits: a mirrored digit is another sign, and there is no colour to change. The smallest crop was chosen on 338 images
# held out of the training split: accuracy with 10 labels per class from 0.2 92.4 %, 0.4 93.5 %, 0.6 94.2 %, 0.8 93.4 %
# (means of three seeds; VICReg, 60 steps of 220, 16 px). The best three are hardly apart.
_DIGITS = ViewSpec(
    crop_scale=(0.6, 1.0),
    flip=0.0,
    saturation=0.0,
    hue=0.0,
    grayscale=0.0,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
_NOTHING = ViewSpec(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0)

PRESETS: dict[str, Preset] = {
    "simclr": Preset(summary="SimCLR: strong colour, blur half of the time", specs=(_SIMCLR,)),
    "asymmetric": Preset(
        summary="BYOL, Barlow Twins, VICReg: one view always blurred, the other solarised at times",
        specs=(_BYOL_1, _BYOL_2),
    ),
    "simsiam": Preset(summary="SimSiam and MoCo v2: larger crops, moderate colour, blur", specs=(_MOCO_V2,)),
    "simclr-small": Preset(
        summary="SimCLR up to 64 px: half the colour strength, no blur",
        specs=(ViewSpec(interpolation="bicubic"),),
    ),
    "asymmetric-small": Preset(
        summary="the asymmetric pair up to 64 px: no blur, one view solarised at times",
        specs=(replace(_BYOL_1, blur=0.0), replace(_BYOL_2, blur=0.0)),
    ),
    "simsiam-small": Preset(summary="SimSiam up to 64 px: no blur", specs=(replace(_MOCO_V2, blur=0.0),)),
    "digits": Preset(
        summary="handwritten digits: crops, brightness and contrast; no flip, no colour", specs=(_DIGITS,)
    ),
    "none": Preset(summary="resize only, nothing random", specs=(_NOTHING,)),
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of image: why its views differ, and the fields of ViewSpec in which they differ from the method's own."""

    why: str
    changes: Mapping[str, Any]


_NO_UP = {"vertical_flip": 0.5, "quarter_turn": 0.75}
_NO_COLOUR = {"saturation": 0.0, "hue": 0.0, "grayscale": 0.0, "solarize": 0.0}
KINDS: dict[str, Kind] = {
    "natural": Kind(
        why="photographs: the method's own preset for views of this size, as published",
        changes={},
    ),
    "microscopy": Kind(
        why="no up: quarter turns, both flips; colour is the stain: no hue, saturation, grayscale; magnification "
        "is fixed: larger crops that keep shapes; cameras differ: brightness, contrast, noise",
        changes=_NO_UP
        | _NO_COLOUR
        | {"crop_scale": (0.25, 1.0), "crop_ratio": (0.9, 1.1), "noise": 0.5, "noise_sigma": (0.01, 0.05)},
    ),
    "medical": Kind(
        why="X-ray, CT, MR: left is not right: no flips; patients lie askew: up to 10 degrees; findings are small: "
        "larger crops, no blur; devices differ: brightness, contrast, noise",
        changes=_NO_COLOUR
        | {
            "crop_scale": (0.3, 1.0),
            "crop_ratio": (0.9, 1.1),
            "flip": 0.0,
            "rotate": 0.5,
            "rotate_angle": 10.0,
            "blur": 0.0,
            "noise": 0.5,
            "noise_sigma": (0.01, 0.03),
        },
    ),
    "satellite": Kind(
        why="seen from above, no up: quarter turns, both flips; colour tells water from forest: hardly any hue, no "
        "grayscale; sun and haze change: brightness, contrast",
        changes=_NO_UP | {"crop_scale": (0.2, 1.0), "saturation": 0.2, "hue": 0.02, "grayscale": 0.0, "solarize": 0.0},
    ),
    "document": Kind(
        why="writing has a direction: no flips; pages lie askew: up to 3 degrees; dark on light means something: no "
        "solarisation; paper and scanner differ: brightness, contrast, noise",
        changes=_NO_COLOUR
        | {
            "crop_scale": (0.2, 1.0),
            "crop_ratio": (0.9, 1.1),
            "flip": 0.0,
            "rotate": 0.5,
            "rotate_angle": 3.0,
            "noise": 0.5,
            "noise_sigma": (0.01, 0.05),
        },
    ),
}


def require_preset(name: str) -> None:
    """Raises: UserError for a name that is neither auto, a kind of image nor a preset (the nearest is suggested)."""
    known = ("auto", *KINDS, *PRESETS)
    if name not in known:
        raise UserError(
            f"--augmentation {name}: no such preset. {hint(name, known)}Allowed: {', '.join(known)} "
            "(eigenview list augmentations)."
        )


def view_specs(preset: str, views: int, *, natural: str = "asymmetric") -> tuple[ViewSpec, ...]:
    """One ViewSpec per view. An asymmetric pair alternates: views 1, 3, 5 take the first, views 2, 4, 6 the second.

    A kind of image changes the preset `natural`, the method's own; auto is the kind natural.

    Raises: UserError for an unknown preset (the nearest name is suggested) or fewer than one view.
    """
    require_preset(preset)
    require(views >= 1, "--views", views, "1 or more")
    kind = KINDS.get("natural" if preset == "auto" else preset)
    specs = PRESETS[preset if kind is None else natural].specs
    if kind is not None:
        specs = tuple(replace(spec, **kind.changes) for spec in specs)
    return tuple(specs[i % len(specs)] for i in range(views))


def preset_for_size(preset: str, size: int) -> str:
    """The small-image version of `preset` where one exists and views are at most 64 px wide, else `preset` itself."""
    small = f"{preset}-small"
    return small if size <= SMALL_SIDE and small in PRESETS else preset
