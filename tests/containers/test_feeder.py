"""The platform's side of Pipe mode, seen by a reader of real FIFOs."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from clary.containers.feeder import Feeder
from clary.containers.tree import Source

Start = Callable[..., Feeder]
BIG = bytes(range(256)) * 20_000  # 5 MB: more than a pipe holds


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Write files, start a feeder of the channel ``train`` in tmp_path/fifos, stop it at the end."""
    (tmp_path / "data").mkdir()
    (tmp_path / "fifos").mkdir()
    with ExitStack() as stack:

        def started(**files: bytes) -> Feeder:
            for name, content in files.items():
                (tmp_path / "data" / name.replace("_", ".")).write_bytes(content)
            feeder = Feeder(Source.find("train", tmp_path / "data"), tmp_path / "fifos")
            stack.callback(feeder.stop)
            feeder.start()
            return feeder

        yield started


def test_a_pass_is_all_files_in_name_order_with_nothing_between(start: Start, tmp_path: Path) -> None:
    """Pass after pass the reader gets the concatenation, each from a FIFO of its own."""
    feeder = start(b_rec=b"second", a_rec=BIG)
    for number in range(3):
        assert (tmp_path / f"fifos/train_{number}").read_bytes() == BIG + b"second"

    assert feeder.passed == 3 * feeder.source.size


def test_gzip_files_are_decompressed(start: Start, tmp_path: Path) -> None:
    """The reader sees what was compressed."""
    start(a_csv_gz=gzip.compress(BIG))

    assert (tmp_path / "fifos/train_0").read_bytes() == BIG


def test_an_early_close_begins_the_next_pass(start: Start, tmp_path: Path) -> None:
    """A reader that has seen enough finds the next FIFO at once, and the feeder takes no harm."""
    feeder = start(a=BIG)
    for number in range(5):
        with (tmp_path / f"fifos/train_{number}").open("rb") as stream:
            assert stream.read(10) == BIG[:10]

    assert (tmp_path / "fifos/train_5").read_bytes() == BIG
    assert feeder.error is None


def test_when_a_pass_ends_its_name_is_gone_and_the_next_is_there(start: Start, tmp_path: Path) -> None:
    """At the end of a stream there is exactly one FIFO, that of the next pass."""
    start(a=b"x")
    (tmp_path / "fifos/train_0").read_bytes()

    assert [path.name for path in (tmp_path / "fifos").iterdir()] == ["train_1"]


def test_a_feeder_without_a_reader_can_be_stopped(start: Start) -> None:
    """Waiting for somebody to open the FIFO blocks nobody."""
    feeder = start(a=b"x")
    feeder.stop()

    assert not feeder.is_alive()


def test_a_feeder_whose_reader_does_not_read_can_be_stopped(start: Start, tmp_path: Path) -> None:
    """A full pipe does not hold the feeder."""
    feeder = start(a=BIG)
    with (tmp_path / "fifos/train_0").open("rb", buffering=0):
        time.sleep(0.1)
        feeder.stop()

        assert not feeder.is_alive()


def test_a_damaged_file_ends_the_feeder_and_is_told(start: Start, tmp_path: Path) -> None:
    """The pass was cut, so somebody has to say so."""
    feeder = start(a_gz=gzip.compress(BIG)[:-100])
    (tmp_path / "fifos/train_0").read_bytes()
    feeder.join(10)

    assert isinstance(feeder.error, EOFError)
