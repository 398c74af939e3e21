"""Training jobs and servers of linear learner, as real processes."""

import json
import re
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.linear_learner import LinearLearnerModel
from clary.algorithms.registry import open_artifact
from clary.recordio.batch import CSR, Array

from ..job import Result, Tree, csv, recordio
from ..serve.conftest import Server, Start
from ..serve.conftest import quick as quick  # fixtures
from ..serve.conftest import start as start

ROWS = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
LABELS = (ROWS @ [2, -1] > 0).astype(np.float32)
NUMBER = r"[-+.\de]+"


def job(root: Path, channels: tuple[str, ...] = ("train",), features: Array | CSR = ROWS, **given: object) -> Tree:
    """A job on these rows in every channel."""
    tree = Tree(root)
    texts = {"predictor_type": "binary_classifier", "mini_batch_size": "40", **given}
    tree.config("hyperparameters.json", {name: str(value) for name, value in texts.items()})
    tree.config("inputdataconfig.json", {name: {"TrainingInputMode": "File"} for name in channels})
    for name in channels:
        tree.file(f"{name}/data", recordio(features, LABELS))
    return tree


def run(tree: Tree) -> Result:
    """How the job ends."""
    return tree.run(CLARY_ALGORITHM="linear-learner")


def test_log(tmp_path: Path) -> None:
    """An epoch tells the losses of all models, then model 0's, then the least; the end tells all scores twice."""
    result = run(job(tmp_path, ("train", "validation", "test"), epochs=1, num_models=2))
    assert result.code == 0
    objective = "binary_classification_cross_entropy_objective"
    lines = result.text.splitlines()
    models = [i for i, line in enumerate(lines) if '"model":' in line]
    told = [json.loads(lines[i].removeprefix("#metrics ")) for i in models]
    assert [(t["Dimensions"]["epoch"], t["Dimensions"]["model"]) for t in told] == [(0, 0), (0, 1), (0, 0), (0, 1)]
    names = [f"{channel}_{objective}" for channel in ("train", "train", "validation", "validation")]
    assert [[*t["Metrics"]] for t in told] == [[name] for name in names]
    assert {t["Dimensions"]["Algorithm"] for t in told} == {"Linear Learner"}
    assert all(lines[i + 1] == "" for i in models)
    rest = [message for message in result.messages[models[-1] + 1 :] if message]
    losses = [t["Metrics"][name]["sum"] for t, name in zip(told, names, strict=True)]
    assert rest[:4] == [
        f"#quality_metric: host=algo-1, epoch=0, train {objective} <loss>={losses[0]!r}",
        f"#quality_metric: host=algo-1, epoch=0, validation {objective} <loss>={losses[2]!r}",
        f"#early_stopping_criteria_metric: host=algo-1, epoch=0, criteria={objective}, value={min(losses[2:])!r}",
        "Epoch 0: Loss improved. Updating best model",
    ]
    assert rest[4] == "#progress_metric: host=algo-1, completed 100.0 % of epochs"
    ends = [re.sub(NUMBER + r"\)?$", "", message) for message in rest if re.search(r"_score \(|> ?=|e>=|s>=", message)]
    kinds = [re.match(r"#(\w+)_score|#quality_metric: host=algo-1, (\w+) ", message) for message in ends]
    told_kinds = [match[1] or match[2] for match in kinds if match]
    assert told_kinds == ["validation"] * 16 + ["test"] * 16
    assert [bool(match[1]) for match in kinds if match] == ([True] * 8 + [False] * 8) * 2
    best = next(i for i, message in enumerate(rest) if message.startswith("Best model found for hyperparameters: {"))
    assert "validation binary_log_loss" in rest[best - 1] and rest[best + 1].startswith("#test_score (algo-1) : ('")


def test_early_stop(tmp_path: Path) -> None:
    """A job that stops early says so, is complete then, and tells its last criterion a second time."""
    result = run(job(tmp_path, epochs=50, early_stopping_tolerance=0.5, early_stopping_patience=1))
    told = [message for message in result.messages if message.startswith("#early_stopping_criteria_metric")]
    assert result.code == 0 and len(told) < 50 and told[-1] == told[-2] != told[-3]
    stop = result.messages.index("Early stop condition met. Stopping training.")
    assert result.messages[stop - 1] == told[-1]
    assert result.messages[stop + 1] == "#progress_metric: host=algo-1, completed 100 % epochs"
    assert told[-1] in result.messages[stop + 2 :]


def test_sigterm(tmp_path: Path) -> None:
    """A job that is told to end leaves the model that it has so far."""
    tree = job(tmp_path, epochs=100_000, early_stopping_patience=100_000)
    process = tree.start(CLARY_ALGORITHM="linear-learner")
    assert process.stdout is not None
    while b"epoch=3" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGTERM)
    assert tree.end(process).code == 0
    found, model = open_artifact(tmp_path / "model")
    assert found.name == "linear-learner"
    right = model.predict(ROWS).columns["predicted_label"] == LABELS
    assert right.mean() > 0.9


def test_wrong_width(tmp_path: Path) -> None:
    """A feature_dim that is not the data's width is the customer's error."""
    result = run(job(tmp_path, feature_dim=3))
    assert result.code == 2 and result.failure is not None
    assert result.failure.startswith("Customer Error: ") and "feature_dim" in result.failure


def test_csv_without_labels(tmp_path: Path) -> None:
    """CSV whose first column is no label is the customer's error, with what to write."""
    tree = job(tmp_path)
    tree.config("inputdataconfig.json", {"train": {"ContentType": "text/csv"}})
    tree.file("train/data", csv(ROWS))
    result = run(tree)
    assert result.code == 2 and result.failure is not None and "a binary_classifier takes 0 to 1" in result.failure


def test_diverged(tmp_path: Path) -> None:
    """A job whose models have all become infinite is an error that says what to lower, and leaves no model."""
    result = run(job(tmp_path, predictor_type="regressor", optimizer="sgd", learning_rate=1e30))
    assert result.code == 2 and result.failure is not None and "lower learning_rate" in result.failure
    assert "RuntimeWarning" not in result.text and not (tmp_path / "model" / "model_algo-1").exists()


def test_width_of_another_channel(tmp_path: Path) -> None:
    """Without feature_dim the first row's width counts for all channels."""
    tree = job(tmp_path, predictor_type="regressor")
    hyperparameters = json.loads((tree.root / "input/config/hyperparameters.json").read_text())
    tree.config("hyperparameters.json", {k: v for k, v in hyperparameters.items() if k != "feature_dim"})
    entry = {"ContentType": "text/csv", "TrainingInputMode": "File"}
    tree.config("inputdataconfig.json", {"train": entry, "test": entry})
    tree.file("train/data", csv(np.column_stack([LABELS, ROWS])))
    tree.file("test/data", csv(np.column_stack([LABELS, ROWS[:, 0]])))
    result = run(tree)
    assert result.code == 2 and result.failure is not None
    assert "a row of channel 'test' has 1 features, those before have 2" in result.failure


@pytest.fixture
def amazons(shared_data: Callable[[str], Path], start: Start, tmp_path: Path) -> Server:
    """A server of an artifact that Amazon's container wrote."""
    (tmp_path / "model").mkdir()
    with tarfile.open(shared_data("aws_artifacts/linear_learner_binary/model.tar.gz")) as archive:
        file = archive.extractfile("model_algo-1")
        assert file is not None
        (tmp_path / "model" / "model_algo-1").write_bytes(file.read())
    return start(SAGEMAKER_BASE_DIR=tmp_path)


def test_amazons_answers(amazons: Server, shared_data: Callable[[str], Path]) -> None:
    """A server of Amazon's artifact answers as Amazon's did, byte for byte but for the last digits of a score."""
    row = [28, 2, 133937, 9, 13, 2, 0, 0, 4, 1, 15024, 0, 55, 37]
    body = json.dumps({"instances": [{"features": row}]})
    status, kind, answer = amazons.exchange("/invocations", body, Content_Type="application/json")
    assert (status, kind) == (200, "application/json")
    found = re.fullmatch(rb'\{"predictions": \[\{"score": (\S+), "predicted_label": 1\}\]\}', answer)
    assert found is not None and float(found[1]) == pytest.approx(0.9899773597717285, abs=1e-6)
    lines = json.dumps({"features": row}) + "\n"
    headers = {"Content_Type": "application/jsonlines", "Accept": "application/jsonlines"}
    status, answer = amazons.ask("/invocations", lines * 2, **headers)
    found = re.fullmatch(rb'(\{"predicted_label":1,"score":(0\.\d{1,15})\}\n)\1', answer)
    assert status == 200 and found is not None and float(found[2]) == pytest.approx(0.989977359771728, abs=1e-6)
    labelled = json.loads((shared_data("aws_artifacts/linear_learner_binary") / "validation.json").read_text())
    rows = {"instances": [{"features": instance["features"]} for instance in labelled["instances"]]}
    _, answer = amazons.ask("/invocations", json.dumps(rows), Content_Type="application/json")
    told = [prediction["predicted_label"] for prediction in json.loads(answer)["predictions"]]
    right = np.mean([one == instance["label"] for one, instance in zip(told, labelled["instances"], strict=True)])
    assert right == pytest.approx(0.84384, abs=1e-5)


def test_wide_job(tmp_path: Path) -> None:
    """A job on a million columns ends soon, within little memory, and its artifact answers sparse questions."""
    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, 1_000_000, (200, 20)), axis=1)
    columns[:, 0] = LABELS
    rows = CSR(np.arange(201) * 20, columns.ravel(), np.ones(4000, np.float32), (200, 1_000_000))
    result = run(job(tmp_path, features=rows, epochs=5))
    assert result.code == 0
    model = LinearLearnerModel.from_bytes((tmp_path / "model" / "model_algo-1").read_bytes())
    assert (model.predict(rows).columns["predicted_label"] == LABELS).mean() > 0.95
