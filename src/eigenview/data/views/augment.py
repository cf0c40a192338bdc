"""Views of a whole batch at once: parameters drawn for each image, then applied to all images together.

`draw` and `apply` are apart so that a test can feed the drawn parameters to torchvision, image by image. The same code
runs on CPU and GPU; the differences are `_Subset` and, for large images, `_crop`. On a GPU nothing waits for the
device: no size and no branch depends on a drawn value.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from eigenview.data.views.colour import JitterPlan, blend_, grayscale, plan_jitter, shift_hue, solarize
from eigenview.data.views.resample import blur_matrix, crop_one, resize_matrix, separable
from eigenview.data.views.specs import ViewSpec
from eigenview.errors import UserError, require

CROP_TRIES = 10  # proposals of RandomResizedCrop before it falls back to the centre
GPU_CHUNK = 1 << 26  # pixels worked on at a time on a GPU: bounds the memory of intermediate results
CPU_CHUNK = 1 << 16  # the same on a CPU: intermediate results stay in a core's cache (measured)
ONE_BY_ONE = 96  # on a CPU, crops of images or to views of at least this side are resized one by one (measured)


@dataclass(frozen=True, kw_only=True)
class Params:
    """Everything random about one view of N images. Each field has N rows; boxes are in source pixels, as floats."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # bool
    jitter: Tensor  # bool
    order: Tensor  # (N 4) operation at each place: 0 brightness, 1 contrast, 2 saturation, 3 hue
    factors: Tensor  # (N 3) of brightness, contrast, saturation
    hue: Tensor  # turns
    grayscale: Tensor  # bool
    blur: Tensor  # bool
    sigma: Tensor  # pixels of the view
    solarize: Tensor  # bool

    def rows(self, part: slice) -> Params:
        """The parameters of some of the images."""
        return Params(**{f.name: getattr(self, f.name)[part] for f in fields(self)})


def draw(n: int, spec: ViewSpec, source: int, generator: torch.Generator) -> Params:
    """Parameters of one view for `n` square images of side `source`, on the generator's device.

    Law: that of torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomApply(ColorJitter), RandomGrayscale,
    RandomApply(GaussianBlur) and RandomSolarize. A call always draws the same count of uniform numbers, whatever the
    probabilities, so that two specs that differ in one probability share everything else.
    """
    uniform = torch.rand(2 * CROP_TRIES + 16, n, device=generator.device, generator=generator)
    area, ratio, position, chance, factor, place, last = uniform.split([CROP_TRIES, CROP_TRIES, 2, 5, 4, 4, 1])
    height, width, proper = _box(area, ratio, spec, source)
    top = torch.where(proper, (position[0] * (source - height + 1)).floor(), ((source - height) / 2).floor())
    left = torch.where(proper, (position[1] * (source - width + 1)).floor(), ((source - width) / 2).floor())
    factors = [_between(u, max(0.0, 1 - v), 1 + v) for u, v in zip(factor, _amounts(spec), strict=False)]
    return Params(
        top=torch.minimum(top, source - height),  # u (m + 1) can round up to m + 1 for the largest u
        left=torch.minimum(left, source - width),
        height=height,
        width=width,
        flip=chance[0] < spec.flip,
        jitter=chance[1] < spec.jitter,
        order=place.argsort(0).T,
        factors=torch.stack(factors, 1),
        hue=_between(factor[3], -spec.hue, spec.hue),
        grayscale=chance[2] < spec.grayscale,
        blur=chance[3] < spec.blur,
        sigma=_between(last[0], *spec.blur_sigma),
        solarize=chance[4] < spec.solarize,
    )


def _amounts(spec: ViewSpec) -> tuple[float, float, float]:
    return spec.brightness, spec.contrast, spec.saturation


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _box(area: Tensor, ratio: Tensor, spec: ViewSpec, source: int) -> tuple[Tensor, Tensor, Tensor]:
    """Height, width and whether a proposal fitted: the first of the proposals (tries N) that lies inside the image.

    Where none does, torchvision takes the largest central box whose ratio is allowed: for a square image the
    whole of it, unless every allowed ratio is on one side of 1.
    """
    pixels = _between(area, *spec.crop_scale) * source**2
    shape = _between(ratio, math.log(spec.crop_ratio[0]), math.log(spec.crop_ratio[1])).exp()
    width, height = (pixels * shape).sqrt().round(), (pixels / shape).sqrt().round()
    fits = (width > 0) & (width <= source) & (height > 0) & (height <= source)
    first = fits.long().argmax(0, keepdim=True)  # ties resolve to the first
    proper = fits.any(0)
    low, high = spec.crop_ratio
    central_height = round(source / low) if low > 1 else source
    central_width = round(source * high) if high < 1 else source
    height = torch.where(proper, height.gather(0, first)[0], float(central_height))
    width = torch.where(proper, width.gather(0, first)[0], float(central_width))
    return height, width, proper


@dataclass(frozen=True)
class _Subset:
    """Apply an operation to some images of a batch, in the way of a CPU or of a GPU.

    On a CPU (`dense` false) only the chosen images are computed. On a GPU the choice would have to be read back, which
    stalls it; there all images are computed and the chosen ones kept. Results are the same, as an operation never mixes
    images.
    """

    dense: bool

    def __call__(self, chosen: Tensor, operation: Callable[..., Tensor], images: Tensor, *params: Tensor) -> Tensor:
        if self.dense:
            return torch.where(chosen[:, None, None, None], operation(images, *params), images)
        index = chosen.nonzero()[:, 0]
        if len(index) == 0:
            return images
        if len(index) == len(images):
            return operation(images, *params)
        some = operation(images.index_select(0, index), *(p.index_select(0, index) for p in params))
        return images.index_copy_(0, index, some)

    def empty(self, chosen: Tensor) -> bool:
        """Whether nothing is chosen, where that may be asked."""
        return not self.dense and not chosen.any()


@torch.no_grad()
def apply(
    images: Tensor, params: Params, spec: ViewSpec, size: int, *, dense: bool | None = None, is_compiled: bool = False
) -> Tensor:
    """The view that `params` describe: uint8 (N C S S) to float32 (N C size size), normalised, channels_last.

    `dense` overrides the choice of `_Subset`, for tests. Computed in float32, also under autocast. `is_compiled` as in
    `augment`.
    """
    _check_images(images, size, len(spec.mean))
    subset = _Subset(is_compiled or images.device.type != "cpu" if dense is None else dense)
    transform = _compiled(images.device.type) if is_compiled else transformed
    out = _empty_views(images, size)
    plan = plan_jitter(params.jitter, params.order, params.factors, params.hue)
    with torch.autocast(images.device.type, enabled=False):
        for part in _chunks(images, size):
            view = transform(images[part], params.rows(part), plan.rows(part), spec, size, subset)
            # this also copies the view out of memory that a CUDA graph will use again
            _normalise(view, spec.mean, spec.std, out[part])
    return out


def transformed(images: Tensor, params: Params, plan: JitterPlan, spec: ViewSpec, size: int, subset: _Subset) -> Tensor:
    """A chunk's view in [0, 1], before normalisation. With a dense `subset` one graph: no branch on a drawn value."""
    kernel = spec.kernel_width(size) if spec.blur > 0 else 0
    view = _recolour(_crop(images, params, spec, size, subset), params, plan, spec, subset)
    if kernel:
        view = subset(params.blur, lambda x, sigma: _blur(x, sigma, kernel), view, params.sigma)
    if spec.solarize > 0:
        view = subset(params.solarize, lambda x: solarize(x, spec.solarize_threshold), view)
    return view


@functools.cache
def _compiled(device_type: str) -> Callable[..., Tensor]:
    """`transformed` by torch.compile; on a GPU "reduce-overhead" replays it as a CUDA graph."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    mode = "default" if device_type == "cpu" else "reduce-overhead"
    compiled = torch.compile(transformed, fullgraph=True, dynamic=False, mode=mode)

    def transform(*args: Any) -> Tensor:
        try:
            return compiled(*args)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            why = str(getattr(error, "inner_exception", error)).partition("\n")[0]
            raise UserError(
                f"torch.compile could not compile the augmentation ({why}). Leave compiling out."
            ) from error

    return transform


def augment(
    images: Tensor, spec: ViewSpec, size: int, generator: torch.Generator, *, is_compiled: bool = False
) -> Tensor:
    """One random view of each image: uint8 (N C S S) to float32 (N C size size), normalised, channels_last.

    All randomness comes from `generator`, which lives on the images' device: the same state gives the same view.
    `is_compiled` takes torch.compile's version, which differs in the last digits: the first call for each kind of view
    and each number of images takes most of a minute, as long as shapes stay the same the later ones are faster.
    Raises: UserError for images that are not square uint8 with the channels of the spec's mean, a generator elsewhere,
    or a kernel too wide for `size`.
    """
    source = _check_images(images, size, len(spec.mean))
    require(generator.device.type == images.device.type, "generator.device", str(generator.device), str(images.device))
    with _one_thread(images.device):
        params = draw(len(images), spec, source, generator)
        return apply(images, params, spec, size, is_compiled=is_compiled)


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, one thread: an operation on a piece that stays in a core's cache is over before a second one is awake.

    Measured on two quiet cores, one thread against two: 8 and 16 to 25 ms for 128 views of 32 px, 34 and 33 to 83 ms
    for 16 views of 224 px; beside one other busy process two threads took seconds.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def prepare(
    images: Tensor,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    crop: float = 1.0,
    interpolation: str = "bilinear",
) -> Tensor:
    """Images as an evaluation sees them, nothing random: uint8 (N C S S) to float32 (N C size size), channels_last.

    The central square whose side is round(crop S) is resized with antialias and normalised. crop = 0.875 is what
    resizing to 256 and cutting the central 224 keeps; 1 keeps the whole image.
    """
    source = _check_images(images, size, len(mean))
    side = round(crop * source)
    require(0 < side <= source, "crop", crop, f"above 0 and at most 1, keeping at least one of {source} px")
    start = (source - side) // 2
    out = _empty_views(images, size)
    for part in _chunks(images, size):
        view = images[part, :, start : start + side, start : start + side].float().div_(255)
        if side != size:
            view = interpolate(view, size=(size, size), mode=interpolation, antialias=True).clamp_(0, 1)
        _normalise(view, mean, std, out[part])
    return out


def to_uint8(views: Tensor, spec: ViewSpec) -> Tensor:
    """Views as pictures: the normalisation undone, float (N C h w) to uint8 (N C h w), rounded."""
    channels = [views[:, c] * spec.std[c] + spec.mean[c] for c in range(views.shape[1])]
    return torch.stack(channels, 1).mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def _check_images(images: Tensor, size: int, channels: int) -> int:
    square = images.ndim == 4 and images.shape[1] == channels and images.shape[2] == images.shape[3]
    what = "RGB images" if channels == 3 else f"images of {channels} channels"
    require(square, "images.shape", tuple(images.shape), f"(N, {channels}, S, S): square {what}")
    require(images.dtype == torch.uint8, "images.dtype", str(images.dtype), "torch.uint8")
    require(size >= 2, "size", size, "2 or more")
    return images.shape[2]


def _empty_views(images: Tensor, size: int) -> Tensor:
    shape = (len(images), images.shape[1], size, size)
    return torch.empty(shape, dtype=torch.float32, device=images.device, memory_format=torch.channels_last)


def _chunks(images: Tensor, size: int) -> Iterator[slice]:
    pixels = max(size, images.shape[2]) ** 2
    step = max(1, (CPU_CHUNK if images.device.type == "cpu" else GPU_CHUNK) // pixels)
    return (slice(i, i + step) for i in range(0, len(images), step))


def _crop(images: Tensor, params: Params, spec: ViewSpec, size: int, subset: _Subset) -> Tensor:
    """Cropped, resized and flipped, in [0, 1]. A bicubic filter overshoots, hence the clamp."""
    source = images.shape[2]
    if not subset.dense and max(source, size) >= ONE_BY_ONE:
        boxes = torch.stack([params.top, params.left, params.height, params.width], 1).int().tolist()
        flips = params.flip.tolist()
        crops = [crop_one(*one, size, spec.interpolation) for one in zip(images, boxes, flips, strict=True)]
        return torch.stack(crops).div_(255).clamp_(0, 1)
    rows = resize_matrix(params.top, params.height, source, size, spec.interpolation)
    columns = resize_matrix(params.left, params.width, source, size, spec.interpolation, params.flip)
    return separable(images.float(), rows.div_(255), columns).clamp_(0, 1)


def _recolour(view: Tensor, params: Params, plan: JitterPlan, spec: ViewSpec, subset: _Subset) -> Tensor:
    if spec.jitter > 0:
        for slot in range(6):
            if slot == 3 and spec.hue > 0 and view.shape[1] == 3:
                view = subset(plan.on, shift_hue, view, plan.hue)
            if any(_amounts(spec)) and not subset.empty(plan.active[:, slot]):
                view = blend_(view, *plan.weights[:, slot].unbind(1))
    if spec.grayscale > 0 and view.shape[1] == 3:
        view = subset(params.grayscale, grayscale, view)
    return view


def _blur(view: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    band = blur_matrix(sigma, view.shape[-1], kernel)
    return separable(view, band, band)


def _normalise(view: Tensor, mean: tuple[float, ...], std: tuple[float, ...], out: Tensor) -> None:
    """Write (view - mean) / std to `out`, channel by channel: constants stay scalars, nothing is copied to a GPU."""
    for c in range(len(mean)):
        out[:, c] = view[:, c].mul(1 / std[c]).sub_(mean[c] / std[c])
