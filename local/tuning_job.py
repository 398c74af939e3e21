"""A tuning job from InProgress to its end.

Everything that it has to remember is in its training jobs, so that the next platform goes on where this one ended.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from . import training
from .job_operations import end
from .job_thread import JobThread, PlatformEnds, WholeReasonError
from .operations import Call
from .platform import Platform
from .search import Plan, Search, falls_behind
from .training_job import KIND as TRAINING_JOB
from .training_job import TrainingJob
from .tuning_definitions import OBJECTIVE, Definition
from .tuning_results import Result, best, converged, not_improving, results_of

__all__ = ["KIND", "TuningJob"]

KIND: Final = "hyper-parameter-tuning-job"

_TICK: Final = 0.1  # seconds
_LOOK: Final = 0.5  # seconds between two looks at what jobs have printed
_LAST: Final = 600  # seconds that training jobs which were told to end have for it
_ATTEMPTS: Final = 5  # training jobs without a value that show that there will be none


class TuningJob(JobThread):
    """One job.

    Parameters
    ----------
    platform
        On which it runs.
    name
        Of the job, which the store knows.
    """

    kind = KIND
    noun = "HyperParameterTuningJob"
    status = f"{noun}Status"
    called = "tuning job"
    title = "Hyperparameter tuning job"

    def __init__(self, platform: Platform, name: str) -> None:
        super().__init__(platform, name)
        self._results: dict[int, Result] = {}
        self._means: defaultdict[int, list[float]] = defaultdict(list)  # of the objective, up to each epoch
        self._given_up: set[int] = set()
        self._looked = 0.0

    def work(self) -> dict[str, Any]:
        """Search, until there is nothing more to search for."""
        thing = self.platform.store.get(KIND, self.job)
        assert thing is not None  # noqa: S101  # nobody may delete a job that has not ended
        self._thing = thing
        self._config: Mapping[str, Any] = self.document["HyperParameterTuningJobConfig"]
        self._limits: Mapping[str, Any] = self._config["ResourceLimits"]
        self._definitions = Definition.all_of(self.document)
        self._searches = [self._search(number) for number in range(len(self._definitions))]
        self._take_up()
        while not self._over():
            self._start_jobs()
            self._watch()
            self._wait()
        self._stop_jobs()
        if self.stopping.is_set():
            return {"HyperParameterTuningJobStatus": "Stopped"}
        if best(self._results.values()) is None:
            raise WholeReasonError(self._why_nothing())
        return {"HyperParameterTuningJobStatus": "Completed"}

    def failed(self, reason: str) -> dict[str, Any]:
        """What tells of a failure; what was started is ended."""
        for result in self._running.values():
            end(self.platform, TrainingJob, result.thing.name)
        return {"HyperParameterTuningJobStatus": "Failed", "FailureReason": reason}

    def _search(self, place: int) -> Search:
        """The search for one of the definitions."""
        definition, strategy = self._definitions[place], self._config["Strategy"]
        hyperband = self._config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
        plan = Plan(
            name=f"{self._thing.name}-{place}",
            strategy=strategy,
            maximize=definition.maximize,
            seed=(self.document["_seed"], place),
            resources=(hyperband["MinResource"], hyperband["MaxResource"]) if strategy == "Hyperband" else (1, 1),
        )
        search = Search(definition.space, plan)
        for parent in self.document.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", ()):
            thing = self.platform.store.get(KIND, parent["HyperParameterTuningJobName"])
            for result in results_of(self.platform, thing) if thing is not None else ():
                if result.value is not None:
                    search.learn(result.thing.document["HyperParameters"], result.value)
        return search

    def _take_up(self) -> None:
        """Know of the training jobs that an earlier platform has started."""
        found = {result.number: result for result in results_of(self.platform, self._thing)}
        for number, result in found.items():
            search, index = self._place(number)
            search.adopt(index, result.tuned)
            self._results[number] = result
        self._hear(found)
        for number, result in found.items():
            if result.ended:
                self._tell(number)

    def _over(self) -> bool:
        """Whether no more training jobs are to start, and those that run are to end."""
        if self.stopping.is_set() or self._hopeless:
            return True
        if time.time() > self._thing.created + self._limits.get("MaxRuntimeInSeconds", float("inf")):
            return True
        if self._next > self._limits["MaxNumberOfTrainingJobs"] and not self._running:
            return True
        return self._is_good(self._config.get("TuningJobCompletionCriteria", {}))

    def _is_good(self, criteria: Mapping[str, Any]) -> bool:
        """Whether the result is as good as was asked for, or as it will get."""
        results = self._results.values()
        found, target = best(results), criteria.get("TargetObjectiveMetricValue")
        if found is not None and found.value is not None and target is not None:
            maximize = found.objective["Type"] == "Maximize"
            if found.value >= target if maximize else found.value <= target:
                return True
        most = criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving")
        if most is not None and not_improving(results) >= most:
            return True
        wanted = criteria.get("ConvergenceDetected", {}).get("CompleteOnConvergence") == "Enabled"
        return wanted and converged(results) is not None

    def _start_jobs(self) -> None:
        """Start as many training jobs as may run at a time."""
        while len(self._running) < self._limits["MaxParallelTrainingJobs"]:
            number = self._next
            if number > self._limits["MaxNumberOfTrainingJobs"]:
                return
            search, index = self._place(number)
            self._results[number] = self._start(number, search.ask(index))

    def _start(self, number: int, tuned: Mapping[str, str]) -> Result:
        """Start a training job."""
        definition = self._definition(number)
        arn = self.document["HyperParameterTuningJobArn"]
        name = f"{self._thing.name}-{number:03}-{secrets.token_hex(4)}"
        tags = [{"Key": key, "Value": value} for key, value in self.platform.store.tags(arn).items()]
        request = {**definition.request(name, tuned), "Tags": tags}
        training.create(
            Call(self.platform, request, arn.split(":")[3]),
            request,
            parent=self._thing.name,
            TuningJobArn=arn,
            _metrics=definition.metrics,
            _objective=definition.objective,
            _definition=definition.name,
            _number=number,
            _tuned=tuned,
        )
        thing = self.platform.store.get(TRAINING_JOB, name)
        assert thing is not None  # noqa: S101  # it was made just now, and ends before anybody may delete it
        return Result(thing)

    def _watch(self) -> None:
        """Look after the training jobs that run."""
        ended = {}
        for number, result in self._running.items():
            thing = self.platform.store.get(TRAINING_JOB, result.thing.name)
            if thing is None:  # it has ended and was deleted since the last look
                search, index = self._place(number)
                search.tell(index, None)
                del self._results[number]
                continue
            self._results[number] = Result(thing)
            if self._results[number].ended:
                ended[number] = self._results[number]
        if ended or time.monotonic() > self._looked + _LOOK:
            self._looked = time.monotonic()
            self._hear({**self._running, **ended})
        for number in ended:
            self._tell(number)

    def _hear(self, results: Mapping[int, Result]) -> None:
        """Hear of new values of the objective, in the order in which all jobs have printed them."""
        compared = self._config["TrainingJobEarlyStoppingType"] == "Auto"
        found = []
        for number, result in results.items():
            search, index = self._place(number)
            if number not in self._given_up and (compared or search.listens(index)):
                metrics = self.platform.store.metrics(TRAINING_JOB, result.thing.name)
                values = [metric for metric in metrics if metric.name == OBJECTIVE]
                found += [(metric.time, number, metric.value) for metric in values[len(self._means[number]) :]]
        for _, number, value in sorted(found):
            search, index = self._place(number)
            behind = compared and self._falls_behind(number, value)
            means = self._means[number]
            means.append(value if not means else means[-1] + (value - means[-1]) / (len(means) + 1))
            if number not in self._given_up and (search.hopeless(index, value) or behind):
                self._give_up(number)

    def _falls_behind(self, number: int, value: float) -> bool:
        """Whether the next value of a job is worse than what earlier jobs of its definition had by that epoch."""
        definition, epoch = self._definition(number), len(self._means[number])
        earlier = [
            means[epoch]
            for other, means in self._means.items()
            if other < number and len(means) > epoch and self._definition(other) is definition
        ]
        return falls_behind(value, earlier, maximize=definition.maximize)

    def _give_up(self, number: int) -> None:
        self._given_up.add(number)
        end(self.platform, TrainingJob, self._results[number].thing.name)

    def _tell(self, number: int) -> None:
        """Let the search know how a training job has ended."""
        search, index = self._place(number)
        search.tell(index, self._results[number].value)

    def _stop_jobs(self) -> None:
        """End the training jobs that run."""
        for result in self._running.values():
            end(self.platform, TrainingJob, result.thing.name)
        deadline = time.monotonic() + _LAST
        while self._running and time.monotonic() < deadline:
            self._watch()
            self._wait()

    def _wait(self) -> None:
        if self.platform.closing.wait(_TICK):
            raise PlatformEnds

    def _why_nothing(self) -> str:
        """What keeps all training jobs from having a value."""
        ended = [result for result in self._results.values() if result.ended]
        reasons = [result.thing.document.get("FailureReason") for result in ended if result.thing.status == "Failed"]
        if reasons:
            return (
                f"No training job succeeded after {len(ended)} attempts. For additional details, please take a look at "
                "the training job failures by listing training jobs for the hyperparameter tuning job. "
                f"The first one failed with: {reasons[0]}"
            )
        return (
            f"No objective metrics found after running {len(ended)} training jobs. Please ensure that the custom "
            "algorithm is emitting the objective metric as defined by the regular expression provided."
        )

    @property
    def _hopeless(self) -> bool:
        """Whether enough training jobs have ended without a value."""
        ended = [result for result in self._results.values() if result.ended]
        return len(ended) >= _ATTEMPTS and best(ended) is None

    @property
    def _running(self) -> dict[int, Result]:
        return {number: result for number, result in self._results.items() if not result.ended}

    @property
    def _next(self) -> int:
        """Number of the next training job."""
        return max(self._results, default=0) + 1

    def _definition(self, number: int) -> Definition:
        """The definition of a training job."""
        return self._definitions[self._turn(number)[0]]

    def _place(self, number: int) -> tuple[Search, int]:
        """The search that a training job belongs to, and its index there."""
        place, index = self._turn(number)
        return self._searches[place], index

    def _turn(self, number: int) -> tuple[int, int]:
        """Place of a training job's definition, and how many jobs of that come before it.

        Definitions take turns; in a grid, each is done with first.
        """
        if self._config["Strategy"] != "Grid":
            index, place = divmod(number - 1, len(self._definitions))
            return place, index
        index = number - 1
        for place, definition in enumerate(self._definitions):
            if index < (count := definition.space.grid()):
                return place, index
            index -= count
        raise AssertionError(f"the grid has no job {number}")  # MaxNumberOfTrainingJobs is its size
