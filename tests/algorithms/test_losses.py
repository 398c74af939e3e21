"""Losses and their derivatives, against numbers made by hand and numerical derivatives."""

import warnings

import numpy as np
import pytest

from clary.algorithms.losses import (
    AbsoluteLoss,
    EpsInsensitiveAbsoluteLoss,
    EpsInsensitiveSquaredLoss,
    HingeLoss,
    HuberLoss,
    LogisticLoss,
    Loss,
    QuantileLoss,
    SoftmaxLoss,
    SquaredLoss,
    loss_named,
)
from clary.recordio.batch import Array

BINARY = [LogisticLoss(), HingeLoss(0.75)]
REAL = [
    SquaredLoss(),
    AbsoluteLoss(),
    EpsInsensitiveSquaredLoss(0.5),
    EpsInsensitiveAbsoluteLoss(0.5),
    QuantileLoss(0.9),
    HuberLoss(1.5),
]
ALL = [*BINARY, SoftmaxLoss(), *REAL]

by_name = pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)


def examples(loss: Loss, scale: float, dtype: type, n: int = 50, m: int = 4, c: int = 5) -> tuple[Array, Array]:
    """Raw outputs of four models and labels for fifty rows, such as the loss takes."""
    rng = np.random.default_rng(3)
    z = rng.uniform(-scale, scale, (n, m, c) if isinstance(loss, SoftmaxLoss) else (n, m))
    if isinstance(loss, SoftmaxLoss):
        return z.astype(dtype), rng.integers(0, c, n).astype(dtype)
    y = rng.integers(0, 2, n) if loss in BINARY else rng.uniform(-scale, scale, n)
    return z.astype(dtype), y.astype(dtype)


@pytest.mark.parametrize(
    ("loss", "z", "y", "expected", "slope"),
    [
        (LogisticLoss(), 0.0, 1, np.log(2), -0.5),
        (LogisticLoss(), np.log(3), 1, np.log(4 / 3), -0.25),
        (LogisticLoss(), np.log(3), 0, np.log(4), 0.75),
        (HingeLoss(2), 0.5, 1, 1.5, -1),
        (HingeLoss(2), 0.5, 0, 2.5, 1),
        (HingeLoss(2), 3, 1, 0, 0),
        (SquaredLoss(), 1, 4, 9, -6),
        (AbsoluteLoss(), 1, 4, 3, -1),
        (AbsoluteLoss(), 4, 1, 3, 1),
        (EpsInsensitiveSquaredLoss(1), 1, 4, 4, -4),
        (EpsInsensitiveSquaredLoss(1), 4, 1, 4, 4),
        (EpsInsensitiveSquaredLoss(1), 4, 3.5, 0, 0),
        (EpsInsensitiveAbsoluteLoss(1), 1, 4, 2, -1),
        (EpsInsensitiveAbsoluteLoss(1), 4, 1, 2, 1),
        (EpsInsensitiveAbsoluteLoss(1), 4, 3.5, 0, 0),
        (QuantileLoss(0.75), 1, 4, 2.25, -0.75),
        (QuantileLoss(0.75), 4, 1, 0.75, 0.25),
        (HuberLoss(2), 1, 2, 0.5, -1),
        (HuberLoss(2), 2, 4, 2, -2),
        (HuberLoss(2), 9, 4, 8, 2),
    ],
)
def test_by_hand(loss: Loss, z: float, y: float, expected: float, slope: float) -> None:
    """A loss and its derivative are what their formula gives."""
    losses, gradient = loss.evaluate(np.array([[z]], np.float32), np.array([y], np.float32))
    assert losses.item() == pytest.approx(expected, rel=1e-6)
    assert gradient.item() == pytest.approx(slope, rel=1e-6)


def test_softmax_by_hand() -> None:
    """The softmax loss of a class is the log of its probability, each model and row for itself."""
    odds = np.array([[[1, 2, 1], [1, 1, 2]], [[3, 4, 1], [1, 1, 1]]], np.float32)
    losses, gradient = SoftmaxLoss().evaluate(np.log(odds), np.array([1, 0], np.float32))
    np.testing.assert_allclose(np.exp(-losses), [[1 / 2, 1 / 4], [3 / 8, 1 / 3]], rtol=1e-6)
    expected = [[[1 / 4, -1 / 2, 1 / 4], [1 / 4, -3 / 4, 1 / 2]], [[-5 / 8, 1 / 2, 1 / 8], [-2 / 3, 1 / 3, 1 / 3]]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    np.testing.assert_allclose(SoftmaxLoss().link(np.log(odds[0])), odds[0] / 4, rtol=1e-6)


@by_name
def test_gradient(loss: Loss) -> None:
    """The gradient is the derivative that differences of losses show."""
    z, y = examples(loss, 3, np.float64)
    _, gradient = loss.evaluate(z, y)
    h = 1e-6
    numerical = np.empty_like(z)
    for place in np.ndindex(z.shape[1:]):  # one output of all rows at a time
        moved = np.zeros_like(z)
        moved[(slice(None), *place)] = h
        difference = loss.evaluate(z + moved, y)[0] - loss.evaluate(z - moved, y)[0]
        numerical[(slice(None), *place)] = difference.reshape(len(z), z.shape[1], -1)[:, place[0], 0] / (2 * h)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


@by_name
def test_shapes_and_types(loss: Loss) -> None:
    """float32 outputs have float32 losses and gradients, one loss a model; nothing given is changed."""
    z, y = examples(loss, 3, np.float32)
    z.flags.writeable = y.flags.writeable = False
    losses, gradient = loss.evaluate(z, y)
    assert (losses.dtype, losses.shape) == (np.float32, (50, 4))
    assert (gradient.dtype, gradient.shape) == (np.float32, z.shape)
    assert (loss.link(z).dtype, loss.link(z).shape) == (np.float32, z.shape)
    wide, slopes = loss.evaluate(z.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(losses, wide, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-6)


@by_name
def test_models_and_rows_are_separate(loss: Loss) -> None:
    """What a model's output for a row costs does not depend on other models and rows."""
    z, y = examples(loss, 3, np.float32)
    losses, gradient = loss.evaluate(z, y)
    for row, model in ((0, 0), (7, 3), (49, 1)):
        one, slope = loss.evaluate(z[row : row + 1, model : model + 1], y[row : row + 1])
        np.testing.assert_allclose(one[0, 0], losses[row, model], rtol=1e-6)
        np.testing.assert_allclose(slope[0, 0], gradient[row, model], rtol=1e-6)


@by_name
def test_extreme_outputs(loss: Loss) -> None:
    """Outputs of ten thousand have finite losses and gradients without a warning, and right ones."""
    z, y = examples(loss, 1e4, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses, gradient = loss.evaluate(z, y)
        scores = loss.link(z)
        wide, slopes = loss.evaluate(z.astype(np.float64), y.astype(np.float64))
    assert np.isfinite(losses).all() and np.isfinite(gradient).all() and np.isfinite(scores).all()
    np.testing.assert_allclose(losses, wide, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-2)


def test_logistic_far_out() -> None:
    """The logistic loss grows in a straight line on the wrong side, and its slope stays exact on the right one."""
    losses, gradient = LogisticLoss().evaluate(np.array([[-1e4, -79, -81, 30, 1e4]], np.float32), np.ones(1))
    assert losses.tolist() == [[1e4, 79, 81, 0, 0]]
    assert gradient[0, :3].tolist() == [-1, -1, -1] and gradient[0, 4] == 0
    assert gradient[0, 3] == pytest.approx(-np.exp(-30), rel=1e-6)


def test_links() -> None:
    """Scores are probabilities for logistic and softmax, and raw outputs for all others."""
    z = np.array([[-1e4, -np.log(3), 0, np.log(3), 1e4]], np.float32)
    np.testing.assert_allclose(LogisticLoss().link(z), [[0, 0.25, 0.5, 0.75, 1]], rtol=1e-6)
    np.testing.assert_allclose(SoftmaxLoss().link(z), [[0, 0, 0, 0, 1]])
    assert all(loss.link(z) is z for loss in (HingeLoss(), *REAL))


@by_name
def test_not_a_number(loss: Loss) -> None:
    """An output that is not a number has a loss that is none; the other rows keep theirs."""
    z, y = examples(loss, 3, np.float32)
    expected, _ = loss.evaluate(z, y)
    z[7] = np.nan
    losses, gradient = loss.evaluate(z, y)
    assert np.isnan(losses[7]).all() and np.isnan(gradient[7]).all()
    np.testing.assert_array_equal(np.delete(losses, 7, 0), np.delete(expected, 7, 0))


@by_name
def test_no_rows(loss: Loss) -> None:
    """No rows have no losses."""
    z, y = examples(loss, 3, np.float32, n=0)
    losses, gradient = loss.evaluate(z, y)
    assert losses.shape == (0, 4) and gradient.shape == loss.link(z).shape == z.shape


@pytest.mark.parametrize(("n", "c"), [(40_000, 3), (5000, 40), (3, 200_000)])
def test_softmax_of_many(n: int, c: int) -> None:
    """Many rows, or many classes, have the softmax losses of their definition."""
    rng = np.random.default_rng(5)
    z, y = rng.normal(size=(n, 1, c)).astype(np.float32), rng.integers(0, c, n)
    losses, gradient = SoftmaxLoss().evaluate(z, y.astype(np.float32))
    scores = SoftmaxLoss().link(z)
    exps = np.exp(z.astype(np.float64))
    expected = exps / exps.sum(2, keepdims=True)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    np.testing.assert_allclose(losses[:, 0], -np.log(expected[np.arange(n), 0, y]), rtol=1e-4, atol=1e-6)
    expected[np.arange(n), 0, y] -= 1
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_names() -> None:
    """A loss is found by AWS's name with the settings that concern it, and the log has AWS's word for it."""
    settings = {"margin": 0.75, "loss_insensitivity": 0.5, "quantile": 0.9, "huber_delta": 1.5}
    assert [loss_named(loss.name, **settings) for loss in ALL] == ALL
    assert {loss.name: loss.objective for loss in ALL} == {
        "logistic": "binary_classification_cross_entropy",
        "hinge_loss": "binary_classification_hinge_loss",
        "softmax_loss": "multiclass_cross_entropy",
        "squared_loss": "mse",
        "absolute_loss": "absolute_loss",
        "eps_insensitive_squared_loss": "eps_insensitive_squared_loss",
        "eps_insensitive_absolute_loss": "eps_insensitive_absolute_loss",
        "quantile_loss": "quantile_loss",
        "huber_loss": "huber_loss",
    }


def test_unknown_name() -> None:
    """A name that no loss has is an error that says which there are."""
    with pytest.raises(ValueError, match=r"no loss 'hinge'; there are logistic, hinge_loss, .*huber_loss"):
        loss_named("hinge")
