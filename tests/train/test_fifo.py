"""Reading FIFOs: writers that are slow, late, silent or gone."""

import gzip
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clary.errors import PlatformError, UserError
from clary.train.channels import DataChannel
from clary.train.fifo import FifoReader, is_fifo, wait_limit
from clary.train.stop import Stop, Stopped

from ..job import POINTS, SOON, Tree, recordio, until

ROWS = [[0, 0], [0, 2], [10, 0], [10, 2]]


def reader(tree: Tree, name: str = "train_0", limit: float = SOON) -> FifoReader:
    """A reader of a FIFO of the tree."""
    return FifoReader(tree.data / name, Stop(), limit)


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("text/csv;label_size=0", POINTS),
        ("text/csv;label_size=0", gzip.compress(POINTS, mtime=0)),
        (None, recordio(np.array(ROWS, np.float32))),
        (None, gzip.compress(recordio(np.array(ROWS, np.float32)), mtime=0)),
    ],
    ids=["csv", "csv.gz", "recordio", "recordio.gz"],
)
def test_byte_by_byte(tree: Tree, channel: Callable[[], DataChannel], content_type: str | None, data: bytes) -> None:
    """A writer may split numbers, headers and magic words wherever it likes."""
    chunks = [data[i : i + 1] for i in range(len(data))]
    tree.kmeans(content_type).feed("train_0", *chunks, pause=0.0005)
    assert [row for batch in channel().batches(3) for row in batch.dense().tolist()] == ROWS


def test_silence_before_the_first_byte(tree: Tree) -> None:
    """A writer that has not come yet is not the end of the data."""
    os.mkfifo(tree.data / "train_0")
    with reader(tree) as stream:
        handle = os.open(tree.data / "train_0", os.O_WRONLY)
        time.sleep(0.1)
        os.write(handle, b"abc")
        os.close(handle)
        assert stream.readall() == b"abc"


def test_writer_without_data(tree: Tree) -> None:
    """A writer that opens and closes gives an empty pass."""
    tree.feed("train_0")
    with reader(tree) as stream:
        assert stream.readall() == b""


def test_late(tree: Tree) -> None:
    """A FIFO may appear after the reader."""
    tree.feed("train_0", b"abc", late=0.1)
    with reader(tree) as stream:
        assert stream.readall() == b"abc"


def test_close_ends_the_writer(tree: Tree) -> None:
    """Closing early gives the writer EPIPE at once."""
    writer = tree.feed("train_0", b"x" * 100_000, endless=True)
    with reader(tree) as stream:
        assert stream.read(1) == b"x"
    writer.join(SOON)
    assert not writer.is_alive()


def test_never_appears(tree: Tree) -> None:
    """A FIFO that does not come is given up with the platform's words."""
    with pytest.raises(PlatformError, match=r"^SageMaker pipe channel timed out: \S+/train_0 did not appear within"):
        reader(tree, limit=0.1)


@pytest.mark.parametrize("opened", [False, True])
def test_gives_nothing(tree: Tree, opened: bool) -> None:
    """So is one whose writer does not come, or sends nothing."""
    os.mkfifo(tree.data / "train_0")
    with reader(tree, limit=0.1) as stream:
        handle = os.open(tree.data / "train_0", os.O_WRONLY) if opened else -1
        with pytest.raises(PlatformError, match=r"train_0 gave no data within 0\.1 s"):
            stream.read(1)
        if opened:
            os.close(handle)


def test_only_fifos(tree: Tree) -> None:
    """Files, directories and names without anything behind them are no FIFOs."""
    os.mkfifo(tree.data / "fifo")
    places = [tree.data, tree.file("file", b""), tree.data / "nothing", tree.data / "fifo"]
    assert [is_fifo(place) for place in places] == [False, False, False, True]


@pytest.mark.parametrize(("text", "seconds"), [("", 600), ("0.5", 0.5), ("1e3", 1000), ("inf", 1e6)])
def test_limit(text: str, seconds: float) -> None:
    """CLARY_PIPE_TIMEOUT is in seconds, and 600 by default."""
    assert wait_limit({"CLARY_PIPE_TIMEOUT": text}) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon"])
def test_wrong_limit(text: str) -> None:
    """Anything but a positive number is refused."""
    with pytest.raises(UserError, match=f"^CLARY_PIPE_TIMEOUT='{text}': expected a number of seconds above 0$"):
        wait_limit({"CLARY_PIPE_TIMEOUT": text})


def test_endless_limit_waits(tree: Tree) -> None:
    """The longest limit is one that the system call takes."""
    tree.feed("train_0", b"x")
    with reader(tree, limit=wait_limit({"CLARY_PIPE_TIMEOUT": "1e300"})) as stream:
        assert stream.readall() == b"x"


def test_timed_out_job(tree: Tree) -> None:
    """A job whose pipe stays silent ends with the platform's exit code."""
    tree.kmeans(mode="Pipe")
    result = tree.run(CLARY_PIPE_TIMEOUT=0.2)
    assert result.code == 3
    assert result.failure is not None
    assert result.failure.startswith("Platform Error: SageMaker pipe channel timed out: ")


def _no_fifo(_tree: Tree) -> None:
    """Nothing is there."""


def _no_writer(tree: Tree) -> None:
    os.mkfifo(tree.data / "train_0")


def _silent_writer(tree: Tree) -> None:
    tree.feed("train_0", b"0,0\n", b"", pause=SOON)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("prepare", [_no_fifo, _no_writer, _silent_writer])
def test_told_to_end_while_blocked(tree: Tree, prepare: Callable[[Tree], None], number: int) -> None:
    """A job that waits for a FIFO, for its writer or for more data ends at once and well when told to."""
    prepare(tree.kmeans(mode="Pipe"))
    process = tree.start()
    assert process.stdout is not None
    log = b""
    while b"pipe input mode" not in log:
        assert select.select([process.stdout], [], [], SOON)[0]
        log += os.read(process.stdout.fileno(), 1 << 16)
    time.sleep(0.1)
    process.send_signal(number)
    told = time.monotonic()
    result = tree.end(process)
    assert time.monotonic() - told < 5
    assert (result.code, result.failure) == (0, None)
    assert "told to end: there is no model to save" in result.text
    assert not tree.model.exists()


def test_second_signal() -> None:
    """A signal breaks off one wait; a further one does not break off what follows."""
    stop = Stop()
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    stop.install()
    try:
        with stop.interruptible():
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
                until(lambda: False)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert stop.requested
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def test_pipe_is_enlarged(tmp_path: Path) -> None:
    """A writer can send more than the usual 64 KiB before the reader takes any."""
    os.mkfifo(tmp_path / "fifo")
    with FifoReader(tmp_path / "fifo", Stop(), SOON) as stream:
        handle = os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK)
        sent = os.write(handle, b"x" * (1 << 18))
        os.close(handle)
        assert sent == len(stream.readall()) > 1 << 16
