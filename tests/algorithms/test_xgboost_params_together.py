"""Hyperparameters of XGBoost together: what does not go with what, and what the library is told of them."""

import logging
import re

import numpy as np
import pytest

from clary.algorithms.booster import Booster, Matrix
from clary.algorithms.params import default_text
from clary.algorithms.xgboost_params import XGBoostParams
from clary.errors import HyperParameterError

SPECS = {spec.name: spec for spec in XGBoostParams.specs()}

MULTI = {"objective": "multi:softprob", "num_class": "3"}


def parse(**given: str) -> XGBoostParams:
    """Hyperparameters with a number of rounds."""
    return XGBoostParams.parse({"num_round": "1", **given})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"objective": "multi:softmax"}, "Require input for parameter 'num_class' for multi-classification"),
        ({"objective": "multi:softprob"}, "Require input for parameter 'num_class' for multi-classification"),
        *[
            (
                {**given, "num_class": "3"},
                "Do not need to setup parameter 'num_class' for learning task other than multi-",
            )
            for given in ({}, {"objective": "binary:logistic"})
        ],
        ({"objective": "aft_loss_distribution"}, "Unknown objective function: aft_loss_distribution; set objective to"),
        *[
            ({**given, "eval_metric": "rmse,auc"}, "Metric 'auc' can only be applied for classification and ranking ")
            for given in ({}, MULTI, {"objective": "reg:gamma"})
        ],
        *[
            ({**given, "eval_metric": "aft-nloglik"}, "Metric 'aft-nloglik' can only be applied for 'survival:aft' obj")
            for given in ({}, {"objective": "survival:cox"})
        ],
        *[
            (
                {**given, "monotone_constraints": "(1,)"},
                "monotone_constraints can be used only when the tree_method parameter is set to either 'exact' or 'hi",
            )
            for given in ({}, *({"tree_method": method} for method in ("auto", "approx", "gpu_hist")))
        ],
        *[
            (
                {**given, "interaction_constraints": "[[1]]"},
                "interaction_constraints can be used only when the tree_method parameter is set to either 'exact', ",
            )
            for given in ({}, *({"tree_method": method} for method in ("auto", "gpu_hist")))
        ],
        ({"use_dask_gpu_training": "true"}, "Some configurations unsuitable for Dask GPU training were found: "),
        *[
            (
                {"booster": "gblinear", "updater": text},
                "Linear updater should be one of these options: 'shotgun', 'coord_descent'",
            )
            for text in ("prune", "shotgun,coord_descent")
        ],
        (
            {"process_type": "update", "updater": "refresh,grow_histmaker"},
            "process_type 'update' can only be used with updater 'refresh' and 'prune'",
        ),
        *[
            ({**given, "updater": "shotgun"}, "Tree updater should be selected from these options: 'grow_colmaker', ")
            for given in ({}, {"booster": "dart"})
        ],
        (
            {"updater": "grow_colmaker,grow_histmaker"},
            "Only one tree grow plugin can be selected. Choose one from the ",
        ),
        *[
            ({"updater": text}, "updater 'distcol' and 'grow_skmaker' are no longer in XGBoost; ")
            for text in ("distcol", "grow_skmaker,prune")
        ],
    ],
)
def test_rules(given: dict[str, str], told: str) -> None:
    """What does not go together is refused in AWS's words."""
    with pytest.raises(HyperParameterError) as caught:
        parse(**given)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    "given",
    [
        MULTI,
        {"objective": "binary:logistic", "eval_metric": "auc,error"},
        {"objective": "rank:ndcg", "eval_metric": "auc"},
        {"objective": "survival:aft", "eval_metric": "aft-nloglik"},
        {**MULTI, "eval_metric": "merror"},
        {"eval_metric": "aucpr"},
        {"tree_method": "exact", "monotone_constraints": "(1,)"},
        {"tree_method": "approx", "interaction_constraints": "[[1]]"},
        {"booster": "gblinear", "updater": "shotgun", "process_type": "update"},
        {"process_type": "update", "updater": "refresh,prune"},
        {"updater": "grow_histmaker,prune"},
        {"use_dask_gpu_training": "false"},
    ],
)
def test_kept_rules(given: dict[str, str]) -> None:
    """What goes together is taken."""
    assert parse(**given)


OURS = {
    "csv_weights": "1",
    "early_stopping_rounds": "3",
    "_kfold": "3",
    "_num_cv_round": "2",
    "_tuning_objective_metric": "validation:auc",
    "eval_metric": "auc",
    "save_model_on_termination": "true",
    "use_dask_gpu_training": "false",
}
FORGOTTEN = {
    "predictor": "gpu_predictor",
    "sketch_eps": "0.1",
    "deterministic_histogram": "true",
    "prob_buffer_row": "2",
    "dsplit": "row",
    "lambda_bias": "0.5",
}
TREES = {
    "objective": "binary:logistic",
    "verbosity": "1",
    "nthread": "1",
    "eta": "0.2",
    "gamma": "1e-05",
    "max_depth": "4",
    "min_child_weight": "0.5",
    "max_delta_step": "1.5",
    "subsample": "0.9",
    "colsample_bytree": "0.9",
    "colsample_bylevel": "0.9",
    "colsample_bynode": "0.9",
    "lambda": "0.1",
    "alpha": "0.1",
    "tree_method": "hist",
    "scale_pos_weight": "2.0",
    "refresh_leaf": "1",
    "process_type": "default",
    "grow_policy": "lossguide",
    "max_leaves": "7",
    "max_bin": "16",
    "monotone_constraints": "(0,1)",
    "interaction_constraints": "[[1,2]]",
    "sampling_method": "uniform",
    "base_score": "0.25",
    "seed": "-7",
    "num_parallel_tree": "2",
}
DART = {
    "booster": "dart",
    "sample_type": "weighted",
    "normalize_type": "forest",
    "rate_drop": "0.1",
    "one_drop": "1",
    "skip_drop": "0.1",
}
LINEAR = {"booster": "gblinear", "updater": "coord_descent", "lambda": "1.0", "alpha": "0.1", "eta": "0.5"}
SETS = {
    "trees": TREES,
    "dart": {**TREES, **DART},
    "linear": LINEAR,
    "tweedie": {"objective": "reg:tweedie", "tweedie_variance_power": "1.25"},
    "classes": MULTI,
    "updaters": {"updater": "grow_histmaker,sync,prune"},
}


@pytest.mark.parametrize("name", SETS)
def test_library(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """What was given goes to the library as it was written, and the library uses all of it."""
    params = parse(**SETS[name], **OURS, **FORGOTTEN) if name == "trees" else parse(**SETS[name])
    assert params.library == SETS[name]
    rng = np.random.default_rng(0)
    rows = Matrix(
        rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % (3 if name == "classes" else 2), threads=1
    )
    with caplog.at_level(logging.INFO, "clary"):
        booster = Booster({"nthread": "1", **params.library, "validate_parameters": "1"}, [rows])
        booster.update(rows, 0)
    assert booster.rounds == 1
    assert [message for message in caplog.messages if "not used" in message] == []


def test_library_has_every_name() -> None:
    """Every hyperparameter is the container's, is forgotten, or was given to a real library above or below."""
    tried = {name for tried in SETS.values() for name in tried}
    assert tried | {*OURS} | {*FORGOTTEN} | {"num_round"} == {*SPECS} - {
        "aft_loss_distribution",
        "aft_loss_distribution_scale",
    }


def test_library_of_nothing() -> None:
    """Nothing is made up: what is not given is the library's."""
    assert parse().library == {}


def test_survival() -> None:
    """The distribution of survival times is passed on; the library wants bounds of labels that no channel has."""
    given = {"objective": "survival:aft", "aft_loss_distribution": "extreme", "aft_loss_distribution_scale": "2.0"}
    assert parse(**given).library == given


def test_older_values() -> None:
    """Values that the library has renamed get their new names, and a note."""
    params = parse(objective="reg:linear", tree_method="gpu_hist")
    assert params.library == {"objective": "reg:squarederror", "tree_method": "hist"}
    assert params.notes() == [
        "tree_method gpu_hist needs a GPU, which this build does not use: hist is used, on the CPU",
        "objective reg:linear is now called reg:squarederror",
    ]


def test_notes() -> None:
    """What the library has forgotten is named, in the order of the documentation; else there is nothing to note."""
    names = [name for name in SPECS if name in FORGOTTEN]
    assert parse(**FORGOTTEN).notes() == [f"XGBoost no longer has {name}: it is not used" for name in names]
    assert parse(**TREES).notes() == []


def test_defaults() -> None:
    """The documented defaults are those that the library uses."""
    rng = np.random.default_rng(0)
    rows = Matrix(rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2, threads=1)
    booster = Booster({"nthread": "1"}, [rows])
    booster.update(rows, 0)
    found = dict(re.findall(r"'(\w+)': '([^']*)'", str(booster.configuration())))
    told = {spec.name: default_text(spec).partition(",")[0] for spec in SPECS.values() if spec.unset and spec.tunable}
    told |= {name: default_text(SPECS[name]) for name in ("tree_method", "max_bin", "grow_policy", "seed", "booster")}
    told |= {name: default_text(SPECS[name]) for name in ("objective", "num_parallel_tree", "scale_pos_weight")}
    numbers = {name: float(text) for name, text in told.items() if text[0].isdigit()}
    assert numbers == pytest.approx({name: float(found[name]) for name in numbers})
    assert all(found[name] == text for name, text in told.items() if name not in numbers)
