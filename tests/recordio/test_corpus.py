"""Every file of the corpus, by every reader and from every kind of stream."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from clary.errors import CorruptRecordError, DataError
from clary.recordio.batch import Batch
from clary.recordio.reader import read_batches, read_body

HERE = Path(__file__).parent
VALID = sorted((HERE / "valid").glob("*.rec"))
INVALID = sorted((HERE / "invalid").glob("*.rec"))

Reader = Callable[[BinaryIO], Iterator[Batch]]


def expected_of(path: Path) -> dict[str, Any]:
    """Return what a file's neighbour says of it."""
    return json.loads(path.with_suffix(".json").read_text("utf-8"))


def check(path: Path, found: tuple[list[dict[str, Any]], CorruptRecordError | None]) -> None:
    """Compare what came out of a file with what has to."""
    expected, (rows, error) = expected_of(path), found
    assert rows == expected["rows"]
    if "error" not in expected:
        assert error is None
        return
    assert error is not None
    assert (error.record, error.offset) == (expected["error"]["record"], expected["error"]["offset"])
    assert any(phrase in error.reason for phrase in expected["error"]["phrases"]), error


@pytest.mark.parametrize("path", VALID + INVALID, ids=lambda path: f"{path.parent.name}-{path.stem}")
class TestEveryFile:
    """One file."""

    def test_from_a_file(self, path: Path, reader: Reader, outcome: Callable[..., Any]) -> None:
        """A file on disk gives what it has to."""
        with path.open("rb") as stream:
            check(path, outcome(reader(stream)))

    def test_byte_by_byte(self, path: Path, reader: Reader, trickle: Callable[..., BinaryIO], outcome: Any) -> None:
        """Reads of one byte change nothing."""
        check(path, outcome(reader(trickle(path.read_bytes()))))

    def test_from_a_fifo(self, path: Path, reader: Reader, fifo: Callable[[bytes], BinaryIO], outcome: Any) -> None:
        """A FIFO changes nothing."""
        check(path, outcome(reader(fifo(path.read_bytes()))))


@pytest.mark.parametrize("path", VALID[:], ids=lambda path: path.stem)
def test_body(path: Path, outcome: Callable[..., Any]) -> None:
    """A request's body gives the rows of the file, in one batch."""
    rows = expected_of(path)["rows"]
    if not rows:
        with pytest.raises(DataError):
            read_body(path.read_bytes())
        return
    body = read_body(path.read_bytes())
    assert (len(body), body.width) == (len(rows), expected_of(path)["width"])
    assert [places(row) for row in outcome(iter([body]))[0]] == [places(row) for row in rows]


def places(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a row holds, whether dense or sparse, with or without labels."""
    keys = row.get("keys", range(len(row["values"])))
    label = [value for value in row.get("label", []) if not np.isnan(value)]
    filled = [(key, value) for key, value in zip(keys, row["values"], strict=True) if value]
    return filled, label, row.get("ids", ["", ""])


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_body(path: Path) -> None:
    """A request's body is refused for the same record."""
    expected = expected_of(path)["error"]
    with pytest.raises(CorruptRecordError) as caught:
        read_body(path.read_bytes())
    assert (caught.value.record, caught.value.offset) == (expected["record"], expected["offset"])


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_batch_sizes(path: Path, size: int, outcome: Callable[..., Any]) -> None:
    """Batches of an exact size hold the same rows."""
    rows = expected_of(path)["rows"]
    batches = list(read_batches(io.BytesIO(path.read_bytes()), size))
    assert [len(batch) for batch in batches] == [min(size, len(rows) - at) for at in range(0, len(rows), size)]
    assert [places(row) for row in outcome(iter(batches))[0]] == [places(row) for row in rows]


def test_corpus_is_reproducible(tmp_path: Path) -> None:
    """The script makes exactly the committed files."""
    subprocess.run([sys.executable, HERE / "make_corpus.py", tmp_path], check=True, timeout=60)
    for folder in ("valid", "invalid"):
        made = {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        assert made == {path.name: path.read_bytes() for path in (HERE / folder).iterdir()}
