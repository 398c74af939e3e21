"""Random cut forest on labelled windows of NYC taxi against isolation forests, and its speed against rrcf.

A made series stands in where NYC taxi is absent. Quality is the area under the ROC curve, a shingle having the label of
its last point. Our fit always has the same seed; so that its figure is no luck, the mean over forests of other seeds,
grown over the very same rows, stands beside it, and the isolation forests' figures are means as well. Times are seconds
of CPU. rrcf scores in the way that its README shows: a point is inserted, asked for and forgotten, tree by tree.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from importlib import import_module
from itertools import product
from typing import Any

import numpy as np

from clary.algorithms.forest import Forest, grow, score
from clary.algorithms.randomcutforest import RandomCutForestModel, RandomCutForestParams, fit
from clary.recordio import shingle
from clary.recordio.batch import Array

from .setting import DATA, Memory, Silence
from .timing import Row, best_of

__all__ = ["rows"]

SKLEARN = f"scikit-learn {import_module('sklearn').__version__}"
TREES, SAMPLES = 50, 512  # as Amazon's example has them for NYC taxi
SEEDS = range(1, 11)
DAY = 48  # points
SPEED_TREES, SPEED_SAMPLES = 100, 256  # the defaults
POINTS, THEIR_POINTS = 5000, 20  # that are scored, as rrcf is slow

ensemble: Any = import_module("sklearn.ensemble")  # it has no types
metrics: Any = import_module("sklearn.metrics")


def series() -> tuple[str, Array, Array]:
    """Name, values of shape (n,) and whether each lies in a labelled window."""
    folder = DATA / "nab"
    if not folder.exists():
        return _made_series()
    table = np.loadtxt(folder / "nyc_taxi.csv", str, delimiter=",", skiprows=1)
    times = table[:, 0].astype("datetime64[s]")
    labels = np.zeros(len(times), bool)
    for first, last in json.loads((folder / "combined_windows.json").read_text())["realKnownCause/nyc_taxi.csv"]:
        labels |= (times >= np.datetime64(first)) & (times <= np.datetime64(last))
    return "NYC taxi", table[:, 1].astype(np.float32), labels


def _made_series() -> tuple[str, Array, Array]:
    """200 days of a noisy wave, five of which are flat."""
    rng = np.random.default_rng(0)
    labels = np.isin(np.arange(200 * DAY) // DAY, (40, 75, 110, 145, 180))
    wave = np.sin(np.arange(len(labels)) * (2 * np.pi / DAY))
    values = np.where(labels, 0.2, 1) * wave + rng.normal(0, 0.2, len(labels))
    return "a made series", values.astype(np.float32), labels


def ours(features: Array) -> Array:
    """Scores by our fit."""
    params = RandomCutForestParams(feature_dim=features.shape[1], num_trees=TREES, num_samples_per_tree=SAMPLES)
    model = fit(params, {"train": Memory(features)}, Silence())
    return score(model.forest, features)


def seeded(features: Array, seed: int) -> Array:
    """Scores by a forest of another seed over the same parts of the rows, all of which the sample has room for."""
    size = min(SAMPLES, len(features) // TREES)
    assert len(features) <= TREES * SAMPLES
    parts = features[: TREES * size].reshape(TREES, size, -1)
    return score(grow(parts, np.random.default_rng(seed)), features)


def isolation(features: Array, settings: dict[str, int], seed: int) -> Array:
    """Scores by an isolation forest."""
    forest = ensemble.IsolationForest(random_state=seed, **settings).fit(features)
    scores: Array = -forest.score_samples(features)
    return scores


def quality() -> Iterator[Row]:
    """How well the labelled windows are told from the rest; the bar, for shingles, is both isolation forests' mean."""
    name, values, labels = series()
    rivals: dict[str, dict[str, int]] = {
        "IsolationForest": {},  # 100 trees of 256
        f"IsolationForest({TREES}, max_samples={SAMPLES})": {"n_estimators": TREES, "max_samples": SAMPLES},
    }
    for size in (1, DAY):
        features, truth = shingle(values[:, None], size), labels[size - 1 :]
        area = partial(metrics.roc_auc_score, truth)
        figures = {
            "our fit": area(ours(features)),
            f"mean of {len(SEEDS)} seeds": np.mean([area(seeded(features, seed)) for seed in SEEDS]),
        }
        means = {
            rival: np.mean([area(isolation(features, settings, seed)) for seed in SEEDS])
            for rival, settings in rivals.items()
        }
        for (which, figure), (rival, mean) in product(figures.items(), means.items()):
            what = f"AUC of {name}, shingle {size}, {which}"
            peer = f"{SKLEARN} {rival}, mean of {len(SEEDS)} seeds"
            yield Row(what, float(figure), "", peer, float(mean), 1 if size > 1 else None)


def sample(d: int) -> Array:
    """Normal rows for the trees of the default forest, shape (trees, samples, d)."""
    return np.random.default_rng(0).normal(size=(SPEED_TREES, SPEED_SAMPLES, d)).astype(np.float32)


def grown(d: int) -> Forest:
    """A forest over them."""
    return grow(sample(d), np.random.default_rng(1))


def rrcf() -> Any | None:
    """The package, where it is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks pkg_resources for its version, which is deprecated
        try:
            return import_module("rrcf")
        except ImportError:  # or of pkg_resources
            return None


def their_scores(trees: list[Any], points: Array) -> Array:
    """Mean collusive displacement of each point."""
    scores = np.zeros(len(points))
    for i, point in enumerate(points):
        for tree in trees:
            tree.insert_point(point, index="asked")
            scores[i] += tree.codisp("asked") / len(trees)
            tree.forget_point("asked")
    return scores


def speed() -> Iterator[Row]:
    """Points scored in a second of CPU."""
    package = rrcf()
    for d in (1, 48, 100):
        what = f"scoring {POINTS} points, {SPEED_TREES} trees of {SPEED_SAMPLES}, d = {d}"
        forest, points = grown(d), np.random.default_rng(2).normal(size=(POINTS, d)).astype(np.float32)
        runs = [partial(score, forest, points)]
        if package is not None:
            trees = [package.RCTree(part.astype(np.float64)) for part in sample(d)]
            runs.append(partial(their_scores, trees, points[:THEIR_POINTS].astype(np.float64)))
        taken, *others = best_of(runs, rounds=3)
        if package is None:
            yield Row(what, POINTS / taken, "points/s")
        for seconds in others:
            yield Row(what, POINTS / taken, "points/s", f"rrcf, {THEIR_POINTS} points", THEIR_POINTS / seconds, 20)


def times() -> Iterator[Row]:
    """Milliseconds of CPU of what is done once: growing, opening, and the answer to one row."""
    shape = f"{SPEED_TREES} trees of {SPEED_SAMPLES}"
    parts = sample(48)
    (taken,) = best_of([lambda: grow(parts, np.random.default_rng(1))])
    yield Row(f"growing {shape}, d = 48", 1000 * taken, "ms", higher_is_better=False)
    for d in (1, 48):
        model = RandomCutForestModel(grown(d))
        data, row = model.to_bytes(), np.zeros((1, d), np.float32)
        opening, scoring = best_of(
            [partial(RandomCutForestModel.from_bytes, data), partial(model.predict, row)], rounds=30
        )
        yield Row(f"opening {shape}, d = {d}", 1000 * opening, "ms", bar=10, higher_is_better=False)
        yield Row(f"scoring one row, {shape}, d = {d}", 1000 * scoring, "ms", higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    yield from quality()
    yield from speed()
    yield from times()
