"""The exact gradient of a batch in the memory of a chunk of it (GradCache): activations are computed twice.

A batch-coupled loss cannot be summed over chunks, but its gradient reaches the encoder through the embeddings alone. So
the encoder runs once without keeping activations, the loss and its gradient for all embeddings follow, and each chunk
runs again to carry its rows of that gradient to the weights (Gao et al. 2021, arXiv 2101.06983).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def encode_in_chunks(encoder: nn.Module, images: Tensor, chunk: int | None) -> Tensor:
    """`encoder(images)`, `chunk` images at a time with activations computed again in the backward pass.

    With `chunk` None, and in evaluation mode, it is one call. Without gradient tracking chunks only bound the memory.
    Rows equal those of one call unless the encoder couples them. Batch norm does: its statistics are those of a chunk
    (its running averages move once for each chunk, and not again in the second pass).
    """
    if chunk is None or chunk >= len(images) or not encoder.training:
        return encoder(images)
    parts = images.split(chunk)
    if not torch.is_grad_enabled():
        return torch.cat([encoder(each) for each in parts])

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), running_averages_held(encoder)

    return torch.cat([checkpoint(encoder, each, use_reentrant=False, context_fn=contexts) for each in parts])


@contextmanager
def running_averages_held(module: nn.Module) -> Iterator[None]:
    """Batch norms keep their running averages, and the number of batches in them, although they are in training."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [(count, count.clone()) for norm in norms if (count := norm.num_batches_tracked) is not None]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for count, before in counts:
            count.copy_(before)
