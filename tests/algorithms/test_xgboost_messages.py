"""What a job of XGBoost says when the user is to change something: Amazon's words, then what helps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clary.algorithms.booster import BoosterError
from clary.algorithms.xgboost_training import translated
from clary.errors import AlgorithmError, PlatformError
from clary.recordio.batch import Batch

from ..job import Tree, recordio
from ..train.conftest import run_here as run_here  # fixtures
from ..train.conftest import tree as tree
from .boosted import ROWS, X, Y, classes, lay, libsvm, models, table

RunHere = Callable[..., int]
CHECK = "Check failed"


def refusal(tree: Tree, run_here: RunHere) -> str:
    """What the failure file says of a job that the user has to change."""
    assert run_here("xgboost") == 2, tree.failure.read_text()
    text = tree.failure.read_text()
    assert text.startswith("Customer Error: ") and "Traceback" not in text and CHECK not in text
    assert models(tree) == []
    return text.removeprefix("Customer Error: ")


def spoilt(value: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Labels of which one is another."""
    labels = Y.copy()
    labels[3] = value
    return labels


@pytest.mark.parametrize(
    ("objective", "label", "told"),
    [
        ("binary:logistic", 2, "label must be in (0, 1) for logistic regression"),
        ("binary:logistic", -1, "label must be in (0, 1) for logistic regression"),
        ("reg:logistic", 1.5, "label must be in (0, 1) for logistic regression"),
        ("binary:logitraw", 2, "label must be in (0, 1) for logistic regression"),
        ("multi:softmax", 2, "SoftmaxMultiClassObj: label must be discrete values in the range of [0, num_class)."),
        ("multi:softprob", 0.5, "SoftmaxMultiClassObj: label must be discrete values in the range of [0, num_class)."),
        ("count:poisson", -1, "label must be non-negative for Poisson/Tweedie regression."),
        ("reg:tweedie", -1, "label must be non-negative for Poisson/Tweedie regression."),
        ("reg:gamma", -1, "label must be positive for gamma regression."),
        ("reg:gamma", -1e3, "`base_score` must be greater than 0 for gamma regression"),
        ("reg:squaredlogerror", -1, "label must be greater than -1 for rmsle"),
        ("rank:pairwise", 0.5, "When using relevance degree as target, label must be either 0 or positive integer."),
        ("rank:map", 2, "map can only be used with binary labels."),
        ("rank:ndcg", 40, "Relevance degress must be lesser than or equal to 31"),
        ("reg:squarederror", np.inf, "Label contains NaN, infinity or a value too large."),
    ],
)
def test_labels(tree: Tree, run_here: RunHere, objective: str, label: float, told: str) -> None:
    """A label that the objective cannot have is refused in the library's words."""
    given = {"num_class": 2} if objective.startswith("multi:") else {}
    lay(tree, {"train/a": table(X, spoilt(label))}, objective=objective, **given)
    assert refusal(tree, run_here).startswith(told)


BINARY = {"objective": "binary:logistic"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_bin": 0}, "value 0 for Parameter max_bin should be greater equal to 2"),
        ({"max_depth": 10**11}, "Invalid Parameter format for max_depth expect int but value='100000000000'"),
        ({"gamma": 1e39}, "Out of range value for min_split_loss, value='1e+39'"),
        ({"max_depth": 0, "tree_method": "exact"}, "exact tree method doesn't support unlimited depth."),
        ({**BINARY, "base_score": 2}, "base_score must be in (0,1) for the logistic loss."),
        ({"objective": "reg:gamma", "base_score": 0}, "`base_score` must be greater than 0 for gamma regression"),
        ({"objective": "multi:softmax"}, "Require input for parameter 'num_class' for multi-classification"),
        ({**BINARY, "num_class": 2}, "Do not need to setup parameter 'num_class'"),
        ({"objective": "multi:softmax", "num_class": 1}, "Hyperparameter num_class: 1 is not in [2, +inf)"),
        ({"process_type": "update", "updater": "refresh"}, "process_type update changes a model that is there already"),
        ({"process_type": "update"}, "Updater: `grow_quantile_histmaker` can not be used to modify existing trees."),
        ({"updater": "prune"}, "a job begins without trees: name an updater that grows them, or none"),
        ({"objective": "survival:aft"}, "survival:aft and its metrics need two bounds of each label"),
        ({"eval_metric": "interval-regression-accuracy"}, "survival:aft and its metrics need two bounds"),
        ({**BINARY, "eval_metric": "merror"}, "MultiClassEvaluation: label must be in [0, num_class)"),
        (
            {"objective": "multi:softprob", "num_class": 3, "eval_metric": "rmse"},
            "an eval_metric takes one number a row, but the objective gives one for each class: use merror or mlogloss",
        ),
        ({"eval_metric": "accuracy"}, "eval_metric 'accuracy' needs an objective that tells classes"),
        (
            {"tree_method": "hist", "monotone_constraints": "(1,1,1,1,1)"},
            "The size of monotone constraint should be less or equal to the number of features.",
        ),
        (
            {"tree_method": "exact", "sampling_method": "gradient_based", "subsample": 0.5},
            "Only uniform sampling is supported",
        ),
        ({"_kfold": ROWS + 1}, f"_kfold={ROWS + 1} needs at least as many rows; there are {ROWS}"),
        ({"eta": 2}, "Hyperparameter eta: 2.0 is not in [0, 1]"),
        ({"eta": "x"}, "Hyperparameter eta: could not parse value (caused by ValueError)"),
        ({"booster": "tree"}, "Hyperparameter booster: tree is not in ['gbtree', 'gblinear', 'dart']"),
        ({"depth": 3}, "Extraneous hyperparameter found: depth"),
        ({"eval_metric": "rmse,best"}, "Hyperparameter eval_metric: value ['rmse', 'best'] not in range ["),
        ({"eval_metric": "<function f>"}, "User defined evaluation metric <function f> is not supported yet."),
        (
            {"eval_metric": "auc@1"},
            "Metric 'auc@1' is not supported. Parameter 'eval_metric' with customized threshold should be one of these "
            "options: 'error', 'ndcg', 'map'.",
        ),
        (
            {"monotone_constraints": "(0,1)"},
            "monotone_constraints can be used only when the tree_method parameter is set to either 'exact' or 'hist'.",
        ),
    ],
)
def test_hyperparameters(tree: Tree, run_here: RunHere, given: dict[str, object], told: str) -> None:
    """A hyperparameter that cannot be is refused, before the training or by the library."""
    labels = classes(X, 3) if "num_class" in given else Y
    lay(tree, {"train/a": table(X, labels)}, **given)
    assert refusal(tree, run_here).startswith(told)


def test_no_rounds(tree: Tree, run_here: RunHere) -> None:
    """Without num_round there is no job."""
    lay(tree, {"train/a": table()}).config("hyperparameters.json", {"eta": "0.1"})
    assert refusal(tree, run_here).startswith("Missing required hyperparameter: num_round")


UNLABELLED = "Got input data without labels. Please check the input data set."
INFINITE = "Unable to read data channel 'train'. Found infinite floating point values."
CSV, LIBSVM, RECORDIO, PARQUET = "text/csv", None, "application/x-recordio-protobuf", "application/x-parquet"


@pytest.mark.parametrize(
    ("content_type", "data", "told"),
    [
        (CSV, b"y,a,b\n1,2,3\n", "Failed to load csv data with exception:\nchannel 'train', a: line 1 looks like"),
        (CSV, b"1,2,3\n1,2\n", "Failed to load csv data with exception:\nchannel 'train', a: line 2 has 2 fields"),
        (CSV, b"1,2,3\n1,2,x\n", "Failed to load csv data with exception:\nchannel 'train', a: line 2, column 3: 'x'"),
        (CSV, b"1\n0\n", "Failed to load csv data with exception:\nchannel 'train', a: label_size is 1, but"),
        (CSV, b"1,2\n,3\n", f"{UNLABELLED} If training job is running on multiple instances, please switch"),
        (CSV, b"1,2\nnan,3\n", UNLABELLED),
        (CSV, b"1,2\n0,inf\n", INFINITE),
        (CSV, b"", "No data in training channel path: the files of the channel 'train' have no rows"),
        (CSV, b"\n", "No data in training channel path"),
        (LIBSVM, b"1,2,3\n0,1,2\n", "First line '1,2,3...' of file 'a' is not 'LIBSVM' format. Please ensure"),
        (LIBSVM, table(), "First line '"),
        (LIBSVM, b"y,a,b\n1,2,3\n", "First line 'y,a,b...' of file 'a' is not 'LIBSVM' format."),
        (LIBSVM, b"1 0:x\n", "Failed to load libsvm data with exception:\nchannel 'train', a: line 1: 'x' is"),
        (LIBSVM, b"1 0:inf\n", INFINITE),
        (LIBSVM, b"1\n0\n", "the rows have labels but no features"),
        (LIBSVM, b"1:-1 0:1\n0:1 0:2\n", "Weights must be positive values."),
        (LIBSVM, b"1:nan 0:1\n0:1 0:2\n", "Weights must be positive values."),
        (LIBSVM, b"1:0 0:1\n0:0 0:2\n", "the labels and weights do not tell where to begin: are all weights 0?"),
        (LIBSVM, b"1 qid:2 0:1\n0 qid:1 0:2\n", "`qid` must be sorted in non-decreasing order along with data."),
        (LIBSVM, b"1 qid:1 0:1\n0 0:2\n", "Failed to load libsvm data with exception:\nchannel 'train', a: line 2 has"),
        (LIBSVM, b"1:2 qid:1 0:1\n0:2 qid:1 0:2\n", "Size of weight must equal to the number of query groups"),
        (RECORDIO, recordio(X), UNLABELLED),
        (RECORDIO, b"1,2,3\n0,1,2\n", "Failed to load recordio-protobuf data with exception:\n"),
        (PARQUET, b"1,2,3\n0,1,2\n", "Failed to load parquet data with exception:\n"),
        (CSV, recordio(X, Y), "Failed to load csv data with exception:\n"),
    ],
)  # fmt: skip
def test_data(tree: Tree, run_here: RunHere, content_type: str | None, data: bytes, told: str) -> None:
    """Data that is not what its content type says, or cannot be trained on, is refused."""
    assert refusal(lay(tree, {"train/a": data}, content_type), run_here).startswith(told)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"1,2\n0,1\n", "csv_weights=1: the channel 'train' has no features behind label and weight"),
        (b"1,-2,3\n0,1,4\n", "Weights must be positive values."),
        (b"1,nan,3\n0,1,4\n", "Weights must be positive values."),
        (b"1,inf,3\n0,1,4\n", INFINITE),
    ],
)
def test_csv_weights(tree: Tree, run_here: RunHere, data: bytes, told: str) -> None:
    """With csv_weights the second column has to be there, and to hold weights."""
    assert refusal(lay(tree, {"train/a": data}, csv_weights=1), run_here).startswith(told)


def test_queries_are_not_divided(tree: Tree, run_here: RunHere) -> None:
    """Cross-validation would tear queries apart."""
    data = libsvm(Batch(X, Y, queries=np.repeat([1, 2, 3, 4], ROWS // 4)))
    lay(tree, {"train/a": data}, None, objective="rank:ndcg", _kfold=2)
    assert refusal(tree, run_here).startswith("_kfold would tear queries apart")


UNSUPPORTED = "Channel configuration for 'train' channel is not supported: {'ContentType': "


@pytest.mark.parametrize(
    ("content_type", "mode", "told"),
    [
        ("application/json", "File", "application/json is not an accepted ContentType: csv, libsvm, parquet, "),
        ("csv data", "File", "csv data is not an accepted ContentType: csv, libsvm, parquet, recordio-protobuf"),
        ("text/csv;label_size=0", "File", "`text/csv;label_size=0` is not an accepted csv ContentType. Optional"),
        ("text/csv;label_size=2", "File", "`text/csv;label_size=2` is not an accepted csv ContentType. Optional"),
        ("text/libsvm", "Pipe", "Pipe mode not supported for LibSVM."),
    ],
)  # fmt: skip
def test_channel_configuration(tree: Tree, run_here: RunHere, content_type: str, mode: str, told: str) -> None:
    """A content type that is not read, or not in this mode, is refused with the channel's configuration."""
    lay(tree, {} if mode == "Pipe" else {"train/a": table()}, content_type)
    tree.config("inputdataconfig.json", {"train": {"ContentType": content_type, "TrainingInputMode": mode}})
    text = refusal(tree, run_here)
    assert text.startswith(f"{UNSUPPORTED}{content_type!r}, 'TrainingInputMode': '{mode}'}}: {told}")


def test_channels(tree: Tree, run_here: RunHere) -> None:
    """A channel that is missing, unknown or empty is refused by its name, and the folder `code` is let be."""
    assert refusal(lay(tree, {"validation/a": table()}), run_here).startswith("Missing required channel: train")
    tree.failure.unlink()
    text = refusal(lay(tree, {"train/a": table(), "test/a": table()}), run_here)
    assert text.startswith("Extraneous channel found: test: the channels are train, validation and code")


@pytest.mark.parametrize(("channel", "purpose"), [("train", "training"), ("validation", "validation")])
@pytest.mark.parametrize("there", [True, False])
def test_empty_channel(tree: Tree, run_here: RunHere, channel: str, purpose: str, there: bool) -> None:
    """A channel that is configured has to have a file."""
    lay(tree, {"train/a": table(), "validation/a": table()})
    (tree.data / channel / "a").unlink()
    if not there:
        (tree.data / channel).rmdir()
    text = refusal(tree, run_here)
    assert text == f"No data in {purpose} channel path {tree.data / channel}"


@pytest.mark.parametrize("channel", ["train", "validation"])
def test_hidden_file(tree: Tree, run_here: RunHere, channel: str) -> None:
    """A hidden file in a channel is refused."""
    lay(tree, {"train/a": table(), "validation/a": table()})
    tree.file(f"{channel}/.part.crc", b"")
    assert refusal(tree, run_here) == "Hidden file found in the data path! Remove that before training."


def test_a_file_for_a_channel(tree: Tree, run_here: RunHere) -> None:
    """A channel that is a file and no folder is refused."""
    lay(tree, {"train/a": table()})
    (tree.data / "train" / "a").rename(tree.data / "a")
    (tree.data / "train").rmdir()
    (tree.data / "a").rename(tree.data / "train")
    assert refusal(tree, run_here).startswith(f"{tree.data / 'train'} is not a valid path!")


def test_fault_of_nobody() -> None:
    """What the library says of its own troubles stays our error, in Amazon's words; memory is the platform's."""
    error = translated(BoosterError("odd"))
    assert isinstance(error, AlgorithmError)
    assert str(error) == "XGB train call failed with exception:\n odd"
    error = translated(BoosterError("std::bad_alloc"))
    assert isinstance(error, PlatformError)
    assert str(error) == "the job needs more memory than there is: std::bad_alloc"
