"""Images that lie in no folder: from any torch Dataset to a trained encoder, and the nearest neighbours it finds.

    uv run python examples/own_dataset.py

Takes about 15 seconds on one thread. `ev.pretrain` reads files, so the images of the Dataset are written once into an
.npy file as one uint8 array. With labels, write an .npz file with `images` and `labels`, or with x_train, y_train,
x_test and y_test: the run then prints accuracies too. Training itself never reads labels.

It prints the share of nearest neighbours that show the same digit, by the trained encoder and by raw pixels, and the
neighbours of some test images. The digits lie anywhere in the picture, which is what makes it hard for raw pixels.

For images that do not fit into memory see `eigenview pack` and the tar shards of docs/images.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

import eigenview as ev


class MyImages(Dataset[tuple[Tensor, int]]):
    """A stand-in for your Dataset: grey images, float (1, 12, 12) between 0 and 1, with a label.

    Each is a digit of 8 x 8 pixels at a random place.
    """

    def __init__(self) -> None:
        pixels, self.labels = load_digits(return_X_y=True)
        self.images = torch.zeros(len(pixels), 1, 12, 12)
        places = np.random.default_rng(0).integers(0, 5, (len(pixels), 2))
        for image, digit, (top, left) in zip(self.images, pixels, places, strict=True):
            image[0, top : top + 8, left : left + 8] = torch.tensor(digit.reshape(8, 8) / 16)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        return self.images[k], int(self.labels[k])


def as_arrays(dataset: Dataset[tuple[Tensor, int]]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, C, H, W) with C 1 or 3, and labels (N,). All images must have one shape."""
    items = [dataset[k] for k in range(len(dataset))]  # type: ignore[arg-type]
    images = torch.stack([image for image, _ in items]).mul(255).round().to(torch.uint8)
    return images.numpy(), np.array([label for _, label in items])


def nearest(features: Tensor, queries: Tensor, k: int) -> Tensor:
    """Rows of the k features with the largest cosine to each query (n k)."""
    return (F.normalize(queries, dim=1) @ F.normalize(features, dim=1).T).topk(k).indices


def main() -> dict[str, float]:
    """The share of neighbours of the same class, in percent, by kind of features."""
    folder = Path(tempfile.mkdtemp(prefix="own-dataset-"))
    images, labels = as_arrays(MyImages())
    is_test = np.arange(len(images)) % 5 == 0
    np.save(folder / "mine.npy", images[~is_test])
    run = ev.pretrain(folder / "mine.npy", encoder="conv-tiny", epochs=12, out=folder / "run")

    rgb = torch.from_numpy(images).expand(-1, 3, -1, -1)  # embed takes uint8 (n, 3, S, S) of any side S
    features = {"this encoder": run.encoder.embed(rgb), "raw pixels": torch.from_numpy(images).flatten(1).float()}
    test, truth = torch.from_numpy(is_test), torch.from_numpy(labels)
    print(
        f"\nverdict: {run.verdict}\n10 nearest training images of each test image that show the same digit, in percent"
    )
    found = {}
    for name, h in features.items():
        rows = nearest(h[~test], h[test], 10)
        found[name] = 100 * (truth[~test][rows] == truth[test][:, None]).float().mean().item()
        print(f"{name:20} {found[name]:.1f}")
        for query in range(0, 30, 10):
            print(f"    a {truth[test][query]}: neighbours {truth[~test][rows[query]].tolist()}")
    print(f"the run and its report are in {folder}")
    return found


if __name__ == "__main__":
    main()
