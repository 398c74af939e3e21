"""Log lines: in files, and in CloudWatch Logs as its clients read them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from moto.cloudwatch.models import MetricDatum, cloudwatch_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.logs.models import LogEvent, LogStream, logs_backends

from clary.local import cloudwatch
from clary.local.logs import Logs
from clary.local.moto_logs import Shown, Stream
from clary.local.store import Metric

from .test_services import WAIT, client

REGION: Final = "eu-west-1"
GROUP: Final = "/aws/sagemaker/TrainingJobs"
STREAM: Final = "job/algo-1-1700000000"
LIMIT: Final = 1000
PROGRAM: Final = """
import sys
import threading
from pathlib import Path

import waitress
from clary.local.logs import Logs
from clary.local.services import Services

folder = Path(sys.argv[1])
logs = Logs(folder)
logs.load()
server = waitress.create_server(Services(folder), host="127.0.0.1", port=0)
print(server.effective_port, flush=True)
threading.Thread(target=server.run, daemon=True).start()
for line in sys.stdin:
    stream, _, text = line.rstrip("\\n").partition("|")
    if text == "LOAD":
        logs.flush()
        logs.load()
        continue
    logs.write("eu-west-1", "/aws/sagemaker/TrainingJobs", stream, text)
"""


@contextmanager
def writing(folder: Path) -> Iterator[tuple[Any, subprocess.Popen[str]]]:
    """A client of CloudWatch Logs and the process that writes what it is told; it is killed at the end."""
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield client("logs", f"http://127.0.0.1:{int(process.stdout.readline())}"), process
        finally:
            process.kill()
            process.wait(WAIT)


def say(process: subprocess.Popen[str], *lines: str, stream: str = STREAM) -> None:
    """Have lines written to a stream."""
    assert process.stdin is not None
    process.stdin.writelines(f"{stream}|{line}\n" for line in lines)
    process.stdin.flush()


def follow(client: Any, expected: int, stream: str = STREAM) -> list[str]:
    """The lines of a stream as the SageMaker SDK reads them: page by page, on from the last token."""
    lines: list[str] = []
    more: dict[str, Any] = {}
    end = time.monotonic() + WAIT
    while len(lines) < expected and time.monotonic() < end:
        try:
            page = client.get_log_events(
                logGroupName=GROUP, logStreamName=stream, startTime=0, startFromHead=True, limit=LIMIT, **more
            )
        except client.exceptions.ResourceNotFoundException:  # it is there with its first line
            continue
        lines += [event["message"] for event in page["events"]]
        more = {"nextToken": page["nextForwardToken"]}
    return lines


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    """Log streams of their own folder."""
    found = Logs(tmp_path)
    yield found
    found.close()


def texts(logs: Logs, group: str = GROUP, prefix: str = "", **more: Any) -> list[str]:
    """What the lines say."""
    return [line.text for line in logs.tail(REGION, group, prefix, **more).lines]


def test_cloudwatch_while_written(tmp_path: Path) -> None:
    """A client finds the stream by its job's name and reads every line once, in order, while more are written."""
    first, second = [f"line {number}" for number in range(2500)], [f"line {number}" for number in range(2500, 5000)]
    with writing(tmp_path) as (cloudwatch, process):
        say(process, *first)
        assert follow(cloudwatch, len(first)) == first
        say(process, *second)
        assert follow(cloudwatch, 5000) == first + second
        (stream,) = cloudwatch.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="job/")["logStreams"]
        assert stream["logStreamName"] == STREAM
        assert abs(stream["lastEventTimestamp"] / 1000 - time.time()) < WAIT
        assert cloudwatch.filter_log_events(logGroupName=GROUP, filterPattern="4999")["events"]


def test_lines_outlast_a_kill(tmp_path: Path) -> None:
    """Lines that a client has seen are there after a kill, in files and in CloudWatch Logs, and more may follow."""
    with writing(tmp_path) as (cloudwatch, process):
        say(process, "first", "a\tb", "ünïcödé")
        assert follow(cloudwatch, 3) == ["first", "a#011b", "ünïcödé"]
    (file,) = (tmp_path / "logs" / REGION).glob("*/*")
    with file.open("ab") as stream:
        stream.write(b"1700000000000 a line that the kill has cu")
    with writing(tmp_path) as (cloudwatch, process):
        say(process, "after")
        # the cut line bears an old time; CloudWatch Logs sorts by it
        assert sorted(follow(cloudwatch, 5)) == sorted(
            ["first", "a#011b", "ünïcödé", "a line that the kill has cu", "after"]
        )


def test_old_lines(tmp_path: Path) -> None:
    """Lines of a year ago are in CloudWatch Logs after a start, though PutLogEvents takes none older than 14 days."""
    folder = tmp_path / "logs" / REGION / "%2Faws%2Fsagemaker%2FTrainingJobs"
    folder.mkdir(parents=True)
    (folder / "job%2Falgo-1-1700000000").write_text("1700000000000 then\nno time\n1700000000001 later\n")
    with writing(tmp_path) as (cloudwatch, _):
        assert follow(cloudwatch, 2) == ["then", "later"]


def test_what_is_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Folders, FIFOs, links to nowhere and lines without a time among the logs keep nobody from the others."""
    folder = tmp_path / "logs" / REGION / "%2Faws%2Fsagemaker%2FTrainingJobs"
    (folder / "a folder").mkdir(parents=True)
    os.mkfifo(folder / "fifo")
    (folder / "nowhere").symlink_to("nothing")
    (folder / "lines").write_bytes(b"9" * 5000 + b" x\n\xff\xfe\n" + "\u0661 y\n".encode() + b"-1 z\n1 good\n")
    logs = Logs(tmp_path)
    logs.load()
    assert texts(logs) == ["good"]
    logs.close()
    assert caplog.text == ""
    with writing(tmp_path) as (cloudwatch, _):
        assert follow(cloudwatch, 1, "lines") == ["good"]


def test_cloudwatch_has_the_latest_lines() -> None:
    """Of a long log it has as many as there is room for, of all logs together too; who reads on misses none."""
    shown = Shown(most=30_000, most_of_all=50_000)
    backend: Any = logs_backends[DEFAULT_ACCOUNT_ID]["us-east-2"]
    read: list[str] = []
    more: str | None = None
    for begin in range(0, 100_000, 5_000):
        shown.give(Stream("us-east-2", "group", "long"), [(at, str(at)) for at in range(begin, begin + 5_000)])
        while events := (page := backend.get_log_events("group", "", "long", 0, None, 3_000, more, True))[0]:
            read += [event["message"] for event in events]
            more = page[2]
    assert read == [str(at) for at in range(100_000)]
    streams: dict[str, LogStream] = backend.groups["group"].streams
    assert 20_000 <= len(streams["long"].events) <= 30_000
    for number in range(10):
        shown.give(Stream("us-east-2", "group", f"short-{number}"), [(at, str(at)) for at in range(9_000)])
    assert streams is not backend.groups["group"].streams
    streams = backend.groups["group"].streams
    assert sum(len(stream.events) for stream in streams.values()) <= 50_000
    assert len(streams["short-9"].events) == 9_000
    late = backend.get_log_events("group", "", "long", 0, None, 10, more, True)
    assert late[0] == []
    remembered: Any = LogEvent
    assert remembered.instances_tracked == []


def test_cloudwatch_has_the_latest_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics of more than 15 days ago are left out, and of too many the oldest."""
    monkeypatch.setattr("clary.local.cloudwatch._MOST", 100)
    now = time.time()
    data: list[Any] = cloudwatch_backends[DEFAULT_ACCOUNT_ID]["us-east-2"].metric_data
    cloudwatch.publish("us-east-2", "old", [Metric("loss", now - 16 * 86400, 1.0), Metric("loss", now - 60, 2.0)])
    assert [one.value for one in data] == [2.0]
    data[0].timestamp -= timedelta(days=20)
    cloudwatch.publish("us-east-2", "new", [Metric("loss", now, float(number)) for number in range(300)])
    assert [one.value for one in data] == [float(number) for number in range(200, 300)]
    remembered: Any = MetricDatum
    assert remembered.instances_tracked == []


def test_late_load(tmp_path: Path) -> None:
    """Lines that are written before those of a former run are loaded are not given twice."""
    with writing(tmp_path) as (cloudwatch, process):
        say(process, "once", stream="load")
        say(process, "LOAD")
        say(process, "again", stream="load")
        assert follow(cloudwatch, 2, "load") == ["once", "again"]


def test_tail_goes_on(logs: Logs) -> None:
    """A tail goes on where the one before ended, over streams, each line once, in order of time."""
    for number in range(10):
        logs.write(REGION, GROUP, f"job/algo-{number % 2}", str(number))
    logs.write(REGION, GROUP, "other/algo-1", "not asked for")
    first = logs.tail(REGION, GROUP, "job/", limit=4)
    second = logs.tail(REGION, GROUP, "job/", position=first.position)
    lines = first.lines + second.lines
    assert sorted(line.text for line in lines) == [str(number) for number in range(10)]
    for stream in ("job/algo-0", "job/algo-1"):
        own = [line.text for line in lines if line.stream == stream]
        assert own == sorted(own)
    assert [line.time for line in lines] == sorted(line.time for line in lines)
    assert logs.tail(REGION, GROUP, "job/", position=second.position) == ([], second.position)
    logs.write(REGION, GROUP, "job/algo-0", "more")
    assert texts(logs, prefix="job/", position=second.position) == ["more"]


def test_tail_since(logs: Logs) -> None:
    """A tail leaves out lines of before a time, and what is not there has none."""
    logs.write(REGION, GROUP, STREAM, "early")
    logs.flush()
    time.sleep(0.002)
    logs.write(REGION, GROUP, STREAM, "late")
    (_, late) = logs.tail(REGION, GROUP).lines
    assert texts(logs, since=late.time) == ["late"]
    assert texts(logs, prefix="absent") == texts(logs, group="absent") == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("tab\tend", "tab#011end"),
        ("\x1b[31mred\x7f\r", "#033[31mred#177#015"),
        ("two\nlines", "two#012lines"),
        ("", ""),
        ("  kept  ", "  kept  "),
        ("lone \ud800", "lone ?"),
        ("ü" * 200_000, "ü" * 131_059),
    ],
)
def test_text(logs: Logs, written: str, read: str) -> None:
    """Control characters become octal numbers, and what CloudWatch Logs would not take is cut."""
    logs.write(REGION, GROUP, STREAM, written)
    assert texts(logs) == [read]


@pytest.mark.parametrize("name", ["..", ".", "../../x", "/aws/sagemaker/Endpoints/a", "a b%2F"])
def test_names_stay_inside(logs: Logs, tmp_path: Path, name: str) -> None:
    """No name of a group or stream leads out of the folder."""
    logs.write(REGION, name, name, "text")
    (line,) = logs.tail(REGION, name).lines
    assert (line.stream, line.text) == (name, "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["logs"]
    assert len(list((tmp_path / "logs").glob("*/*/*"))) == 1


def test_many_writers(logs: Logs) -> None:
    """Lines of many threads are whole, all there, and those of each thread in its order."""

    def write(number: int) -> None:
        for line in range(500):
            logs.write(REGION, GROUP, STREAM, f"{number} {line}")

    threads = [threading.Thread(target=write, args=[number], daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    lines = texts(logs)
    assert len(lines) == 4000
    for number in range(8):
        assert [line for line in lines if line.startswith(f"{number} ")] == [f"{number} {line}" for line in range(500)]


def test_unwritable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lines that no file takes are reported and go to CloudWatch Logs all the same; later ones are written."""
    logs = Logs(tmp_path)
    obstacle = tmp_path / "logs" / REGION
    obstacle.write_text("")
    logs.write(REGION, GROUP, STREAM, "lost")
    logs.flush()
    assert "1 lines of the log" in caplog.text
    obstacle.unlink()
    logs.write(REGION, GROUP, STREAM, "kept")
    assert texts(logs) == ["kept"]
    logs.close()


def test_unknown_region(logs: Logs) -> None:
    """A region that AWS does not have has log files like any other."""
    logs.write("moon-1", GROUP, STREAM, "text")
    assert [line.text for line in logs.tail("moon-1", GROUP).lines] == ["text"]
