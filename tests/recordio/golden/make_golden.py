"""Writes what the SageMaker Python SDK v2 makes of some arrays; needs ``sagemaker<3`` and scipy."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

WIDTHS = (1, 2, 3, 10, 24, 25, 26, 27, 28, 31, 32, 33, 100, 784, 5000)
DTYPES = {"float32": np.float32, "float64": np.float64, "int64": np.int64}
LABELS = {"none": None, **DTYPES}
ROWS = 7
WHOLE = (
    "dense-float32-3-none",
    "dense-float32-26-float32",
    "dense-float64-27-int64",
    "dense-int64-3-float64",
    "sparse-float32-300-float32",
    "sparse-int64-70000-none",
)
"""Stored as they are; of the others only a checksum."""


def numbers(count: int, dtype: Any) -> np.ndarray[Any, Any]:
    """Some numbers of a dtype, which no generator of random numbers can change."""
    return ((np.arange(count) * 7919 % 10007 - 5003) / (1 if dtype is np.int64 else 8)).astype(dtype)


def dense_cases() -> Iterator[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any] | None]]:
    """Name, array and labels."""
    for name, dtype in DTYPES.items():
        for width in WIDTHS:
            for label, label_dtype in LABELS.items():
                labels = None if label_dtype is None else numbers(ROWS, label_dtype)
                yield f"dense-{name}-{width}-{label}", numbers(ROWS * width, dtype).reshape(ROWS, width), labels


def sparse_cases() -> Iterator[tuple[str, dict[str, Any], np.ndarray[Any, Any] | None]]:
    """Name, parts of the CSR matrix and labels; the first and a later row are all zeros, keys are not sorted."""
    indptr = np.array([0, 0, 3, 4, 4, 6, 7, 9])
    for name, dtype in DTYPES.items():
        for width in (9, 300, 70_000, 1 << 30):
            for label, label_dtype in LABELS.items():
                indices = np.arange(9) * 104_729 % width
                parts = {"indptr": indptr, "indices": indices, "values": numbers(9, dtype), "shape": (ROWS, width)}
                yield (
                    f"sparse-{name}-{width}-{label}",
                    parts,
                    None if label_dtype is None else numbers(ROWS, label_dtype),
                )


def main() -> None:
    """Write the whole files and the checksums."""
    from sagemaker.amazon.common import write_numpy_to_dense_tensor, write_spmatrix_to_sparse_tensor  # pyright: ignore
    from scipy.sparse import csr_matrix

    files = {}
    for name, array, labels in dense_cases():
        write_numpy_to_dense_tensor(files.setdefault(name, io.BytesIO()), array, labels)
    for name, parts, labels in sparse_cases():
        matrix = csr_matrix((parts["values"], parts["indices"], parts["indptr"]), shape=parts["shape"])
        write_spmatrix_to_sparse_tensor(files.setdefault(name, io.BytesIO()), matrix, labels)
    here = Path(__file__).parent
    for name in WHOLE:
        (here / f"{name}.rec").write_bytes(files[name].getvalue())
    sums = {name: hashlib.sha256(file.getvalue()).hexdigest()[:32] for name, file in files.items()}
    (here / "sums.json").write_text(json.dumps(sums, indent=1) + "\n")


if __name__ == "__main__":
    main()
