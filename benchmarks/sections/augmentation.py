"""Augmentation: our batches against torchvision's PIL pipeline, lightly's SimCLR transform and kornia, same operations.

On a CPU: processor time of one thread, which other programs disturb least. torchvision and lightly work as a loader's
worker does (a decoded PIL image in, a normalised float tensor out, image by image); ours and kornia's take the same
images as one uint8 batch. kornia runs as an AugmentationSequential with parameters for each image, without gradient,
with torchvision's colour formulas (its ColorJitter), and in both of its cropping modes: judge by the faster one. It has
no antialias, and lightly crops bilinearly and blurs by Pillow's approximation: both do less work than ours.

On a GPU: wall time of ours and kornia's; the PIL pipelines have no place there.

Before timing: ours must equal torchvision's pipeline with equal parameters, up to PIL's rounding; and every library's
deterministic reduction (the whole image, mirrored, with fixed factors) must give our pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from experiments._lightly_loop import transform_options
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from benchmarks.contest import (
    OURS,
    Disagreement,
    Goal,
    Row,
    Section,
    Settings,
    Work,
    processor_seconds,
    ratio_rows,
    seconds,
    take_turns,
)
from benchmarks.peers import peer
from benchmarks.pictures import make_pictures
from eigenview.data.views.augment import apply, augment
from eigenview.data.views.draw import Params, draw
from eigenview.data.views.presets import PRESETS
from eigenview.data.views.specs import ViewSpec

SECTION = "augmentation"
SIMCLR = PRESETS["simclr"].specs[0]
PIL_LEVELS = 4.0  # mean distance allowed to PIL, which rounds after each of up to six steps and quantises hue
FLOAT_LEVELS = 0.5  # to kornia, whose luma is rounded otherwise (0.299, ours 0.2989)
KORNIA_MODES = ("slice", "resample")  # its two ways to crop
FACTORS, HUE, SIGMA = (1.3, 0.7, 1.4), 0.1, 1.0  # of the deterministic reductions


@dataclass(frozen=True, kw_only=True)
class Case:
    """Images of side `source` to views of side `size`, and what is asked of the ratios on two CPU cores."""

    name: str
    spec: ViewSpec
    source: int
    size: int
    batch: int
    goals: dict[str, Goal]


def cases(settings: Settings) -> list[Case]:
    """The published shapes; the last leaves the blur out: torchvision's 23 x 23 kernel is most of its time there."""
    kornia = [f"kornia, {mode}" for mode in KORNIA_MODES]
    small = {"torchvision + PIL": Goal(8, 12), "lightly": Goal(5, 10), **dict.fromkeys(kornia, Goal(2.5, 4))}
    large = {"torchvision + PIL": Goal(2, 4)}
    if settings.is_cuda:
        small = large = dict.fromkeys(kornia, Goal(10))
    many, few = settings.pick(4, 64, 512), settings.pick(2, 4, 128 if settings.is_cuda else 32)
    side = settings.pick(48, 224, 224)
    source = side * 8 // 7
    without = replace(SIMCLR, blur=0.0)
    return [
        Case(name="simclr, 32 px", spec=SIMCLR, source=32, size=32, batch=many, goals=small),
        Case(name=f"simclr, {side} px", spec=SIMCLR, source=source, size=side, batch=few, goals=large),
        Case(name=f"simclr without blur, {side} px", spec=without, source=source, size=side, batch=few, goals={}),
    ]


def pil_pipeline(spec: ViewSpec, size: int) -> Callable[[Image], Tensor]:
    """`spec` in torchvision's transforms."""
    mode = v2.InterpolationMode(spec.interpolation)
    jitter = v2.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue)
    steps = [
        v2.RandomResizedCrop(size, spec.crop_scale, spec.crop_ratio, interpolation=mode),
        v2.RandomHorizontalFlip(spec.flip),
        v2.RandomApply([jitter], spec.jitter),
        v2.RandomGrayscale(spec.grayscale),
    ]
    if spec.blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(spec.kernel_width(size), spec.blur_sigma)], spec.blur))
    if spec.solarize:
        steps.append(v2.RandomSolarize(round(255 * spec.solarize_threshold), spec.solarize))
    steps += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec.mean, spec.std)]
    return v2.Compose(steps)


def pil_view(image: Any, params: Params, i: int, spec: ViewSpec, size: int) -> Tensor:
    """One PIL image through the same steps with given parameters."""
    box = [int(getattr(params, name)[i]) for name in ("top", "left", "height", "width")]
    x = F.resized_crop(image, *box, size=[size, size], interpolation=v2.InterpolationMode(spec.interpolation))
    x = F.horizontal_flip(x) if params.flip[i] else x
    if params.jitter[i]:
        adjust = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
        factor = [*params.factors[i].tolist(), float(params.hue[i])]
        for operation in params.order[i].tolist():
            x = adjust[operation](x, factor[operation])
    x = F.rgb_to_grayscale(x, num_output_channels=3) if params.grayscale[i] else x
    if params.blur[i]:
        x = F.gaussian_blur(x, [spec.kernel_width(size)] * 2, [float(params.sigma[i])] * 2)
    return F.normalize(F.pil_to_tensor(x) / 255, list(spec.mean), list(spec.std))


def lightly_pipeline(spec: ViewSpec, size: int, settings: Settings, **fixed: float) -> Callable[[Image], Tensor] | None:
    """`spec` as lightly's SimCLR view; `fixed` overrides its arguments."""
    transforms = peer("lightly.transforms.simclr_transform", settings)
    if transforms is None:
        return None
    return transforms.SimCLRViewTransform(**transform_options(spec, size) | fixed)


def kornia_pipeline(
    spec: ViewSpec, size: int, mode: str, settings: Settings, fixed: bool = False
) -> Callable[[Tensor], Tensor] | None:
    """`spec` as kornia's AugmentationSequential, from uint8; `fixed`: nothing random (see `reduced`)."""
    k = peer("kornia.augmentation", settings)
    if k is None:
        return None
    amounts: Any = (spec.brightness, spec.contrast, spec.saturation, spec.hue)
    sigma = spec.blur_sigma
    if fixed:
        amounts, sigma = tuple((value, value) for value in (*FACTORS, HUE)), (SIGMA, SIGMA)
    kernel = spec.kernel_width(size)
    steps = [
        k.RandomResizedCrop(
            (size, size),
            scale=spec.crop_scale,
            ratio=spec.crop_ratio,
            resample=spec.interpolation.upper(),
            align_corners=False,
            cropping_mode=mode,
        ),
        k.RandomHorizontalFlip(p=spec.flip),
        k.ColorJitter(*amounts, p=spec.jitter, order=range(4) if fixed else None),
        k.RandomGrayscale(p=spec.grayscale),
    ]
    if spec.blur:
        steps.append(k.RandomGaussianBlur((kernel, kernel), sigma, p=spec.blur))
    steps.append(k.Normalize(torch.tensor(spec.mean), torch.tensor(spec.std)))
    sequence = k.AugmentationSequential(*steps, data_keys=["input"], same_on_batch=False).to(settings.device)

    @torch.no_grad()
    def views(images: Tensor) -> Tensor:
        return sequence(images.float() / 255)

    return views


def levels_apart(ours: Tensor, theirs: Tensor, spec: ViewSpec) -> float:
    """Largest mean distance of a view, in grey levels."""
    scale = 255 * torch.tensor(spec.std)[:, None, None]
    return ((ours.cpu() - theirs.cpu()).abs() * scale).mean((1, 2, 3)).max().item()


def reduced(spec: ViewSpec, *, jitter: float = 0.0, grayscale: float = 0.0, blur: float = 0.0) -> ViewSpec:
    """`spec` without randomness: the whole image, mirrored, and each other operation always or never."""
    chances = {"flip": 1.0, "jitter": jitter, "grayscale": grayscale, "blur": blur}
    return replace(spec, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), **chances)


def reduced_views(images: Tensor, spec: ViewSpec, size: int) -> Tensor:
    """Our views by a reduced spec, colours changed by FACTORS and HUE, blurred by SIGMA."""
    drawn = draw(len(images), spec, images.shape[2], torch.Generator().manual_seed(0))
    fixed = {
        "order": torch.arange(4).expand(len(images), 4),
        "factors": torch.tensor(FACTORS).expand(len(images), 3),
        "hue": torch.full((len(images),), HUE),
        "sigma": torch.full((len(images),), SIGMA),
    }
    return apply(images, replace(drawn, **fixed), spec, size)


def require_levels(what: str, apart: float, allowed: float) -> str:
    """A line with the distance of the pixels; Disagreement if it is too large."""
    message = f"{what}: {apart:.2f} grey levels apart"
    if not apart <= allowed:
        raise Disagreement(f"{message}; allowed {allowed:g}. Nothing of this section was timed.")
    return message


def check_case(case: Case, settings: Settings) -> list[str]:
    """Pixels of every contestant of a case; images stay on the CPU."""
    on_cpu = replace(settings, device=torch.device("cpu"))
    spec, size = case.spec, case.size
    count = min(case.batch, 16)
    images = make_pictures(count, case.source)
    params = draw(count, spec, case.source, torch.Generator().manual_seed(1))
    pictures = [F.to_pil_image(x) for x in images]
    theirs = torch.stack([pil_view(p, params, i, spec, size) for i, p in enumerate(pictures)])
    apart = levels_apart(apply(images, params, spec, size), theirs, spec)
    lines = [require_levels(f"{case.name}, torchvision + PIL", apart, PIL_LEVELS)]
    moved = params.mapped(lambda value: value.to(settings.device))
    by_masks = apply(images.to(settings.device), moved, spec, size, dense=True)  # as on a GPU
    lines.append(require_levels(f"{case.name}, ours by masks", levels_apart(by_masks, theirs, spec), PIL_LEVELS))

    images = make_pictures(count, size)  # no resize: the others have no bicubic antialias
    gray = reduced(spec, grayscale=1.0)
    constant = {"min_scale": 1.0, "cj_prob": 0.0, "random_gray_scale": 1.0, "gaussian_blur": 0.0, "hf_prob": 1.0}
    if (view := lightly_pipeline(gray, size, settings, **constant)) is not None:
        theirs = torch.stack([view(F.to_pil_image(x)) for x in images])
        apart = levels_apart(reduced_views(images, gray, size), theirs, spec)
        lines.append(require_levels(f"{case.name}, lightly", apart, PIL_LEVELS))
    for some in (gray, reduced(spec, jitter=1.0, blur=float(spec.blur > 0))):
        if (views := kornia_pipeline(some, size, "slice", on_cpu, fixed=True)) is not None:
            apart = levels_apart(reduced_views(images, some, size), views(images), spec)
            lines.append(require_levels(f"{case.name}, kornia", apart, FLOAT_LEVELS))
    return lines


def ways_of(case: Case, settings: Settings) -> dict[str, Work]:
    """A batch of views by each contestant."""
    images = make_pictures(case.batch, case.source).to(settings.device)
    generator = torch.Generator(device=settings.device).manual_seed(0)
    ways: dict[str, Work] = {OURS: partial(augment, images, case.spec, case.size, generator)}
    if not settings.is_cuda:
        pictures = [F.to_pil_image(x) for x in images]
        lightly = lightly_pipeline(case.spec, case.size, settings)
        one_by_one = {"torchvision + PIL": pil_pipeline(case.spec, case.size), "lightly": lightly}
        for name, view in one_by_one.items():
            if view is not None:
                ways[name] = partial(_stacked, view, pictures)
    for mode in KORNIA_MODES:
        if (views := kornia_pipeline(case.spec, case.size, mode, settings)) is not None:
            ways[f"kornia, {mode}"] = partial(views, images)
    return ways


def _stacked(view: Callable[[Image], Tensor], pictures: list[Image]) -> Tensor:
    return torch.stack([view(picture) for picture in pictures])


def check(settings: Settings) -> list[str]:
    """Pixels of all contestants of all cases."""
    return [line for case in cases(settings) for line in check_case(case, settings)]


def measure(settings: Settings) -> list[Row]:
    """Check each case, then time it, a batch a turn."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[Row] = []
    for case in cases(settings):
        check_case(case, settings)
        ways = ways_of(case, settings)
        for work in ways.values():
            work()  # warms up
        clock = partial(seconds, device=settings.device) if settings.is_cuda else processor_seconds
        times = take_turns(ways, settings.pick(1, 2, 15), clock)
        figures = {"unit": "us per view", "scale": 1e6 / case.batch, "threads": 1}
        quantity = "time" if settings.is_cuda else "processor time"
        rows += ratio_rows(SECTION, case.name, times, settings, case.goals, quantity=quantity, **figures)
    return rows


AUGMENTATION = Section(check, measure)
