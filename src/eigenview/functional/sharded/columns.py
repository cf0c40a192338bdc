"""A batch that is spread by rows, spread by columns instead: each process has all rows of its share of the features.

Means, variances and cross-correlations of a feature with itself then need nobody else, and a Gram matrix is a sum over
processes of the shares' own, of which symmetry saves half. Gradients go back the way the features came. Beyond two
processes that sends less than a gather of all rows to everyone, and no process ever holds the whole batch.

Features are dealt out in order, ceil(D / size) to a process; the last share is filled up with columns of zeros.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from eigenview.functional.sharded.processes import Processes


def _filled(x: Tensor, size: int) -> Tensor:
    """The last axis filled up with zeros to a multiple of `size`."""
    return pad(x, (0, -x.shape[-1] % size))


def to_columns(z: Float[Tensor, "V n D"], processes: Processes) -> Float[Tensor, "V N d"]:
    """All rows of this process's share of the features."""
    views, own, _ = z.shape
    parts = _filled(z, processes.size).view(views, own, processes.size, -1).permute(2, 0, 1, 3)
    return processes.exchange(parts).transpose(0, 1).reshape(views, processes.size * own, -1)


def to_rows(x: Float[Tensor, "V N d"], width: int, processes: Processes) -> Float[Tensor, "V n D"]:
    """The way back: all features of this process's rows."""
    views, count, _ = x.shape
    parts = x.view(views, processes.size, count // processes.size, -1).transpose(0, 1)
    return processes.exchange(parts).permute(1, 2, 0, 3).flatten(2)[..., :width]


def own_columns(values: Float[Tensor, "*rows D"], processes: Processes) -> Float[Tensor, "*rows d"]:
    """This process's share of something of every feature."""
    filled = _filled(values, processes.size)
    return filled.chunk(processes.size, dim=-1)[processes.rank]


def gather_columns(values: Float[Tensor, "K d"], width: int, processes: Processes) -> Float[Tensor, "K D"]:
    """Something of every feature, from everyone's shares."""
    return processes.gather(values.mT).mT[:, :width].contiguous()


def centred_columns(z: Float[Tensor, "V n D"], processes: Processes) -> Float[Tensor, "V N d"]:
    """`to_columns` less the features' means, in two steps for the reason given in `fused/centring.py`."""
    x = to_columns(z, processes)
    y = x - x.mean(dim=1, keepdim=True)
    return y.sub_(y.mean(dim=1, keepdim=True))
