"""Batched augmentation against torchvision's PIL pipeline: processor time for each view, same operations.

    python -m benchmarks.augment [--quick] [--json FILE]

One process, one thread. torchvision works as a DataLoader worker does: a decoded PIL image in, a normalised float
tensor out, image by image. Ours takes the same images as one uint8 batch. The two take turns; every turn gives one
ratio of processor times, which other programs on the machine disturb least, and the median is reported. Before timing,
both get equal parameters and must give the same pixels up to PIL's rounding.
The third case leaves the blur out: torchvision's 23 x 23 kernel is most of its time at 224 px.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import PIL
import torch
import torchvision
from PIL.Image import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import eigenview
from eigenview.data.augment import Params, apply, augment, draw
from eigenview.data.viewspec import PRESETS, ViewSpec

SIMCLR = PRESETS["simclr"].specs[0]
GREY_LEVELS = 4.0  # mean distance allowed to PIL, which rounds after each of up to six steps and quantises hue


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    spec: ViewSpec
    source: int
    size: int
    batch: int
    required: float


CASES = (
    Case("simclr, 32 px", SIMCLR, 32, 32, 512, 8.0),
    Case("simclr, 224 px", SIMCLR, 256, 224, 32, 2.0),
    Case("simclr without blur, 224 px", replace(SIMCLR, blur=0.0), 256, 224, 32, 2.0),
)


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
    steps += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec.mean, spec.std)]
    return v2.Compose(steps)


def pil_view(image: Image, params: Params, i: int, spec: ViewSpec, size: int) -> Tensor:
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


def grey_levels_apart(case: Case, images: Tensor, pictures: list[Image]) -> float:
    """Largest mean distance of a view to PIL's, in grey levels, with equal parameters."""
    params = draw(len(images), case.spec, case.source, torch.Generator().manual_seed(1))
    ours = apply(images, params, case.spec, case.size)
    theirs = torch.stack([pil_view(p, params, i, case.spec, case.size) for i, p in enumerate(pictures)])
    scale = 255 * torch.tensor(case.spec.std)[:, None, None]
    return ((ours - theirs).abs() * scale).mean((1, 2, 3)).max().item()


def make_pictures(n: int, side: int) -> Tensor:
    """Smooth colour fields with noise, (n 3 side side) uint8: colours of every hue, as photographs have."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    noise = 0.05 * torch.randn(n, 3, side, side, generator=generator)
    return ((smooth + noise) * 255).round().clamp(0, 255).to(torch.uint8)


def measure(case: Case, rounds: int, progress: Progress) -> dict[str, object]:
    """Check one case, time it in turns, and give its line of results."""
    images = make_pictures(case.batch, case.source)
    pictures = [F.to_pil_image(x) for x in images]
    apart = grey_levels_apart(case, images, pictures)
    if apart > GREY_LEVELS:
        raise SystemExit(f"{case.name}: views differ from PIL's by {apart:.1f} grey levels; nothing was timed.")
    pipeline, generator = pil_pipeline(case.spec, case.size), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = [], []
    task = progress.add_task(case.name, total=rounds)
    augment(images, case.spec, case.size, generator)
    for _ in range(rounds):
        mark = time.process_time()
        torch.stack([pipeline(p) for p in pictures])
        middle = time.process_time()
        augment(images, case.spec, case.size, generator)
        theirs.append((middle - mark) / case.batch)
        ours.append((time.process_time() - middle) / case.batch)
        progress.advance(task)
    ratio = statistics.median(t / o for t, o in zip(theirs, ours, strict=True))
    return {
        "benchmark": "augment",
        "case": case.name,
        "ratio": round(ratio, 2),
        "required": case.required,
        "ours_us_per_image": round(statistics.median(ours) * 1e6, 1),
        "pil_us_per_image": round(statistics.median(theirs) * 1e6, 1),
        "batch": case.batch,
        "rounds": rounds,
        "grey_levels_apart": round(apart, 2),
    }


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    return {
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, 1 thread",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        "eigenview": eigenview.__version__,
    }


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 turns instead of 21")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        results = [measure(case, 5 if given.quick else 21, progress) | machine() for case in CASES]
    table = Table(
        "",
        "torchvision + PIL",
        "batched",
        "ratio",
        "required",
        title="Processor time per view in microseconds, one thread",
    )
    for r in results:
        table.add_row(
            str(r["case"]),
            f"{r['pil_us_per_image']:,}",
            f"{r['ours_us_per_image']:,}",
            f"{r['ratio']:.1f}x",
            f"{r['required']:.0f}x",
        )
    Console().print(table)
    lines = [json.dumps(r) for r in results]
    print("\n".join(lines))
    if given.json:
        given.json.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
