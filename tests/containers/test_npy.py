"""numpy's files, read and written in blocks."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from clary.errors import DataError
from clary.recordio.batch import CSR, Array, Batch, concatenate
from clary.recordio.npy import npy_writer, npz_writer, read_npy, read_npz

DENSE = np.arange(3000, dtype=np.float32).reshape(1000, 3)
LABELS = np.arange(1000, dtype=np.float32)


def saved(array: Any) -> io.BytesIO:
    """A .npy file as numpy writes it."""
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    return file


def zipped(**arrays: Any) -> io.BytesIO:
    """A .npz file as numpy writes it."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    return file


def written(batches: Iterable[Batch]) -> io.BytesIO:
    """A .npz file as we write it."""
    file = io.BytesIO()
    with npz_writer(file) as add:
        for batch in batches:
            add(batch)
    file.seek(0)
    return file


def test_rows_of_npy_come_in_blocks() -> None:
    """However small the blocks are, the rows are all there, and the label columns are cut off."""
    batches = list(read_npy(saved(DENSE), label_size=1, block_bytes=100))

    assert len(batches) > 100
    assert (concatenate(batches).dense() == DENSE[:, 1:]).all()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([1, 2]), [[1], [2]]),
        (np.arange(8).reshape(2, 2, 2), [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (np.array([[1, 2], [3, 4]], ">f8"), [[1, 2], [3, 4]]),
        (np.asfortranarray([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.asfortranarray(np.arange(8).reshape(2, 2, 2)), [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (np.array([[True, False]]), [[1, 0]]),
    ],
    ids=["one dimension", "three", "big-endian", "by column", "three by column", "bool"],
)
def test_arrays_of_every_kind_become_rows(array: Array, expected: list[list[int]]) -> None:
    """Dimensions, byte order and memory order of an array don't show in its rows."""
    assert concatenate(list(read_npy(saved(array)))).dense().tolist() == expected


def test_what_is_written_as_npy_numpy_reads() -> None:
    """Labels stand in the first column, and the header tells the number of rows."""
    file = io.BytesIO()
    with npy_writer(file) as add:
        add(Batch(DENSE[:10], LABELS[:10]))
        add(Batch(DENSE[10:], LABELS[10:]))
    file.seek(0)

    assert (np.load(file) == np.column_stack([LABELS, DENSE])).all()


def test_a_npy_file_without_rows_has_columns() -> None:
    """An empty batch tells the width and the dtype."""
    file = io.BytesIO()
    with npy_writer(file) as add:
        add(Batch(np.empty((0, 3)), np.empty(0)))
    file.seek(0)
    array = np.load(file)

    assert (array.shape, array.dtype) == ((0, 4), np.float64)


def test_what_is_written_as_dense_npz_comes_back() -> None:
    """Features and labels survive, and numpy sees the same."""
    file = written([Batch(DENSE[:10], LABELS[:10]), Batch(DENSE[10:], LABELS[10:])])
    back = concatenate(list(read_npz(file, block_bytes=100)))
    file.seek(0)

    assert (back.dense() == DENSE).all()
    assert np.array_equal(back.labels, LABELS)  # type: ignore[arg-type]
    assert (np.load(file)["features"] == DENSE).all()


def test_what_is_written_as_sparse_npz_scipy_reads() -> None:
    """Sparse rows are a CSR matrix to scipy, and scipy's are sparse rows to us."""
    sparse = pytest.importorskip("scipy.sparse")
    dense = DENSE * (DENSE % 7 == 0)
    file = written([Batch(CSR.from_dense(dense[:10])), Batch(CSR.from_dense(dense[10:]))])
    theirs = io.BytesIO()
    sparse.save_npz(theirs, sparse.load_npz(file))
    theirs.seek(0)

    assert (concatenate(list(read_npz(theirs, block_bytes=100))).dense() == dense).all()


def test_the_same_rows_make_the_same_npz() -> None:
    """No clock shows in the file."""
    assert written([Batch(DENSE)]).getvalue() == written([Batch(DENSE)]).getvalue()


def test_pickled_objects_are_never_loaded() -> None:
    """An array of objects could run code when loaded."""
    file = io.BytesIO()
    np.save(file, np.array([object()]), allow_pickle=True)
    file.seek(0)
    with pytest.raises(DataError, match="dtype object"):
        list(read_npy(file))


@pytest.mark.parametrize("size", [0, 5, 20, 128, 1000])
def test_a_cut_npy_file_is_an_error(size: int) -> None:
    """No cut ends silently."""
    with pytest.raises(DataError):
        list(read_npy(io.BytesIO(saved(DENSE).getvalue()[:size])))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"X": DENSE}, "no array named 'features' in the file, only X"),
        ({"features": DENSE, "labels": LABELS[:5]}, r"'labels' has the shape \(5,\) for 1000 rows"),
        ({"features": np.float32(1)}, "single number"),
        ({"format": "csc"}, "format 'csc': save its tocsr"),
        ({"indices": [5]}, "column index in rows 0 to 0 is outside of 0 to 2"),
        ({"indices": [0, 1]}, "do not fit each other"),
        ({"indptr": [0, 2]}, "do not fit each other"),
    ],
    ids=["name", "labels", "number", "csc", "index", "indices", "indptr"],
)
def test_odd_npz_files_get_a_sentence(arrays: dict[str, Any], sentence: str) -> None:
    """What is wrong is said in the words of the file."""
    sparse = {"format": "csr", "shape": [1, 3], "indptr": [0, 1], "indices": [0], "data": [1.0]}
    whole = {**sparse, **arrays} if arrays.keys() <= sparse.keys() else arrays
    with pytest.raises(DataError, match=sentence):
        list(read_npz(zipped(**whole)))


def test_damaged_npz_files_are_an_error() -> None:
    """A flipped byte is found by the archive's checksum."""
    content = bytearray(zipped(features=DENSE).getvalue())
    content[5000] ^= 1
    with pytest.raises(DataError, match="damaged"):
        list(read_npz(io.BytesIO(content)))


def test_rows_of_different_kinds_are_refused() -> None:
    """Labels and widths cannot change in the middle of a file."""
    with pytest.raises(DataError, match="from number 1000 on have a label"):
        written([Batch(DENSE), Batch(DENSE, LABELS)])
    with pytest.raises(DataError, match="rows of"):
        written([Batch(DENSE), Batch(DENSE[:, :2])])
    assert zipfile.is_zipfile(written([Batch(DENSE)]))
