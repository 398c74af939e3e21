"""Channels: what is data, what is not, and what is said of data that is wrong."""

import gzip
import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clary.errors import ChannelError, UserError
from clary.recordio.batch import CSR
from clary.recordio.framing import write_frame
from clary.train.channels import DataChannel
from clary.train.stop import Stop, Stopped

from ..job import CSV, POINTS, Tree, csv, recordio

Open = Callable[..., DataChannel]
ROWS = [[0, 0], [0, 2], [10, 0], [10, 2]]


def rows(channel: DataChannel, size: int = 100) -> list[list[float]]:
    """All rows of one pass."""
    return [row for batch in channel.batches(size) for row in batch.dense().tolist()]


def test_directory_and_sub_directories(tree: Tree, channel: Open) -> None:
    """All files of a directory are the channel, in the order of their paths."""
    tree.kmeans()
    for place, data in (("b.csv", b"3,3\n"), ("a/x.csv", b"1,1\n"), ("a/y/z", b"2,2\n")):
        tree.file(f"train/{place}", data)
    assert rows(channel()) == [[1, 1], [2, 2], [3, 3]]


@pytest.mark.parametrize(
    "name",
    [
        *("_SUCCESS", ".DS_Store", "._part-0.csv", ".amazon.manifest", ".metadata/part.csv", "__MACOSX/part.csv"),
        *("_committed_77", "_temporary/0/part.csv", "train.manifest", "train.py", "run.sh", "data.rec", "data.libsvm"),
        *("model.tar", "notes.md", "job.log", "config.yaml", "picture.png", "data.json", "array.npy", "a.zip"),
    ],
)
def test_foreign_files(tree: Tree, channel: Open, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """What is no data is passed over, and a warning says so once."""
    tree.kmeans().file("train/part-00000", POINTS)
    tree.file(f"train/{name}", b"\x00none of ours\n")
    train = channel()
    assert rows(train) == rows(train) == ROWS
    assert capsys.readouterr().out.count(f"Skipping file {name} in channel train") == 1


def test_manifest_beside_the_directory(tree: Tree, channel: Open) -> None:
    """The file <channel>-manifest beside a directory is not looked at."""
    tree.kmeans().file("train/a.csv", POINTS)
    tree.file("train-manifest", b"s3://bucket/\n")
    assert rows(channel()) == ROWS


def test_only_foreign_files(tree: Tree, channel: Open) -> None:
    """Where no file looks like data the error names those that there are."""
    tree.kmeans(content_type=None).file("train/a.csv", POINTS)
    with pytest.raises(ChannelError, match=r"no file in \S+ looks like recordio data; there are a\.csv"):
        rows(channel())


def test_name_that_is_no_text(tree: Tree, run_here: Callable[[], int]) -> None:
    """A file whose name is no UTF-8 does no harm."""
    tree.kmeans().file("train/\udce9.csv", POINTS)
    tree.file("train/\udce9.log", b"x")
    assert run_here() == 0


ZIPPED = gzip.compress(POINTS, mtime=0), gzip.compress(POINTS[:8], mtime=0) + gzip.compress(POINTS[8:], mtime=0)


@pytest.mark.parametrize("zipped", ZIPPED)
@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv", "part-0"])
def test_gzip(tree: Tree, channel: Open, zipped: bytes, name: str) -> None:
    """A gzip file of one or more members is unzipped, whatever its name."""
    tree.kmeans().file(f"train/{name}", zipped)
    assert rows(channel()) == ROWS


@pytest.mark.parametrize("cut", [3, 15, -9, -1])
def test_cut_gzip(tree: Tree, channel: Open, cut: int) -> None:
    """A cut gzip file is the user's error."""
    tree.kmeans().file("train/a.csv.gz", gzip.compress(POINTS)[:cut])
    with pytest.raises(ChannelError, match=r"Unable to read data channel 'train'.*a\.csv\.gz: "):
        rows(channel())


def test_spoilt_gzip(tree: Tree, channel: Open) -> None:
    """So is one with a wrong byte in it."""
    data = bytearray(gzip.compress(POINTS * 100))
    data[30] ^= 0xFF
    tree.kmeans().file("train/a.csv.gz", bytes(data))
    with pytest.raises(ChannelError, match="Unable to read data channel 'train'"):
        rows(channel())


def test_concatenated_objects(tree: Tree, channel: Open) -> None:
    """RecordIO files one after the other are one file, and empty files are none."""
    points = np.array(ROWS, np.float32)
    tree.kmeans(content_type=None).file("train/a.rec", recordio(points[:3]) + recordio(points[3:]))
    tree.file("train/0.rec", b"")
    assert rows(channel()) == ROWS


def test_file_without_final_newline(tree: Tree, channel: Open) -> None:
    """In a directory the next file begins a new row even if the last one does not end its own."""
    tree.kmeans().file("train/a.csv", b"0,0\n0,2")
    tree.file("train/b.csv", b"10,0\n10,2")
    assert rows(channel()) == ROWS


@pytest.mark.parametrize("mode", ["File", "FastFile", "Pipe", "fastfile", "", 3])
def test_mode_is_a_hint(tree: Tree, channel: Open, mode: object) -> None:
    """A directory is read as one, whatever mode the configuration says."""
    tree.kmeans().file("train/a.csv", POINTS)
    tree.config("inputdataconfig.json", {"train": {"TrainingInputMode": mode, "ContentType": CSV}})
    assert rows(channel()) == ROWS


def test_fifo_although_file(tree: Tree, channel: Open) -> None:
    """A FIFO is read although the configuration says File, as local runs do."""
    tree.kmeans().feed("train_0", POINTS)
    assert rows(channel()) == ROWS


def test_fifo_beside_directory(tree: Tree, channel: Open) -> None:
    """Where there are both, the FIFO is the channel."""
    tree.kmeans().feed("train_0", POINTS)
    tree.file("train/a.csv", b"7,7\n")
    assert rows(channel()) == ROWS


def test_late_fifo(tree: Tree, channel: Open) -> None:
    """A FIFO that the configuration promises may come late, the first as well as the next."""
    tree.kmeans(mode="Pipe").feed("train_0", POINTS, late=0.1)
    train = channel()
    assert rows(train) == ROWS
    tree.feed("train_1", b"5,5\n", late=0.1)
    assert rows(train) == [[5, 5]]


def test_passes(tree: Tree, channel: Open) -> None:
    """Each pass opens the next FIFO, and rows and batches add up."""
    tree.kmeans()
    for number in range(3):
        tree.feed(f"train_{number}", POINTS)
    train = channel()
    assert [len(rows(train, 3)) for _ in range(3)] == [4, 4, 4]
    assert (train.rows, train.batches_read) == (12, 6)


def test_early_close(tree: Tree, channel: Open) -> None:
    """A pass left early ends its writer, and the next one opens the next FIFO though the old name is still there."""
    writer = tree.kmeans().feed("train_0", *[POINTS * 50_000] * 20)
    train = channel()
    stream = train.batches(2)
    assert len(next(stream)) == 2
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    writer.join(10)
    assert not writer.is_alive()
    tree.feed("train_1", POINTS)
    assert rows(train) == ROWS


def test_batch_size(tree: Tree, channel: Open) -> None:
    """Batches have exactly the size asked for, over the borders of files; only the last is smaller."""
    tree.kmeans().file("train/a.csv", POINTS)
    tree.file("train/b.csv", POINTS)
    assert [len(batch) for batch in channel().batches(3)] == [3, 3, 2]


@pytest.mark.parametrize("wrapper", ["RecordIO", "RECORDIO"])
def test_wrapped_objects(tree: Tree, channel: Open, wrapper: str) -> None:
    """With RecordWrapperType=RecordIO each record of the FIFO is one CSV object."""
    stream = io.BytesIO()
    for text in (b"0,0\n0,2", b"", b"10,0\n10,2\n"):
        write_frame(stream, text)
    tree.kmeans().config("inputdataconfig.json", {"train": {"ContentType": CSV, "RecordWrapperType": wrapper}})
    tree.feed("train_0", stream.getvalue())
    assert rows(channel()) == ROWS


def test_wrapper_in_file_mode(tree: Tree, channel: Open) -> None:
    """Files are never wrapped, and records need no wrapper."""
    tree.config("inputdataconfig.json", {"train": {"ContentType": CSV, "RecordWrapperType": "RecordIO"}})
    tree.file("train/a.csv", POINTS)
    assert rows(channel()) == ROWS


def test_wrapped_recordio(tree: Tree, channel: Open) -> None:
    """RecordWrapperType changes nothing about data that is RecordIO already."""
    tree.config("inputdataconfig.json", {"train": {"RecordWrapperType": "RecordIO"}})
    tree.feed("train_0", recordio(np.array(ROWS, np.float32)))
    assert rows(channel()) == ROWS


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("text/csv; label_size=0", POINTS),
        ("TEXT/CSV;LABEL_SIZE=0;charset=utf-8", POINTS),
        ("text/csv", b"7,0,0\n7,0,2\n7,10,0\n7,10,2\n"),
        ("csv;label_size=2", b"7,8,0,0\n7,8,0,2\n7,8,10,0\n7,8,10,2\n"),
        (None, recordio(np.array(ROWS, np.float32))),
        ("application/x-recordio-protobuf", recordio(np.array(ROWS, np.float64))),
        ("recordio-protobuf", recordio(CSR.from_dense(np.array(ROWS, np.float32)))),
    ],
)
def test_content_types(tree: Tree, channel: Open, content_type: str | None, data: bytes) -> None:
    """Content types have parameters and any case; a CSV row begins with a label unless told otherwise."""
    tree.kmeans(content_type).file("train/data", data)
    assert rows(channel()) == ROWS


@pytest.mark.parametrize("content_type", ["text/libsvm", "application/json", "image/png", "csv/text", ";"])
def test_wrong_content_type(tree: Tree, channel: Open, content_type: str) -> None:
    """A content type that k-means does not read is refused in AWS's words, with those that it reads."""
    tree.kmeans(content_type).file("train/data", POINTS)
    told = (
        f"Unable to read data channel 'train'. Requested content-type is '{content_type}'. Please verify the data "
        "matches the requested content-type. K-means reads application/x-recordio-protobuf, text/csv"
    )
    with pytest.raises(ChannelError) as caught:
        channel()
    assert str(caught.value) == told


def test_wrong_parameter(tree: Tree, channel: Open) -> None:
    """A label_size that is no number is the user's error."""
    tree.kmeans("text/csv;label_size=x").file("train/data", POINTS)
    with pytest.raises(UserError, match="label_size must be a whole number"):
        rows(channel())


@pytest.mark.parametrize(("data", "name"), [(POINTS, "a.rec"), (b"\x00" * 64, "b"), (b"a,b\n", "c")])
def test_data_of_another_kind(tree: Tree, channel: Open, data: bytes, name: str) -> None:
    """Bytes that are no RecordIO are told with the file's name and the place."""
    tree.kmeans(content_type=None).file(f"train/{name}", data)
    with pytest.raises(ChannelError, match=rf"Requested content-type is 'application/x-recordio.*{name}: record 0 at"):
        rows(channel())


@pytest.mark.parametrize(
    ("data", "width", "content_type", "hint"),
    [
        (b"1,2,3\n", 2, "text/csv;label_size=0", ": with text/csv the first column is a label unless"),
        (b"1,2\n", 2, "text/csv", ": with text/csv the first column is a label unless"),
        (b"1,2,3,4\n", 2, "text/csv;label_size=0", ""),
        (recordio(np.ones((1, 3), np.float32)), 2, None, ""),
    ],
)
def test_width(tree: Tree, channel: Open, data: bytes, width: int, content_type: str | None, hint: str) -> None:
    """Rows that are not feature_dim wide are refused in AWS's words, and a likely reason is named."""
    tree.kmeans(content_type).file("train/data", data)
    with pytest.raises(ChannelError) as caught:
        rows(channel(width))
    text = str(caught.value)
    assert text.startswith("cannot copy sequence with size ")
    assert f" to array axis with dimension {width}: a row of channel 'train' has " in text
    assert (": with text/csv" in text) == bool(hint) and hint in text


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_missing_values(tree: Tree, channel: Open, sparse: bool, size: int) -> None:
    """NaN is refused in AWS's words, and the first row that has one is named."""
    points = np.array([[1, 2], [3, 4], [np.nan, 6], [np.nan, 1]], np.float32)
    tree.kmeans(None).file("train/data.rec", recordio(CSR.from_dense(points) if sparse else points))
    expected = (
        "Unable to read data channel 'train'. Found missing (NaN) values. Please remove any missing (NaN) values in "
        "the input data. The first is in row 2, counted from 0"
    )
    with pytest.raises(ChannelError) as caught:
        rows(channel(), size)
    assert str(caught.value) == expected


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_infinite_values(tree: Tree, channel: Open, value: float) -> None:
    """So are infinities, and numbers that float32 cannot hold."""
    tree.kmeans(None).file("train/data.rec", recordio(np.array([[1, 2], [value, 4]])))
    expected = (
        "Unable to read data channel 'train'. Found infinite floating point values. Please remove any infinite "
        "floating point values in the input data. The first is in row 1, counted from 0"
    )
    with pytest.raises(ChannelError) as caught:
        rows(channel())
    assert str(caught.value) == expected


def test_row_number_of_a_later_pass(tree: Tree, channel: Open) -> None:
    """Rows are counted from the beginning of the pass."""
    tree.kmeans()
    tree.feed("train_0", POINTS)
    tree.feed("train_1", b"1,1\n2,nan\n")
    train = channel()
    rows(train)
    with pytest.raises(ChannelError, match="in row 1, counted"):
        rows(train)


def test_large_values_are_numbers(tree: Tree, channel: Open) -> None:
    """A sum beyond float32 does not make its numbers infinite."""
    tree.kmeans(None).file("train/data.rec", recordio(np.full((4, 2), 3e38, np.float32)))
    assert len(rows(channel())) == 4


def test_empty_directory(tree: Tree, channel: Open) -> None:
    """A directory without files, or with empty ones, has no rows."""
    tree.kmeans().data.joinpath("train").mkdir()
    assert rows(channel()) == [] and channel().has_no_files
    tree.file("train/a.csv", b"")
    assert rows(channel()) == [] and not channel().has_no_files


def test_missing_channel(tree: Tree, channel: Open) -> None:
    """A missing channel is told in AWS's words, with what there is instead."""
    tree.file("training/a.csv", POINTS)
    tree.file(".cache/a.csv", POINTS)
    with pytest.raises(ChannelError) as caught:
        channel()
    text = str(caught.value)
    assert text.startswith(
        "Unable to read data channel 'train'. Please verify the correct data channel configuration is provided"
    )
    assert text.endswith("; the channels there are training")


def test_unknown_channels(tree: Tree, channel: Open, capsys: pytest.CaptureFixture[str]) -> None:
    """Channels that k-means does not know, and configured ones without data, are told of."""
    tree.file("train/a.csv", POINTS)
    tree.file("tets/a.csv", POINTS)
    tree.config("inputdataconfig.json", {"train": {"ContentType": CSV}, "test": {}, "code": {}})
    channel()
    out = capsys.readouterr().out
    assert "The channel 'tets' is not used: K-means knows train, test." in out
    assert "The channel 'code' is not used" in out
    assert "The channel 'test' is configured, but there is no data of it." in out


def test_broken_link(tree: Tree, channel: Open) -> None:
    """A link to nowhere is no file, and one to a file is that file."""
    elsewhere = tree.file("elsewhere", POINTS)
    tree.kmeans().data.joinpath("train").mkdir()
    for name, target in (("a.csv", elsewhere), ("b.csv", Path("/nowhere"))):
        (tree.data / "train" / name).symlink_to(target)
    assert rows(channel()) == ROWS


def test_stop_between_batches(tree: Tree, channel: Open) -> None:
    """Told to end, a channel gives no further batch."""
    tree.kmeans().file("train/a.csv", POINTS)
    stop = Stop()
    batches = channel(stop=stop).batches(2)
    next(batches)
    stop.requested = True
    with pytest.raises(Stopped):
        next(batches)


def test_stop_after_the_last_batch(tree: Tree, channel: Open) -> None:
    """Told to end within its last batch, a pass ends as one that was broken off."""
    tree.kmeans().file("train/a.csv", POINTS)
    stop = Stop()
    batches = channel(stop=stop).batches(4)
    next(batches)
    stop.requested = True
    with pytest.raises(Stopped):
        next(batches)


def test_stop_within_a_batch(tree: Tree, channel: Open) -> None:
    """Told to end, a channel does not first read all of a huge batch."""
    tree.kmeans()
    stop = Stop()
    writer = tree.feed("train_0", POINTS * 10_000, endless=True)
    timer = threading.Timer(0.2, setattr, (stop, "requested", True))
    timer.start()
    with pytest.raises(Stopped):
        next(channel(stop=stop).batches(10**9))
    writer.join(10)
    assert not writer.is_alive()


def test_csv_and_recordio_agree(tree: Tree, channel: Open) -> None:
    """The same rows come out of both formats."""
    points = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    tree.kmeans().file("train/a.csv", csv(points))
    assert np.array_equal(np.array(rows(channel()), np.float32), points)
