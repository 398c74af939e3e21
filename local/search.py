"""What a tuning job tries next, as its strategy has it, and which of its training jobs are not worth going on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from .ranges import Space

__all__ = ["Plan", "Search", "falls_behind"]

_BLIND: Final = 5  # jobs whose hyperparameters are drawn by chance, before what is learnt leads the search
_EARLIER: Final = 3  # jobs that the median rule has to have seen


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search.

    Parameters
    ----------
    name
        Of the search.
    strategy
        ``Random``, ``Grid``, ``Bayesian`` or ``Hyperband``.
    maximize
        Whether more is better.
    seed
        Numbers that all chance comes from.
    resources
        Least and most epochs of a job of Hyperband's.
    """

    name: str
    strategy: str
    maximize: bool
    seed: Sequence[int]
    resources: tuple[int, int] = (1, 1)


class Search:
    """A search for the best hyperparameters; each of its jobs has an index, the first 0.

    What is drawn for an index depends on the seed, the index and what is known by then, so that a search that is
    taken up again goes on as it would have.

    Parameters
    ----------
    space
        Where to search.
    plan
        How to search.
    """

    def __init__(self, space: Space, plan: Plan) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._plan = plan
        self._distributions = space.distributions()
        least, most = plan.resources
        self._study = optuna.create_study(
            study_name=plan.name,  # Hyperband chooses brackets by it
            direction="maximize" if plan.maximize else "minimize",
            sampler=self._sampler(0),
            pruner=optuna.pruners.HyperbandPruner(min_resource=least, max_resource=most),
        )
        self._trials: dict[int, Any] = {}
        self._epochs: Counter[int] = Counter()

    def ask(self, index: int) -> dict[str, str]:
        """The hyperparameters of a new job."""
        if self._plan.strategy == "Grid":
            found = self._space.combination(index)
            self.adopt(index, found)
            return found
        self._study.sampler = self._sampler(index)
        self._trials[index] = trial = self._study.ask(self._distributions)
        return self._space.texts(trial.params)

    def adopt(self, index: int, hyperparameters: Mapping[str, str]) -> None:
        """Know of a job that is there already."""
        values = self._space.values(hyperparameters)
        assert values is not None  # noqa: S101  # they came from this very space
        self._study.enqueue_trial(values)
        self._trials[index] = self._study.ask(self._distributions)

    def learn(self, hyperparameters: Mapping[str, str], value: float) -> None:
        """Know of a job of another tuning job, where it fits."""
        from optuna.trial import create_trial

        if (values := self._space.values(hyperparameters)) is not None:
            self._study.add_trial(create_trial(value=value, params=values, distributions=self._distributions))

    def listens(self, index: int) -> bool:
        """Whether a job's next epoch is of interest."""
        return self._plan.strategy == "Hyperband" and self._epochs[index] < self._plan.resources[1]

    def hopeless(self, index: int, value: float) -> bool:
        """Hear of the objective of a job's next epoch; whether Hyperband ends the job there."""
        if not self.listens(index):
            return False
        self._epochs[index] += 1
        trial = self._trials[index]
        trial.report(value, self._epochs[index])
        return bool(trial.should_prune())

    def tell(self, index: int, value: float | None) -> None:
        """Know of the objective of a job that has ended; None where it has none."""
        from optuna.trial import TrialState

        trial = self._trials[index]
        if value is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, value)

    def _sampler(self, index: int) -> Any:
        import numpy as np
        from optuna.samplers import RandomSampler, TPESampler

        seed = int(np.random.SeedSequence([*self._plan.seed, index]).generate_state(1)[0])
        if self._plan.strategy != "Bayesian":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=_BLIND, multivariate=True, constant_liar=True)


def falls_behind(value: float, means: Sequence[float], *, maximize: bool) -> bool:
    """Whether a job does worse than the median of earlier ones.

    Parameters
    ----------
    value
        The job's objective after some epoch.
    means
        The mean over all epochs up to that one of each earlier job that got as far.
    maximize
        Whether more is better.

    Examples
    --------
    >>> falls_behind(8.0, [2.5, 4.0, 9.0], maximize=False)
    True
    """
    if len(means) < _EARLIER:
        return False
    middle = median(means)
    return value < middle if maximize else value > middle
