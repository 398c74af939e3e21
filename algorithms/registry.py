"""Names of algorithms and where they live; a module is imported when its algorithm is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..errors import ArtifactError, UserError
from .base import Algorithm, Model

__all__ = ["ALGORITHMS", "algorithm", "open_artifact"]

ALGORITHMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "kmeans": "clary.algorithms.kmeans",
        "pca": "clary.algorithms.pca",
        "randomcutforest": "clary.algorithms.randomcutforest",
        "linear-learner": "clary.algorithms.linear_learner",
        "factorization-machines": "clary.algorithms.factorization_machines",
        "xgboost": "clary.algorithms.xgboost",
    }
)
"""AWS's repository name → module with an ``ALGORITHM``."""

_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "k-means": "kmeans",
        "principal-component-analysis": "pca",
        "random-cut-forest": "randomcutforest",
        "rcf": "randomcutforest",
        "linearlearner": "linear-learner",
        "fm": "factorization-machines",
    }
)


def algorithm(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises
    ------
    UserError
        When there is none.

    Examples
    --------
    >>> algorithm("kmeans").title
    'K-means'
    """
    key = name.strip().lower().replace("_", "-")
    key = _ALIASES.get(key, key)
    if key not in ALGORITHMS:
        raise UserError(f"unknown algorithm {name!r}: choose from {', '.join(ALGORITHMS)}")
    found: Algorithm = importlib.import_module(ALGORITHMS[key]).ALGORITHM
    return found


def open_artifact(folder: Path, shown: Path | None = None, *, ensemble: bool = True) -> tuple[Algorithm, Model]:
    """The model in a model directory, whatever else lies there.

    The artifact is looked for by name; every algorithm whose artifact has that name is asked whether the
    content is its own. Messages call the folder `shown`, where it is a temporary one that nobody has heard of.
    Of several models only the first is opened where `ensemble` is off.

    Raises
    ------
    ArtifactError
        When there is no artifact, or none of the algorithms knows it.
    """
    refusals = []
    for name in ALGORITHMS:
        known = algorithm(name)
        paths = known.find(folder)
        if not paths:
            continue
        try:
            return known, known.open(paths if ensemble else paths[:1])
        except ArtifactError as error:
            refusals.append(f"{name}: {error}")
    if refusals:
        raise ArtifactError(f"no algorithm can read the artifact in {shown or folder}: {'; '.join(refusals)}")
    names = sorted({algorithm(name).artifact for name in ALGORITHMS})
    raise ArtifactError(f"no model artifact in {shown or folder}: expected a file named {' or '.join(names)}")
