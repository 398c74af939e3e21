"""What is wrong with a request for a tuning job in ways that its shape does not tell, and what it leaves to us."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .faults import ResourceLimitExceeded, ValidationException
from .job_thread import UNFINISHED
from .operations import Call
from .ranges import Space, Whole
from .store import Thing
from .tuning_definitions import Definition
from .tuning_job import KIND

__all__ = ["complete"]

_MOST_JOBS: Final = 750  # training jobs of a tuning job, as a new account has on AWS
_MOST_PARALLEL: Final = 100
_EPOCHS: Final = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs", "num_round")
"""Hyperparameters that say how long a job of Hyperband's may train, where the request does not."""


def complete(call: Call) -> dict[str, Any]:
    """A request with everything that a description always has.

    Raises
    ------
    ClaryError
        When it is no tuning job that could run.
    """
    request = dict(call.request)
    if "Autotune" in request:
        raise ValidationException("Autotune is not supported here: give ParameterRanges, and leave Autotune out")
    definitions = Definition.all_of(request)
    described = [definition.described(call.platform) for definition in definitions]
    if "TrainingJobDefinition" in request:
        request["TrainingJobDefinition"] = described[0]
    else:
        request["TrainingJobDefinitions"] = described
    request["HyperParameterTuningJobConfig"] = _config(request["HyperParameterTuningJobConfig"], definitions)
    if "WarmStartConfig" in request:
        _check_parents(call, request["WarmStartConfig"], definitions, described)
    seed = request["HyperParameterTuningJobConfig"].get("RandomSeed")
    return {**request, "_seed": secrets.randbits(32) if seed is None else seed}


def _config(given: Mapping[str, Any], definitions: Sequence[Definition]) -> dict[str, Any]:
    """HyperParameterTuningJobConfig with what it leaves out."""
    found = {"TrainingJobEarlyStoppingType": "Off", **given}
    found["ResourceLimits"] = _limits(given, [definition.space for definition in definitions])
    hyperband = given.get("StrategyConfig", {}).get("HyperbandStrategyConfig")
    if given["Strategy"] == "Hyperband":
        if found["TrainingJobEarlyStoppingType"] != "Off":
            raise ValidationException(
                "TrainingJobEarlyStoppingType must be Off for the Hyperband strategy, which stops training jobs itself"
            )
        found["StrategyConfig"] = {"HyperbandStrategyConfig": _resources(hyperband or {}, definitions)}
    elif hyperband is not None:
        raise ValidationException(
            f"HyperbandStrategyConfig is for the strategy Hyperband alone, not for {given['Strategy']}"
        )
    if "ParameterRanges" in given:  # SDKs read the three lists without a look whether they are there
        found["ParameterRanges"] = _ranges(given["ParameterRanges"])
    return found


def _limits(config: Mapping[str, Any], spaces: Iterable[Space]) -> dict[str, Any]:
    """ResourceLimits with MaxNumberOfTrainingJobs."""
    limits = config["ResourceLimits"]
    count = limits.get("MaxNumberOfTrainingJobs")
    if config["Strategy"] == "Grid":
        size = sum(space.grid() for space in spaces)
        if count not in (None, size):
            raise ValidationException(
                f"MaxNumberOfTrainingJobs of the Grid strategy must be the number of all combinations, {size}, got "
                f"{count}: leave it out"
            )
        count = size
    found = {"MaxNumberOfTrainingJobs": _MOST_JOBS, **limits}
    if count is not None:
        found["MaxNumberOfTrainingJobs"] = count
    _limit("training jobs per hyperparameter tuning job", _MOST_JOBS, found["MaxNumberOfTrainingJobs"])
    _limit("parallel training jobs per hyperparameter tuning job", _MOST_PARALLEL, found["MaxParallelTrainingJobs"])
    return found


def _limit(what: str, most: int, asked: int) -> None:
    if asked > most:
        raise ResourceLimitExceeded(
            f"The account-level service limit 'Maximum number of {what}' is {most}, with current utilization of 0 and "
            f"a request delta of {asked}."
        )


def _resources(given: Mapping[str, int], definitions: Sequence[Definition]) -> dict[str, int]:
    """HyperbandStrategyConfig with what it leaves out."""
    least, most = given.get("MinResource", 1), given.get("MaxResource")
    if most is None:
        most = max((count for each in definitions if (count := _epochs(each)) is not None), default=None)
    if most is None:
        raise ValidationException(
            "The Hyperband strategy needs HyperbandStrategyConfig.MaxResource, the epochs of a training job, or one of "
            f"the hyperparameters {', '.join(_EPOCHS)}"
        )
    if least > most:
        raise ValidationException(f"HyperbandStrategyConfig has the MinResource {least}, above its MaxResource {most}")
    return {"MinResource": least, "MaxResource": most}


def _epochs(definition: Definition) -> int | None:
    """The most epochs that a job trains."""
    known = {one.name: str(one.high) for one in definition.space.ranges if isinstance(one, Whole)}
    known.update(definition.given.get("StaticHyperParameters", {}))
    found = (known[name] for name in _EPOCHS if name in known)
    return next((int(text) for text in found if text.isdecimal() and int(text) > 0), None)


def _ranges(given: Mapping[str, Any]) -> dict[str, Any]:
    """ParameterRanges with all of its lists, and the scaling of each range."""
    found: dict[str, Any] = {"CategoricalParameterRanges": given.get("CategoricalParameterRanges", [])}
    for kind in ("IntegerParameterRanges", "ContinuousParameterRanges"):
        found[kind] = [{"ScalingType": "Auto", **one} for one in given.get(kind, ())]
    return found


def _check_parents(
    call: Call, warm: Mapping[str, Any], definitions: Sequence[Definition], described: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse a warm start from tuning jobs that it cannot learn from."""
    if len(definitions) > 1:
        raise ValidationException("A warm start is for one TrainingJobDefinition, not for several")
    for parent in warm["ParentHyperParameterTuningJobs"]:
        name = parent.get("HyperParameterTuningJobName", "")
        thing = call.platform.store.get(KIND, name)
        if thing is None:
            raise ValidationException(f"There is no tuning job {name!r} to start from")
        if thing.status in UNFINISHED:
            raise ValidationException(f"The parent tuning job {name} is in status {thing.status}: wait for its end")
        _check_parent(thing, warm["WarmStartType"], definitions[0], described[0])


def _check_parent(thing: Thing, kind: str, definition: Definition, described: Mapping[str, Any]) -> None:
    parents = Definition.all_of(thing.document)
    if len(parents) > 1:
        raise ValidationException(f"The parent tuning job {thing.name} has several TrainingJobDefinitions")
    parent = parents[0]
    if dict(parent.objective) != dict(definition.objective):
        was = f"{parent.objective['Type']} {parent.objective['MetricName']}"
        raise ValidationException(f"The parent tuning job {thing.name} has another objective: {was}")
    if kind != "IdenticalDataAndAlgorithm":
        return
    same = {
        "TrainingImage": _image(parent.given) == _image(described),
        "InputDataConfig": parent.given.get("InputDataConfig") == described.get("InputDataConfig"),
    }
    if others := [name for name, equal in same.items() if not equal]:
        raise ValidationException(
            f"The parent tuning job {thing.name} has another {' and '.join(others)}: the WarmStartType for that is "
            "TransferLearning"
        )


def _image(definition: Mapping[str, Any]) -> str:
    found: str = definition["AlgorithmSpecification"]["TrainingImage"]
    return found
