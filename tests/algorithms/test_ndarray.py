"""Lists of arrays as MXNet writes them."""

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clary.algorithms.ndarray import RowSparse, dump_arrays, finite_float32, load_arrays
from clary.errors import ArtifactError

V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
VALUES = struct.pack("<3f", 1, 2, 3)
CPU_FLOATS = struct.pack("<iii", 1, 0, 0)


def listed(*items: bytes, names: bytes = struct.pack("<Q", 0)) -> bytes:
    """A file with these arrays."""
    return struct.pack("<QQQ", 0x112, 0, len(items)) + b"".join(items) + names


def v2(shape: tuple[int, ...], flag: int = 0, storage: int = 0, device: int = 1, magic: int = V2) -> bytes:
    """The head of an array in the forms V2 and V3."""
    return struct.pack(f"<Iii{len(shape)}q", magic, storage, len(shape), *shape) + struct.pack("<iii", device, 0, flag)


FORMS = {
    "V1": struct.pack("<IIq", V1, 1, 3) + CPU_FLOATS + VALUES,
    "V2": v2((3,)) + VALUES,
    "V2 from a GPU": v2((3,), device=2) + VALUES,
    "V3": v2((3,), magic=V3) + VALUES,
    "legacy": struct.pack("<II", 1, 3) + CPU_FLOATS + VALUES,
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    """All four forms of an array are read, here from bytes made by hand."""
    assert {name: array.tolist() for name, array in load_arrays(listed(FORMS[form])).items()} == {"0": [1, 2, 3]}


def test_written_form() -> None:
    """What is written is V2, byte for byte."""
    assert dump_arrays([np.array([1, 2, 3], np.float32)]) == listed(FORMS["V2"])


def test_size_of_a_known_artifact() -> None:
    """A model of 8 centres with 7 features has the size that Amazon's artifact of that shape has."""
    assert len(dump_arrays([np.zeros((8, 7), np.float32)])) == 296


def test_names() -> None:
    """Names follow the arrays, each with its length."""
    names = struct.pack("<Q", 2) + struct.pack("<Q", 1) + b"s" + struct.pack("<Q", 3) + "µ".encode() + b"!"
    data = listed(FORMS["V2"], FORMS["V1"], names=names)
    assert list(load_arrays(data)) == ["s", "µ!"]
    array = np.array([1, 2, 3], np.float32)
    assert dump_arrays({"s": array, "µ!": array}) == listed(FORMS["V2"], FORMS["V2"], names=names)


def test_empty_lists() -> None:
    """A list may be empty, named or not, and an array without shape ends after its shape."""
    assert load_arrays(dump_arrays([])) == load_arrays(dump_arrays({})) == {}
    assert load_arrays(listed(struct.pack("<Iii", V2, 0, 0)))["0"].shape == (0,)
    assert load_arrays(listed(v2((0, 5))))["0"].shape == (0, 5)
    assert load_arrays(listed(v2((), magic=V3) + VALUES[:4]))["0"].tolist() == 1.0


DTYPES = st.sampled_from(["<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8", ">f4", ">i8"])


@given(arrays.arrays(DTYPES, arrays.array_shapes(min_dims=1, min_side=0)))
def test_round_trip(array: np.ndarray) -> None:
    """Every array comes back with its values, shape and type, little-endian."""
    back = load_arrays(dump_arrays([array, array.T]))
    assert back["0"].dtype == array.dtype.newbyteorder("<")
    assert np.array_equal(back["0"], array, equal_nan=array.dtype.kind == "f")
    assert back["1"].shape == array.T.shape


@pytest.mark.parametrize("form", [*FORMS, "named"])
def test_cut_anywhere(form: str) -> None:
    """A file cut at any byte is an error, and so is one with a byte too much."""
    data = dump_arrays({"a": np.ones((2, 2)), "b": np.ones(1)}) if form == "named" else listed(FORMS[form])
    for size in range(len(data)):
        with pytest.raises(ArtifactError):
            load_arrays(data[:size])
    with pytest.raises(ArtifactError, match="1 bytes after the last array"):
        load_arrays(data + b"\0")


BIG = 1 << 62
HOSTILE = {
    "other magic": struct.pack("<QQQ", 0x113, 0, 0) + struct.pack("<Q", 0),
    "arrays": struct.pack("<QQQ", 0x112, 0, (1 << 64) - 1),
    "many arrays": struct.pack("<QQQ", 0x112, 0, 20) + b"\0" * 40,
    "size": listed(v2((BIG,)) + VALUES),
    "product": listed(v2((1 << 31, 1 << 31, 1 << 31)) + VALUES),
    "no values of a huge shape": listed(v2((0, BIG, BIG))),
    "negative size": listed(v2((-1, -3)) + VALUES),
    "negative dimensions": listed(struct.pack("<Iii", V2, 0, -1) + CPU_FLOATS),
    "dimensions": listed(struct.pack("<Iii", V2, 0, 33) + b"\0" * 400),
    "type": listed(v2((3,), flag=7) + VALUES),
    "negative type": listed(v2((3,), flag=-1) + VALUES),
    "sparse": listed(v2((3,), storage=1) + VALUES),
    "legacy dimensions": listed(struct.pack("<I", 1 << 31) + VALUES),
    "names": listed(FORMS["V2"], names=struct.pack("<Q", 2) + b"\0" * 16),
    "length of a name": listed(FORMS["V2"], names=struct.pack("<QQ", 1, BIG)),
    "name": listed(FORMS["V2"], names=struct.pack("<QQ", 1, 1) + b"\xff"),
    "empty": b"",
    "gzip": b"\x1f\x8b" + b"\0" * 100,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile(what: str) -> None:
    """Counts and shapes that promise more than the file holds are errors, and no memory is taken for them."""
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError):
            load_arrays(HOSTILE[what])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=200), st.integers(0, 120))
def test_any_bytes(noise: bytes, at: int) -> None:
    """Bytes of any kind are arrays or an ArtifactError."""
    data = bytearray(dump_arrays({"a": np.ones((2, 2)), "b": np.ones(1)}))
    data[at : at + len(noise)] = noise
    try:
        load_arrays(bytes(data))
    except ArtifactError as error:
        assert str(error)


def row_sparse(
    shape: tuple[int, ...],
    numbers: tuple[int, ...],
    values: bytes,
    stored: tuple[int, ...] | None = None,
    flag: int = 6,
) -> bytes:
    """A row-sparse array with these rows; the flag is of the type of their numbers."""
    stored = (len(numbers), *shape[1:]) if stored is None else stored
    head = struct.pack(f"<Iii{len(stored)}q", V2, 1, len(stored), *stored)
    head += struct.pack(f"<i{len(shape)}q", len(shape), *shape) + CPU_FLOATS
    return head + struct.pack("<iiq", flag, 1, len(numbers)) + values + struct.pack(f"<{len(numbers)}q", *numbers)


SPARSE = {
    "all rows": (row_sparse((3, 1), (0, 1, 2), VALUES), [[1], [2], [3]]),
    "some rows": (row_sparse((5, 1), (0, 2, 4), VALUES), [[1], [0], [2], [0], [3]]),
    "one row": (row_sparse((2, 3), (1,), VALUES), [[0, 0, 0], [1, 2, 3]]),
    "no row": (row_sparse((2, 2), (), b""), [[0, 0], [0, 0]]),
    "one dimension": (row_sparse((4,), (1, 2, 3), VALUES), [0, 1, 2, 3]),
}


@pytest.mark.parametrize("what", SPARSE)
def test_row_sparse(what: str) -> None:
    """A row-sparse array becomes dense, with zeros for the rows that it has not; here from bytes made by hand."""
    data, values = SPARSE[what]
    array = load_arrays(listed(data, FORMS["V2"]))
    assert (array["0"].tolist(), array["0"].dtype, array["1"].tolist()) == (values, np.float32, [1, 2, 3])
    for size in range(len(listed(data))):
        with pytest.raises(ArtifactError):
            load_arrays(listed(data)[:size])


def test_row_sparse_written() -> None:
    """All rows of an array, or those that are named, are written as MXNet writes them."""
    values = np.array([[1], [2], [3]], np.float32)
    assert dump_arrays([RowSparse(values)]) == listed(SPARSE["all rows"][0])
    assert dump_arrays([RowSparse(values, np.array([0, 2, 4]), 5)]) == listed(SPARSE["some rows"][0])
    names = struct.pack("<QQ", 1, 1) + b"w"
    assert dump_arrays({"w": RowSparse(values)}) == listed(SPARSE["all rows"][0], names=names)


@given(arrays.arrays(DTYPES, arrays.array_shapes(min_dims=1)))
def test_row_sparse_round_trip(array: np.ndarray) -> None:
    """What is written by its rows that are not zero comes back whole."""
    rows = np.flatnonzero(array.reshape(len(array), -1).any(axis=1))
    back = load_arrays(dump_arrays([RowSparse(array[rows], rows, len(array))]))["0"]
    assert back.dtype == array.dtype.newbyteorder("<")
    assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")


WRONG_ROWS = {
    "beyond the end": row_sparse((5, 1), (0, 2, 5), VALUES),
    "before the start": row_sparse((5, 1), (-1, 2, 4), VALUES),
    "twice": row_sparse((5, 1), (0, 2, 2), VALUES),
    "descending": row_sparse((5, 1), (2, 0, 4), VALUES),
    "differences that overflow": row_sparse((9, 1), (1, -(1 << 63), -1, 5), VALUES + VALUES[:4]),
    "all, twice": row_sparse((3, 1), (0, 0, 2), VALUES),
    "too many": row_sparse((2, 1), (0, 1, 2), VALUES),
    "other width": row_sparse((5, 2), (0, 2, 4), VALUES, stored=(3, 1)),
    "other number": row_sparse((5, 1), (0, 2), VALUES, stored=(3, 1)),
    "numbers that are floats": row_sparse((3, 1), (0, 1, 2), VALUES, flag=1),
    "no dimension stored": row_sparse((3, 1), (0, 1, 2), VALUES, stored=()),
    "beyond numpy's sizes": row_sparse((1 << 40, 0, 1 << 40), (), b""),
}


@pytest.mark.parametrize("what", WRONG_ROWS)
def test_wrong_rows(what: str) -> None:
    """The numbers of the rows ascend within the array, as many as there are rows."""
    with pytest.raises(ArtifactError):
        load_arrays(listed(WRONG_ROWS[what]))


def test_row_sparse_is_bounded() -> None:
    """A small file promises large arrays in vain: what is filled with zeros has a limit for all arrays together."""
    huge = listed(row_sparse((1 << 40, 1), (0, 2, 4), VALUES))
    with pytest.raises(ArtifactError, match=r"of shape \(1099511627776, 1\) has 4398046511104 bytes"):
        load_arrays(huge)
    twice = listed(SPARSE["some rows"][0], SPARSE["some rows"][0])
    assert len(load_arrays(twice, most_filled=40)) == 2
    with pytest.raises(ArtifactError, match="has 20 bytes, 19 are allowed"):
        load_arrays(twice, most_filled=39)
    assert load_arrays(listed(SPARSE["all rows"][0]), most_filled=0)["0"].shape == (3, 1)


def test_csr() -> None:
    """A CSR array is refused by its storage type."""
    with pytest.raises(ArtifactError, match=r"storage type 2: only dense \(0\) and row-sparse \(1\)"):
        load_arrays(listed(v2((3,), storage=2) + VALUES))


def test_finite_float32() -> None:
    """Numbers of a model are finite as float32, and not whole by type."""
    assert finite_float32(np.array([1.5]), "w").dtype == np.float32
    for values, message in (
        (np.array([1e300]), "w has numbers that are not finite"),
        (np.array([np.nan], np.float32), "w has numbers that are not finite"),
        (np.array([1]), "w has numbers of the type int64, not float32"),
    ):
        with pytest.raises(ArtifactError, match=message):
            finite_float32(values, "w")
