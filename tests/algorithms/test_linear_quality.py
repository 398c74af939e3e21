"""How good linear learner's models are, beside scikit-learn's on data that it brings along."""

import numpy as np
import pytest

from clary.recordio.batch import Array

from .linear import binary, learn, regressor

datasets = pytest.importorskip("sklearn.datasets")
linear_model = pytest.importorskip("sklearn.linear_model")


def split(name: str, seed: int, share: float = 0.75) -> tuple[Array, Array, Array, Array]:
    """Rows and labels to train on, and to test with."""
    rows, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(rows))
    train, test = np.split(order, [int(share * len(rows))])
    rows, labels = rows.astype(np.float32), labels.astype(np.float32)
    return rows[train], labels[train], rows[test], labels[test]


def test_digits() -> None:
    """On digits the accuracy over several splits is that of logistic regression, half a point less at worst."""
    ours, theirs = [], []
    for seed in range(4):
        rows, labels, test, truth = split("digits", seed)
        fitted = learn("multiclass_classifier", (rows, labels), num_classes=10, mini_batch_size=50)
        ours.append((fitted.model.predict(test).columns["predicted_label"] == truth).mean())
        theirs.append(linear_model.LogisticRegression(max_iter=5000).fit(rows, labels).score(test, truth))
    assert np.mean(ours) >= np.mean(theirs) - 0.005


def test_breast_cancer() -> None:
    """On breast cancer the accuracy over several splits is that of logistic regression on standard data."""
    ours, theirs = [], []
    for seed in range(4):
        rows, labels, test, truth = split("breast_cancer", seed)
        fitted = binary((rows, labels), mini_batch_size=50)
        ours.append((fitted.model.predict(test).columns["predicted_label"] == truth).mean())
        mean, deviation = rows.mean(0), rows.std(0)
        peer = linear_model.LogisticRegression().fit((rows - mean) / deviation, labels)
        theirs.append(peer.score((test - mean) / deviation, truth))
    assert np.mean(ours) >= np.mean(theirs) - 0.015


def test_ridge() -> None:
    """On diabetes the squared error is within two percent of ridge's, on the rows trained on and on others."""
    ours, theirs = np.zeros((2, 4)), np.zeros((2, 4))
    for seed in range(4):
        rows, labels, test, truth = split("diabetes", seed)
        mean, deviation = rows.mean(0), rows.std(0)
        peer = linear_model.Ridge().fit((rows - mean) / deviation, labels)
        given = {"epochs": 300, "early_stopping_patience": 20}  # all rows are one mini-batch
        model = regressor((rows, labels), **given).model
        for i, (x, y) in enumerate(((rows, labels), (test, truth))):
            ours[i, seed] = np.square(model.scores(x) - y).mean()
            theirs[i, seed] = np.square(peer.predict((x - mean) / deviation) - y).mean()
    assert (ours.mean(1) <= 1.02 * theirs.mean(1)).all()


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_quantiles(quantile: float) -> None:
    """On diabetes the pinball loss is within two percent of QuantileRegressor's."""
    rows, labels = (part.astype(np.float32) for part in datasets.load_diabetes(return_X_y=True))
    given = {"mini_batch_size": 50, "epochs": 150, "early_stopping_patience": 10}
    model = regressor((rows, labels), loss="quantile_loss", quantile=quantile, **given).model
    peer = linear_model.QuantileRegressor(quantile=quantile, alpha=0).fit(rows, labels)

    def pinball(answers: Array) -> float:
        errors = labels - answers
        return float(np.maximum(quantile * errors, (quantile - 1) * errors).mean())

    assert pinball(model.scores(rows)) <= 1.02 * pinball(peer.predict(rows))
