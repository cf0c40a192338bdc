"""Classes mixed into those of a library's modules, whose names, values and copies stay.

The class of such a module is made while the program runs, so that a pickle cannot name it: it names the two that it is
made of. A pickle goes to workers of a DataLoader that are spawned, to joblib and into torch.save.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import nn


class MixedIn(nn.Module):
    """First base of a class that `mixed` makes; it can be pickled and copied."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        mixin, kind = type(self).__bases__
        return _empty, (mixin, kind), self.__dict__


@functools.cache
def mixed(mixin: type[MixedIn], kind: type[Any]) -> type[Any]:
    """The class `kind` with the methods of `mixin` before its own, under the same name."""
    return type(kind.__name__, (mixin, kind), {})


def _empty(mixin: type[MixedIn], kind: type[nn.Module]) -> nn.Module:
    """A module of their class, without values: pickle sets those."""
    made = mixed(mixin, kind)
    return object.__new__(made)
