"""Three small conv nets that pretrain on two CPU cores, all fully convolutional with a global max pool at the end.

They take images of any number of channels.

Stages with a pooling pool before they normalise, so that normalisation and activation, which take most of the time of a
small net on a CPU, process a quarter of the pixels. Convolutions followed by a batch norm have no bias.
"""

from __future__ import annotations

from torch import Tensor, nn


class GlobalMaxPool(nn.Module):
    """(n c height width) -> (n c), the largest value of each channel.

    Written as a reduction: the backward pass of PyTorch's adaptive pooling is not deterministic on a GPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=(2, 3))


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, f: nn.Module) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def conv_norm_relu(width_in: int, width_out: int) -> nn.Sequential:
    """3x3 convolution that keeps the image size, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, padding=1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU(inplace=True)
    )


def pooled_stage(width_in: int, width_out: int) -> nn.Sequential:
    """Two 3x3 convolutions; max pooling halves the image directly after the first one."""
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(width_out),
        nn.GELU(),
        nn.Conv2d(width_out, width_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.GELU(),
    )


def conv_tiny(channels: int = 3) -> nn.Sequential:
    """Three convolutions of widths 32, 64, 128 with two poolings between them: H = 128, for images of 4 px or more.

    For images of about 16 px (digits): 2.6 million multiplications per image there.
    """
    return nn.Sequential(
        conv_norm_relu(channels, 32),
        nn.MaxPool2d(2),
        conv_norm_relu(32, 64),
        nn.MaxPool2d(2),
        conv_norm_relu(64, 128),
        GlobalMaxPool(),
    )


def conv_small(channels: int = 3) -> nn.Sequential:
    """A 2x2 convolution to 24 channels and three pooled stages of widths 32, 128, 128: H = 128, for 9 px or more.

    The architecture of fast training on CIFAR-10 (K. Jordan, arXiv 2404.00498), narrower for a CPU. The
    unpadded stem turns 32 px into 31, so that the stages work on 31, 15 and 7 px.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 24, 2),
        nn.GELU(),
        pooled_stage(24, 32),
        pooled_stage(32, 128),
        pooled_stage(128, 128),
        GlobalMaxPool(),
    )


def conv_medium(channels: int = 3) -> nn.Sequential:
    """ResNet-9 without its classifier: eight convolutions of width 32 to 256, H = 256, for images of 8 px or more."""
    width = 32
    return nn.Sequential(
        conv_norm_relu(channels, width),
        conv_norm_relu(width, 2 * width),
        nn.MaxPool2d(2),
        Residual(nn.Sequential(conv_norm_relu(2 * width, 2 * width), conv_norm_relu(2 * width, 2 * width))),
        conv_norm_relu(2 * width, 4 * width),
        nn.MaxPool2d(2),
        conv_norm_relu(4 * width, 8 * width),
        nn.MaxPool2d(2),
        Residual(nn.Sequential(conv_norm_relu(8 * width, 8 * width), conv_norm_relu(8 * width, 8 * width))),
        GlobalMaxPool(),
    )
