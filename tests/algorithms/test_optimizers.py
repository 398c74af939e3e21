"""Optimizers, thresholds and schedules, against numbers made by hand and the formulas in plain loops."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from clary.algorithms.optimizers import Adam, Optimizer, RmsProp, Schedule, Setting, Sgd, soft_threshold
from clary.recordio.batch import Array

ALL = {
    "sgd": Sgd(),
    "momentum": Sgd(0.9),
    "adam": Adam(),
    "rmsprop": RmsProp(),
    "momenta": Sgd(np.array([0.0, 0.5, 0.9])),
    "betas": Adam(np.array([0.0, 0.8, 0.9]), np.array([0.9, 0.99, 0.999])),
}

every = pytest.mark.parametrize("optimizer", ALL.values(), ids=ALL)


def gradients(steps: int, *shape: int) -> Array:
    """Some gradients, of very different sizes."""
    rng = np.random.default_rng(2)
    return (rng.normal(size=(steps, *shape)) * 10.0 ** rng.integers(-3, 3, shape)).astype(np.float32)


def run(optimizer: Optimizer, given: Array, rate: Setting, rows: list[Array] | None = None) -> Array:
    """A parameter of ones after a step along each gradient."""
    w = np.ones(given.shape[1:], np.float32)
    state = optimizer.state(w.shape)
    for step, gradient in enumerate(given, 1):
        if rows is None:
            optimizer.update(w, gradient, state, rate, step)
        else:
            optimizer.update(w, gradient[rows[step - 1]], state, rate, step, rows[step - 1])
    return w


def sgd_loop(given: list[float], rate: float, momentum: float) -> float:
    """Gradient descent with momentum, number by number."""
    w, moved = 1.0, 0.0
    for g in given:
        moved = momentum * moved - rate * g
        w += moved
    return w


def adam_loop(given: list[float], rate: float, beta_1: float, beta_2: float) -> float:
    """Adam, number by number."""
    w, mean, var = 1.0, 0.0, 0.0
    for t, g in enumerate(given, 1):
        mean = beta_1 * mean + (1 - beta_1) * g
        var = beta_2 * var + (1 - beta_2) * g * g
        w -= rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t) * mean / (math.sqrt(var) + 1e-8)
    return w


def rmsprop_loop(given: list[float], rate: float, gamma: float) -> float:
    """RMSProp, number by number."""
    w, n = 1.0, 0.0
    for g in given:
        n = gamma * n + (1 - gamma) * g * g
        w -= rate * g / math.sqrt(n + 1e-8)
    return w


@pytest.mark.parametrize(
    ("optimizer", "loop"),
    [
        (Sgd(), lambda g, rate: sgd_loop(g, rate, 0)),
        (Sgd(0.9), lambda g, rate: sgd_loop(g, rate, 0.9)),
        (Adam(), lambda g, rate: adam_loop(g, rate, 0.9, 0.999)),
        (Adam(0.5, 0.0), lambda g, rate: adam_loop(g, rate, 0.5, 0)),
        (RmsProp(), lambda g, rate: rmsprop_loop(g, rate, 0.9)),
    ],
)
def test_formula(optimizer: Optimizer, loop: Callable[[list[float], float], float]) -> None:
    """Fifty steps end where the formula leads, number by number."""
    given = gradients(50, 4, 3)
    w = run(optimizer, given, 0.01)
    for place in np.ndindex(4, 3):
        expected = loop([float(gradient[place]) for gradient in given], 0.01)
        assert w[place] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_by_hand() -> None:
    """Two steps of each optimizer along the gradient 2, with a rate of 0.1."""
    given = np.full((2, 1, 1), 2, np.float32)
    assert run(Sgd(), given, 0.1).item() == pytest.approx(1 - 0.2 - 0.2)
    assert run(Sgd(0.5), given, 0.1).item() == pytest.approx(1 - 0.2 - 0.3)
    assert run(Adam(), given, 0.1).item() == pytest.approx(1 - 0.1 - 0.1)
    # mean squares 2 and 3
    assert run(RmsProp(0.5), given, 0.1).item() == pytest.approx(1 - 0.2 / math.sqrt(2) - 0.2 / math.sqrt(3))


def test_epsilons() -> None:
    """Adam adds its epsilon to the root, RMSProp adds its own under the root."""
    given = np.full((1, 1, 1), 3, np.float32)
    assert run(Adam(0.0, 0.0, eps=1.0), given, 1).item() == pytest.approx(1 - 3 / 4)
    assert run(RmsProp(0.0, eps=7.0), given, 1).item() == pytest.approx(1 - 3 / 4)


@every
def test_settings_of_models(optimizer: Optimizer) -> None:
    """Models with settings of their own go where each would go alone."""
    given, rates = gradients(20, 5, 3), np.array([0.1, 0.01, 0.001])
    together = run(optimizer, given, rates)
    for model in range(3):
        alone: Optimizer = optimizer
        if isinstance(optimizer, Sgd) and isinstance(optimizer.momentum, np.ndarray):
            alone = Sgd(float(optimizer.momentum[model]))
        elif isinstance(optimizer, Adam) and isinstance(optimizer.beta_1, np.ndarray):
            assert isinstance(optimizer.beta_2, np.ndarray)
            alone = Adam(float(optimizer.beta_1[model]), float(optimizer.beta_2[model]))
        column = run(alone, given[:, :, model : model + 1], float(rates[model]))
        np.testing.assert_allclose(together[:, model], column[:, 0], rtol=1e-5)


@every
def test_equal_settings(optimizer: Optimizer) -> None:
    """One number and an array of this number are the same setting."""
    given = gradients(10, 5, 3)
    np.testing.assert_array_equal(run(optimizer, given, np.full(3, 0.01)), run(optimizer, given, 0.01))


@every
def test_all_rows(optimizer: Optimizer) -> None:
    """To name all rows, in any order, is to name none."""
    given = gradients(10, 6, 3)
    orders = [np.random.default_rng(step).permutation(6) for step in range(10)]
    np.testing.assert_array_equal(run(optimizer, given, 0.01, orders), run(optimizer, given, 0.01))


@every
def test_some_rows(optimizer: Optimizer) -> None:
    """Of rows that are not named neither the parameter nor what is remembered changes."""
    given, rows = gradients(3, 6, 3), np.array([4, 1])
    w = np.ones((6, 3), np.float32)
    state = optimizer.state(w.shape)
    optimizer.update(w, given[0], state, 0.01, 1)
    before, kept = w.copy(), [array.copy() for array in state]
    optimizer.update(w, given[1][rows], state, 0.01, 2, rows)
    others = [0, 2, 3, 5]
    for now, then in zip((w, *state), (before, *kept), strict=True):
        np.testing.assert_array_equal(now[others], then[others])
        assert (now[rows] != then[rows]).all()


@every
def test_no_rows(optimizer: Optimizer) -> None:
    """A step of no rows changes nothing."""
    w = np.ones((6, 3), np.float32)
    optimizer.update(w, np.empty((0, 3), np.float32), optimizer.state(w.shape), 0.01, 1, np.empty(0, np.intp))
    assert (w == 1).all()


def test_absent_rows_do_not_fade() -> None:
    """The lazy Adam resumes with the moments a row had, at the rate of the step that all rows are at."""
    w = np.ones((2, 1), np.float32)
    adam = Adam(0.5, 0.0)
    state = adam.state(w.shape)
    for step, row in ((1, 0), (2, 1), (3, 0)):
        adam.update(w, np.ones((1, 1), np.float32), state, 1.0, step, np.array([row]))
    # means 1/2 and 3/4, divided by 1 - 2^-1 and 1 - 2^-3; for the other row 1/2 by 1 - 2^-2
    assert w.ravel().tolist() == pytest.approx([1 - 1 - 6 / 7, 1 - 2 / 3])


@every
@pytest.mark.parametrize("lazy", [False, True])
def test_in_place(optimizer: Optimizer, lazy: bool) -> None:
    """The parameter and the state stay float32 and where they are; the gradient is only read."""
    (gradient,) = gradients(1, 5, 3)
    gradient.flags.writeable = False
    w = np.ones((5, 3), np.float32)
    state = optimizer.state(w.shape)
    assert all(array.shape == w.shape and array.dtype == np.float32 for array in state)
    optimizer.update(w, gradient, state, np.array([0.1, 0.2, 0.3]), 1, np.arange(5) if lazy else None)
    assert (w != 1).all() and all(array.any() for array in state)


@every
@pytest.mark.parametrize("lazy", [False, True])
def test_large_parameter(optimizer: Optimizer, lazy: bool) -> None:
    """A parameter that is worked on in parts moves like its rows would alone."""
    given = gradients(2, 30_000, 3)
    rows = [np.arange(30_000)[::-1]] * 2 if lazy else None
    w = run(optimizer, given, 0.01, rows)
    for part in (slice(0, 5), slice(10_920, 10_926), slice(29_995, 30_000)):
        np.testing.assert_allclose(w[part], run(optimizer, given[:, part], 0.01), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(7,), (1, 1), (4, 3, 2)])
def test_other_shapes(shape: tuple[int, ...]) -> None:
    """A parameter may have any shape; its rows lie along the first axis."""
    given = gradients(5, *shape)
    flat = run(Adam(), given.reshape(5, -1, 1), 0.01)
    np.testing.assert_array_equal(run(Adam(), given, 0.01).ravel(), flat.ravel())


def test_zero_gradient() -> None:
    """Where no gradient ever was, nothing moves."""
    for optimizer in ALL.values():
        assert (run(optimizer, np.zeros((3, 2, 3), np.float32), 0.1) == 1).all()


def test_soft_threshold_by_hand() -> None:
    """Numbers go towards zero by the amount of their model and stop there."""
    w = np.array([[3, 3], [-3, -3], [0.5, 0.5], [-0.5, 0]], np.float32)
    soft_threshold(w, np.array([1, 0.25]))
    assert w.tolist() == [[2, 2.75], [-2, -2.75], [0, 0.25], [0, 0]]


def test_soft_threshold_of_rows() -> None:
    """Only rows that are named go towards zero."""
    w = np.array([[3.0], [-3], [3]], np.float32)
    soft_threshold(w, 1, np.array([2, 1]))
    assert w.tolist() == [[3], [-2], [2]]


def test_soft_threshold_of_nothing() -> None:
    """The amount zero changes nothing."""
    w = gradients(1, 4, 3)[0]
    before = w.copy()
    soft_threshold(w, np.zeros(3))
    soft_threshold(w, 0.0)
    np.testing.assert_array_equal(w, before)


def test_soft_threshold_is_a_proximal_step() -> None:
    """The result is where half the squared distance plus the penalty is least."""
    w = np.linspace(-2, 2, 9, dtype=np.float32)[:, None]
    near = w.copy()
    soft_threshold(near, 0.7)
    grid = np.linspace(-3, 3, 6001)
    best = grid[(np.square(grid - w) / 2 + 0.7 * np.abs(grid)).argmin(axis=1)]
    np.testing.assert_allclose(near[:, 0], best, atol=1e-3)


def test_schedule_by_hand() -> None:
    """Each model's rate falls after each so many steps of its own, and not below its least."""
    schedule = Schedule(
        base=np.array([1.0, 2.0]), factor=np.array([0.5, 0.1]), every=np.array([2, 3]), minimum=np.array([0.2, 1e-3])
    )
    rates = [schedule.rate(step).tolist() for step in (0, 1, 2, 3, 4, 6, 100_000)]
    expected = [[1, 2], [1, 2], [0.5, 2], [0.5, 0.2], [0.25, 0.2], [0.2, 0.02], [0.2, 1e-3]]
    assert rates == [pytest.approx(pair) for pair in expected]


def test_schedule_of_one() -> None:
    """A schedule of numbers gives a number, and a factor of one keeps the rate."""
    assert Schedule(0.1, 1.0, 10, 1e-5).rate(12345) == 0.1
    assert float(Schedule(0.1, 0.99, 10, 1e-5).rate(25)) == pytest.approx(0.1 * 0.99**2)
