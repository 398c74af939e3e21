"""The kernels that read text: CSV against orjson and pandas, libsvm against scikit-learn.

Figures are microseconds of CPU time of one thread. All sides begin with the same bytes in memory; orjson gets the row
as an array of JSON, which it makes a list of, pandas and scikit-learn make float32 arrays as we do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np

from clary.recordio import Batch
from clary.recordio.batch import CSR
from clary.recordio.content import decode_body, parse_media_type
from clary.recordio.csv import format_csv, read_compiled
from clary.recordio.libsvm import read_libsvm, write_libsvm

from .setting import DATA, images
from .timing import Row, best_of

__all__ = ["rows"]

CSV = parse_media_type("text/csv")

orjson: Any = import_module("orjson")  # these have no types that mypy takes
pandas: Any = import_module("pandas")
sklearn: Any = import_module("sklearn")
datasets: Any = import_module("sklearn.datasets")


def microseconds(functions: Iterable[Callable[[], object]], times: int) -> list[float]:
    """The least CPU time of each, of one of `times` calls."""

    def repeated(function: Callable[[], object]) -> Callable[[], object]:
        return lambda: [function() for _ in range(times)]

    return [1e6 * seconds / times for seconds in best_of(list(map(repeated, functions)), 15, time.thread_time)]


def one_row() -> Iterator[Row]:
    """One row of 784 columns, as a request has it: the kernel alone, then all that makes a batch of a body."""
    name, pixels, _ = images()
    normal = np.random.default_rng(0).normal(size=784).astype(np.float32)
    samples = {
        f"{name} integers": pixels[0].astype(np.int64),
        "random integers 0-255": np.random.default_rng(0).integers(0, 256, 784),
        f"{name} / 255, 3 decimals": np.round(pixels[0] / 255, 3).astype(np.float32),
        "normal, 6 digits": np.array([float(f"{value:.6g}") for value in normal], np.float32),
        "normal, all digits of float32": normal,
    }
    rival = f"orjson {orjson.__version__}"
    for what, values in samples.items():
        text = format_csv([values[None, :]])
        array = b"[" + text.strip() + b"]"
        ours, body, theirs = microseconds(
            [
                lambda text=text: read_compiled(text, b",", None, 0),
                lambda text=text: decode_body(text, CSV),
                lambda array=array: orjson.loads(array),
            ],
            500,
        )
        yield Row(f"CSV 1 x {len(values)}, {what}", ours, "µs", rival, theirs, 2, higher_is_better=False)
        yield Row(f"CSV 1 x {len(values)}, {what}, whole body", body, "µs", rival, theirs, higher_is_better=False)


def tables() -> Iterator[Row]:
    """A thousand rows, wide and narrow."""
    name, pixels, _ = images()
    random = np.random.default_rng(0)
    samples: list[tuple[str, np.ndarray[Any, Any], float]] = [
        (f"{name} integers", pixels[:1000].astype(np.int64), 4),
        (f"{name} / 255, 3 decimals", np.round(pixels[:1000] / 255, 3).astype(np.float32), 4),
        ("normal, all digits of float32", random.normal(size=(1000, 28)).astype(np.float32), 4),
    ]
    for what, values, ratio in samples:
        text = format_csv([values])
        ours, theirs = microseconds(
            [
                lambda text=text: decode_body(text, CSV),
                lambda text=text: pandas.read_csv(BytesIO(text), header=None, dtype=np.float32, engine="c"),
            ],
            3,
        )
        n, d = values.shape
        rival = f"pandas {pandas.__version__} C"
        yield Row(f"CSV {n:,} x {d}, {what}", ours, "µs", rival, theirs, ratio, higher_is_better=False)


def sparse() -> Iterator[Row]:
    """Rows of libsvm: a9a where it is there, and decimals."""
    random = np.random.default_rng(0)
    stream = BytesIO()
    columns = np.concatenate([np.sort(random.choice(10_000, 50, replace=False)) for _ in range(5_000)])
    values = random.normal(size=columns.size).astype(np.float32)
    features = CSR(np.arange(5_001) * 50, columns, values, (5_000, 10_000))
    write_libsvm(stream, [Batch(features, random.integers(0, 2, 5_000).astype(np.float32))])
    samples = {"5,000 x 50 decimals": stream.getvalue()}
    if (DATA / "a9a" / "a9a").exists():
        samples["a9a"] = (DATA / "a9a" / "a9a").read_bytes()
    rival = f"scikit-learn {sklearn.__version__}"
    for what, text in samples.items():
        ours, theirs = microseconds(
            [
                lambda text=text: list(read_libsvm(BytesIO(text))),
                lambda text=text: datasets.load_svmlight_file(BytesIO(text), dtype=np.float32),
            ],
            1,
        )
        yield Row(f"libsvm {what}", ours, "µs", rival, theirs, 10, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    yield from one_row()
    yield from tables()
    yield from sparse()
