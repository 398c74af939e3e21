"""The platform's side of Pipe mode, seen by a reader of real FIFOs."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from clary.containers.feeder import Feeder, Piece

Run = Callable[[Callable[[int], Iterable[Piece]]], Feeder]
Start = Callable[..., Feeder]
BIG = bytes(range(256)) * 20_000  # 5 MB: more than a pipe holds


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start a feeder of the channel ``train`` in tmp_path/fifos, stop it at the end."""
    (tmp_path / "fifos").mkdir()
    with ExitStack() as stack:

        def running(passes: Callable[[int], Iterable[Piece]]) -> Feeder:
            feeder = Feeder("train", passes, tmp_path / "fifos")
            stack.callback(feeder.stop)
            feeder.start()
            return feeder

        yield running


@pytest.fixture
def start(run: Run, tmp_path: Path) -> Start:
    """Write files and start a feeder of them; ``.gz`` is decompressed."""

    def started(**files: bytes) -> Feeder:
        pieces = []
        for name, content in files.items():
            file = tmp_path / name.replace("_", ".")
            file.write_bytes(content)
            pieces.append(Piece(file, unzip=file.suffix == ".gz"))
        return run(lambda _number: pieces)

    return started


def test_a_pass_is_all_pieces_in_order_with_nothing_between(start: Start, tmp_path: Path) -> None:
    """Pass after pass the reader gets the concatenation, each from a FIFO of its own."""
    feeder = start(a_rec=BIG, b_rec=b"second")
    for number in range(3):
        assert (tmp_path / f"fifos/train_{number}").read_bytes() == BIG + b"second"

    assert feeder.passed == 3 * len(BIG + b"second")


def test_gzip_files_are_decompressed(start: Start, tmp_path: Path) -> None:
    """The reader sees what was compressed."""
    start(a_csv_gz=gzip.compress(BIG))

    assert (tmp_path / "fifos/train_0").read_bytes() == BIG


def test_bytes_and_parts_of_files_are_pieces(run: Run, tmp_path: Path) -> None:
    """What stands between two headers may be a part of a file, or of what a compressed one holds."""
    (tmp_path / "plain").write_bytes(BIG)
    (tmp_path / "zipped").write_bytes(gzip.compress(BIG))
    plain = Piece(tmp_path / "plain", start=300, length=3_000_000)
    zipped = Piece(tmp_path / "zipped", unzip=True, start=4_999_999, length=7)
    feeder = run(lambda _number: [Piece(b"<"), plain, Piece(b"><"), zipped, Piece(b">")])
    content = (tmp_path / "fifos/train_0").read_bytes()

    assert content == b"<" + BIG[300:3_000_300] + b"><" + BIG[4_999_999:5_000_006] + b">"
    assert feeder.error is None


def test_each_pass_has_its_own_pieces(run: Run, tmp_path: Path) -> None:
    """A pass is asked for by its number."""
    run(lambda number: [Piece(b"pass %d" % number)] * number)
    passes = [(tmp_path / f"fifos/train_{number}").read_bytes() for number in range(3)]

    assert passes == [b"", b"pass 1", b"pass 2pass 2"]


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


def test_a_link_in_the_place_of_a_fifo(tmp_path: Path) -> None:
    """Whoever puts a link there gets nothing written to where it leads, and the channel could not be fed."""
    victim = tmp_path / "victim"
    victim.write_text("dear")
    data = tmp_path / "data"
    data.mkdir()
    feeder = Feeder("train", lambda _: [Piece(b"data")], data)
    (data / "train_0").unlink()
    (data / "train_0").symlink_to(victim)
    feeder.start()
    feeder.join(10)
    feeder.stop()
    assert feeder.error is not None
    assert victim.read_text() == "dear"


def test_a_file_in_the_place_of_a_fifo(tmp_path: Path) -> None:
    """Nor is anything written to a file."""
    feeder = Feeder("train", lambda _: [Piece(b"data")], tmp_path)
    (tmp_path / "train_0").unlink()
    (tmp_path / "train_0").write_text("dear")
    feeder.start()
    feeder.join(10)
    feeder.stop()
    assert feeder.error is not None
    assert (tmp_path / "train_0").read_text() == "dear"
