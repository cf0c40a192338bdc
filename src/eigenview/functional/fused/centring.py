"""Centring in two steps, so that the features' means are zero to the last digit of their deviations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def two_means(z: Float[Tensor, "V N D"], scratch: Float[Tensor, "N D"]) -> tuple[Tensor, Tensor]:
    """Means over the samples (V 1 D), and the means of what is left after subtracting them; `scratch` is overwritten.

    A mean is rounded in the digits of the features, which can be far from zero next to their deviations. Autograd's
    backward pass of centring takes that rounding out again by centring the gradient. A gradient in closed form has to
    start from deviations without it.
    """
    first = z.mean(dim=1, keepdim=True)
    left = [torch.sub(view, mean, out=scratch).mean(dim=0, keepdim=True) for view, mean in zip(z, first, strict=True)]
    return first, torch.stack(left)


def deviations(
    view: Float[Tensor, "N D"], first: Float[Tensor, "1 D"], left: Float[Tensor, "1 D"], out: Float[Tensor, "N D"]
) -> Float[Tensor, "N D"]:
    """`view` less both of its means, written to `out`."""
    return torch.sub(view, first, out=out).sub_(left)


def about_mean_view(z: Float[Tensor, "V n D"]) -> Float[Tensor, "V n D"]:
    """Each view less the mean over views, as differences from the first view, in which what all have in common cancels.

    The mean itself is rounded in the digits of the features. In float32, with features ten thousand times larger than
    the differences between views, that is an error of 4e-4 in the gradient of the invariance.
    """
    apart = z - z[0]
    return apart.sub_(apart.mean(dim=0))
