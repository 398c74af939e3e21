"""The kernel that writes replies: every byte is what Python itself writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clary import native
from clary.algorithms.base import Predictions
from clary.recordio.batch import Array
from clary.serve import encode
from clary.serve.encode import encode_csv, encode_json, encode_jsonlines, encode_row_texts

pytestmark = pytest.mark.skipif(native.kernels is None, reason=f"the kernels are {native.STATE}")

Encoder = Callable[[Predictions], bytes]
ENCODERS = (encode_json, encode_jsonlines, encode_csv)
LEAST, MOST = np.array([2e-27, 1e16], np.float32).view(np.int32)
"""Bits of the numbers between which the kernel writes them."""


def lines(numbers: Any, *, cut: bool = False) -> list[str] | None:
    """Numbers as the kernel writes them, None where it does not."""
    numbers = np.ascontiguousarray(numbers, np.float32)
    out = bytearray(25 * len(numbers))
    size = native.kernels.replies(len(numbers), cut, b"\n", np.array([0, 1]), b"\0", numbers, out)
    return None if size < 0 else bytes(out[:size]).decode().splitlines()


def both(predictions: Predictions, encoder: Encoder) -> tuple[bytes, bytes]:
    """What is written with the kernel, and without."""
    ours = encoder(predictions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "kernels", None)
        return ours, encoder(predictions)


def assert_as_python(numbers: Array) -> None:
    """Each number is written as Python writes it, and as the twin cuts it."""
    assert lines(numbers) == list(map(repr, numbers.tolist()))
    assert lines(numbers, cut=True) == list(map(encode._cut, numbers.tolist()))


@pytest.mark.parametrize(
    ("number", "text", "short"),
    [
        (0.0, "0.0", "0.0"),
        (-0.0, "-0.0", "-0.0"),
        (5.0, "5.0", "5.0"),
        (-36.5, "-36.5", "-36.5"),
        (0.1, "0.10000000149011612", "0.100000001490116"),
        (1.0000152587890625, "1.0000152587890625", "1.000015258789062"),
        (16777216.0, "16777216.0", "16777216.0"),
        (9.9999999e15, "1e+16", "1e+16"),
        (1e-4, "9.999999747378752e-05", "0.000099999997473"),
        (2.0**-14, "6.103515625e-05", "0.00006103515625"),
        (2.0**-60, "8.673617379884035e-19", "0.0"),
    ],
)
def test_written_out(number: float, text: str, short: str) -> None:
    """Numbers whose texts are known: short and long ones, ties, and where an exponent begins."""
    if "+" in text:
        assert lines([number]) is lines([number], cut=True) is None
    else:
        assert lines([number]) == [text]
        assert lines([number], cut=True) == [short]


def test_powers() -> None:
    """Below a power of two the next double is nearer than above; numbers about powers of ten change their length."""
    powers = np.concatenate([2.0 ** np.arange(-88, 53), 10.0 ** np.arange(-26, 16)]).astype(np.float32)
    assert_as_python(np.concatenate([np.nextafter(powers, np.float32(side)) for side in (0, np.inf)] + [powers]))


def test_halves() -> None:
    """Numbers with few bits behind the point lie in the middle between two decimals more often than others."""
    for power in range(46):
        steps = np.arange(1, 1500)
        for significand in (steps, 2**23 + steps, 2**24 - steps):
            assert_as_python((significand * 2.0**-power).astype(np.float32))


@pytest.mark.parametrize("seed", range(4))
def test_many_numbers(seed: int) -> None:
    """Of all floats in range, by their bits and as people have them, each is written as Python does."""
    rng = np.random.default_rng(seed)
    assert_as_python(rng.integers(LEAST, MOST, 20_000).astype(np.int32).view(np.float32))
    assert_as_python(rng.random(20_000).astype(np.float32))
    assert_as_python((rng.normal(size=20_000) * 10.0 ** rng.integers(-9, 9, 20_000)).astype(np.float32))
    assert_as_python(np.round(rng.random(5000) * 1000, 2).astype(np.float32))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e16, -1e30, 1e-28, 1e-45, 3.4e38])
def test_left_to_python(number: float) -> None:
    """Numbers out of range are left to Python, and so are their neighbours in a reply."""
    assert lines([1, number]) is None
    assert lines([1, number], cut=True) is None
    for encoder in (*ENCODERS, encode_row_texts):
        ours, theirs = both(Predictions("scores", {"score": np.array([1, number], np.float32)}), encoder)
        assert ours == theirs


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, st.integers(1, 30), elements=st.floats(width=32)))
def test_any_number(numbers: Array) -> None:
    """Whatever the numbers are, the kernel writes what Python does, or nothing."""
    found = lines(numbers)
    assert found is None or found == list(map(repr, numbers.tolist()))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("rows", [0, 1, 2, 1000, 40_000])
def test_same_replies(encoder: Encoder, rows: int) -> None:
    """Columns of numbers and of lists, one or several, stand in a reply as they do without the kernel."""
    rng = np.random.default_rng(rows)
    score, label = rng.random(rows).astype(np.float32), rng.integers(0, 3, rows).astype(np.float32)
    wide, one = rng.normal(size=(rows, 3)).astype(np.float32), rng.random((rows, 1)).astype(np.float32)
    for columns in (
        {"score": score},
        {"score": score, "predicted_label": label},
        {"projection": wide},
        {"b": wide, "a": score, 'with "quotes", ä': one},
        {"a": wide[:, ::2], "b": wide[:, 1]},
        {"score": score, "predicted_label": label.astype(np.int64)},
        {"labels": rng.integers(-(2**24) + 1, 2**24, (rows, 2)), "score": score},
    ):
        ours, theirs = both(Predictions("predictions", columns), encoder)
        assert ours == theirs


def test_row_texts() -> None:
    """A line a row, of a number or a list."""
    rng = np.random.default_rng(0)
    for shape in (7, (7, 1), (7, 3)):
        ours, theirs = both(
            Predictions("predictions", {"score": rng.random(shape).astype(np.float32)}), encode_row_texts
        )
        assert ours == theirs


@pytest.mark.parametrize("encoder", ENCODERS)
def test_other_columns(encoder: Encoder) -> None:
    """Doubles, large and small whole numbers, and lists without a number are written without the kernel."""
    for column in (
        np.array([0.1, 0.2]),
        np.array([1, 2**24 + 1]),
        np.array([1, 2], np.int8),
        np.empty((2, 0), np.float32),
    ):
        ours, theirs = both(Predictions("predictions", {"score": column}), encoder)
        assert ours == theirs


def test_short_buffers() -> None:
    """Buffers that do not hold what is asked for are refused."""
    numbers, out = np.zeros(4, np.float32), bytearray(200)
    ends = np.array([1, 2, 3])
    assert native.kernels.replies(2, False, b"[,]", ends, b"\0\0", numbers, out) == 18
    assert out[:18] == b"[0.0,0.0][0.0,0.0]"
    for arguments in (
        (3, False, b"[,]", ends, b"\0\0", numbers, out),
        (-1, False, b"[,]", ends, b"\0\0", numbers, out),
        (2**62, False, b"[,]", ends, b"\0\0", numbers, out),
        (2, False, b"[,]", ends, b"\0\0", numbers, bytearray(101)),
        (2, False, b"[,", ends, b"\0\0", numbers, out),
        (2, False, b"[,]", np.array([1, 0, 3]), b"\0\0", numbers, out),
        (2, False, b"[,]", np.array([-1, 2, 3]), b"\0\0", numbers, out),
        (2, False, b"[,]", np.array([1, 2, 2**40]), b"\0\0", numbers, out),
        (2, False, b"[,]", ends[:1], b"\0\0", numbers, out),
        (2, False, b"[,]", ends[:0], b"\0\0", numbers, out),
        (2, False, b"[,]", ends, b"", numbers, out),
        (2, False, b"[,]", ends, b"\0\0\0", numbers, out),
    ):
        with pytest.raises(ValueError, match="too short"):
            native.kernels.replies(*arguments)
    with pytest.raises(BufferError):
        native.kernels.replies(2, False, b"[,]", ends, b"\0\0", numbers, bytes(200))
