"""The settings that linear learner trains side by side where the user leaves them open.

References
----------
.. [1] Logs of Amazon SageMaker's container, which name the settings of single models: learning rates, schedules and
       two of the four decays of the grid for one output, and one model of 28 for several classes. The others are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Final

import numpy as np

__all__ = ["BIAS", "configurations"]

Configuration = Mapping[str, float]

NAMES: Final = ("learning_rate", "wd", "l1", "lr_scheduler_step", "lr_scheduler_factor", "lr_scheduler_minimum_lr")

BIAS: Final = {"bias_lr_mult": 10.0, "bias_wd_mult": 0.0}
"""What auto means for the bias, in every model."""

_WD: Final = (1e-4, 1e-2, 1.0, 10.0)
_LEARNING_RATE: Final = (0.005, 0.1)
_STEP: Final = (10, 100)
_MINIMUM: Final = (1e-5, 1e-4)
_FACTOR: Final = 0.99

_CLASSES_MODELS: Final = 28
_MOST_COLUMNS: Final = 2800  # of all models together, for many classes: ours
_KNOWN: Final = 26
_KNOWN_MODEL: Final = (
    0.03578924546103785,
    0.0020367449461466797,
    0.3730851993396367,
    153,
    0.9895518165671255,
    2.294182951069527e-05,
)


def configurations(classes: int | None, count: int | None, given: Mapping[str, float]) -> list[dict[str, float]]:
    """The settings of each model.

    Parameters
    ----------
    classes
        Number of classes; None for one output.
    count
        Number of models; None for as many as SageMaker trains.
    given
        What the user has fixed, for all of them.

    Examples
    --------
    >>> len(configurations(None, None, {})), configurations(None, None, {})[19]["wd"]
    (32, 1.0)
    >>> [model["learning_rate"] for model in configurations(None, 2, {"learning_rate": 0.3})]
    [0.3, 0.3]
    """
    found = _grid() if classes is None else _drawn()
    if count is None:
        count = len(found) if classes is None else max(1, min(len(found), _MOST_COLUMNS // classes))
    return [{**found[i % len(found)], **given} for i in range(count)]


def _grid() -> list[dict[str, float]]:
    """Model 8r + 4a + 2s + m."""
    return [
        {
            "learning_rate": rate,
            "wd": wd,
            "l1": 0.0,
            "lr_scheduler_step": step,
            "lr_scheduler_factor": _FACTOR,
            "lr_scheduler_minimum_lr": minimum,
        }
        for wd, rate, step, minimum in product(_WD, _LEARNING_RATE, _STEP, _MINIMUM)
    ]


def _drawn() -> list[dict[str, float]]:
    """Settings drawn once and for all; the one that SageMaker's logs name has its place."""
    rng = np.random.default_rng(0)
    logs = rng.uniform((-2.5, -6, -8, 1, -3, -5), (-1, -2, -4, 2.5, -1, -3), (_CLASSES_MODELS, len(NAMES)))
    found = []
    for rate, wd, l1, step, factor, minimum in (10**logs).tolist():
        values = (rate, wd, l1, round(step), 1 - factor, minimum)
        found.append(dict(zip(NAMES, values, strict=True)))
    found[_KNOWN] = dict(zip(NAMES, _KNOWN_MODEL, strict=True))
    return found
