"""Reading CIFAR's pickled batches without running code from these untrusted files.

A pickle is a program that may import and call whatever it names. This reader knows the few names that build NumPy
arrays and byte strings; any other name ends the reading. Plain containers, numbers and strings need no name.
"""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from eigenview.data.opening import open_regular, why
from eigenview.errors import UserError

_ARRAY = np.zeros(1).__reduce__()[0]


def _to_bytes(text: str, encoding: str) -> bytes:
    """What Python 3 writes for bytes in old protocols: text of code points 0 to 255."""
    if codecs.lookup(encoding).name != "iso8859-1":
        raise pickle.UnpicklingError(f"text encoded as {encoding}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    # both homes of NumPy's constructor: before and since NumPy 2
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _to_bytes,
}

_DAMAGE = (pickle.UnpicklingError, EOFError, AttributeError, LookupError, TypeError, ValueError, OverflowError)


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which no array of numbers needs")
        return _ALLOWED[module_name, global_name]


def read_arrays_pickle(path: Path) -> dict[str, Any]:
    """The dictionary of a pickle made of arrays, containers, numbers and strings; Python 2's strings become text.

    Raises UserError for a missing or damaged file and for one that names anything else, which is never executed.
    """
    try:
        with open_regular(path) as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {why(error)}. Unpack the archive again.") from error
    except (*_DAMAGE, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".,")
        raise UserError(f"{path} is damaged or not what it seems: {reason}. Unpack the archive again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} where CIFAR has a dictionary.")
    return content
