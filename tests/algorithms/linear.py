"""A linear learner in memory: how its tests train one."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest

from clary.algorithms.linear_learner import ALGORITHM, LinearLearnerModel, LinearLearnerParams
from clary.recordio.batch import CSR, Array

from .conftest import Notes, Rows

Data = tuple[Array, Array]
"""Rows and their labels."""
Sparse = tuple[CSR, Array]


@dataclass
class Learnt:
    """A model and what its training told."""

    model: LinearLearnerModel
    notes: Notes

    @property
    def weights(self) -> Array:
        """For rows as they are, shape (d, c)."""
        return self.model.artifact.weight

    @property
    def bias(self) -> Array:
        """Shape (c,)."""
        return self.model.artifact.bias

    def losses(self, channel: str = "train") -> list[list[float]]:
        """The losses of all models, epoch by epoch."""
        return [values for (_, name), values in self.notes.models.items() if name.startswith(f"{channel}_")]


def learn(
    predictor_type: str,
    train: Data | Sparse,
    validation: Data | Sparse | None = None,
    test: Data | Sparse | None = None,
    /,
    **given: object,
) -> Learnt:
    """Train on rows in memory."""
    texts = {"predictor_type": predictor_type, **{name: str(value) for name, value in given.items()}}
    data = {"train": train, "validation": validation, "test": test}
    channels = {name: Rows(name, *rows) for name, rows in data.items() if rows is not None}
    notes = Notes()
    model = ALGORITHM.fit(LinearLearnerParams.parse(texts), channels, notes)
    assert isinstance(model, LinearLearnerModel)
    return Learnt(model, notes)


binary = functools.partial(learn, "binary_classifier")
regressor = functools.partial(learn, "regressor")
PLAIN = {"normalize_data": False, "normalize_label": False, "unbias_data": False, "unbias_label": False}
"""Nothing is done to the data."""
ONE = {"num_models": 1, "wd": 0, "l1": 0, "use_lr_scheduler": False}
"""One model without penalties."""


@pytest.fixture
def line() -> Data:
    """300 rows whose label is 3 a - 2 b + 5, and a little noise."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 2)).astype(np.float32)
    return rows, (rows @ [3, -2] + 5 + rng.normal(0, 0.1, 300)).astype(np.float32)


@pytest.fixture
def sides() -> Data:
    """400 rows, labelled 1 mostly where a + b > 1."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(400, 3)).astype(np.float32)
    return rows, (rows[:, 0] + rows[:, 1] + rng.normal(0, 0.5, 400) > 1).astype(np.float32)


@pytest.fixture
def thirds() -> Data:
    """300 rows around three points, labelled 0, 1 and 2."""
    rng = np.random.default_rng(2)
    labels = np.arange(300) % 3
    rows = np.array([[0, 4], [4, 0], [-4, -4]])[labels] + rng.normal(size=(300, 2))
    return rows.astype(np.float32), labels.astype(np.float32)
