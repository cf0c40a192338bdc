"""What a view is: one `ViewSpec` per view. Free of torch so that help is quick.

An image becomes a view by, in this order: random resized crop, horizontal and vertical flip, quarter turn, rotation,
colour jitter, grayscale, Gaussian blur, solarisation, noise, the user's own transform, normalisation, erasing. Every
operation has torchvision's definition; `augment.py` applies them to whole batches. presets.py has the published sets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from eigenview.data.views.own import module_of
from eigenview.errors import require

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PROBABILITIES = (
    "flip",
    "vertical_flip",
    "quarter_turn",
    "rotate",
    "jitter",
    "grayscale",
    "blur",
    "solarize",
    "noise",
    "erase",
)
WIDEST_KERNEL = 8191  # of the widest view, 4,096 px: its border is reflected once
LARGEST = 1000.0
"""Of amounts, ratios, and deviations of blur and noise: beyond it there are only typing errors."""


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
    vertical_flip: float = 0.0
    """Probability of a vertical flip."""
    quarter_turn: float = 0.0
    """Probability of a turn by 90, 180 or 270 degrees, equally likely: 0.75 makes all four directions so."""
    rotate: float = 0.0
    """Probability of a rotation by any angle. Corners that it uncovers show the image reflected at its border."""
    rotate_angle: float = 180.0
    """Largest angle of that rotation, to either side, in degrees: 0 to 180."""
    jitter: float = 0.8
    """Probability of the colour jitter: the four operations below in an order drawn for each image."""
    brightness: float = 0.4
    """Largest change of brightness: the factor is uniform on [max(0, 1 - b), 1 + b]."""
    contrast: float = 0.4
    """Largest change of contrast about the image's mean gray, as for brightness. Images without three channels: about
    the mean of each channel."""
    saturation: float = 0.4
    """Largest change of saturation, as for brightness; a factor of 0 is gray. Needs three channels, as hue and
    grayscale."""
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
    noise: float = 0.0
    """Probability of Gaussian noise on every pixel and channel."""
    noise_sigma: tuple[float, float] = (0.01, 0.1)
    """Smallest and largest standard deviation of the noise."""
    erase: float = 0.0
    """Probability that a rectangle becomes the mean colour, which is 0 after normalisation."""
    erase_scale: tuple[float, float] = (0.02, 0.33)
    """Smallest and largest share of the view's area that the rectangle covers."""
    erase_ratio: tuple[float, float] = (0.3, 3.3)
    """Smallest and largest height / width of the rectangle, drawn uniformly in the logarithm."""
    own: str | None = None
    """MODULE:FUNCTION of a transform of one's own: (views (n C S S) in [0, 1], generator) -> views of that shape."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Subtracted from each channel. Images with another number of channels: the average of these from all of them."""
    std: tuple[float, ...] = IMAGENET_STD
    """Each channel is divided by these after that; with another number of channels all by the average."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Filter of the crop's resampling, widened when the crop is shrunk (antialias)."""

    def __post_init__(self) -> None:
        for name in (*PROBABILITIES, "solarize_threshold"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"augment.{name}", value, "between 0 and 1")
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            require(0 <= value <= LARGEST, f"augment.{name}", value, f"0 up to {LARGEST:g}")
        require(0 <= self.hue <= 0.5, "augment.hue", self.hue, "between 0 and 0.5 turns")
        require(0 <= self.rotate_angle <= 180, "augment.rotate_angle", self.rotate_angle, "between 0 and 180 degrees")
        areas, others = ("crop_scale", "erase_scale"), ("crop_ratio", "erase_ratio", "blur_sigma", "noise_sigma")
        for name, most in (*((name, 1.0) for name in areas), *((name, LARGEST) for name in others)):
            value = getattr(self, name)
            ordered = len(value) == 2 and 0 < value[0] <= value[1] <= most
            require(ordered, f"augment.{name}", value, f"two numbers, smallest first, above 0 up to {most:g}")
        kernel = self.blur_kernel
        is_odd = kernel is None or (3 <= kernel <= WIDEST_KERNEL and kernel % 2 == 1)
        require(is_odd, "augment.blur_kernel", kernel, f"odd, 3 or more, up to {WIDEST_KERNEL:,}")
        has_mean = len(self.mean) > 0 and len(self.mean) == len(self.std) and all(map(math.isfinite, self.mean))
        require(has_mean, "augment.mean", self.mean, f"finite numbers, one a channel, {len(self.std)} as std has")
        require(all(0 < s < math.inf for s in self.std), "augment.std", self.std, "above 0, one a channel")
        filters = ("bilinear", "bicubic")
        require(self.interpolation in filters, "augment.interpolation", self.interpolation, " or ".join(filters))
        if self.own is not None:
            module_of(self.own)

    def summary(self, size: int, channels: int) -> str:
        """What is done to an image of `channels` channels, in the order of the operations, for views of side `size`."""
        low, high = self.crop_scale
        parts = [f"crop {low:g} to {high:g} of the area"]
        has_colour = channels == 3
        colours = ("brightness", "contrast", *(("saturation", "hue") if has_colour else ()))
        amounts = [f"{name} {getattr(self, name):g}" for name in colours if getattr(self, name)]
        details = {
            "rotate": f"up to {self.rotate_angle:g} degrees",
            "jitter": ", ".join(amounts) or "by nothing",
            "blur": f"sigma {_range(self.blur_sigma)} px, kernel {self.kernel_width(size) if self.blur else 0} px",
            "solarize": f"from {self.solarize_threshold:g}",
            "noise": f"sigma {_range(self.noise_sigma)}",
            "erase": f"{_range(self.erase_scale)} of the area",
        }
        for name in PROBABILITIES:
            if (chance := getattr(self, name)) > 0 and (has_colour or name != "grayscale"):
                more = f" ({details[name]})" if name in details else ""
                parts.append(f"{name.replace('_', ' ')} {chance:g}{more}")
        return ", ".join(parts if self.own is None else [*parts, f"own {self.own}"])

    def kernel_width(self, size: int) -> int:
        """Width of the blur's kernel for views of side `size`; an error where reflection at the border cannot fill it.

        The default is 2 floor(size / 20) + 1: 3 at 32 px, 9 at 96 px, 23 at 224 px.
        """
        kernel = self.blur_kernel or 2 * max(1, size // 20) + 1
        widest = 2 * size - 1
        require(kernel <= widest, "augment.blur_kernel", kernel, f"at most {widest} for views of {size} px")
        return kernel


def _range(pair: tuple[float, float]) -> str:
    return f"{pair[0]:g} to {pair[1]:g}"


def per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A number for each channel: `values` if there are as many, else their average for every channel."""
    return values if len(values) == channels else (sum(values) / len(values),) * channels
