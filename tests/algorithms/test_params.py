"""Hyperparameters: what strings mean, and what is said of those that mean nothing."""

import json
import re

import pytest

from clary.algorithms.kmeans import KMeansParams
from clary.algorithms.params import HyperParameters, default_text, hp
from clary.errors import HyperParameterError


class Params(HyperParameters):
    """One hyperparameter of each kind."""

    hidden = frozenset({"force_dense"})

    k: int = hp(ge=1, le=5000, doc="An integer.")
    rate: float = hp(default=0.5, gt=0, lt=1, tunable=True, doc="A number.")
    flag: bool = hp(default=True, doc="A boolean.")
    method: str = hp(default="one", choices=("one", "two"), doc="A word of some.")
    name: str = hp(default="x", doc="Any word.")
    metrics: list[str] = hp(default=["a"], choices=("a", "b"), doc="A list.")
    factor: int | None = hp(default=None, ge=1, doc="An integer or auto.")
    penalty: float = hp(default=0.0, ge=0, name="lambda", doc="A name that Python can't spell.")


def parse(**given: str) -> Params:
    """Params with a valid k."""
    return Params.parse({"k": "1", **given})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *[("flag", text, True) for text in ("True", "true", "TRUE", "1", '"true"', '"True"', " true ")],
        *[("flag", text, False) for text in ("False", "false", "0", '"false"')],
        *[("k", text, 10) for text in ("10", '"10"', "10.0", " 10 ", "1e1", "+10")],
        *[("rate", text, 0.25) for text in ("0.25", '"0.25"', ".25", "25e-2")],
        *[("method", text, "two") for text in ("two", '"two"', " two")],
        *[("name", text, "a b") for text in ("a b", '"a b"')],
        *[
            ("metrics", text, ["a", "b"])
            for text in ('["a", "b"]', "['a', 'b']", '"[\\"a\\", \\"b\\"]"', '["a","b","a"]')
        ],
        *[("metrics", text, ["b"]) for text in ("b", '"b"', '["b"]')],
        *[("factor", text, None) for text in ("auto", '"auto"', "Auto", "None", "null")],
        *[("factor", text, 4) for text in ("4", '"4"')],
    ],
)
def test_dialects(name: str, text: str, value: object) -> None:
    """A value may be str() of Python, JSON, or JSON inside JSON."""
    assert getattr(parse(**{name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("k", text) for text in ("0", "5001", "-1", "1.5", "abc", "", "auto", "None", "1_0", "nan", "inf", "[1]")],
        *[("rate", text) for text in ("0", "1", "-0.1", "nan", "inf", "x", "", "1e999", "0_1", "auto")],
        *[("flag", text) for text in ("yes", "2", "", "None", "auto")],
        *[("method", text) for text in ("three", "One", "")],
        *[("metrics", text) for text in ("[]", '["c"]', "c", "[1]", "[", '["a", null]', '{"a": 1}', "", "[" * 2000)],
        *[("factor", text) for text in ("0", "1.5", "automatic")],
    ],
)
def test_refusals(name: str, text: str) -> None:
    """A value that is not allowed is refused with one sentence: what it was, for which name, what is allowed."""
    with pytest.raises(HyperParameterError) as caught:
        parse(**{name: text})
    [sentence] = str(caught.value).splitlines()
    assert f" is not valid under any of the given schemas: hyperparameter '{name}' must be " in sentence
    assert len(text) > 100 or sentence.startswith(repr(text))
    assert len(sentence) < 400


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("k", "an integer of at least 1 and at most 5000"),
        ("rate", "a number above 0 and below 1"),
        ("flag", "true or false"),
        ("method", "one of one, two"),
        ("name", "a word"),
        ("metrics", "a JSON list of a, b"),
        ("factor", "an integer of at least 1, or auto"),
        ("lambda", "a number of at least 0"),
    ],
)
def test_allowed(name: str, allowed: str) -> None:
    """What is allowed is told in words."""
    assert {spec.name: spec.allowed for spec in Params.specs()}[name] == allowed


def test_large_limits() -> None:
    """A limit is written without an exponent."""

    class Large(HyperParameters):
        n: int = hp(le=10_000_000, ge=1, doc="Large.")

    assert Large.specs()[0].allowed == "an integer of at least 1 and at most 10000000"
    [entry] = Large.create_algorithm_json()
    assert entry["Range"]["IntegerParameterRangeSpecification"] == {"MinValue": "1", "MaxValue": "10000000"}


def test_defaults() -> None:
    """What is not given has its default, and a default list is no one else's."""
    params = parse()
    assert (params.rate, params.flag, params.method, params.metrics, params.factor) == (0.5, True, "one", ["a"], None)
    assert params.metrics is not parse().metrics


def test_name_that_python_cannot_spell() -> None:
    """The name of a hyperparameter and that of its attribute may differ."""
    assert parse(**{"lambda": "2"}).penalty == 2
    with pytest.raises(HyperParameterError, match="'penalty' was unexpected"):
        parse(penalty="2")


def test_unknown_name() -> None:
    """An unknown name is refused in AWS's words, with the one that was meant or all that there are."""
    with pytest.raises(HyperParameterError) as caught:
        parse(metrix="a")
    told = "Additional properties are not allowed ('metrix' was unexpected): did you mean 'metrics'?"
    assert str(caught.value) == told
    with pytest.raises(HyperParameterError, match=r"\('zzz' was unexpected\): known are k, rate, .*, lambda$"):
        parse(zzz="a")


@pytest.mark.parametrize(
    "name", ["_kvstore", "_num_gpus", "_tuning_objective_metric", "_anything", "sagemaker_program", "force_dense"]
)
@pytest.mark.parametrize("value", ["", "auto", "True", "{"])
def test_hidden_names(name: str, value: str) -> None:
    """Names of the platform and those that clients send on their own are accepted with any value."""
    assert parse(**{name: value}) == parse()


def test_required() -> None:
    """Everything that is missing is named at once."""
    with pytest.raises(HyperParameterError) as caught:
        KMeansParams.parse({})
    assert str(caught.value) == (
        "'feature_dim' is a required property: set 'feature_dim' to an integer of at least 1 and 'k' to an integer of "
        "at least 1"
    )


def test_unknown_goes_first() -> None:
    """A misspelt required name is told as misspelt, not as missing."""
    with pytest.raises(HyperParameterError, match=r"'feature_dimm' was unexpected.*did you mean 'feature_dim'"):
        KMeansParams.parse({"feature_dimm": "2", "k": "2"})


def test_defaults_of_kmeans() -> None:
    """The defaults are those in the logs of Amazon's container."""
    defaults = {spec.name: default_text(spec) for spec in KMeansParams.specs() if not spec.required}
    assert defaults == {
        "mini_batch_size": "5000",
        "epochs": "1",
        "init_method": "random",
        "extra_center_factor": "auto",
        "half_life_time_size": "0",
        "local_lloyd_max_iter": "300",
        "local_lloyd_tol": "0.0001",
        "local_lloyd_num_trials": "auto",
        "local_lloyd_init_method": "kmeans++",
        "eval_metrics": '["msd"]',
    }


def test_defaults_are_valid() -> None:
    """Every default, written as a user would, is read back."""
    given = {spec.name: default_text(spec) for spec in KMeansParams.specs() if not spec.required}
    assert KMeansParams.parse({"feature_dim": "1", "k": "1", **given}) == KMeansParams(feature_dim=1, k=1)


def test_create_algorithm_json() -> None:
    """The declaration becomes the SupportedHyperParameters of CreateAlgorithm."""
    entries = {entry["Name"]: entry for entry in Params.create_algorithm_json()}
    assert entries["k"] == {
        "Name": "k",
        "Description": "An integer.",
        "Type": "Integer",
        "IsTunable": False,
        "IsRequired": True,
        "Range": {"IntegerParameterRangeSpecification": {"MinValue": "1", "MaxValue": "5000"}},
    }
    assert entries["rate"]["Range"] == {"ContinuousParameterRangeSpecification": {"MinValue": "0", "MaxValue": "1"}}
    assert entries["rate"]["IsTunable"] and entries["rate"]["DefaultValue"] == "0.5"
    assert entries["flag"]["Range"] == {"CategoricalParameterRangeSpecification": {"Values": ["true", "false"]}}
    assert entries["method"]["Range"] == {"CategoricalParameterRangeSpecification": {"Values": ["one", "two"]}}
    kinds = {name: entries[name]["Type"] for name in ("flag", "method", "name", "metrics", "factor", "lambda")}
    assert list(kinds.values()) == ["Categorical", "Categorical", "FreeText", "FreeText", "FreeText", "Continuous"]


def test_json_of_kmeans_is_json() -> None:
    """The description of k-means has the shapes of the API: strings for defaults, and no name twice."""
    entries = json.loads(json.dumps(KMeansParams.create_algorithm_json()))
    assert len({entry["Name"] for entry in entries}) == len(entries) == 12
    for entry in entries:
        assert entry["Type"] in {"Integer", "Continuous", "Categorical", "FreeText"}
        assert isinstance(entry.get("DefaultValue", ""), str)
        assert re.fullmatch(r"[A-Z].*\.", entry["Description"]) and len(entry["Description"]) < 1024


def test_frozen() -> None:
    """Hyperparameters do not change once they are read."""
    with pytest.raises(AttributeError):
        parse().k = 3  # type: ignore[misc]  # that is the point


class Aliased(HyperParameters):
    """Hyperparameters of a library that has defaults of its own."""

    rate: float | None = hp(default=None, gt=0, le=1, unset="0.3", aliases=("speed",), doc="A number.")
    words: list[str] = hp(default=[], choices=("a", "b"), unset="all of them", doc="A list.")


def test_alias() -> None:
    """Another name of a hyperparameter sets it, is documented with it, and is meant where it is misspelt."""
    assert Aliased.parse({"speed": "0.5"}) == Aliased.parse({"rate": "0.5"}) == Aliased(rate=0.5)
    assert Aliased.specs()[0].doc == "A number; also speed."
    with pytest.raises(HyperParameterError, match="did you mean 'speed'"):
        Aliased.parse({"sped": "0.5"})


def test_unset() -> None:
    """What a library has a default for is nothing where it is not given, and no word says nothing."""
    assert (Aliased().rate, Aliased().words) == (None, [])
    for text in ("auto", "None", "null"):
        with pytest.raises(HyperParameterError, match=r"must be a number above 0 and at most 1$"):
            Aliased.parse({"rate": text})


def test_default_of_a_library() -> None:
    """Its default is told in words, and is none that the platform should fill in."""
    assert [default_text(spec) for spec in Aliased.specs()] == ["0.3", "all of them"]
    assert all("DefaultValue" not in entry for entry in Aliased.create_algorithm_json())


def test_interval() -> None:
    """Limits are an interval, written as they were declared."""

    class Limited(HyperParameters):
        free: float = hp(default=0.5, doc="A number.")
        closed: float = hp(default=0.5, ge=0, le=1, doc="A number.")
        inner: float = hp(default=0.5, gt=0, lt=1, doc="A number.")
        half: float = hp(default=2.0, gt=1.0, doc="A number.")

    assert [spec.interval for spec in Limited.specs()] == ["(-inf, +inf)", "[0, 1]", "(0, 1)", "(1.0, +inf)"]
