"""What a view is: one `ViewSpec` per view, and the published sets of them. Free of torch so that help is quick.

An image becomes a view by, in this order: random resized crop, horizontal flip, colour jitter, grayscale, Gaussian
blur, solarisation, normalisation. Images of other than three channels have no hue, saturation or grayscale; brightness
changes all channels alike, contrast each about its own mean. Every operation has torchvision's definition; `augment.py`
applies them to whole batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from eigenview.errors import UserError, nearest, require

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SMALL_SIDE = 64  # views up to this side take the small-image version of a preset


@dataclass(frozen=True, kw_only=True)
class ViewSpec:
    """How one view is drawn from an image. Probabilities lie between 0 and 1; pixel values between 0 and 1."""

    size: int | None = None
    """Side of the view in pixels; default: the run's."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of the image's area that a crop covers."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height of a crop, drawn uniformly in the logarithm."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    jitter: float = 0.8
    """Probability of the colour jitter: the four operations below in an order drawn for each image."""
    brightness: float = 0.4
    """Largest change of brightness: the factor is uniform on [max(0, 1 - b), 1 + b]."""
    contrast: float = 0.4
    """Largest change of contrast about the image's mean gray, as for brightness."""
    saturation: float = 0.4
    """Largest change of saturation, as for brightness; a factor of 0 is gray."""
    hue: float = 0.1
    """Largest shift of hue, in turns of the colour circle: 0 to 0.5."""
    grayscale: float = 0.2
    """Probability of turning the image gray."""
    blur: float = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels of the view."""
    blur_kernel: int | None = None
    """Odd width of the blur's kernel in pixels. Default: about a tenth of the side, as SimCLR, and at least 3."""
    solarize: float = 0.0
    """Probability of solarisation."""
    solarize_threshold: float = 0.5
    """Pixel values from here up are inverted by solarisation."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Subtracted from red, green and blue, or from each of the channels of other images."""
    std: tuple[float, ...] = IMAGENET_STD
    """The channels are divided by these after that."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Filter of the crop's resampling, widened when the crop is shrunk (antialias)."""

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "grayscale", "blur", "solarize", "solarize_threshold"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"augmentation.{name}", value, "between 0 and 1")
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"augmentation.{name}", value, "0 or more")
        require(0 <= self.hue <= 0.5, "augmentation.hue", self.hue, "between 0 and 0.5 turns")
        for name, highest in (("crop_scale", 1.0), ("crop_ratio", math.inf), ("blur_sigma", math.inf)):
            value = getattr(self, name)
            ordered = len(value) == 2 and 0 < value[0] <= value[1] <= highest and math.isfinite(value[1])
            limit = "at most 1" if highest == 1 else "finite"
            require(ordered, f"augmentation.{name}", value, f"two numbers, smallest first, above 0 and {limit}")
        kernel = self.blur_kernel
        require(
            kernel is None or (kernel >= 3 and kernel % 2 == 1), "augmentation.blur_kernel", kernel, "odd, 3 or more"
        )
        count = len(self.mean)
        is_finite = 0 < count == len(self.std) and all(map(math.isfinite, self.mean))
        require(is_finite, "augmentation.mean", self.mean, f"{len(self.std)} numbers, as many as augmentation.std has")
        require(all(0 < s < math.inf for s in self.std), "augmentation.std", self.std, f"{count} above 0")
        filters = ("bilinear", "bicubic")
        require(self.interpolation in filters, "augmentation.interpolation", self.interpolation, " or ".join(filters))

    def kernel_width(self, size: int) -> int:
        """Width of the blur's kernel for views of side `size`; an error where reflection at the border cannot fill it.

        The default is 2 floor(size / 20) + 1: 3 at 32 px, 9 at 96 px, 23 at 224 px.
        """
        kernel = self.blur_kernel or 2 * max(1, size // 20) + 1
        widest = 2 * size - 1
        require(kernel <= widest, "augmentation.blur_kernel", kernel, f"at most {widest} for views of {size} px")
        return kernel


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


def view_specs(preset: str, views: int) -> tuple[ViewSpec, ...]:
    """One ViewSpec per view. An asymmetric pair alternates: views 1, 3, 5 take the first, views 2, 4, 6 the second.

    Raises: UserError for an unknown preset (the nearest name is suggested) or fewer than one view.
    """
    if preset not in PRESETS:
        hint = nearest(preset, PRESETS)
        raise UserError(
            f"--augmentation {preset}: no such preset. {hint} Allowed: {', '.join(PRESETS)}.".replace("  ", " ")
        )
    require(views >= 1, "--views", views, "1 or more")
    specs = PRESETS[preset].specs
    return tuple(specs[i % len(specs)] for i in range(views))


def local_specs(preset: str, count: int, size: int, scale: tuple[float, float]) -> tuple[ViewSpec, ...]:
    """Small crops beside the views of a preset: its operations on `scale` of the area, at their own size."""
    return tuple(replace(spec, size=size, crop_scale=scale) for spec in view_specs(preset, count)) if count else ()


def preset_for_size(preset: str, size: int) -> str:
    """The small-image version of `preset` where one exists and views are at most 64 px wide, else `preset` itself."""
    small = f"{preset}-small"
    return small if size <= SMALL_SIDE and small in PRESETS else preset
