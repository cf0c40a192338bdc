"""Views of a whole batch at once: parameters drawn for each image, then applied to all images together.

`draw` (draw.py) and `apply` are apart so that a test can feed the drawn parameters to torchvision, image by image. The
same code runs on CPU and GPU; the differences are `_Subset` and, for large images, `_crop`. On a GPU nothing waits for
the device: no size and no branch depends on a drawn value.

Images have any number of channels C. Saturation, hue and grayscale need red, green and blue: with another number of
channels they are left out, and contrast changes each channel about its own mean.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from eigenview.data.views.colour import JitterPlan, add_noise, blend_, grayscale, plan_jitter, shift_hue, solarize
from eigenview.data.views.draw import Params, draw, own_generator, state_of
from eigenview.data.views.geometry import in_box, quarter_turn, rotate
from eigenview.data.views.own import load_own
from eigenview.data.views.resample import blur_matrix, crop_one, resize_matrix, separable
from eigenview.data.views.specs import ViewSpec, per_channel
from eigenview.errors import UserError, require

GPU_CHUNK = 1 << 26  # pixels worked on at a time on a GPU: bounds the memory of intermediate results
CPU_CHUNK = 1 << 16  # the same on a CPU: intermediate results stay in a core's cache (measured)
ONE_BY_ONE = 96  # on a CPU, crops of images or to views of at least this side are resized one by one (measured)


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
    images: Tensor,
    params: Params,
    spec: ViewSpec,
    size: int,
    *,
    dense: bool | None = None,
    is_compiled: bool = False,
    own: torch.Generator | None = None,
) -> Tensor:
    """The view that `params` describe: uint8 (N C S S) to float32 (N C size size), normalised, channels_last.

    `dense` overrides the choice of `_Subset`, for tests. Computed in float32, also under autocast. `is_compiled` as in
    `augment`. `own`: the generator of the user's transform, if the spec has one.
    """
    _check_images(images, size)
    subset = _Subset(is_compiled or images.device.type != "cpu" if dense is None else dense)
    transform = _compiled(images.device.type) if is_compiled else transformed
    out = _empty_views(images, size)
    plan = plan_jitter(params.jitter, params.order, params.factors, params.hue)
    with torch.autocast(images.device.type, enabled=False):
        for part in _chunks(images, size):
            view = transform(images[part], params.rows(part), plan.rows(part), spec, size, subset)
            # this also copies the view out of memory that a CUDA graph will use again
            if own is None:
                _normalise(view, spec.mean, spec.std, out[part])
            else:
                out[part] = view
        if own is not None:
            assert spec.own is not None
            _normalise(transformed_by(spec.own, out, own), spec.mean, spec.std, out)
        if params.erase is not None and params.erase_box is not None:
            out.masked_fill_(in_box(params.erase_box, size) & params.erase[:, None, None, None], 0.0)
    return out


def transformed(images: Tensor, params: Params, plan: JitterPlan, spec: ViewSpec, size: int, subset: _Subset) -> Tensor:
    """A chunk's view in [0, 1], before normalisation. With a dense `subset` one graph: no branch on a drawn value."""
    kernel = spec.kernel_width(size) if spec.blur > 0 else 0
    view = _turned(_crop(images, params, spec, size, subset), params, subset)
    view = _recolour(view, params, plan, spec, subset)
    if kernel:
        view = subset(params.blur, lambda x, sigma: _blur(x, sigma, kernel), view, params.sigma)
    if spec.solarize > 0:
        view = subset(params.solarize, lambda x: solarize(x, spec.solarize_threshold), view)
    if params.noise is not None and params.noise_sigma is not None and params.noise_field is not None:
        view = subset(params.noise, add_noise, view, params.noise_sigma, params.noise_field)
    return view


def transformed_by(name: str, views: Tensor, generator: torch.Generator) -> Tensor:
    """What the user's function MODULE:FUNCTION makes of views (n C S S) in [0, 1], checked.

    Whether all values are finite is checked on a CPU only, because a GPU would have to be waited for; there such values
    end the run when the loss is checked.
    """
    made: Any = load_own(name)(views, generator)
    is_batch = isinstance(made, Tensor) and made.shape == views.shape and made.is_floating_point()
    what = f"{tuple(made.shape)} {made.dtype}" if isinstance(made, Tensor) else type(made).__name__
    require(is_batch, f"the result of augment.own {name}", what, f"{tuple(views.shape)} {views.dtype}, as it was given")
    if made.device.type == "cpu" and not made.isfinite().all():
        image = int((~made.isfinite()).flatten(1).any(1).nonzero()[0])
        raise UserError(
            f"augment.own {name} returned values that are not finite (image {image} of {len(made)} is the first); "
            "allowed: finite numbers. Look at its divisions, logarithms and roots."
        )
    return made


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
    Raises: UserError for images that are not square and uint8, a generator elsewhere, a kernel too wide for `size`, or
    a transform of the user's that returns another shape or values that are not finite.
    """
    source = _check_images(images, size)
    require(generator.device.type == images.device.type, "generator.device", str(generator.device), str(images.device))
    with _one_thread(images.device):
        own = None if spec.own is None else own_generator(state_of(generator), "own", generator.device)
        params = draw(len(images), spec, source, generator, size=size, channels=images.shape[1])
        return apply(images, params, spec, size, is_compiled=is_compiled, own=own)


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
    source = _check_images(images, size)
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
    mean, std = (per_channel(values, views.shape[1]) for values in (spec.mean, spec.std))
    channels = [views[:, c] * std[c] + mean[c] for c in range(views.shape[1])]
    return torch.stack(channels, 1).mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def _check_images(images: Tensor, size: int) -> int:
    square = images.ndim == 4 and images.shape[1] >= 1 and images.shape[2] == images.shape[3]
    require(square, "images.shape", tuple(images.shape), "(N, C, S, S): square images of C channels")
    require(images.dtype == torch.uint8, "images.dtype", str(images.dtype), "torch.uint8")
    require(size >= 2, "size", size, "2 or more")
    return images.shape[2]


def _empty_views(images: Tensor, size: int) -> Tensor:
    shape = (*images.shape[:2], size, size)
    return torch.empty(shape, dtype=torch.float32, device=images.device, memory_format=torch.channels_last)


def _chunks(images: Tensor, size: int) -> Iterator[slice]:
    pixels = max(size, images.shape[2]) ** 2
    step = max(1, (CPU_CHUNK if images.device.type == "cpu" else GPU_CHUNK) // pixels)
    return (slice(i, i + step) for i in range(0, len(images), step))


def _crop(images: Tensor, params: Params, spec: ViewSpec, size: int, subset: _Subset) -> Tensor:
    """Cropped, resized and flipped, in [0, 1]. A bicubic filter overshoots, hence the clamp."""
    source, upside_down = images.shape[2], params.vertical_flip
    if not subset.dense and max(source, size) >= ONE_BY_ONE:
        boxes = torch.stack([params.top, params.left, params.height, params.width], 1).int().tolist()
        mirrored = params.flip.tolist()
        turned = [False] * len(mirrored) if upside_down is None else upside_down.tolist()
        flips = zip(turned, mirrored, strict=True)
        crops = [crop_one(*one, size, spec.interpolation) for one in zip(images, boxes, flips, strict=True)]
        return torch.stack(crops).div_(255).clamp_(0, 1)
    rows = resize_matrix(params.top, params.height, source, size, spec.interpolation, upside_down)
    columns = resize_matrix(params.left, params.width, source, size, spec.interpolation, params.flip)
    return separable(images.float(), rows.div_(255), columns).clamp_(0, 1)


def _turned(view: Tensor, params: Params, subset: _Subset) -> Tensor:
    if params.quarter_turns is not None:
        for turns in (1, 2, 3):
            view = subset(params.quarter_turns == turns, functools.partial(quarter_turn, turns=turns), view)
    if params.rotate is not None and params.angle is not None:
        view = subset(params.rotate, rotate, view, params.angle)
    return view


def _recolour(view: Tensor, params: Params, plan: JitterPlan, spec: ViewSpec, subset: _Subset) -> Tensor:
    has_colour = view.shape[1] == 3
    if spec.jitter > 0:
        for slot in range(6):
            if slot == 3 and spec.hue > 0 and has_colour:
                view = subset(plan.on, shift_hue, view, plan.hue)
            if any((spec.brightness, spec.contrast, spec.saturation)) and not subset.empty(plan.active[:, slot]):
                view = blend_(view, *plan.weights[:, slot].unbind(1))
    if spec.grayscale > 0 and has_colour:
        view = subset(params.grayscale, grayscale, view)
    return view


def _blur(view: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    band = blur_matrix(sigma, view.shape[-1], kernel)
    return separable(view, band, band)


def _normalise(view: Tensor, mean: tuple[float, ...], std: tuple[float, ...], out: Tensor) -> None:
    """Write (view - mean) / std to `out`, channel by channel: constants stay scalars, nothing is copied to a GPU."""
    channels = view.shape[1]
    mean, std = per_channel(mean, channels), per_channel(std, channels)
    for c in range(channels):
        out[:, c] = view[:, c].mul(1 / std[c]).sub_(mean[c] / std[c])
