"""The section `augment` of a run's configuration: what is changed about the preset's views. Free of torch.

The sentence below each field is its help text on the command line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from tyro.constructors import PrimitiveConstructorSpec

from eigenview.config.types import check_types
from eigenview.data.views.own import name_of
from eigenview.data.views.specs import IMAGENET_MEAN, IMAGENET_STD, ViewSpec
from eigenview.errors import require

RANGES = ("crop_scale", "crop_ratio", "blur_sigma", "noise_sigma", "erase_scale", "erase_ratio")
FOR_ALL_VIEWS = ("mean", "std")
Filter: TypeAlias = Literal["bilinear", "bicubic"]
Pair: TypeAlias = tuple[float, float]


def _option(one: Callable[[str], Any], metavar: str, *, is_list: bool = False) -> Any:
    """How the command line reads and shows a field: None, a value, or one a view with commas between them."""

    def read(args: list[str]) -> Any:
        if args == ["None"]:
            return None
        values = tuple(one(part) for part in args[0].split(","))
        return values[0] if len(values) == 1 and not is_list else values

    def shown(value: Any) -> str:
        return ":".join(map(shown, value)) if isinstance(value, tuple) else str(value)

    def show(value: Any) -> list[str]:
        is_one = not isinstance(value, tuple) or (one is _pair and not isinstance(next(iter(value)), tuple))
        return [shown(value) if is_one else ",".join(map(shown, value))]

    return PrimitiveConstructorSpec(
        nargs=1, metavar=metavar, instance_from_str=read, is_instance=lambda value: True, str_from_instance=show
    )


def _pair(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(":"))


Number: TypeAlias = Annotated[float | tuple[float, ...] | None, _option(float, "X[,X...]")]
Range: TypeAlias = Annotated[Pair | tuple[Pair, ...] | None, _option(_pair, "LOW:HIGH[,LOW:HIGH...]")]
Width: TypeAlias = Annotated[int | tuple[int, ...] | None, _option(int, "N[,N...]")]
Filters: TypeAlias = Annotated[Filter | tuple[Filter, ...] | None, _option(str, "NAME[,NAME...]")]
Function: TypeAlias = Callable[..., Any] | str
Functions: TypeAlias = Annotated[Function | tuple[Function, ...] | None, _option(str, "MODULE:FUNCTION[,...]")]
Channels: TypeAlias = Annotated[tuple[float, ...] | None, _option(float, "X,X,X", is_list=True)]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Changes to the preset that --augmentation names, in the order in which a view is made. One value is for
    all views. Several with commas between them are for view 1, view 2 and so on; views beyond the last value take them
    again from the first, and local crops take them as the views do. None: as the preset has it."""

    crop_scale: Range = None
    """Smallest and largest share of the image's area that a crop covers; of local crops: --local-scale."""
    crop_ratio: Range = None
    """Smallest and largest width / height of a crop."""
    interpolation: Filters = None
    """bilinear or bicubic: the filter with which a crop is resized."""
    flip: Number = None
    """Probability of a horizontal flip."""
    vertical_flip: Number = None
    """Probability of a vertical flip."""
    quarter_turn: Number = None
    """Probability of a turn by 90, 180 or 270 degrees; 0.75 makes all four directions equally likely."""
    rotate: Number = None
    """Probability of a rotation by any angle; the corners show the image reflected at its border."""
    rotate_angle: Number = None
    """Largest angle of that rotation, to either side, in degrees: 0 to 180."""
    jitter: Number = None
    """Probability of the colour jitter: brightness, contrast, saturation and hue in a drawn order."""
    brightness: Number = None
    """Largest change of brightness b: the factor is uniform on [max(0, 1 - b), 1 + b]."""
    contrast: Number = None
    """Largest change of contrast, as for brightness."""
    saturation: Number = None
    """Largest change of saturation, as for brightness; only with three channels, as hue and grayscale."""
    hue: Number = None
    """Largest shift of hue, in turns of the colour circle: 0 to 0.5."""
    grayscale: Number = None
    """Probability of turning the image gray."""
    blur: Number = None
    """Probability of a Gaussian blur."""
    blur_sigma: Range = None
    """Smallest and largest standard deviation of the blur, in pixels of the view."""
    blur_kernel: Width = None
    """Odd width of the blur's kernel in pixels."""
    solarize: Number = None
    """Probability of solarisation, which inverts pixel values from --augment.solarize-threshold up."""
    solarize_threshold: Number = None
    """Between 0 and 1."""
    noise: Number = None
    """Probability of Gaussian noise."""
    noise_sigma: Range = None
    """Smallest and largest standard deviation of the noise, of pixel values between 0 and 1."""
    own: Functions = None
    """A transform of one's own after these, MODULE:FUNCTION: (views (n C S S) in [0, 1], generator) -> such views. It
    is the only one with --augmentation none."""
    mean: Channels = None
    """Subtracted from each channel, of all views and wherever the encoder is used."""
    std: Channels = None
    """Each channel is divided by these after that."""
    erase: Number = None
    """Probability that a rectangle of the normalised view becomes 0."""
    erase_scale: Range = None
    """Smallest and largest share of the view's area that the rectangle covers."""
    erase_ratio: Range = None
    """Smallest and largest height / width of the rectangle."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _as_text(_as_tuples(getattr(self, field.name))))
        check_types(self, "augment.")
        for name in (field.name for field in dataclasses.fields(self) if field.name not in FOR_ALL_VIEWS):
            for value in self._per_view(name):
                ViewSpec(**{name: value})  # raises if the value is not allowed
        ViewSpec(mean=self.mean or IMAGENET_MEAN, std=self.std or IMAGENET_STD)

    def _per_view(self, name: str) -> tuple[Any, ...]:
        """The values of a field, one a view; () if it is not set."""
        value = getattr(self, name)
        if value is None:
            return ()
        is_one = not isinstance(value, tuple) or (name in RANGES and not isinstance(value[0], tuple))
        return (value,) if is_one or name in FOR_ALL_VIEWS else value

    def changes(self, view: int) -> dict[str, Any]:
        """The fields of ViewSpec that are set, and their values for one view, counted from 0."""
        values = {field.name: self._per_view(field.name) for field in dataclasses.fields(self)}
        return {name: each[view % len(each)] for name, each in values.items() if each}

    def transforms(self) -> tuple[str, ...]:
        """The transforms of one's own, as MODULE:FUNCTION, each once."""
        return tuple(dict.fromkeys(self._per_view("own")))

    def require_views(self, views: int) -> None:
        """Raises: UserError for a field with more values than there are views."""
        for field in dataclasses.fields(self):
            count = len(self._per_view(field.name))
            allowed = f"one value for all views, or up to {views} (--views {views}) with commas between them"
            require(count <= views, f"augment.{field.name}", getattr(self, field.name), allowed)


def _as_tuples(value: Any) -> Any:
    """Lists, which JSON has in place of tuples, as tuples."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _as_text(value: Any) -> Any:
    """Functions as MODULE:FUNCTION."""
    if isinstance(value, tuple):
        return tuple(map(_as_text, value))
    return name_of(value) if callable(value) else value
