"""Lines of the log that programs read."""

import json
import os
import pty
import re
import socket
import subprocess
from pathlib import Path

import pytest

from clary.algorithms.registry import ALGORITHMS, algorithm
from clary.train.metrics import LINES, METRICS_REGEX, Aggregate, metric_definitions, metrics_line

from ..job import COMMAND, POINTS, SOON, Tree

NUMBERS = (0.0, 1.0, 0.1, 1e-17, 6.666666666666667, 8736.585137642067, 1e22, -3.5, float("inf"))


@pytest.mark.parametrize("kind", sorted(LINES.keys() - {"progress to the end", "round"}))  # always 100; has 5 digits
@pytest.mark.parametrize("number", NUMBERS)
def test_forms_match_their_regex(kind: str, number: float) -> None:
    """What the form writes the regular expression finds, to the last digit."""
    names = {"channel": "test", "name": "msd", "tag": "loss"}
    line = LINES[kind](
        host="algo-1", epoch=3, batch=500, criteria="mse_objective", value=number, percent=number, rate=number, **names
    )
    found = re.fullmatch(LINES[kind].regex.format(**names) + ("" if kind != "progress" else ".*"), line)
    assert found is not None and float(found[1]) == number


@pytest.mark.parametrize("tab", ["\t", "#011"])
def test_round_form_matches_its_regex(tab: str) -> None:
    """The regular expression finds a metric of a boosting round in the job's own log and in the platform's."""
    values = {"train": 1, "test": 0.5}
    told = [LINES["round"](channel=channel, name="auc", value=value) for channel, value in values.items()]
    line = ("[12]" + "".join(told)).replace("\t", tab)
    assert re.findall(LINES["round"].regex.format(channel="test", name="auc"), line) == ["0.50000"]


@pytest.mark.parametrize(
    ("kind", "values", "line"),
    [
        (
            "progress",
            {"percent": 6.666666666666667},
            "#progress_metric: host=algo-1, completed 6.666666666666667 % of epochs",
        ),
        (
            "throughput",
            {"rate": 8736.585137642067},
            "#throughput_metric: host=algo-1, train throughput=8736.585137642067 records/second",
        ),
        (
            "epoch quality",
            {"epoch": 0, "channel": "train", "name": "msd", "tag": "loss", "value": 0.136},
            "#quality_metric: host=algo-1, epoch=0, train msd <loss>=0.136",
        ),
        (
            "batch quality",
            {"epoch": 0, "batch": 500, "channel": "train", "name": "rmse", "tag": "loss", "value": 72.5},
            "#quality_metric: host=algo-1, epoch=0, batch=500 train rmse <loss>=72.5",
        ),
        (
            "early stopping",
            {"epoch": 4, "criteria": "mse_objective", "value": 0.25},
            "#early_stopping_criteria_metric: host=algo-1, epoch=4, criteria=mse_objective, value=0.25",
        ),
        ("progress to the end", {}, "#progress_metric: host=algo-1, completed 100 % epochs"),
        (
            "quality",
            {"channel": "train", "name": "accuracy", "tag": "score", "value": 0.99314},
            "#quality_metric: host=algo-1, train accuracy <score>=0.99314",
        ),
        ("score", {"channel": "test", "name": "msd", "value": 0.5}, "#test_score (algo-1) : ('msd', 0.5)"),
    ],
)
def test_shapes(kind: str, values: dict[str, object], line: str) -> None:
    """The lines have the words and signs that Amazon's containers print."""
    assert LINES[kind](host="algo-1", **values) == line


def test_metrics_line() -> None:
    """A #metrics line is one JSON object with AWS's keys in their order."""
    line = metrics_line(1.5, 2.5, {"Algorithm": "PCA"}, {"update.time": Aggregate.of([1.0, 3.0])})
    found = re.fullmatch(METRICS_REGEX, line)
    assert found is not None
    body = json.loads(found[1])
    assert list(body) == ["StartTime", "EndTime", "Dimensions", "Metrics"]
    assert body["Metrics"] == {"update.time": {"sum": 4.0, "count": 2, "min": 1.0, "max": 3.0}}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_definitions_are_allowed(name: str) -> None:
    """SageMaker takes the metric definitions: one group each, names and expressions short enough, no name twice."""
    definitions = metric_definitions(algorithm(name))
    assert len({entry["Name"] for entry in definitions}) == len(definitions) > 0
    for entry in definitions:
        assert re.compile(entry["Regex"]).groups == 1
        assert len(entry["Regex"]) <= 500 and len(entry["Name"]) <= 255


def test_definitions_of_kmeans() -> None:
    """The names are those of the console, and test:msd is found as AWS's own expression finds it."""
    definitions = {entry["Name"]: entry["Regex"] for entry in metric_definitions(algorithm("kmeans"))}
    assert list(definitions) == ["train:msd", "test:msd", "test:ssd", "train:progress", "train:throughput"]
    assert definitions["test:msd"] == r"#quality_metric: host=\S+, test msd <loss>=(\S+)"


@pytest.fixture
def ready(tree: Tree) -> Tree:
    """A job of two epochs with a test channel."""
    tree.kmeans(epochs=2, eval_metrics='["msd", "ssd"]').file("train/a.csv", POINTS)
    tree.file("test/a.csv", b"0,1\n10,4\n")
    entry = {"ContentType": "text/csv;label_size=0"}
    tree.config("inputdataconfig.json", {"train": entry, "test": entry})
    return tree


def numbered(lines: list[str]) -> list[str]:
    """Lines without their numbers, which differ from run to run."""
    return [re.sub(r"[\d.e-]+", "0", line) for line in lines]


def test_log_of_a_job(ready: Tree) -> None:
    """All lines of a job come in AWS's order, with the numbers that they should have."""
    lines = [line for line in ready.run().messages if line.startswith(("#quality", "#test", "#progress", "#through"))]
    throughput = [line for line in lines if line.startswith("#throughput_metric: host=algo-1, train throughput=")]
    assert len(throughput) == 2
    assert [line for line in lines if line not in throughput] == [
        "#progress_metric: host=algo-1, completed 50.0 % of epochs",
        "#progress_metric: host=algo-1, completed 100.0 % of epochs",
        "#quality_metric: host=algo-1, train msd <loss>=1.0",
        "#test_score (algo-1) : ('msd', 4.5)",
        "#test_score (algo-1) : ('ssd', 9.0)",
        "#quality_metric: host=algo-1, test msd <loss>=4.5",
        "#quality_metric: host=algo-1, test ssd <loss>=9.0",
    ]


def test_metrics_blocks_of_a_job(ready: Tree) -> None:
    """The #metrics lines count records and batches, and each is followed by an empty line."""
    lines = ready.run(CLARY_ALGORITHM="kmeans").text.split("\n")
    at = [i for i, line in enumerate(lines) if line.startswith("#metrics ")]
    blocks = [json.loads(lines[i][len("#metrics ") :]) for i in at]
    assert all(lines[i + 1] == "" for i in at)
    meta = [(block["Dimensions"].get("Meta"), block["Dimensions"].get("epoch")) for block in blocks]
    assert meta[:3] == [("init_train_data_iter", None), ("training_data_iter", 0), ("training_data_iter", 1)]
    seen = blocks[2]["Metrics"]
    assert seen["Total Records Seen"] == {"sum": 8.0, "count": 1, "min": 8, "max": 8}
    assert seen["Number of Records Since Last Reset"]["sum"] == 4.0
    assert {"_shrink.time", "model.serialize.time", "update.time", "epochs"} <= set(blocks[3]["Metrics"])
    assert set(blocks[4]["Metrics"]) == {"setuptime", "totaltime"}
    assert {block["Dimensions"]["Algorithm"] for block in blocks} == {"AWS/KMeansWebscale"}


def test_definitions_find_every_metric(ready: Tree) -> None:
    """Each metric definition finds its number in the log of a job."""
    text = ready.run().text
    for entry in metric_definitions(algorithm("kmeans")):
        found = re.findall(entry["Regex"], text)
        assert found and all(float(number) >= 0 for number in found), entry


def test_terminal(ready: Tree) -> None:
    """On a terminal a job prints the same lines, and no control codes."""
    plain = ready.run().text
    master, slave = pty.openpty()
    env = {**os.environ, "SAGEMAKER_BASE_DIR": str(ready.root), "CLARY_ALGORITHM": "kmeans", "TERM": "xterm-256color"}
    with subprocess.Popen(COMMAND, env=env, stdout=slave, stderr=slave) as process:
        os.close(slave)
        seen = _read_to_end(master)
        assert process.wait(SOON) == 0
    os.close(master)
    assert b"\x1b" not in seen
    assert numbered(seen.decode().replace("\r\n", "\n").split("\n")) == numbered(plain.split("\n"))


def _read_to_end(handle: int) -> bytes:
    seen = b""
    while True:
        try:
            part = os.read(handle, 1 << 16)
        except OSError:  # a terminal's way to say that nobody writes any more
            return seen
        if not part:
            return seen
        seen += part


def test_one_write_a_line(ready: Tree, tmp_path: Path) -> None:
    """Each line is written whole with one system call, so lines of several writers never mix."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {**os.environ, "SAGEMAKER_BASE_DIR": str(ready.root), "CLARY_ALGORITHM": "kmeans"}
    with ours, subprocess.Popen(COMMAND, env=env, stdout=theirs.fileno(), cwd=tmp_path) as process:
        theirs.close()
        ours.settimeout(SOON)
        writes = list(iter(lambda: ours.recv(1 << 16), b""))
        assert process.wait(SOON) == 0
    assert len(writes) > 20
    for write in writes:
        text = write.decode()
        assert text.endswith("\n\n" if text.startswith("#metrics") else "\n")
        assert "\n" not in text.rstrip("\n")
