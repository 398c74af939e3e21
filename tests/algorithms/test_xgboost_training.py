"""Training XGBoost: bit for bit what the library's own Python package does with the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.algorithms.xgboost import ALGORITHM
from clary.algorithms.xgboost_training import folds
from clary.errors import UserError
from clary.recordio.batch import CSR, Array, Batch
from clary.recordio.libsvm import read_libsvm
from clary.train.checkpoints import CheckpointFolder

from .boosted import VX, VY, X, Y, classes, fit
from .conftest import Notes

xgboost = pytest.importorskip("xgboost")
sparse = pytest.importorskip("scipy.sparse")

BINARY = {"objective": "binary:logistic"}


def peer(params: Mapping[str, object], matrix: Any, rounds: int = 4, **more: Any) -> Any:
    """What the library's package trains."""
    return xgboost.train({"nthread": 1, **params}, matrix, rounds, verbose_eval=False, **more)


def content(model: Any) -> bytes:
    """The model as the library's package saves it."""
    return bytes(model.save_raw("ubj"))


SETTINGS: dict[str, dict[str, object]] = {
    "regression": {},
    "logistic": {**BINARY, "eta": 0.2, "max_depth": 3, "gamma": 0.5, "min_child_weight": 2, "base_score": 0.4},
    "poisson": {"objective": "count:poisson", "max_delta_step": 0.5},
    "softprob": {"objective": "multi:softprob", "num_class": 3},
    "softmax": {"objective": "multi:softmax", "num_class": 3, "tree_method": "exact"},
    "absolute error": {"objective": "reg:absoluteerror", "tree_method": "approx"},
    "linear": {"booster": "gblinear", "updater": "coord_descent", "lambda": 0.1, "alpha": 0.01},
    "dart": {"booster": "dart", "rate_drop": 0.5, "seed": 7},
    "random": {"subsample": 0.5, "colsample_bytree": 0.5, "seed": 3, "num_parallel_tree": 2},
    "constrained": {
        "tree_method": "hist",
        "monotone_constraints": "(1,-1,0,0)",
        "interaction_constraints": "[[1,2],[2,3]]",
    },
    "leaves": {"grow_policy": "lossguide", "max_leaves": 4, "tree_method": "hist", "max_bin": 16},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_same_model(name: str) -> None:
    """The artifact is byte for byte the model of the library's package, missing numbers and all."""
    given = SETTINGS[name]
    rows = X.copy()
    rows.flat[::11] = np.nan
    labels = classes(X, int(str(given.get("num_class", 2))))
    model = fit(Batch(rows, labels), **given)
    assert model.to_bytes() == content(peer(given, xgboost.DMatrix(rows, labels)))


def test_metrics_leave_the_model_alone() -> None:
    """Metrics of all kinds, and a second channel, change nothing of the model."""
    metrics = "auc,accuracy,logloss,f1_binary"
    model = fit(Batch(X, Y), Batch(VX, VY), **BINARY, subsample=0.5, eval_metric=metrics)
    assert model.to_bytes() == content(peer({**BINARY, "subsample": 0.5}, xgboost.DMatrix(X, Y)))


@pytest.mark.parametrize("objective", ["rank:pairwise", "rank:ndcg", "rank:map"])
def test_ranking(objective: str) -> None:
    """Queries reach the library, whatever their numbers are, as long as they ascend."""
    queries = np.repeat(np.arange(6), 20)
    model = fit(Batch(X, Y, queries=queries * 10**12), objective=objective)
    assert model.to_bytes() == content(peer({"objective": objective}, xgboost.DMatrix(X, Y, qid=queries)))


def test_weights() -> None:
    """Weights of rows reach the library."""
    weights = np.random.default_rng(0).uniform(0.1, 3, len(X)).astype(np.float32)
    model = fit(Batch(X, Y, weights=weights), **BINARY)
    assert model.to_bytes() == content(peer(BINARY, xgboost.DMatrix(X, Y, weight=weights)))
    assert model.to_bytes() != fit(Batch(X, Y), **BINARY).to_bytes()


def scipys(rows: Array | CSR) -> Any:
    """Sparse rows as SciPy has them."""
    assert isinstance(rows, CSR)
    return sparse.csr_matrix((rows.values, rows.indices, rows.indptr), rows.shape)


def test_sparse() -> None:
    """What a sparse row does not hold is missing; a zero that it holds is a zero."""
    held = np.random.default_rng(0).random(X.shape) < 0.7
    values = np.where(X > 0, X, 0)[held]
    indptr = np.concatenate([[0], held.sum(axis=1).cumsum()])
    rows = CSR(indptr, np.nonzero(held)[1], values, (len(X), 4))
    model = fit(Batch(rows, Y))
    assert model.to_bytes() == content(peer({}, xgboost.DMatrix(scipys(rows), Y)))
    assert model.to_bytes() != fit(Batch(rows.toarray(), Y)).to_bytes()


def told(values: Any) -> list[str]:
    """Numbers as they are printed."""
    return [f"{value:.5f}" for value in values]


def test_rounds() -> None:
    """Each round tells the metrics of a channel side by side, the library's first, with its package's numbers."""
    notes = Notes()
    fit(Batch(X, Y), Batch(VX, VY), notes, **BINARY, eval_metric="accuracy,error@0.3,auc")
    keys = [(channel, name) for channel in ("train", "validation") for name in ("error@0.3", "auc", "accuracy")]
    assert [number for number, _ in notes.rounds] == [0, 1, 2, 3]
    assert all([*values] == keys for _, values in notes.rounds)
    found: dict[str, Any] = {}
    train, validation = xgboost.DMatrix(X, Y), xgboost.DMatrix(VX, VY)
    params = {**BINARY, "eval_metric": ["error@0.3", "auc"]}
    model = peer(params, train, evals=[(train, "train"), (validation, "validation")], evals_result=found)
    for channel, metric in [key for key in keys if key[1] != "accuracy"]:
        assert told(values[channel, metric] for _, values in notes.rounds) == told(found[channel][metric])
    last = notes.rounds[-1][1]
    assert last["validation", "accuracy"] == ((model.predict(validation) > 0.5) == VY).mean()


DEFAULTS = {
    "reg:squarederror": "rmse",
    "binary:logistic": "logloss",
    "binary:hinge": "error",
    "multi:softmax": "mlogloss",
    "count:poisson": "poisson-nloglik",
    "reg:tweedie": "tweedie-nloglik@1.5",
    "rank:ndcg": "ndcg@32",
}


@pytest.mark.parametrize("objective", DEFAULTS)
def test_default_metric(objective: str) -> None:
    """Without eval_metric the library's own for the objective is told."""
    notes = Notes()
    fit(Batch(X, Y), None, notes, objective=objective, **({"num_class": 2} if "multi" in objective else {}))
    assert [*notes.rounds[0][1]] == [("train", DEFAULTS[objective])]


@pytest.mark.parametrize(("given", "power"), [({}, 1.5), ({"tweedie_variance_power": 1.2}, 1.2)])
def test_tweedie_metric(given: dict[str, float], power: float) -> None:
    """The metric that the library knows with a variance power only has the objective's, or its default."""
    notes = Notes()
    given = {"early_stopping_rounds": 1, **given}
    fit(Batch(X, Y), Batch(VX, VY), notes, objective="reg:tweedie", eval_metric="tweedie-nloglik", **given)
    assert [*notes.rounds[0][1]] == [(channel, f"tweedie-nloglik@{power}") for channel in ("train", "validation")]


def test_tuning_metric() -> None:
    """The metric of a tuning job joins the others, all of them in alphabetical order."""
    notes = Notes()
    given = {"eval_metric": "logloss,auc,mse", "_tuning_objective_metric": "validation:error"}
    fit(Batch(X, Y), None, notes, **BINARY, **given)
    assert [name for _, name in notes.rounds[0][1]] == ["auc", "error", "logloss", "mse"]


def accuracy(predictions: Array, matrix: Any) -> tuple[str, float]:
    """A metric that the library does not know."""
    return "accuracy", float(((predictions > 0.5) == matrix.get_label()).mean())


def stopped(metric: str, params: Mapping[str, object], *, maximize: bool) -> Any:
    """What the library's package keeps when it stops early."""
    where = {"metric_name": metric, "data_name": "validation"}
    rule = xgboost.callback.EarlyStopping(rounds=3, **where, maximize=maximize, save_best=True)
    more = {"custom_metric": accuracy} if metric == "accuracy" else {}
    evals = [(xgboost.DMatrix(VX, VY), "validation")]
    return peer({**BINARY, **params}, xgboost.DMatrix(X, Y), 50, evals=evals, callbacks=[rule], **more)


@pytest.mark.parametrize(
    ("metric", "maximize"),
    [("logloss", False), ("auc", True), ("error", False), ("aucpr", True), ("accuracy", True), ("error@0.3", False)],
)
def test_early_stopping(metric: str, maximize: bool) -> None:
    """The best round, its score and its trees are those of the library's package, for metrics of both directions."""
    notes = Notes()
    given = {**BINARY, "num_round": 50, "early_stopping_rounds": 3, "eval_metric": f"rmse,{metric}"}
    model = fit(Batch(X, Y), Batch(VX, VY), notes, **given)
    best = stopped(metric, {"eval_metric": "rmse" if metric == "accuracy" else metric}, maximize=maximize)
    assert model.booster.attribute("best_iteration") == str(best.best_iteration)
    assert model.booster.attribute("best_score") == str(best.best_score)
    assert model.to_bytes() == content(best)
    assert len(notes.rounds) == best.best_iteration + 4 < 50


def test_early_stopping_of_a_tuning_job() -> None:
    """The metric of a tuning job decides, though it is not the last."""
    given = {"eval_metric": "logloss", "_tuning_objective_metric": "validation:auc", "early_stopping_rounds": 3}
    model = fit(Batch(X, Y), Batch(VX, VY), **BINARY, **given, num_round=50)
    assert model.to_bytes() == content(stopped("auc", {"eval_metric": "auc"}, maximize=True))


@pytest.mark.parametrize("missing", ["a validation channel", "eval_metric"])
def test_no_early_stopping(missing: str) -> None:
    """Without a validation channel or a metric all rounds are made, and a warning says why."""
    notes = Notes()
    given = {} if missing == "eval_metric" else {"eval_metric": "logloss"}
    validation = Batch(VX, VY) if missing == "eval_metric" else None
    fit(Batch(X, Y), validation, notes, **BINARY, **given, early_stopping_rounds=1, num_round=30)
    assert len(notes.rounds) == 30
    assert f"early_stopping_rounds has no effect without {missing}" in notes.lines


def test_linear_model_stops_early() -> None:
    """A linear model has no rounds to leave out: it stops all the same, and keeps its last state with a warning."""
    notes = Notes()
    given = {"booster": "gblinear", "updater": "coord_descent", "eval_metric": "rmse", "num_round": 200}
    model = fit(Batch(X, Y), Batch(VX, VY), notes, **given, early_stopping_rounds=2)
    rounds = len(notes.rounds)
    assert rounds < 200 and any("that of the last round" in line for line in notes.lines)
    peers = peer({"booster": "gblinear", "updater": "coord_descent"}, xgboost.DMatrix(X, Y), rounds)
    assert np.array_equal(model.scores(VX), peers.predict(xgboost.DMatrix(VX)))


def kept(tmp_path: Path) -> Notes:
    """A report with a place for checkpoints."""
    return Notes(folder=CheckpointFolder(tmp_path, "xgboost"))


def names(folder: Path) -> list[str]:
    """Files of a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_checkpoints(tmp_path: Path) -> None:
    """The models of the newest five rounds stay, named by their rounds."""
    model = fit(Batch(X, Y), None, kept(tmp_path), num_round=7)
    assert names(tmp_path) == [f"xgboost-checkpoint.{number}" for number in range(2, 7)]
    assert (tmp_path / "xgboost-checkpoint.6").read_bytes() == model.to_bytes()
    assert ALGORITHM.load((tmp_path / "xgboost-checkpoint.4").read_bytes()).describe()["rounds"] == 5


@pytest.mark.parametrize("name", ["logistic", "softprob", "linear", "dart", "leaves"])
def test_resume(tmp_path: Path, name: str) -> None:
    """A job that goes on ends after as many rounds as one that was never ended, with the same model."""
    given = {name: value for name, value in SETTINGS[name].items() if name != "rate_drop"}
    train = Batch(X, classes(X, int(str(given.get("num_class", 2)))))
    fit(train, None, kept(tmp_path), **given, num_round=4)
    notes = kept(tmp_path)
    model = fit(train, None, notes, **given, num_round=6)
    assert [number for number, _ in notes.rounds] == [4, 5]
    assert notes.lines[-2:] == [
        f"Checkpoint loaded from {tmp_path}/xgboost-checkpoint.3",
        "Resuming from iteration 4",
    ]
    assert model.to_bytes() == fit(train, **given, num_round=6).to_bytes()


def test_resume_after_the_last_round(tmp_path: Path) -> None:
    """A job that has done all its rounds has its model from the checkpoint, and prints its metrics again."""
    model = fit(Batch(X, Y), None, kept(tmp_path))
    notes = kept(tmp_path)
    assert fit(Batch(X, Y), None, notes).to_bytes() == model.to_bytes()
    assert [number for number, _ in notes.rounds] == [3]


@pytest.mark.parametrize("rounds", [1, 4, 5, 6, 7])
def test_early_stopping_goes_on(tmp_path: Path, rounds: int) -> None:
    """A job that goes on still knows its best round, and how long it has waited for a better one."""
    given = {**BINARY, "eval_metric": "logloss", "early_stopping_rounds": 3}
    train, validation = Batch(X, Y), Batch(VX, VY)
    whole = fit(train, validation, **given, num_round=50)
    fit(train, validation, kept(tmp_path), **given, num_round=rounds)
    assert fit(train, validation, kept(tmp_path), **given, num_round=50).to_bytes() == whole.to_bytes()


@pytest.mark.parametrize("damage", [b"", b"half a model", None])
def test_damaged_checkpoint(tmp_path: Path, damage: bytes | None) -> None:
    """A checkpoint that is damaged or cut off is passed over for the one before it."""
    whole = fit(Batch(X, Y), None, kept(tmp_path))
    last = tmp_path / "xgboost-checkpoint.3"
    last.write_bytes(last.read_bytes()[:-100] if damage is None else damage)
    notes = kept(tmp_path)
    assert fit(Batch(X, Y), None, notes).to_bytes() == whole.to_bytes()
    assert any(f"the checkpoint {last} is damaged and passed over" in line for line in notes.lines)
    assert [number for number, _ in notes.rounds] == [3]


def test_only_damaged_checkpoints(tmp_path: Path) -> None:
    """Where no checkpoint is whole, the job begins anew, as if there were none."""
    whole = fit(Batch(X, Y), None, kept(tmp_path))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    notes = kept(tmp_path)
    assert fit(Batch(X, Y), None, notes).to_bytes() == whole.to_bytes()
    assert [number for number, _ in notes.rounds] == [0, 1, 2, 3]


def test_checkpoint_of_another_width(tmp_path: Path) -> None:
    """A checkpoint of a model of other data is refused in the library's words."""
    fit(Batch(X, Y), None, kept(tmp_path))
    with pytest.raises(UserError, match=r"[Ff]eature|columns"):
        fit(Batch(np.column_stack([X, X]), Y), None, kept(tmp_path), num_round=9)


def test_other_files(tmp_path: Path) -> None:
    """Files of other names are no checkpoints, and stay."""
    others = ["xgboost-checkpoint.9.sagemaker-ignore", "xgboost-checkpoint.x", "notes.txt", "other-checkpoint.9"]
    for name in others:
        (tmp_path / name).write_bytes(b"?")
    notes = kept(tmp_path)
    fit(Batch(X, Y), None, notes, num_round=1)
    assert len(notes.rounds) == 1 and {*others} < {*names(tmp_path)}


def test_upload(tmp_path: Path) -> None:
    """A checkpoint that the platform is uploading stays until it is uploaded."""
    (tmp_path / "xgboost-checkpoint.0.sagemaker-uploading").touch()
    (tmp_path / "xgboost-checkpoint.1.sagemaker-uploading").touch()
    (tmp_path / "xgboost-checkpoint.1.sagemaker-uploaded").touch()
    fit(Batch(X, Y), None, kept(tmp_path), num_round=7)
    assert "xgboost-checkpoint.0" in names(tmp_path) and "xgboost-checkpoint.1" not in names(tmp_path)
    (tmp_path / "xgboost-checkpoint.0.sagemaker-uploaded").touch()
    fit(Batch(X, Y), None, kept(tmp_path), num_round=8)
    assert "xgboost-checkpoint.0" not in names(tmp_path)


def test_snapshot() -> None:
    """With save_model_on_termination the model so far is at hand after the first round; else there is none."""
    notes = Notes()
    model = fit(Batch(X, Y), None, notes, save_model_on_termination="true")
    assert notes.kept is not None and notes.kept().to_bytes() == model.to_bytes()
    notes = Notes()
    fit(Batch(X, Y), None, notes)
    assert notes.kept is None


def read(path: Path) -> Batch:
    """The rows of a file of libsvm."""
    with path.open("rb") as file:
        [batch] = read_libsvm(file, first_index=0)
    return batch


def test_abalone(shared_data: Callable[[str], Path]) -> None:
    """On abalone the RMSE is that of the library's package, to the last printed digit."""
    folder = shared_data("abalone")
    parts = [read(folder / "train" / "abalone.train_0"), read(folder / "validation" / "abalone.validation")]
    given = {"objective": "reg:squarederror", "max_depth": 5, "eta": 0.2, "gamma": 4, "subsample": 0.7}
    notes = Notes()
    fit(parts[0], parts[1], notes, **given, num_round=20)
    matrices = [xgboost.DMatrix(scipys(part.features), part.labels) for part in parts]
    found: dict[str, Any] = {}
    peer(given, matrices[0], 20, evals=[(matrices[1], "validation")], evals_result=found)
    assert told(values["validation", "rmse"] for _, values in notes.rounds) == told(found["validation"]["rmse"])


def predictions(notes: Notes) -> Array:
    """The numbers of predictions.csv."""
    lines = notes.outputs["predictions.csv"].decode().splitlines()
    return np.array([[float(cell) for cell in line.split(",")] for line in lines])


def held_out(model: Any, labels: Array, repeats: int, *, by_class: bool) -> Array:
    """What each model of an ensemble says of the rows that it has not seen, shape (n, repeats[, k])."""
    count = len(model.members) // repeats
    found: list[list[Array]] = [[] for _ in labels]
    parts = folds(labels, count, repeats, 0, by_class=by_class)
    for member, (rest, out) in zip(model.members, parts, strict=True):
        assert len(np.intersect1d(rest, out)) == 0 and len(rest) + len(out) == len(labels)
        for row, score in zip(out, member.scores(X[out]), strict=True):
            found[row].append(score)
    return np.array(found)


def test_cross_validation_of_numbers() -> None:
    """Label and mean prediction of each row come from the models that have not seen it, one in each repetition."""
    notes = Notes()
    model = fit(Batch(X, Y), None, notes, _kfold=3, _num_cv_round=2)
    right = held_out(model, Y, 2, by_class=False)
    assert right.shape == (len(X), 2)
    assert np.allclose(predictions(notes), np.column_stack([Y, right.mean(axis=1)]), atol=1e-6)


@pytest.mark.parametrize(
    ("objective", "count"),
    [("binary:logistic", 2), ("binary:logitraw", 2), ("binary:hinge", 2), ("multi:softmax", 3), ("multi:softprob", 3)],
)
def test_cross_validation_of_classes(objective: str, count: int) -> None:
    """Of classes the table has the label, the mean probability, and the class that was told most often."""
    labels = classes(X, count)
    notes = Notes()
    given = {"num_class": count} if count > 2 else {}
    model = fit(Batch(X, labels), None, notes, objective=objective, _kfold=2, _num_cv_round=3, **given)
    found = predictions(notes)
    right = held_out(model, labels, 3, by_class=True)
    middle = right.max(axis=2).mean(axis=1) if objective == "multi:softprob" else right.mean(axis=1)
    assert np.allclose(found[:, :2], np.column_stack([labels, middle]), atol=1e-6)
    if objective == "multi:softprob":
        right = right.argmax(axis=2)
    elif objective.startswith("binary:log"):
        right = right > (0 if objective.endswith("raw") else 0.5)
    votes = np.stack([(right == label).sum(axis=1) for label in range(count)], axis=1)
    assert np.array_equal(found[:, 2], votes.argmax(axis=1))


def test_strata() -> None:
    """Of classes every part has its share: no two parts differ by more than one row of a class."""
    labels = np.repeat([0, 1, 2], [50, 31, 4])
    parts = [labels[out] for _, out in folds(labels, 4, 1, 0, by_class=True)]
    shares = np.array([np.bincount(part, minlength=3) for part in parts])
    assert (np.ptp(shares, axis=0) <= 1).all()


def test_parts() -> None:
    """Every row is held out once in a repetition, the parts are of like sizes, and repetitions differ."""
    found = [out for _, out in folds(np.zeros(10), 3, 2, 0, by_class=False)]
    for three in (found[:3], found[3:]):
        assert sorted(np.concatenate(three)) == [*range(10)]
        assert sorted(map(len, three)) == [3, 3, 4]
    assert not all(np.array_equal(one, other) for one, other in zip(found[:3], found[3:], strict=True))


def test_seed_of_parts() -> None:
    """The same seed makes the same parts and so the same models, another seed makes others."""
    first, again, other = (
        [each.to_bytes() for each in fit(Batch(X, Y), _kfold=2, seed=seed).members] for seed in (1, 1, -2)
    )
    assert first == again != other


def test_cross_validation_uses_all_rows() -> None:
    """The rows of the validation channel are divided among the parts too, after those of train."""
    notes = Notes()
    fit(Batch(X, Y), Batch(VX, VY), notes, _kfold=2)
    assert np.array_equal(predictions(notes)[:, 0], np.concatenate([Y, VY]))


def test_log_of_cross_validation() -> None:
    """Each part tells its rounds, each repetition the means of its last ones, the end the means of all."""
    notes = Notes()
    fit(Batch(X, Y), None, notes, **BINARY, num_round=2, _kfold=2, _num_cv_round=2, eval_metric="error,auc")
    assert [line for line in notes.lines if "old" in line or "metrics" in line] == [
        "Run 2-round of 2-fold cross validation with 120 rows",
        "Train cross validation fold 1",
        "Train cross validation fold 2",
        "The metrics of round 1 cross validation",
        "Train cross validation fold 1",
        "Train cross validation fold 2",
        "The metrics of round 2 cross validation",
        "The overall metrics of 2-round cross validation",
    ]
    assert [number for number, _ in notes.rounds] == [0, 1, 0, 1, 2, 0, 1, 0, 1, 2, 2]
    lasts = [notes.rounds[place][1] for place in (1, 3, 6, 8)]
    for place, those in ((4, lasts[:2]), (9, lasts[2:]), (10, lasts)):
        means = notes.rounds[place][1]
        keys = [(channel, name) for name in ("error", "auc") for channel in ("train", "validation")]
        assert [*means] == keys
        assert all(means[key] == pytest.approx(np.mean([values[key] for values in those])) for key in keys)
