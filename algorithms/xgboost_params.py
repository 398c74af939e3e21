"""Hyperparameters of XGBoost: what AWS's open-source container takes, and what it says of what it does not take.

References
----------
- aws/sagemaker-xgboost-container, https://github.com/aws/sagemaker-xgboost-container
- XGBoost Parameters, https://xgboost.readthedocs.io/en/stable/parameter.html
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import HyperParameterError
from .params import Form, HyperParameters, Spec, hp, short
from .xgboost_metrics import METRICS

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["XGBoostParams"]

_METRICS: Final = tuple(metric.name for metric in METRICS)

_THRESHOLDS: Final = ("error", "ndcg", "map")
"""Metrics that may end in ``@`` and a number."""

_OURS: Final = frozenset(
    {
        "num_round",
        "csv_weights",
        "early_stopping_rounds",
        "_kfold",
        "_num_cv_round",
        "_tuning_objective_metric",
        "eval_metric",
        "save_model_on_termination",
        "use_dask_gpu_training",
    }
)
"""What the container uses itself."""

_FORGOTTEN: Final = frozenset(
    {"deterministic_histogram", "dsplit", "lambda_bias", "predictor", "prob_buffer_row", "sketch_eps"}
)
"""What AWS's container takes and the library no longer knows."""

_NOW: Final = {"gpu_hist": "hist", "reg:linear": "reg:squarederror"}
"""Values that the library no longer knows → what they are now."""

_GONE: Final = {
    "silent": "use verbosity instead",
    "single_precision_histogram": "histograms have no such choice since XGBoost 1.6, leave it out",
}
"""Names that only older images know → what to do."""

_GROWING: Final = ("grow_colmaker", "distcol", "grow_histmaker", "grow_skmaker")
_CHANGING: Final = ("refresh", "prune")
_LINEAR: Final = ("shotgun", "coord_descent")
"""Updaters that grow trees, that change them, and those of linear models."""

_OBJECTIVES: Final = (
    *("aft_loss_distribution", "binary:logistic", "binary:logitraw", "binary:hinge", "count:poisson"),
    *("multi:softmax", "multi:softprob", "rank:pairwise", "rank:ndcg", "rank:map", "reg:linear", "reg:squarederror"),
    *("reg:logistic", "reg:gamma", "reg:pseudohubererror", "reg:squaredlogerror", "reg:absoluteerror", "reg:tweedie"),
    *("survival:aft", "survival:cox"),
)
"""In AWS's order, with a name that is none by AWS's mistake."""

_LITERAL: Final = re.compile(r"(?:(?<![\d)\]])(?<![\d)\]] )(?:[(\[]|[+-]\d)|[\d ,)\]])+", re.ASCII)
"""Numbers, commas and brackets; one that opens, or a sign, only where an item begins: Python's parser sees no sums."""

_LONGEST: Final = 100_000
"""Characters of constraints, which is more than SageMaker takes."""


def _read_integer(text: str) -> int:
    """An integer as AWS's container reads it: ``10.0`` is none."""
    if "_" in text:
        raise ValueError(text)
    return int(text)


def _read_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _read_words(text: str) -> list[str]:
    """Words with commas between them; a list of JSON or Python is read too."""
    if text.startswith("["):
        words: list[str] = HyperParameters.forms[list[str]].read(text)
        return words
    return [word.strip() for word in text.split(",")]


def _literal(text: str) -> Sequence[Any]:
    """A tuple or list of Python, of integers and of tuples and lists."""
    text = " ".join(text.split())
    if len(text) > _LONGEST or not _LITERAL.fullmatch(text):
        raise ValueError(text)
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, MemoryError) as error:  # a parser that meets too many brackets has either to say
        raise ValueError(text) from error
    if not isinstance(found, (tuple, list)):
        raise ValueError(text)
    return found


def _read_tuple(text: str) -> tuple[int, ...]:
    found = _literal(text)
    if not all(isinstance(item, int) for item in found):
        raise ValueError(text)
    return tuple(found)


def _read_nested(text: str) -> list[list[int]]:
    found = _literal(text)
    if not all(isinstance(row, (tuple, list)) and all(isinstance(item, int) for item in row) for row in found):
        raise ValueError(text)
    return [list(row) for row in found]


class XGBoostParams(HyperParameters):
    """Hyperparameters of XGBoost; those that are not given are left to the library.

    Examples
    --------
    >>> params = XGBoostParams.parse({"num_round": "10", "learning_rate": "0.2", "objective": "binary:logistic"})
    >>> params.num_round, params.eta, params.max_depth
    (10, 0.2, None)
    >>> params.library
    {'eta': '0.2', 'objective': 'binary:logistic'}
    >>> XGBoostParams.parse({"num_round": "10", "eta": "2"})
    Traceback (most recent call last):
    ...
    clary.errors.HyperParameterError: Hyperparameter eta: 2.0 is not in [0, 1]
    """

    forms = {  # noqa: RUF012  # the base says that it is the class's
        **HyperParameters.forms,
        bool: Form("true or false", _read_bool),
        int: Form("an integer", _read_integer),
        list[str]: Form("a comma-separated list", _read_words),
        tuple[int, ...]: Form("a tuple", _read_tuple),
        list[list[int]]: Form("a list of lists of integers", _read_nested),
    }

    num_round: int = hp(ge=1, tunable=True, doc="Number of rounds of boosting.")
    csv_weights: int = hp(default=0, ge=0, le=1, doc="1 where the second column of CSV data holds weights of rows.")
    early_stopping_rounds: int | None = hp(
        default=None,
        ge=1,
        unset="never",
        doc="Rounds without improvement of the last metric after which training ends.",
    )
    booster: str | None = hp(
        default=None, choices=("gbtree", "gblinear", "dart"), unset="gbtree", doc="What a round adds to the model."
    )
    verbosity: int | None = hp(default=None, ge=0, le=3, unset="1", doc="How much the library logs; 0 is nothing.")
    nthread: int | None = hp(default=None, ge=1, unset="all cores", doc="Number of threads.")
    eta: float | None = hp(
        default=None,
        ge=0,
        le=1,
        tunable=True,
        unset="0.3",
        aliases=("learning_rate",),
        doc="Share of a round's answer that counts.",
    )
    gamma: float | None = hp(
        default=None,
        ge=0,
        tunable=True,
        unset="0",
        aliases=("min_split_loss",),
        doc="Least fall of the loss for which a leaf is split.",
    )
    max_depth: int | None = hp(default=None, ge=0, tunable=True, unset="6", doc="Largest depth of a tree; 0 is any.")
    min_child_weight: float | None = hp(
        default=None, ge=0, tunable=True, unset="1", doc="Least sum of second derivatives in a leaf."
    )
    max_delta_step: float | None = hp(
        default=None, ge=0, tunable=True, unset="0, or 0.7 for count:poisson", doc="Largest answer of a leaf; 0 is any."
    )
    subsample: float | None = hp(
        default=None, gt=0, le=1, tunable=True, unset="1", doc="Share of the rows that a round is trained on."
    )
    colsample_bytree: float | None = hp(
        default=None, gt=0, le=1, tunable=True, unset="1", doc="Share of the features that a tree may use."
    )
    colsample_bylevel: float | None = hp(
        default=None,
        gt=0,
        le=1,
        tunable=True,
        unset="1",
        doc="Share of a tree's features that one depth of it may use.",
    )
    colsample_bynode: float | None = hp(
        default=None, gt=0, le=1, tunable=True, unset="1", doc="Share of a depth's features that one split may use."
    )
    lambda_: float | None = hp(
        default=None,
        ge=0,
        tunable=True,
        unset="1, or 0 for gblinear",
        aliases=("reg_lambda",),
        name="lambda",
        doc="Weight of the squared penalty.",
    )
    alpha: float | None = hp(
        default=None, ge=0, tunable=True, unset="0", aliases=("reg_alpha",), doc="Weight of the absolute penalty."
    )
    tree_method: str | None = hp(
        default=None,
        choices=("auto", "exact", "approx", "hist", "gpu_hist"),
        unset="auto",
        doc="How splits are looked for; gpu_hist is hist here, on the CPU.",
    )
    sketch_eps: float | None = hp(default=None, gt=0, lt=1, unset="not used", doc="Accepted for old jobs.")
    scale_pos_weight: float | None = hp(default=None, gt=0, unset="1", doc="Weight of positive rows.")
    updater: list[str] = hp(
        default=[],
        choices=(*_GROWING, "sync", *_CHANGING, *_LINEAR),
        unset="by booster and tree_method",
        doc="Steps that build or change the model in a round; distcol and grow_skmaker are known by name only.",
    )
    dsplit: str | None = hp(default=None, choices=("row", "col"), unset="not used", doc="Accepted for old jobs.")
    refresh_leaf: int | None = hp(
        default=None, ge=0, le=1, unset="1", doc="1 where the updater refresh changes leaves, 0 for statistics only."
    )
    process_type: str | None = hp(
        default=None,
        choices=("default", "update"),
        unset="default",
        doc="Whether trees are built, or those there updated.",
    )
    grow_policy: str | None = hp(
        default=None, choices=("depthwise", "lossguide"), unset="depthwise", doc="Which leaf is split next."
    )
    max_leaves: int | None = hp(default=None, ge=0, unset="0", doc="Most leaves of a tree; 0 is any number.")
    max_bin: int | None = hp(default=None, ge=0, unset="256", doc="Most bins of a feature, at least 2.")
    predictor: str | None = hp(
        default=None, choices=("auto", "cpu_predictor", "gpu_predictor"), unset="not used", doc="Accepted for old jobs."
    )
    monotone_constraints: tuple[int, ...] | None = hp(
        default=None,
        choices=(-1, 0, 1),
        unset="none",
        doc="By feature 1 for answers that must not fall as it grows, -1 for those that must not rise, or 0; (0,1).",
    )
    interaction_constraints: list[list[int]] | None = hp(
        default=None, ge=1, unset="none", doc="Groups of features that may be on one path of a tree; [[1,2],[3,4]]."
    )
    sample_type: str | None = hp(
        default=None, choices=("uniform", "weighted"), unset="uniform", doc="How dart chooses the trees it drops."
    )
    normalize_type: str | None = hp(
        default=None, choices=("tree", "forest"), unset="tree", doc="What dart weighs a new tree like."
    )
    rate_drop: float | None = hp(default=None, ge=0, le=1, unset="0", doc="Share of the trees that dart drops.")
    one_drop: int | None = hp(default=None, ge=0, le=1, unset="0", doc="1 where dart always drops at least one tree.")
    skip_drop: float | None = hp(default=None, ge=0, le=1, unset="0", doc="Probability that dart drops none.")
    lambda_bias: float | None = hp(default=None, ge=0, le=1, unset="not used", doc="Accepted for old jobs.")
    tweedie_variance_power: float | None = hp(
        default=None, gt=1, lt=2, unset="1.5", doc="Power of the mean that the variance is, for reg:tweedie."
    )
    objective: str | None = hp(
        default=None, choices=_OBJECTIVES, unset="reg:squarederror", doc="What is learnt, and the loss."
    )
    num_class: int | None = hp(
        default=None, ge=2, unset="not set", doc="Number of classes, for multi: objectives only."
    )
    base_score: float | None = hp(default=None, ge=0, unset="from the labels", doc="What is answered before any round.")
    kfold: int | None = hp(
        default=None, ge=2, unset="not set", name="_kfold", doc="Number of folds of cross-validation."
    )
    num_cv_round: int = hp(default=1, ge=1, name="_num_cv_round", doc="How often cross-validation is done.")
    tuning_objective_metric: str | None = hp(
        default=None,
        choices=tuple(f"validation:{name}" for name in _METRICS),
        unset="not set",
        name="_tuning_objective_metric",
        doc="What a tuning job optimises.",
    )
    eval_metric: list[str] = hp(
        default=[],
        choices=_METRICS,
        unset="by the objective",
        doc="Metrics to print; error, ndcg and map may end in @ and a number.",
    )
    seed: int | None = hp(default=None, gt=-(2**31), lt=2**31 - 1, unset="0", doc="Seed of what is drawn at random.")
    num_parallel_tree: int | None = hp(default=None, ge=1, unset="1", doc="Number of trees that a round adds.")
    save_model_on_termination: bool = hp(default=False, doc="Whether a job that is stopped keeps its model.")
    aft_loss_distribution: str | None = hp(
        default=None,
        choices=("normal", "logistic", "extreme"),
        unset="normal",
        doc="Distribution of the logarithm's error, for survival:aft.",
    )
    aft_loss_distribution_scale: float | None = hp(default=None, ge=0, unset="1", doc="Its scale, for survival:aft.")
    deterministic_histogram: bool | None = hp(default=None, unset="not used", doc="Accepted for old jobs.")
    sampling_method: str | None = hp(
        default=None, choices=("uniform", "gradient_based"), unset="uniform", doc="How the rows of a round are drawn."
    )
    prob_buffer_row: int | None = hp(default=None, gt=1.0, unset="not used", doc="Accepted for old jobs.")
    use_dask_gpu_training: bool = hp(default=False, doc="Whether to train on several GPUs, which is refused here.")

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """As any hyperparameters; what is missing is told before what is unknown."""
        if "num_round" not in given:
            raise HyperParameterError("Missing required hyperparameter: num_round; set it to an integer of at least 1")
        return super().parse(given)

    @classmethod
    def _check(cls, spec: Spec, value: Any, text: str) -> None:
        checked = [_without_threshold(word) for word in value] if spec.name == "eval_metric" else value
        if not spec.admits(checked):
            raise HyperParameterError(cls._outside(spec, value, text))

    @classmethod
    def _unknown(cls, name: str, remedy: str) -> str:
        return f"Extraneous hyperparameter found: {_told(name)}; {_GONE.get(name, remedy)}"

    @classmethod
    def _unreadable(cls, spec: Spec, text: str) -> str:
        if spec.kind is bool:
            return f"Hyperparameter {spec.name}: {_told(text)} is not in ['true', 'false']"
        return (
            f"Hyperparameter {spec.name}: could not parse value (caused by ValueError); "
            f"{short(text)} is not {spec.allowed}"
        )

    @classmethod
    def _outside(cls, spec: Spec, value: Any, text: str) -> str:  # noqa: ARG003  # AWS tells the value
        allowed = list(spec.choices) if spec.choices else spec.interval
        if isinstance(value, (list, tuple)):
            return f"Hyperparameter {spec.name}: value {_told(value)} not in range {allowed}"
        near = difflib.get_close_matches(str(value), [str(word) for word in spec.choices], n=1)
        remedy = f"; did you mean {near[0]!r}?" if near else ""
        return f"Hyperparameter {spec.name}: {_told(value)} is not in {allowed}{remedy}"

    def __post_init__(self) -> None:
        """Rules between several of them."""
        wrong = [*self._wrong_updater(), *self._wrong_objective(), *self._wrong_metrics(), *self._wrong_tree_method()]
        if wrong:
            raise HyperParameterError(wrong[0])

    def _wrong_updater(self) -> Iterator[str]:
        got = f"got {_quoted(self.updater)}"
        if self.updater and self.booster == "gblinear":
            if len(self.updater) > 1 or self.updater[0] not in _LINEAR:
                yield f"Linear updater should be one of these options: {_quoted(_LINEAR)}; {got}"
            return
        if self.process_type == "update" and not set(self.updater) <= set(_CHANGING):
            yield f"process_type 'update' can only be used with updater 'refresh' and 'prune'; {got}"
        if set(self.updater) & set(_LINEAR):
            trees = _quoted((*_GROWING, "sync", *_CHANGING))
            yield (
                f"Tree updater should be selected from these options: {trees}; "
                f"{_quoted(_LINEAR)} go with booster gblinear"
            )
        if len(set(self.updater) & set(_GROWING)) > 1:
            grow = _quoted(_GROWING)
            yield f"Only one tree grow plugin can be selected. Choose one from the following: {grow}; {got}"
        if {"distcol", "grow_skmaker"} & set(self.updater):
            yield (
                "updater 'distcol' and 'grow_skmaker' are no longer in XGBoost; "
                "use 'grow_histmaker' or 'grow_colmaker', or leave updater out and set tree_method"
            )

    def _wrong_objective(self) -> Iterator[str]:
        objective = self.objective or "not set"
        several = objective.startswith("multi:")
        if several and self.num_class is None:
            yield "Require input for parameter 'num_class' for multi-classification; set it to the number of classes"
        if self.num_class is not None and not several:
            yield (
                "Do not need to setup parameter 'num_class' for learning task other than multi-classification. "
                f"The objective is {objective}."
            )
        if objective == "aft_loss_distribution":
            yield (
                "Unknown objective function: aft_loss_distribution; set objective to survival:aft, and the "
                "hyperparameter aft_loss_distribution to normal, logistic or extreme"
            )

    def _wrong_metrics(self) -> Iterator[str]:
        objective = self.objective or "not set"
        if "auc" in self.eval_metric and not objective.startswith(("binary:", "rank:")):
            yield (
                "Metric 'auc' can only be applied for classification and ranking problems. "
                f"The objective has to begin with binary: or rank:, it is {objective}."
            )
        if "aft-nloglik" in self.eval_metric and objective != "survival:aft":
            yield f"Metric 'aft-nloglik' can only be applied for 'survival:aft' objective. It is {objective}."

    def _wrong_tree_method(self) -> Iterator[str]:
        method = self.tree_method or "not set"
        only = "can be used only when the tree_method parameter is set to either"
        if self.monotone_constraints is not None and method not in ("exact", "hist"):
            yield f"monotone_constraints {only} 'exact' or 'hist'. It is {method}."
        if self.interaction_constraints is not None and method not in ("exact", "hist", "approx"):
            yield f"interaction_constraints {only} 'exact', 'hist' or 'approx'. It is {method}."
        if self.use_dask_gpu_training:
            yield (
                "Some configurations unsuitable for Dask GPU training were found: this image uses no GPU; "
                "leave out use_dask_gpu_training"
            )

    @property
    def tuning_metric(self) -> str | None:
        """Name of the metric that a tuning job optimises: ``auc``."""
        return self.tuning_objective_metric and self.tuning_objective_metric.partition(":")[2]

    @property
    def library(self) -> dict[str, str]:
        """What the library is told: what was given, without what the container uses itself, as text."""
        given = {name: value for name, value in self._given().items() if name not in _OURS | _FORGOTTEN}
        return {name: _NOW.get(text, text) for name, text in zip(given, map(_text, given.values()), strict=True)}

    def notes(self) -> list[str]:
        """What is done otherwise than asked, in sentences for the log.

        Examples
        --------
        >>> XGBoostParams(num_round=1, objective="reg:linear", sketch_eps=0.1).notes()
        ['objective reg:linear is now called reg:squarederror', 'XGBoost no longer has sketch_eps: it is not used']
        """
        found = []
        if self.tree_method == "gpu_hist":
            found.append("tree_method gpu_hist needs a GPU, which this build does not use: hist is used, on the CPU")
        if self.objective == "reg:linear":
            found.append("objective reg:linear is now called reg:squarederror")
        forgotten = [name for name in self._given() if name in _FORGOTTEN]
        return found + [f"XGBoost no longer has {name}: it is not used" for name in forgotten]

    def _given(self) -> dict[str, Any]:
        """Values of what the library has a default for, where they are given."""
        specs = [spec for spec in self.specs() if spec.unset is not None]
        values = {spec.name: getattr(self, spec.attribute) for spec in specs}
        return {spec.name: values[spec.name] for spec in specs if values[spec.name] != spec.default}


def _without_threshold(metric: str) -> str:
    """The name of a metric, without ``@`` and a number."""
    if "<function" in metric:
        raise HyperParameterError(
            f"User defined evaluation metric {_told(metric)} is not supported yet. Choose from {', '.join(_METRICS)}."
        )
    name, at, threshold = metric.partition("@")
    if at and name not in _THRESHOLDS:
        raise HyperParameterError(
            f"Metric '{_told(metric)}' is not supported. Parameter 'eval_metric' with customized threshold should be "
            f"one of these options: {_quoted(_THRESHOLDS)}."
        )
    if at:
        try:
            HyperParameters.forms[float].read(threshold)
        except ValueError as error:
            raise HyperParameterError(
                f"Threshold value 't' in '{name}@t' expects float input. It is {short(threshold)}."
            ) from error
    return name


def _text(value: Any) -> str:
    """A value as the library reads it."""
    if isinstance(value, tuple):
        return f"({','.join(map(str, value))})"
    if isinstance(value, list):
        words = all(isinstance(item, str) for item in value)
        return ",".join(value) if words and value else str(value).replace(" ", "")
    return str(value)


def _told(value: Any) -> str:
    """A value as Python prints it, in quotes and without its middle where a line could not hold it."""
    text = str(value)
    return text if len(text) <= 100 and text.isprintable() else short(text)


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)
