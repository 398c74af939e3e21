"""RecordIO-protobuf, the data format of SageMaker's built-in algorithms, and the text formats beside it.

Reading and writing rows, fast::

    read_batches(stream)         records → batches of rows, in bounded memory        reader.py
    read_body(bytes)             all rows of a request's body                        reader.py
    write_batch(stream, batch)   rows → records, as the SageMaker SDK writes them    writer.py
    Batch, CSR                   rows on their way: dense, or sparse without scipy   batch.py
    concatenate, rebatch         batches → one, or → batches of an exact size        batch.py
    shingle, shingle_batches     rows of a series side by side                       shingles.py

Frames, whatever they hold::

    read_frames, write_frame     one record at a time                                framing.py
    Frame                        a record's payload, its number and place            framing.py

The names of the SageMaker Python SDK v2, which its v3 no longer has (``sdk.py``): `write_numpy_to_dense_tensor`,
`write_spmatrix_to_sparse_tensor`, `read_records`, `RecordSerializer`, `RecordDeserializer`; and `read_spmatrix`,
the way back.

Each name is imported when it is first used, so importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .batch import CSR, Batch, concatenate, rebatch
    from .framing import Frame, read_frames, write_frame
    from .reader import read_batches, read_body
    from .sdk import (
        RecordDeserializer,
        RecordSerializer,
        read_records,
        read_spmatrix,
        write_numpy_to_dense_tensor,
        write_spmatrix_to_sparse_tensor,
    )
    from .shingles import shingle, shingle_batches
    from .writer import write_batch

__all__ = [
    "CSR",
    "Batch",
    "Frame",
    "RecordDeserializer",
    "RecordSerializer",
    "concatenate",
    "read_batches",
    "read_body",
    "read_frames",
    "read_records",
    "read_spmatrix",
    "rebatch",
    "shingle",
    "shingle_batches",
    "write_batch",
    "write_frame",
    "write_numpy_to_dense_tensor",
    "write_spmatrix_to_sparse_tensor",
]

# a module has no name of `__all__`: importing it would put it in that name's place
_PLACES: Final = {
    "CSR": "batch",
    "Batch": "batch",
    "Frame": "framing",
    "concatenate": "batch",
    "read_batches": "reader",
    "read_body": "reader",
    "read_frames": "framing",
    "rebatch": "batch",
    "shingle": "shingles",
    "shingle_batches": "shingles",
    "write_batch": "writer",
    "write_frame": "framing",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PLACES.get(name, 'sdk')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
