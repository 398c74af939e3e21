"""Factorization machines: time of an epoch and quality on a9a, and ratings made of factors that are to be found again.

Times are seconds of CPU of the whole `fit` of one epoch on rows in memory, in one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

from clary.algorithms.factorization_machines import FactorizationMachinesModel, FactorizationMachinesParams, fit
from clary.algorithms.scores import log_loss, rmse, roc_auc
from clary.recordio import Batch
from clary.recordio.batch import CSR, Array, concatenate
from clary.recordio.libsvm import read_libsvm

from .setting import DATA, Silence
from .timing import Row, best_of

__all__ = ["rows"]

SKLEARN = f"scikit-learn {import_module('sklearn').__version__}"
WIDTH, FACTORS = 123, 64  # of a9a
A9A = {"epochs": 20, "linear_lr": 0.01, "factors_lr": 0.0005, "factors_init_sigma": 0.01}
RATINGS = {
    "epochs": 60,
    "linear_lr": 0.01,
    "linear_wd": 0.0001,
    "factors_lr": 0.01,
    "factors_wd": 0.0001,
    "factors_init_sigma": 0.1,
}
USERS, ITEMS, RANK, GIVEN, HELD_OUT = 1000, 1700, 8, 100_000, 10_000
NOISE, INTERACTION, BIAS = 1.0, 1.0, 0.5  # standard deviations of what a rating is the sum of

linear: Any = import_module("sklearn.linear_model")  # they have no types
threads: Any = import_module("threadpoolctl")


class Labelled:
    """A channel of labelled rows in memory."""

    def __init__(self, rows: Array | CSR, labels: Array) -> None:
        self.name = "train"
        self.format = "recordio"
        self.all = Batch(rows, labels)
        self.rows = 0
        self.batches_read = 0

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass."""
        for start in range(0, len(self.all), size):
            yield self.all[start : start + size]

    def whole(self) -> Batch:
        """All rows at once."""
        return self.all


def ours(
    rows: Array | CSR, labels: Array, predictor_type: str, factors: int, **given: Any
) -> FactorizationMachinesModel:
    """Our model."""
    params = FactorizationMachinesParams(
        feature_dim=rows.shape[1], num_factors=factors, predictor_type=predictor_type, **given
    )
    return fit(params, {"train": Labelled(rows, labels)}, Silence())


def adult(name: str) -> tuple[CSR, Array]:
    """Rows of a9a, and their labels as 0 and 1."""
    with (DATA / "a9a" / name).open("rb") as stream:
        whole = concatenate([*read_libsvm(stream, width=WIDTH)])
    assert isinstance(whole.features, CSR)
    assert whole.labels is not None
    return whole.features, (whole.labels > 0).astype(np.float32)


def speed(train: CSR, labels: Array) -> Iterator[Row]:
    """One epoch of 64 factors."""
    dense = train.toarray()
    runs = [
        lambda: ours(train, labels, "binary_classifier", FACTORS),
        lambda: ours(dense, labels, "binary_classifier", FACTORS),
    ]
    with threads.threadpool_limits(1):
        taken = best_of(runs)
    for form, seconds in zip(("sparse", "dense"), taken, strict=True):
        bar = 0.04 * len(labels) / 32_561
        yield Row(f"one epoch of a9a, {form}", seconds, "s of CPU", bar=bar, higher_is_better=False)


def classes(train: CSR, labels: Array) -> Iterator[Row]:
    """Log loss and AUC on the test rows of a9a against the linear model."""
    test, truth = adult("a9a.t")
    model = linear.LogisticRegression(max_iter=1000).fit(train.to_scipy(), labels)
    theirs = model.predict_proba(test.to_scipy())[:, 1].astype(np.float32)
    score = ours(train, labels, "binary_classifier", FACTORS, **A9A).predict(test).columns["score"]
    losses = log_loss(score, truth), log_loss(theirs, truth)
    peer = f"{SKLEARN} LogisticRegression"
    yield Row("test log loss of a9a", losses[0], "", peer, losses[1], 1, higher_is_better=False)
    yield Row("test AUC of a9a", roc_auc(score, truth), "", peer, roc_auc(theirs, truth), bar=0.903)


def ratings() -> tuple[Array, Array, Array]:
    """Users, items, and what the users think of the items: biases, products of factors, and noise."""
    rng = np.random.default_rng(0)
    size = (INTERACTION / RANK**0.5) ** 0.5  # of a factor, by which sums of products have the deviation wanted
    tastes, kinds = rng.normal(0, size, (USERS, RANK)), rng.normal(0, size, (ITEMS, RANK))
    moods, fames = rng.normal(0, BIAS, USERS), rng.normal(0, BIAS, ITEMS)
    user, item = np.divmod(rng.choice(USERS * ITEMS, GIVEN, replace=False), ITEMS)
    noise = rng.normal(0, NOISE, GIVEN)
    return user, item, 3.5 + moods[user] + fames[item] + np.einsum("ij,ij->i", tastes[user], kinds[item]) + noise


def alternating(user: Array, item: Array, rating: Array, ridge: float) -> Array:
    """What alternating least squares of the true rank make of every user and item, shape (USERS, ITEMS).

    A ridge of 1 is the true one, noise over signal; it overfits, as both sides are estimated.
    """
    rng = np.random.default_rng(1)
    mean, size = rating.mean(), INTERACTION**0.5 / RANK**0.25
    mine = np.column_stack([np.ones(USERS), np.zeros(USERS), rng.normal(0, 0.3 * size, (USERS, RANK))])
    theirs = np.column_stack([np.zeros(ITEMS), np.ones(ITEMS), rng.normal(0, 0.3 * size, (ITEMS, RANK))])
    penalty = ridge * np.diag([NOISE**2 / BIAS**2, *[NOISE**2 / size**2] * RANK])
    sides = ((user, item, mine, theirs, 0), (item, user, theirs, mine, 1))
    groups = [[np.flatnonzero(side[0] == i) for i in range(len(side[2]))] for side in sides]
    for _ in range(40):
        for (_, other, own, fixed, one), members in zip(sides, groups, strict=True):
            free = [column for column in range(RANK + 2) if column != one]
            for i, chosen in enumerate(members):
                known = fixed[other[chosen]]
                left = rating[chosen] - mean - known[:, one]
                x = known[:, free]
                own[i, free] = np.linalg.solve(x.T @ x + penalty, x.T @ left)
    return np.asarray(mean + mine @ theirs.T)


def recommender() -> Iterator[Row]:
    """RMSE on ratings held out, in units of their noise.

    No one reaches the noise itself: 24,300 parameters are to be found in 90,000 ratings. So the bar is what alternating
    least squares reach that know the rank and the deviations, with the ridge that is best on the held-out ratings.
    """
    user, item, rating = ratings()
    rows = CSR(
        np.arange(0, 2 * GIVEN + 1, 2),
        np.column_stack([user, USERS + item]).ravel(),
        np.ones(2 * GIVEN, np.float32),
        (GIVEN, USERS + ITEMS),
    )
    cut, truth = GIVEN - HELD_OUT, rating[GIVEN - HELD_OUT :]
    labels = rating.astype(np.float32)
    model = ours(rows[:cut], labels[:cut], "regressor", RANK, **RATINGS)
    error = rmse(model.predict(rows[cut:]).columns["score"], truth) / NOISE
    best = min(
        rmse(alternating(user[:cut], item[:cut], rating[:cut], ridge)[user[cut:], item[cut:]], truth) / NOISE
        for ridge in (1, 1.5, 2, 3)
    )
    what, unit = "test RMSE of ratings of rank 8", "of the noise"
    yield Row(what, error, unit, "alternating least squares", best, 1 / 1.03, higher_is_better=False)
    yield Row(what, error, unit, "the noise itself", 1.0, higher_is_better=False)
    yield Row(what, error, unit, "a constant", float(truth.std()) / NOISE, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements; those on a9a where it is there."""
    if (DATA / "a9a").exists():
        train, labels = adult("a9a")
        yield from speed(train, labels)
        yield from classes(train, labels)
    yield from recommender()
