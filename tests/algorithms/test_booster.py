"""The binding to the XGBoost library: byte for byte what its Python package does."""

import gc
import math
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.booster import Booster, BoosterError, Matrix, library_version
from clary.recordio.batch import CSR, Array

xgboost = pytest.importorskip("xgboost")
sparse = pytest.importorskip("scipy.sparse")

ROWS = 400


def features() -> Array:
    """Rows of which every seventh number is missing."""
    found = np.random.default_rng(0).normal(size=(ROWS, 5)).astype(np.float32)
    found.flat[::7] = np.nan
    return found


def classes(count: int) -> Array:
    """Labels that go with the features, some of them wrong."""
    rng = np.random.default_rng(1)
    sums = np.nan_to_num(features()).sum(axis=1) + rng.normal(size=ROWS)
    return np.digitize(sums, np.quantile(sums, np.arange(1, count) / count)).astype(np.float32)


def csr(rows: Array) -> CSR:
    """The numbers that are not missing, as sparse rows."""
    at = ~np.isnan(rows)
    indptr = np.concatenate([[0], at.sum(axis=1).cumsum()])
    return CSR(indptr, np.nonzero(at)[1], rows[at], (rows.shape[0], rows.shape[1]))


def trained(params: dict[str, str | list[str]], matrix: Matrix, rounds: int = 4) -> Booster:
    """A booster after some rounds."""
    booster = Booster(params, [matrix])
    for iteration in range(rounds):
        booster.update(matrix, iteration)
    return booster


@pytest.fixture(scope="module")
def binary() -> Booster:
    """A model of two classes."""
    return trained({"objective": "binary:logistic", "nthread": "2"}, Matrix(features(), classes(2)))


PARAMS: dict[str, dict[str, str | list[str]]] = {
    "regression": {},
    "binary": {"objective": "binary:logistic", "scale_pos_weight": "2", "max_depth": "3"},
    "base_score": {"objective": "binary:logistic", "base_score": "0.3"},
    "softprob": {"objective": "multi:softprob", "num_class": "3"},
    "dart": {"booster": "dart", "rate_drop": "0.5", "seed": "3"},
    "gblinear": {"booster": "gblinear", "updater": "coord_descent", "lambda": "0.1"},
    "forest": {"num_parallel_tree": "3", "subsample": "0.5", "seed": "7"},
    "exact": {"tree_method": "exact"},
    "approx": {"tree_method": "approx", "max_bin": "16"},
    "hist": {"tree_method": "hist", "grow_policy": "lossguide", "max_leaves": "5"},
    "sampled": {"subsample": "0.6", "colsample_bynode": "0.5", "seed": "11"},
    "constrained": {"monotone_constraints": "(1,0,-1,0,0)", "interaction_constraints": "[[0,1],[2,3,4]]"},
    "metrics": {"objective": "binary:logistic", "eval_metric": ["auc", "error@0.3", "logloss"]},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", list(PARAMS))
def test_models_and_evaluations_are_those_of_the_package(name: str, *, weighted: bool) -> None:
    """Model and evaluation of every round are, to the last bit, those of `xgboost.train`."""
    params = {"nthread": "2", **PARAMS[name]}
    labels = classes(3 if name == "softprob" else 2)
    weights = np.linspace(0.5, 2, ROWS).astype(np.float32) if weighted else None
    theirs: dict[str, dict[str, list[float]]] = {}
    matrix = xgboost.DMatrix(features(), labels, weight=weights)
    model = xgboost.train(params, matrix, 4, evals=[(matrix, "train")], evals_result=theirs, verbose_eval=False)

    rows = Matrix(features(), labels, weights)
    booster = Booster(params, [rows])
    rounds = []
    for iteration in range(4):
        booster.update(rows, iteration)
        rounds.append(booster.evaluate([(rows, "train")], iteration))
    assert booster.to_bytes() == bytes(model.save_raw("ubj"))
    assert rounds == [{("train", key): values[i] for key, values in theirs["train"].items()} for i in range(4)]
    for margin in (False, True):
        np.testing.assert_array_equal(
            booster.predict_matrix(rows, margin=margin), model.predict(matrix, output_margin=margin)
        )


def test_sparse_rows() -> None:
    """Sparse rows train the model that the package trains, and it is that of dense ones with NaN."""
    rows, labels = csr(features()), classes(2)
    matrix = xgboost.DMatrix(sparse.csr_matrix((rows.values, rows.indices, rows.indptr), rows.shape), labels)
    found = trained({}, Matrix(rows, labels)).to_bytes()
    assert found == bytes(xgboost.train({}, matrix, 4).save_raw("ubj"))
    assert found == trained({}, Matrix(features(), labels)).to_bytes()


@pytest.mark.parametrize("objective", ["rank:ndcg", "rank:pairwise", "rank:map"])
def test_ranking(objective: str) -> None:
    """Queries make a ranking that is the package's."""
    queries, labels = np.arange(ROWS) // 10, classes(2)
    matrix = xgboost.DMatrix(features(), labels, qid=queries)
    found = trained({"objective": objective}, Matrix(features(), labels, queries=queries))
    assert found.to_bytes() == bytes(xgboost.train({"objective": objective}, matrix, 4).save_raw("ubj"))


def test_several_matrices_are_evaluated() -> None:
    """Each matrix has its own numbers under its own name."""
    train, validation = Matrix(features(), classes(2)), Matrix(features()[::-1], classes(2))
    booster = Booster({"eval_metric": ["rmse", "mae"]}, [train, validation])
    booster.update(train, 0)
    found = booster.evaluate([(train, "train"), (validation, "validation")], 0)
    assert list(found) == [(name, metric) for name in ("train", "validation") for metric in ("rmse", "mae")]
    assert found["train", "rmse"] < found["validation", "rmse"]


@pytest.mark.parametrize("margin", [False, True])
@pytest.mark.parametrize("name", [name for name in PARAMS if name != "gblinear"])
def test_predictions_where_rows_lie(name: str, *, margin: bool) -> None:
    """Dense and sparse rows have the predictions that the package gives in place, those of a matrix of them."""
    rows = Matrix(features(), classes(3 if name == "softprob" else 2))
    booster = trained(PARAMS[name], rows)
    model = xgboost.Booster(model_file=bytearray(booster.to_bytes()))
    expected = model.inplace_predict(features(), predict_type="margin" if margin else "value")
    np.testing.assert_array_equal(booster.predict(features(), margin=margin), expected)
    np.testing.assert_array_equal(booster.predict(csr(features()), margin=margin), expected)
    # dart's sum of trees is rounded otherwise there
    np.testing.assert_allclose(booster.predict_matrix(rows, margin=margin), expected, rtol=1e-6 * (name == "dart"))


def test_linear_models_predict_from_matrices_only() -> None:
    """The library has no predictions in place for gblinear."""
    rows = Matrix(features(), classes(2))
    booster = trained(PARAMS["gblinear"], rows)
    assert booster.predict_matrix(rows).shape == (ROWS,)
    with pytest.raises(BoosterError, match=r"^Inplace predict is not supported by the current booster"):
        booster.predict(features())


def test_predictions_from_many_threads(binary: Booster) -> None:
    """Threads that ask at once get what they would get alone."""
    parts = [np.ascontiguousarray(features()[i : i + 50]) for i in range(200)]
    alone = [binary.predict(part) for part in parts]
    with ThreadPoolExecutor(16) as pool:
        for expected, found in zip(alone, pool.map(binary.predict, parts), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_first_rounds(binary: Booster) -> None:
    """A prediction of some rounds is that of a model of these alone, which can be cut out."""
    part = binary.first(2)
    assert (binary.rounds, part.rounds) == (4, 2)
    np.testing.assert_array_equal(part.predict(features()), binary.predict(features(), rounds=2))
    assert not np.array_equal(part.predict(features()), binary.predict(features()))


@pytest.mark.parametrize("rounds", [0, 5])
def test_rounds_that_are_not_there(binary: Booster, rounds: int) -> None:
    """No more rounds can be cut out than there are, nor none."""
    with pytest.raises(BoosterError, match=f"expected 1 to 4 rounds, got {rounds}"):
        binary.first(rounds)


def test_attributes(binary: Booster) -> None:
    """Words are kept with the model."""
    binary.keep("best_iteration", "3 ½")
    again = Booster()
    again.load(binary.to_bytes())
    assert (again.attribute("best_iteration"), again.attribute("nothing")) == ("3 ½", None)


@pytest.mark.parametrize("form", ["ubj", "json"])
def test_saved_models(binary: Booster, form: str) -> None:
    """A model that was saved and loaded predicts the same, knows its width and its settings."""
    again = Booster()
    again.load(binary.to_bytes(form))
    np.testing.assert_array_equal(again.predict(features()), binary.predict(features()))
    assert (again.feature_count, again.rounds) == (5, 4)
    assert again.configuration()["learner"]["objective"]["name"] == "binary:logistic"


@pytest.mark.parametrize("kind", ["gain", "weight", "total_cover"])
def test_importance(binary: Booster, kind: str) -> None:
    """The importance of features is the package's."""
    model = xgboost.Booster(model_file=bytearray(binary.to_bytes()))
    assert binary.importance(kind) == pytest.approx(model.get_score(importance_type=kind), rel=1e-6)


def test_take() -> None:
    """Some rows train the model that the package's slice of the matrix trains."""
    index, weights = np.arange(ROWS)[::3], np.linspace(0.5, 2, ROWS)
    part = Matrix(features(), classes(2), weights).take(index)
    slice_ = xgboost.DMatrix(features(), classes(2), weight=weights).slice(index)
    assert part.shape == (len(index), 5) == (slice_.num_row(), slice_.num_col())
    assert trained({}, part).to_bytes() == bytes(xgboost.train({}, slice_, 4).save_raw("ubj"))


@pytest.mark.parametrize("index", [[-1], [ROWS]])
def test_rows_that_cannot_be_taken(index: list[int]) -> None:
    """A row that is not there is refused; the library would read beyond its memory."""
    with pytest.raises(BoosterError, match=f"expected rows 0 to {ROWS - 1}, got"):
        Matrix(features()).take(np.array(index))


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "Fortran order": np.asfortranarray,
    "every other": lambda rows: np.repeat(np.repeat(rows, 2, axis=0), 2, axis=1)[::2, ::2],
    "backwards": lambda rows: np.ascontiguousarray(rows[::-1, ::-1])[::-1, ::-1],
    "float64": lambda rows: rows.astype(np.float64),
    "other byte order": lambda rows: rows.astype(rows.dtype.newbyteorder()),
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_layouts(binary: Booster, layout: str) -> None:
    """However rows lie in memory, the numbers count."""
    rows = LAYOUTS[layout](features())
    np.testing.assert_array_equal(rows, features())
    np.testing.assert_array_equal(binary.predict(rows), binary.predict(features()))
    np.testing.assert_array_equal(binary.predict_matrix(Matrix(rows)), binary.predict(features()))


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i8", "f2"])
def test_number_types(binary: Booster, dtype: str) -> None:
    """Numbers of any type count as float32."""
    rows = np.nan_to_num(features() * 3).astype(dtype)
    np.testing.assert_array_equal(binary.predict(rows), binary.predict(rows.astype(np.float32)))
    assert Matrix(rows).shape == (ROWS, 5)


def test_sparse_layouts(binary: Booster) -> None:
    """The parts of sparse rows may be any arrays, too."""
    rows = csr(features())
    indptr, indices, values = (np.repeat(part, 2)[::2] for part in (rows.indptr, rows.indices, rows.values))
    apart = CSR(indptr, indices, values, rows.shape)
    small = CSR(rows.indptr.astype("i4"), rows.indices.astype("i4"), rows.values.astype("f8"), rows.shape)
    for other in (apart, small):
        np.testing.assert_array_equal(binary.predict(other), binary.predict(rows))
        assert Matrix(other).shape == (ROWS, 5)
    np.testing.assert_array_equal(binary.predict(rows[3:9]), binary.predict(rows)[3:9])


@pytest.mark.parametrize("shape", [(5,), (2, 5, 1)])
def test_arrays_that_are_no_rows(binary: Booster, shape: tuple[int, ...]) -> None:
    """Rows have two dimensions."""
    rows = np.zeros(shape, np.float32)
    for use in (binary.predict, Matrix):
        with pytest.raises(BoosterError, match=f"of 2 dimensions, got {len(shape)}"):
            use(rows)


def test_no_rows(binary: Booster) -> None:
    """No rows have no predictions, and rows without a number those of missing ones."""
    none = np.zeros((0, 5), np.float32)
    assert Matrix(none).shape == (0, 5)
    assert binary.predict(none).size == binary.predict(csr(none)).size == 0
    missing = np.full((2, 5), np.nan, np.float32)
    np.testing.assert_array_equal(binary.predict(csr(missing)), binary.predict(missing))


@pytest.mark.parametrize("width", [0, 4, 6])
def test_width(binary: Booster, width: int) -> None:
    """Rows need as many columns as the model has."""
    with pytest.raises(BoosterError, match=rf"\({width} vs. 5\) : Number of columns in data must equal"):
        binary.predict(np.zeros((3, width), np.float32))


def refused(**change: Array) -> Callable[[], object]:
    """Something to call that makes a matrix of three rows and trains with it."""
    given = {"features": np.eye(3), "labels": np.array([0, 1, 1]), "weights": None, "queries": None, **change}
    return lambda: trained({}, Matrix(given["features"], given["labels"], given["weights"], given["queries"]), 1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (refused(features=np.full((3, 1), math.inf)), "Input data contains `inf`"),
        (refused(labels=np.zeros(2)), "Invalid size for `label`"),
        (refused(labels=np.full(3, math.nan)), "Label contains NaN"),
        (refused(weights=np.ones(2)), "Size of weights must equal to number of rows"),
        (refused(weights=-np.ones(3)), "Weights must be positive"),
        (refused(queries=np.zeros(2)), "expected a query for each of 3 rows, got 2"),
        (refused(queries=np.array([1, 0, 1])), "`qid` must be sorted"),
        (lambda: trained({"objective": "nonsense"}, Matrix(np.eye(2), np.ones(2))), "Unknown objective function"),
        (lambda: trained({"eta": "fast"}, Matrix(np.eye(2), np.ones(2))), "could not be parsed: 'ast'"),
        (lambda: trained({"subsample": "7"}, Matrix(np.eye(2), np.ones(2))), "exceed bound"),
        (lambda: trained({}, Matrix(np.eye(2))), "Invalid shape of labels"),
        (lambda: Booster().load(b""), "the model is empty"),
        (lambda: Booster().load(b"junk"), "Unknown construct"),
        (lambda: Booster().load(b"{}"), "Invalid model format"),
        (lambda: Booster().predict(np.eye(2)), "0 feature is supplied"),
    ],
)
def test_errors(call: Callable[[], object], text: str) -> None:
    """The library's complaint is told without the place in its source and the stack."""
    with pytest.raises(BoosterError) as caught:
        call()
    assert text in str(caught.value)
    assert not re.search(r"Stack trace|\.(cc|h):\d", str(caught.value))


def resident() -> int:
    """Memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_nothing_leaks() -> None:
    """300 matrices of a megabyte and their models leave no memory behind."""
    rows, labels = np.random.default_rng(0).normal(size=(2500, 100)).astype(np.float32), np.arange(2500) % 2

    def once() -> None:
        booster = trained({"max_depth": "2", "max_bin": "8", "nthread": "1"}, Matrix(rows, labels, threads=1), 1)
        booster.predict(rows[:100])

    for _ in range(10):
        once()
    before = resident()
    for _ in range(300):
        once()
    gc.collect()
    assert resident() - before < 50e6


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


TRAIN = """
import numpy as np, sys
from clary.algorithms.booster import Booster, Matrix
rows = Matrix(np.eye(8, dtype=np.float32), np.arange(8))
booster = Booster({"nthread": "1"}, [rows])
booster.update(rows, 0)
booster.predict(np.eye(8))
"""


def test_it_ends_in_silence() -> None:
    """Matrices and boosters that live until the end make no noise there."""
    done = python(TRAIN)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_unknown_parameter() -> None:
    """A parameter that the library does not know is a warning in our log, from any thread, and nowhere else."""
    done = python("""
import threading
import numpy as np
from clary.algorithms.booster import Booster, Matrix
from clary.logs import setup
setup()
def train():
    rows = Matrix(np.eye(2), np.ones(2))
    Booster({"nonsense": "1", "validate_parameters": "1"}, [rows]).update(rows, 0)
train()
thread = threading.Thread(target=train)
thread.start()
thread.join()
""")
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.search(r" WARNING \d+\] Parameters: \{ \"nonsense\" \} are not used\.$", line)
    assert done.stderr == ""


def test_no_package_is_imported() -> None:
    """Training needs neither the Python package nor what it imports."""
    done = python(TRAIN + "print({'xgboost', 'scipy', 'sklearn', 'pandas'} & set(sys.modules))")
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_missing_library() -> None:
    """Without the library the error says what to install; the module itself can be imported."""
    done = python("""
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "xgboost" else find(name, package)
from clary.algorithms.booster import library_version
from clary.errors import MissingExtraError
try:
    library_version()
except MissingExtraError as error:
    print(error)
""")
    assert done.stdout == "xgboost is not installed: run  pip install 'clary[xgboost]'\n", done.stderr


def test_a_forked_process_predicts() -> None:
    """A process that is forked after a prediction of one thread can predict with one thread."""
    done = python(
        TRAIN
        + """
import os, signal
process = os.fork()
if not process:
    signal.alarm(20)
    booster.predict(np.eye(8))
    os._exit(0)
print(os.waitpid(process, 0)[1])
"""
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_version() -> None:
    """The version is the package's."""
    assert library_version() == xgboost.__version__
