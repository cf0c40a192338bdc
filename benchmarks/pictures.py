"""Synthetic images to measure with: as pixels, as a file of noise, as a folder of JPEGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

CLASSES = 10


def make_pictures(count: int, side: int) -> Tensor:
    """Smooth colour fields with noise, (count 3 side side) uint8: colours of every hue, as photographs have."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    noise = 0.05 * torch.randn(count, 3, side, side, generator=generator)
    return ((smooth + noise) * 255).round().clamp(0, 255).to(torch.uint8)


def noise_file(folder: Path, count: int, side: int) -> Path:
    """An array file of noise, for work whose time does not depend on what the images show."""
    path = folder / f"noise-{count}-{side}.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8))
    return path


def jpeg_folder(folder: Path, count: int, side: int) -> Path:
    """Pictures as JPEGs of quality 75 in class folders, as CIFAR-10 (JPEG) lies on disk."""
    for number, picture in enumerate(make_pictures(count, side)):
        place = folder / f"class{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        F.to_pil_image(picture).save(place / f"{number // CLASSES:05}.jpg", quality=75)
    return folder
