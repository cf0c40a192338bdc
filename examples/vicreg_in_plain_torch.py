"""VICReg in a training loop of your own: your network, your views, your optimiser, and one loss of eigenview.

    uv run python examples/vicreg_in_plain_torch.py

Takes about 10 seconds on one thread. It trains on half of scikit-learn's handwritten digits, without their labels, and
prints the loss while it falls. Then it prints the k-NN accuracy of three kinds of features on the other half: raw
pixels, the untrained encoder, and the trained one.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn import functional as F

import eigenview as ev

EPOCHS, BATCH = 20, 128
LABELLED = 100
"""Labels that k-NN may use: with all of them raw pixels of digits leave little to gain."""


def augment(images: Tensor) -> Tensor:
    """A random view of each image (n 1 S S): turned, scaled and shifted a little, with noise."""
    n = len(images)
    angle = torch.empty(n).uniform_(-0.3, 0.3)
    scale = torch.empty(n).uniform_(0.8, 1.2)
    rows = torch.zeros(n, 2, 3)
    rows[:, 0, 0] = rows[:, 1, 1] = scale * angle.cos()
    rows[:, 0, 1], rows[:, 1, 0] = -scale * angle.sin(), scale * angle.sin()
    rows[:, :, 2] = torch.empty(n, 2).uniform_(-0.25, 0.25)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    views = F.grid_sample(images, grid, align_corners=False)
    return views + 0.1 * torch.randn_like(views)


def conv(channels: int, filters: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU()]


def knn(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> float:
    """Accuracy in percent of the five nearest neighbours by cosine."""
    neighbours = KNeighborsClassifier(5, metric="cosine", weights="distance").fit(train.numpy(), labels.numpy())
    return 100 * neighbours.score(test.numpy(), truth.numpy())


def main() -> dict[str, float]:
    """Train, print, and return the accuracies by kind of features."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    halves = train_test_split(images, labels, test_size=0.5, stratify=labels, random_state=0)
    train, test = (torch.tensor(half, dtype=torch.float32).view(-1, 1, 8, 8) / 16 for half in halves[:2])
    train_labels, test_labels = (torch.tensor(half) for half in halves[2:])

    encoder = nn.Sequential(*conv(1, 16), *conv(16, 32), nn.MaxPool2d(2), *conv(32, 64), nn.Flatten(), nn.AvgPool1d(4))
    width = encoder(train[:2]).shape[1]
    projector = nn.Sequential(nn.Linear(width, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 256))

    def accuracy(features: nn.Module) -> float:
        features.eval()
        with torch.no_grad():
            h, h_test = features(train).flatten(1), features(test).flatten(1)
        features.train()
        return knn(h[:LABELLED], train_labels[:LABELLED], h_test, test_labels)

    found = {"raw pixels": accuracy(nn.Identity()), "untrained encoder": accuracy(encoder)}

    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    objective = ev.VICReg()
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(train)).split(BATCH)[:-1]:  # the last batch is smaller
            z1, z2 = (projector(encoder(augment(train[rows]))) for _ in range(2))
            loss = objective(z1, z2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 5 == 0 or epoch == EPOCHS - 1:
            print(f"epoch {epoch + 1:3}   loss {loss.item():.2f}")

    found["this encoder"] = accuracy(encoder)
    print(f"k-NN accuracy in percent, {LABELLED} labels, {len(test)} test images")
    for name, percent in found.items():
        print(f"{name:20} {percent:.1f}")
    return found


if __name__ == "__main__":
    main()
