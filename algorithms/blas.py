"""How many threads multiply: OpenBLAS, which NumPy's wheels carry, wakes all even where they gain nothing.

Threads that wait for their share of a product do not sleep but ask again and again. Between many small products that
takes more of a processor than the products themselves, and of a busy one most.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, Final

from ..recordio.batch import Array

__all__ = ["product", "threads_for"]

_WORTH: Final = 1 << 26  # multiplications of a product, about 2 ms of one thread, from which more are let at it
_NAMES: Final = ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads")


@contextmanager
def threads_for(multiplications: int) -> Iterator[None]:
    """Products of so many multiplications each: by one thread where they are small.

    Whoever finds one thread leaves it at that, so callers in several threads cannot leave too few behind.

    Examples
    --------
    >>> import numpy as np
    >>> with threads_for(2):
    ...     print(np.ones(2) @ np.ones(2))
    2.0
    """
    known = _functions() if multiplications < _WORTH else None
    before = known[0]() if known else 1
    if known is None or before == 1:
        yield
        return
    known[1](1)
    try:
        yield
    finally:
        known[1](before)


def product(left: Array, right: Array) -> Array:
    """The product of matrices, or of a matrix and a vector."""
    with threads_for(left.size * right.size // max(1, len(right))):
        result: Array = left @ right
    return result


@cache
def _functions() -> tuple[Callable[[], int], Callable[[int], Any]] | None:
    """What gets and what sets the number of threads; None where NumPy multiplies with another library."""
    path = import_module("numpy.linalg._umath_linalg").__file__  # a module that multiplies
    try:
        library = ctypes.CDLL(path)  # it is loaded, and so is what it needs, in which names are looked up too
    except OSError:
        return None
    for name in _NAMES:
        get, set_ = (getattr(library, name.format(word), None) for word in ("get", "set"))
        if get is not None and set_ is not None:
            return get, set_
    return None
