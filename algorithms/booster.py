"""The XGBoost library by its C interface, which is stable and documented, without its Python package.

The package takes 0.3 s to import, and more than a second where scikit-learn or pandas are installed; the library
itself takes some milliseconds. Matrices and boosters hold memory of the library and free it when they go.

References
----------
- XGBoost C API documentation, https://xgboost.readthedocs.io/en/stable/dev/c__api_8h.html
- T. Chen, C. Guestrin: XGBoost: A Scalable Tree Boosting System, KDD 2016, https://arxiv.org/abs/1603.02754
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import json
import logging
import math
import os
import re
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_float, c_int, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..errors import MissingExtraError
from ..recordio.batch import CSR, Array

__all__ = ["Booster", "BoosterError", "Matrix", "library_version", "quiet"]

_NAMES: Final = ("libxgboost.so", "libxgboost.dylib")

_RETURNS: Final = 0
"""What a function of the library returns when all went well."""


class BoosterError(Exception):
    """The library refused; the text is its own, without the stack."""


class Matrix:
    """Rows in the library's form, a ``DMatrix``.

    Parameters
    ----------
    features
        Shape (n, d), float32; NaN is a missing value, and so is what a `CSR` does not hold.
    labels, weights
        Shape (n,), or None.
    queries
        Number of the query that a row belongs to, ascending, shape (n,), or None.
    threads
        How many build it; 0 for as many as there are cores.

    Raises
    ------
    BoosterError
        When the library refuses them: an infinite value, a negative weight, queries out of order.

    Examples
    --------
    >>> Matrix(np.array([[1, np.nan], [3, 4]], np.float32), np.array([0, 1])).shape
    (2, 2)
    """

    def __init__(
        self,
        features: Array | CSR,
        labels: Array | None = None,
        weights: Array | None = None,
        queries: Array | None = None,
        *,
        threads: int = 0,
    ) -> None:
        handle = c_void_p()
        config = json.dumps({"missing": math.nan, "nthread": threads}).encode()
        parts = _parts(features)
        places = [_interface(part) for part in parts]
        if isinstance(features, CSR):
            _call("XGDMatrixCreateFromCSR", *places, c_uint64(features.shape[1]), config, byref(handle))
        else:
            _call("XGDMatrixCreateFromDense", *places, config, byref(handle))
        self._own(handle)
        if queries is not None and len(queries) != len(self):  # the library would read beyond them
            raise BoosterError(f"expected a query for each of {len(self)} rows, got {len(queries)}")
        for field, values, dtype in (("label", labels, "f4"), ("weight", weights, "f4"), ("qid", queries, "u4")):
            if values is not None:
                values = np.ascontiguousarray(values, dtype)
                _call("XGDMatrixSetInfoFromInterface", handle, field.encode(), _interface(values))

    def _own(self, handle: c_void_p) -> None:
        self.handle = handle
        weakref.finalize(self, _call, "XGDMatrixFree", handle)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        rows, columns = c_uint64(), c_uint64()
        _call("XGDMatrixNumRow", self.handle, byref(rows))
        _call("XGDMatrixNumCol", self.handle, byref(columns))
        return rows.value, columns.value

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: Array) -> Matrix:
        """Some of the rows, with their labels and weights."""
        index = np.ascontiguousarray(rows, np.int32)
        if len(index) and not 0 <= index.min() <= index.max() < len(self):  # the library does not look
            raise BoosterError(f"expected rows 0 to {len(self) - 1}, got {index.min()} to {index.max()}")
        handle = c_void_p()
        pointer = index.ctypes.data_as(ctypes.POINTER(c_int))
        _call("XGDMatrixSliceDMatrixEx", self.handle, pointer, c_uint64(len(index)), byref(handle), c_int(0))
        part = Matrix.__new__(Matrix)
        part._own(handle)
        return part


class Booster:
    """A model of the library, empty until it is trained or loaded.

    Parameters
    ----------
    params
        The library's own parameters, as text; a sequence is given as so many values of one name.
    matrices
        Those it will be trained on and evaluated with: the library keeps their predictions from round to round.

    Examples
    --------
    >>> rows = Matrix(np.array([[0], [1], [2], [3]], np.float32), np.array([0, 0, 1, 1]))
    >>> booster = Booster({"eta": "1", "lambda": "0", "min_child_weight": "0", "base_score": "0.5"}, [rows])
    >>> booster.update(rows, 0)
    >>> booster.evaluate([(rows, "train")], 0)
    {('train', 'rmse'): 0.0}
    >>> booster.predict(np.array([[0.5], [2.5]], np.float32))
    array([0., 1.], dtype=float32)
    """

    def __init__(self, params: Mapping[str, str | Sequence[str]] | None = None, matrices: Sequence[Matrix] = ()):
        handle = c_void_p()
        handles = (c_void_p * len(matrices))(*(matrix.handle for matrix in matrices))
        _call("XGBoosterCreate", handles, c_uint64(len(matrices)), byref(handle))
        self._own(handle)
        self._matrices = tuple(matrices)  # the library does not keep them alive
        self.set(params or {})

    def _own(self, handle: c_void_p) -> None:
        self.handle = handle
        weakref.finalize(self, _call, "XGBoosterFree", handle)

    def set(self, params: Mapping[str, str | Sequence[str]]) -> None:
        """Set parameters; a wrong one is found when the model is next used."""
        for name, value in params.items():
            for text in [value] if isinstance(value, str) else value:
                _call("XGBoosterSetParam", self.handle, name.encode(), text.encode())

    def update(self, matrix: Matrix, iteration: int) -> None:
        """Boost by one round."""
        _call("XGBoosterUpdateOneIter", self.handle, c_int(iteration), matrix.handle)

    def evaluate(self, named: Sequence[tuple[Matrix, str]], iteration: int) -> dict[tuple[str, str], float]:
        """Value of each metric for each matrix: ``(name of the matrix, metric) → value``."""
        handles = (c_void_p * len(named))(*(matrix.handle for matrix, _ in named))
        names = (c_char_p * len(named))(*(name.encode() for _, name in named))
        text = c_char_p()
        _call("XGBoosterEvalOneIter", self.handle, c_int(iteration), handles, names, c_uint64(len(named)), byref(text))
        found = {}
        for cell in (text.value or b"").decode().split("\t")[1:]:
            key, _, number = cell.rpartition(":")
            name, _, metric = key.partition("-")
            found[name, metric] = float(number)
        return found

    def predict_matrix(self, matrix: Matrix, *, margin: bool = False) -> Array:
        """Predictions for a matrix, remembered from round to round; not from two threads at once."""
        config = _prediction(1 if margin else 0, 0)
        return self._answer("XGBoosterPredictFromDMatrix", (matrix.handle, config))

    def predict(self, features: Array | CSR, *, margin: bool = False, rounds: int = 0) -> Array:
        """Predictions for rows where they lie, shape (n,) or (n, k); any number of threads may ask.

        Parameters
        ----------
        margin
            Whether to leave out the objective's transformation.
        rounds
            How many rounds count; 0 is all.
        """
        config = _prediction(1 if margin else 0, rounds)
        parts = _parts(features)
        places = [_interface(part) for part in parts]
        if isinstance(features, CSR):
            return self._answer("XGBoosterPredictFromCSR", (*places, c_uint64(features.shape[1]), config, None))
        return self._answer("XGBoosterPredictFromDense", (*places, config, None))

    def _answer(self, function: str, arguments: tuple[Any, ...]) -> Array:
        shape, dimensions = ctypes.POINTER(c_uint64)(), c_uint64()
        result = ctypes.POINTER(c_float)()
        _call(function, self.handle, *arguments, byref(shape), byref(dimensions), byref(result))
        sizes = tuple(shape[: dimensions.value])
        if 0 in sizes:
            return np.empty(sizes, np.float32)
        return np.ctypeslib.as_array(result, sizes).copy()  # the library uses the memory again

    def to_bytes(self, form: str = "ubj") -> bytes:
        """The model in one of the library's formats: ``ubj`` or ``json``."""
        return self._text("XGBoosterSaveModelToBuffer", json.dumps({"format": form}).encode())

    def load(self, data: bytes) -> None:
        """Take the model that `to_bytes` wrote, here or elsewhere."""
        if not data:  # the library would end the process
            raise BoosterError("the model is empty")
        _call("XGBoosterLoadModelFromBuffer", self.handle, data, c_uint64(len(data)))

    def restore(self, data: bytes) -> None:
        """Take a snapshot: a model and how it was trained, as the Python package pickles it."""
        _call("XGBoosterUnserializeFromBuffer", self.handle, data, c_uint64(len(data)))

    def configuration(self) -> dict[str, Any]:
        """All parameters in use."""
        found: dict[str, Any] = json.loads(self._text("XGBoosterSaveJsonConfig"))
        return found

    def _text(self, function: str, *arguments: Any) -> bytes:
        size, start = c_uint64(), c_void_p()
        _call(function, self.handle, *arguments, byref(size), byref(start))
        return ctypes.string_at(start, size.value)

    def first(self, rounds: int) -> Booster:
        """The model of the first rounds, at least 1 and as many as there are at most."""
        if not 1 <= rounds <= self.rounds:  # the library takes 0 for all, and has no words for too many
            raise BoosterError(f"expected 1 to {self.rounds} rounds, got {rounds}")
        handle = c_void_p()
        _call("XGBoosterSlice", self.handle, c_int(0), c_int(rounds), c_int(1), byref(handle))
        part = Booster.__new__(Booster)
        part._own(handle)
        part._matrices = ()
        return part

    @property
    def rounds(self) -> int:
        """Number of boosted rounds."""
        count = c_int()
        _call("XGBoosterBoostedRounds", self.handle, byref(count))
        return count.value

    @property
    def feature_count(self) -> int:
        """Number of columns that it was trained on."""
        count = c_uint64()
        _call("XGBoosterGetNumFeature", self.handle, byref(count))
        return count.value

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns, none where they have none."""
        count, names = c_uint64(), ctypes.POINTER(c_char_p)()
        _call("XGBoosterGetStrFeatureInfo", self.handle, b"feature_name", byref(count), byref(names))
        return [(names[i] or b"").decode(errors="replace") for i in range(count.value)]

    def attribute(self, name: str) -> str | None:
        """A word that was kept with the model."""
        text, found = c_char_p(), c_int()
        _call("XGBoosterGetAttr", self.handle, name.encode(), byref(text), byref(found))
        return (text.value or b"").decode() if found.value else None

    def keep(self, name: str, value: str) -> None:
        """Keep a word with the model."""
        _call("XGBoosterSetAttr", self.handle, name.encode(), value.encode())

    def importance(self, kind: str = "gain") -> dict[str, float]:
        """Importance of the features that are used, by name, or f0, f1, … where they have none."""
        count, names = c_uint64(), ctypes.POINTER(c_char_p)()
        dimensions, shape, scores = c_uint64(), ctypes.POINTER(c_uint64)(), ctypes.POINTER(c_float)()
        config = json.dumps({"importance_type": kind}).encode()
        out = (count, names, dimensions, shape, scores)
        _call("XGBoosterFeatureScore", self.handle, config, *map(byref, out))
        each = math.prod(shape[1 : dimensions.value])  # a linear model of many classes has one score for each
        values = [sum(map(abs, scores[i * each : (i + 1) * each])) for i in range(count.value)]
        return {(names[i] or b"").decode(): value for i, value in enumerate(values)}


@contextmanager
def quiet() -> Iterator[None]:
    """Let the library log nothing: for what it says of models that are being converted."""
    _call("XGBSetGlobalConfig", b'{"verbosity": 0}')
    try:
        yield
    finally:
        _call("XGBSetGlobalConfig", b'{"verbosity": 1}')


def library_version() -> str:
    """Version of the library that is installed: ``3.2.0``.

    Examples
    --------
    >>> library_version() >= "3.0"
    True
    """
    numbers = c_int(), c_int(), c_int()
    _library().XGBoostVersion(*map(byref, numbers))
    return ".".join(str(number.value) for number in numbers)


@functools.cache
def _prediction(kind: int, rounds: int) -> bytes:
    return json.dumps(
        {
            "type": kind,
            "training": False,
            "iteration_begin": 0,
            "iteration_end": rounds,
            "strict_shape": False,
            "missing": math.nan,
            "cache_id": 0,
        }
    ).encode()


def _parts(features: Array | CSR) -> tuple[Array, ...]:
    """The arrays that the library reads, in one piece each and in the order of bytes that it takes for granted."""
    if isinstance(features, CSR):
        values = np.ascontiguousarray(features.values, np.float32)
        return np.ascontiguousarray(features.indptr), np.ascontiguousarray(features.indices), values
    if features.ndim != 2:
        raise BoosterError(f"expected rows in an array of 2 dimensions, got {features.ndim}")
    return (np.ascontiguousarray(features, np.float32),)


def _interface(array: Array) -> bytes:
    """Where an array lies, in NumPy's array interface as JSON; it has to live on until the library has read it."""
    found = array.__array_interface__
    shape, data = json.dumps(found["shape"]), found["data"][0]
    text = f'{{"data":[{data},true],"shape":{shape},"typestr":"{found["typestr"]}","version":3}}'
    return text.encode()


def _call(function: str, *arguments: Any) -> None:
    library = _library()
    if getattr(library, function)(*arguments) != _RETURNS:
        raise BoosterError(_plain(library.XGBGetLastError().decode(errors="replace")))


def _plain(text: str) -> str:
    """What the library says of an error, without the time, the place in its source and the stack."""
    text = text.partition("\nStack trace:")[0].strip()
    return re.sub(r"^\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", text)


def _library() -> Any:
    library = _loaded()
    if not hasattr(_thread, "logs"):  # the library keeps for each thread where its log goes
        library.XGBRegisterLogCallback(_LOG)
        _thread.logs = True
    return library


_thread: Final = threading.local()


@functools.cache
def _loaded() -> Any:
    # Its threads wait for each other at every step. By default they spin long meanwhile, which makes a job take ten
    # times as long where somebody else has work on the same cores; a short spin is as quick where nobody has.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    library = ctypes.CDLL(str(_path()))
    library.XGBGetLastError.restype = c_char_p
    return library


def _path() -> Path:
    """Where the library is; looking for a package does not import it."""
    spec = importlib.util.find_spec("xgboost")
    folders: Iterable[Path] = [Path(place) / "lib" for place in (spec and spec.submodule_search_locations) or ()]
    for folder in (*folders, Path(sys.prefix) / "lib"):
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
    raise MissingExtraError("xgboost", extra="xgboost")


def _log(text: bytes) -> None:
    """What the library logs, as lines of our log."""
    line = re.sub(r"^\[\d\d:\d\d:\d\d\] (WARNING: )?(\S+:\d+:\s+)?", "", text.decode(errors="replace").strip())
    logging.getLogger("clary").log(logging.WARNING if b"WARNING" in text else logging.INFO, "%s", line)


_LOG: Final = ctypes.CFUNCTYPE(None, c_char_p)(_log)
"""`_log` as the library calls it; kept for as long as it may."""
