"""Hyperparameters of XGBoost: what is taken, what is refused, and in which words."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.algorithms.xgboost_params import XGBoostParams
from clary.errors import HyperParameterError

SPECS = {spec.name: spec for spec in XGBoostParams.specs()}

MULTI = {"objective": "multi:softprob", "num_class": "3"}
HIST = {"tree_method": "hist"}


def parse(**given: str) -> XGBoostParams:
    """Hyperparameters with a number of rounds."""
    return XGBoostParams.parse({"num_round": "1", **given})


def value(name: str, text: str) -> object:
    """What a text becomes, with all that it needs beside it."""
    needed = {"num_class": MULTI, "monotone_constraints": HIST, "interaction_constraints": HIST}.get(name, {})
    if text.startswith("multi:"):
        needed = {"num_class": "3"}
    return getattr(parse(**{**needed, name: text}), SPECS[name].attribute)


def refusal(**given: str) -> str:
    """What is said of hyperparameters that are not allowed."""
    with pytest.raises(HyperParameterError) as caught:
        parse(**given)
    return str(caught.value)


INTERVALS = {
    "[1, +inf)": ["num_round", "early_stopping_rounds", "nthread", "_num_cv_round", "num_parallel_tree"],
    "[2, +inf)": ["num_class", "_kfold"],
    "[0, 1]": ["csv_weights", "refresh_leaf", "one_drop", "eta", "rate_drop", "skip_drop", "lambda_bias"],
    "[0, 3]": ["verbosity"],
    "[0, +inf)": [
        *("max_depth", "max_leaves", "max_bin", "gamma", "min_child_weight", "max_delta_step", "lambda", "alpha"),
        *("base_score", "aft_loss_distribution_scale"),
    ],
    "(0, 1]": ["subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode"],
    "(0, 1)": ["sketch_eps"],
    "(0, +inf)": ["scale_pos_weight"],
    "(1, 2)": ["tweedie_variance_power"],
    "(1.0, +inf)": ["prob_buffer_row"],
    "(-2147483648, 2147483647)": ["seed"],
}
LIMITED = [(name, interval) for interval, names in INTERVALS.items() for name in names]


@pytest.mark.parametrize(("name", "interval"), LIMITED)
def test_limits(name: str, interval: str) -> None:
    """A number at a closed limit is taken, one at an open limit or beyond is refused, and the interval is told."""
    spec = SPECS[name]
    step = 1 if spec.kind is int else 1e-9
    low, high = interval[1:-1].split(", ")
    for limit, outwards, closed in ((low, -step, interval[0] == "["), (high, step, interval[-1] == "]")):
        if "inf" in limit:
            continue
        at, outside, inside = (spec.kind(float(limit) + by) for by in (0, outwards, -outwards))
        assert value(name, str(inside)) == inside
        if closed:
            assert value(name, str(at)) == at
        wrong = outside if closed else at
        assert refusal(**{name: str(wrong)}) == f"Hyperparameter {name}: {wrong} is not in {interval}"
    if "inf" in high:
        assert value(name, "1000000") == 1_000_000


WORDS = {
    "booster": "gbtree gblinear dart",
    "tree_method": "auto exact approx hist gpu_hist",
    "dsplit": "row col",
    "process_type": "default update",
    "grow_policy": "depthwise lossguide",
    "predictor": "auto cpu_predictor gpu_predictor",
    "sample_type": "uniform weighted",
    "normalize_type": "tree forest",
    "aft_loss_distribution": "normal logistic extreme",
    "sampling_method": "uniform gradient_based",
    "objective": "binary:logistic binary:logitraw binary:hinge count:poisson multi:softmax multi:softprob "
    "rank:pairwise rank:ndcg rank:map reg:linear reg:squarederror reg:logistic reg:gamma reg:pseudohubererror "
    "reg:squaredlogerror reg:absoluteerror reg:tweedie survival:aft survival:cox",
    "_tuning_objective_metric": "validation:auc validation:accuracy validation:rmse validation:mape validation:map",
}
BOOLEANS = [
    "save_model_on_termination",
    "deterministic_histogram",
]


@pytest.mark.parametrize(("name", "word"), [(name, word) for name, words in WORDS.items() for word in words.split()])
def test_words(name: str, word: str) -> None:
    """Every word of AWS's container is taken, in quotes too."""
    assert value(name, word) == word
    assert name == "objective" or value(name, f'"{word}"') == word


@pytest.mark.parametrize("name", WORDS)
def test_other_words(name: str) -> None:
    """Any other word is refused with a list of all, and so is a word for nothing."""
    for word in ("foo", "none", ""):
        assert refusal(**{name: word}) == f"Hyperparameter {name}: {word} is not in {[*SPECS[name].choices]}"


def test_near_word() -> None:
    """A word that is nearly right gets the right one."""
    assert refusal(booster="gbtre") == (
        "Hyperparameter booster: gbtre is not in ['gbtree', 'gblinear', 'dart']; did you mean 'gbtree'?"
    )


@pytest.mark.parametrize("name", BOOLEANS)
def test_booleans(name: str) -> None:
    """Truth is written in small letters."""
    assert [value(name, text) for text in ("true", "false", '"true"')] == [True, False, True]
    for text in ("True", "1", "", "auto"):
        assert refusal(**{name: text}) == f"Hyperparameter {name}: {text} is not in ['true', 'false']"


def test_all_are_tested() -> None:
    """No hyperparameter was left out above or below."""
    lists = {"updater", "eval_metric", "monotone_constraints", "interaction_constraints"}
    assert {name for name, _ in LIMITED} | {*WORDS} | {*BOOLEANS} | lists | {"use_dask_gpu_training"} == {*SPECS}


@pytest.mark.parametrize("name", [spec.name for spec in SPECS.values() if spec.kind in (int, float)])
@pytest.mark.parametrize("text", ["", "x", "1_0", "auto", "None", "[1]", "nan", "inf", "9" * 5000])
def test_no_number(name: str, text: str) -> None:
    """What is no number is told in AWS's words and then in ours."""
    told = refusal(**{name: text})
    assert told.startswith(f"Hyperparameter {name}: could not parse value (caused by ValueError); {text[:9]!r}"[:-1])
    assert told.endswith(f" is not {SPECS[name].allowed}") and len(told) < 300


def test_whole_numbers() -> None:
    """An integer is written as one: AWS refuses 10.0 and 1e1."""
    assert [parse(max_depth=text).max_depth for text in ("10", '"10"', " 10 ", "+10")] == [10] * 4
    for text in ("10.0", "1e1"):
        assert refusal(max_depth=text) == (
            "Hyperparameter max_depth: could not parse value (caused by ValueError); "
            f"'{text}' is not an integer of at least 0"
        )


def test_missing() -> None:
    """The number of rounds is all that is needed; without it nothing else is looked at."""
    for wrong in ({}, {"max_depht": "x"}, {"num_rounds": "3"}):
        with pytest.raises(HyperParameterError, match=r"^Missing required hyperparameter: num_round; set it to an int"):
            XGBoostParams.parse(wrong)


def test_unknown() -> None:
    """An unknown name is told with the one that was meant, an alias among them, or all that there are."""
    assert refusal(max_depht="3") == "Extraneous hyperparameter found: max_depht; did you mean 'max_depth'?"
    assert refusal(learning_rat="3") == "Extraneous hyperparameter found: learning_rat; did you mean 'learning_rate'?"
    assert refusal(zzz="3").startswith("Extraneous hyperparameter found: zzz; known are num_round, csv_weights, ")
    assert len(refusal(**{"z" * 5000: "3"})) < 1024


def test_older_names() -> None:
    """What only older images know is told with what to do about it."""
    assert refusal(silent="1") == "Extraneous hyperparameter found: silent; use verbosity instead"
    assert refusal(single_precision_histogram="true").startswith(
        "Extraneous hyperparameter found: single_precision_histogram; "
    )
    assert "grow_local_histmaker" not in SPECS["updater"].choices


def test_unknown_before_unreadable_before_outside() -> None:
    """Of several mistakes an unknown name is told first, then a text that is no value, then one out of range."""
    assert "Extraneous" in refusal(eta="2", max_depth="x", foo="1")
    assert "max_depth: could not parse" in refusal(eta="2", max_depth="x", objective="multi:softmax")
    assert "eta: 2.0 is not in" in refusal(eta="2", objective="multi:softmax")


@pytest.mark.parametrize("name", ["_kvstore", "_num_gpus", "sagemaker_region", "_anything"])
def test_names_of_the_platform(name: str) -> None:
    """Names of the platform are left alone."""
    assert parse(**{name: "x"}) == parse()


@pytest.mark.parametrize(
    ("alias", "name"),
    [("learning_rate", "eta"), ("min_split_loss", "gamma"), ("reg_lambda", "lambda"), ("reg_alpha", "alpha")],
)
def test_aliases(alias: str, name: str) -> None:
    """An alias is the name; of both the last is taken, and a refusal tells the name."""
    assert parse(**{alias: "0.5"}) == parse(**{name: "0.5"})
    assert parse(**{name: "0.5", alias: "0.25"}) == parse(**{name: "0.25"})
    assert refusal(**{alias: "-1"}).startswith(f"Hyperparameter {name}: -1.0 is not in [0")
    assert SPECS[name].doc.endswith(f"; also {alias}.")


@pytest.mark.parametrize(
    "text",
    ["error,error@0.7", "error, error@0.7", '["error", "error@0.7"]', "['error','error@0.7']", '"error,error@.7"'],
)
def test_metrics(text: str) -> None:
    """Metrics are words with commas between them, in any dialect."""
    assert [metric.replace("@.", "@0.") for metric in parse(eval_metric=text).eval_metric] == ["error", "error@0.7"]


def test_metrics_keep_their_order() -> None:
    """The last metric is the one that ends training early: none is moved or left out."""
    assert parse(eval_metric="rmse,mae,rmse").eval_metric == ["rmse", "mae", "rmse"]
    assert parse().eval_metric == []


def test_unknown_metric() -> None:
    """All that was given is told, and all that there is."""
    told = refusal(eval_metric="foo,rmse")
    assert told == f"Hyperparameter eval_metric: value ['foo', 'rmse'] not in range {[*SPECS['eval_metric'].choices]}"
    for text in ("", "rmse,", "[]", "RMSE", "auto"):
        assert refusal(eval_metric=text).startswith("Hyperparameter eval_metric: value [")


def test_metric_with_threshold() -> None:
    """Three metrics take a threshold, which is a number."""
    assert parse(eval_metric="ndcg@2,map@3").eval_metric == ["ndcg@2", "map@3"]
    assert refusal(eval_metric="x@1") == (
        "Metric 'x@1' is not supported. Parameter 'eval_metric' with customized threshold should be one of these "
        "options: 'error', 'ndcg', 'map'."
    )
    for text in ("error@x", "error@", "error@nan", "error@1@2"):
        told = f"Threshold value 't' in 'error@t' expects float input. It is {text[6:]!r}."
        assert refusal(eval_metric=text) == told


def test_metric_of_the_user() -> None:
    """A function is no metric."""
    told = refusal(eval_metric="<function f at 0x7f>")
    assert told.startswith("User defined evaluation metric <function f at 0x7f> is not supported yet. Choose from ")


def test_tuning_metric() -> None:
    """The metric of a tuning job is known by its own name."""
    assert parse(_tuning_objective_metric="validation:auc").tuning_metric == "auc"
    assert parse().tuning_metric is None


@pytest.mark.parametrize(
    ("text", "wanted"), [("(0,1)", (0, 1)), ("( 1, -1 )", (1, -1)), ("(1,)", (1,)), ("[0,1]", (0, 1)), ("()", ())]
)
def test_monotone_constraints(text: str, wanted: tuple[int, ...]) -> None:
    """Constraints by feature are a tuple; the library gets it without blanks."""
    params = parse(tree_method="hist", monotone_constraints=text)
    assert params.monotone_constraints == wanted
    assert params.library["monotone_constraints"] == f"({','.join(map(str, wanted))})"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("[[1,2],[3,4]]", "[[1,2],[3,4]]"), ("[[1, 2], [3]]", "[[1,2],[3]]"), ("((1,2),)", "[[1,2]]"), ("[]", "[]")],
)
def test_interaction_constraints(text: str, wanted: str) -> None:
    """Groups of features are lists in a list; the library gets them without blanks."""
    assert parse(tree_method="approx", interaction_constraints=text).library["interaction_constraints"] == wanted


def test_constraints_out_of_range() -> None:
    """Other directions are refused, and AWS counts features from 1."""
    told = "Hyperparameter monotone_constraints: value (2, 0) not in range [-1, 0, 1]"
    assert refusal(monotone_constraints="(2,0)") == told
    told = "Hyperparameter interaction_constraints: value [[0, 1]] not in range [1, +inf)"
    assert refusal(interaction_constraints="[[0, 1]]") == told


@pytest.mark.parametrize("name", ["monotone_constraints", "interaction_constraints"])
@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "(1)", "[[1]", "x", "(1,'x')", "[1,[2]]", "(1.5,)", "{1: 2}", "__import__('os')", "(True,)"),
        *("(1)(2)", "[1][0]", "(1-1,)", "(1 -1,)", "(--1,)", "(0777,)", "(1,,)", "(1 2)", "( ", ",", ")"),
        *("(" * 300, "[" * 90_000, "-" * 90_000 + "1", "1-" * 40_000 + "1", "(" + "1," * 60_000 + ")"),
    ],
)
def test_constraints_that_are_none(name: str, text: str) -> None:
    """Only tuples and lists of integers are read, and nothing is run."""
    told = refusal(**HIST, **{name: text})
    assert told.startswith(f"Hyperparameter {name}: could not parse value (caused by ValueError); ")
    assert len(told) < 300


def test_unknown_updater() -> None:
    """Updaters are refused like metrics; AWS's range has no grow_quantile_histmaker."""
    told = refusal(updater="prune,grow_quantile_histmaker")
    assert told.startswith(
        "Hyperparameter updater: value ['prune', 'grow_quantile_histmaker'] not in range ['grow_colm"
    )


def test_defaults_of_the_container() -> None:
    """What the container itself does where nothing is said."""
    params = parse()
    assert (params.csv_weights, params.num_cv_round, params.save_model_on_termination) == (0, 1, False)
    assert params.early_stopping_rounds is params.kfold is params.num_class is params.seed is None


def test_create_algorithm_json() -> None:
    """A default of the library is none of ours: the platform is not to fill it in."""
    entries = {entry["Name"]: entry for entry in XGBoostParams.create_algorithm_json()}
    assert {name: entry["DefaultValue"] for name, entry in entries.items() if "DefaultValue" in entry} == {
        "csv_weights": "0",
        "_num_cv_round": "1",
        "save_model_on_termination": "false",
        "use_dask_gpu_training": "false",
    }
    assert [name for name, entry in entries.items() if entry["IsRequired"]] == ["num_round"]
    assert entries["eta"]["Range"] == {"ContinuousParameterRangeSpecification": {"MinValue": "0", "MaxValue": "1"}}
    kinds = [entries[name]["Type"] for name in ("max_depth", "booster", "eval_metric", "monotone_constraints")]
    assert kinds == ["Integer", "Categorical", "FreeText", "FreeText"]


def test_tunable() -> None:
    """A tuning job may vary what AWS's documentation says."""
    assert [spec.name for spec in SPECS.values() if spec.tunable] == [
        *("num_round", "eta", "gamma", "max_depth", "min_child_weight", "max_delta_step", "subsample"),
        *("colsample_bytree", "colsample_bylevel", "colsample_bynode", "lambda", "alpha"),
    ]


def test_documented() -> None:
    """Each has one sentence, and says what is allowed."""
    assert all(re.fullmatch(r"[A-Z0-9].*\.", spec.doc) for spec in SPECS.values())
    assert SPECS["monotone_constraints"].allowed == "a tuple of -1, 0, 1"
    assert SPECS["interaction_constraints"].allowed == "a list of lists of integers of at least 1"
    assert SPECS["eval_metric"].allowed.startswith("a comma-separated list of rmse, rmsle")


@given(
    st.sampled_from(sorted(SPECS)) | st.text(),
    st.text() | st.text("0123456789()[],-+ .@\"'eE") | st.lists(st.integers(-2, 3)).map(str),
)
def test_any_text(name: str, text: str) -> None:
    """Whatever is given, there is a value or one error that fits into a failure file."""
    try:
        params = parse(**{name: text})
    except HyperParameterError as error:
        assert len(str(error)) < 1024 and len(str(error).splitlines()) == 1
    else:
        assert all(isinstance(word, str) for word in (*params.library, *params.library.values()))
