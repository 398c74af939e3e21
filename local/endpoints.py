"""Live endpoints: each a thread that tells how its variants are, each a thread that keeps its containers up."""

from __future__ import annotations

import random
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

from ..errors import ClaryError, PlatformError
from .async_invocations import AsyncInvocations
from .edge import guarded
from .executors import Instance
from .faults import ServiceUnavailable, ValidationError
from .platform import Platform
from .served import Heard, Served, UnhealthyError
from .store import insist
from .targets import Target

__all__ = ["KIND", "Endpoint", "live_endpoint"]

KIND: Final = "endpoint"
"""What endpoints are kept under, and run under."""

_TICK: Final = 0.1  # seconds
_FIRST: Final = 0.2  # seconds before a container is started again; each later pause is twice as long
_LONGEST: Final = 30.0
_WELL: Final = 60.0  # seconds after which a container that dies is taken for one that has not died before
_PATIENCE: Final = 65.0  # seconds that requests may still take which a variant was asked before it was replaced
_END: Final = 45.0  # seconds for containers to end, which are killed after 30
_REASON: Final = 1024  # characters of a FailureReason


class Endpoint(threading.Thread):
    """A live endpoint; implements `clary.local.platform.Job`.

    Parameters
    ----------
    platform
        Whose it is.
    name
        Of the endpoint, which is in the store. Its document's ``_Now`` is what it runs, and ``_Next`` what it is to be
        updated to.
    region
        In which it is.
    """

    def __init__(self, platform: Platform, name: str, region: str) -> None:
        super().__init__(name=name, daemon=True)
        self.platform = platform
        self.region = region
        self.group = f"/aws/sagemaker/Endpoints/{name}"
        self.log = f"arn:aws:logs:{region}:{platform.account}:log-group:{self.group}"
        self.asynchronous = AsyncInvocations(platform, name, self.target)
        self._variants: Sequence[_Variant] = ()  # replaced as a whole: those who ask see the old ones or the new ones
        self._coming: Sequence[_Variant] = ()  # of a new endpoint or an update: they do not all answer yet
        self._leaving: Sequence[_Variant] = ()
        self._told: tuple[str, str | None] | None = None
        self._deleted = threading.Event()
        self._stirred = threading.Event()

    def begin(self) -> None:
        """Let it run, so that others find it, unless it does already."""
        if self.platform.jobs.setdefault((KIND, self.name), self) is self:
            self.start()

    def stop(self) -> None:
        """Delete it."""
        self._deleted.set()

    def update(self) -> None:
        """Look again at what it is to run."""
        self._stirred.set()

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Give variants other weights."""
        for variant in self._variants:
            variant.weight = weights.get(variant.name, variant.weight)

    def is_ending(self) -> bool:
        """Whether nobody needs its containers any more."""
        return self._deleted.is_set() or self.platform.closing.is_set()

    def check(self) -> None:
        """Whether it has variants that answer, or will again.

        Raises
        ------
        ValidationError
            When it has none.
        """
        if not self._variants:
            status = self.platform.store.status(KIND, self.name) or "Deleting"
            raise ValidationError(
                f"Endpoint {self.name} of account {self.platform.account} is not in service: its status is {status}"
            )

    @contextmanager
    def target(self, name: str | None = None) -> Iterator[Target]:
        """A variant that answers, for the block: the one of that name, or any by weight.

        Raises
        ------
        ValidationError
            When there is none of that name, or none that may be asked.
        ServiceUnavailable
            When it does not answer now.
        """
        while True:
            target = self._choose(name)
            with target.borrowed() as lent:
                if lent:
                    yield target
                    return

    def run(self) -> None:
        """Keep it alive until it is deleted or the platform ends."""
        step = self._bring_up
        try:
            while not self.is_ending():
                guarded(f"endpoint {self.name}", step, self._give_up)
                step = self._look
                self._deleted.wait(_TICK)
        finally:
            self._end()

    def _give_up(self, why: str) -> None:
        """Settle for what there was before; it can still be told to end."""
        self._leave(self._coming, 0)
        self._coming = ()
        self._settle(why)

    def _choose(self, name: str | None) -> Target:
        variants = self._variants
        if not variants:
            raise ServiceUnavailable(f"endpoint {self.name} is not in service: ask later")
        asked = [one for one in variants if (one.weight > 0 if name is None else one.name == name)]
        if not asked:
            told = "every weight is 0: name one as TargetVariant" if name is None else f"there is none called {name}"
            raise ValidationError(f"no variant of endpoint {self.name} can be asked: {told}")
        lively = [(target, one.weight) for one in asked if (target := one.target) is not None]
        if not lively:
            raise ServiceUnavailable(f"the containers of endpoint {self.name} are being started again: ask later")
        targets, weights = zip(*lively, strict=True)
        found: Target = targets[0] if name else random.choices(targets, weights)[0]  # noqa: S311
        return found

    def _bring_up(self) -> None:
        """Start the variants: those that have been in service as often as it takes, new ones once."""
        shutil.rmtree(self.platform.folder.work("endpoints", self.name), ignore_errors=True)  # of an earlier run
        thing = insist(lambda: self.platform.store.get(KIND, self.name), self.platform.closing)
        if thing is None:
            return
        if thing.status == "Deleting":  # since before others could find this thread
            self._deleted.set()
            return
        insist(self.asynchronous.resume, self.platform.closing)
        if "_Next" in thing.document:
            self._stirred.set()
        now, summaries = thing.document["_Now"], thing.document["ProductionVariants"]
        if "_Served" in thing.document:
            self._variants = self._planned(now, summaries, lasting=True)
            _start(self._variants)
        elif "_Next" not in thing.document:
            self._coming = self._planned(now, summaries)
            _start(self._coming)

    def _planned(
        self, plan: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]], *, lasting: bool = False
    ) -> Sequence[_Variant]:
        """The variants of a plan, which are still to be started."""
        weights = {one["VariantName"]: one["CurrentWeight"] for one in summaries}
        return [
            _Variant(self, config, plan["Models"][config["ModelName"]], weights[config["VariantName"]], lasting=lasting)
            for config in plan["ProductionVariants"]
        ]

    def _look(self) -> None:
        """See to what has changed."""
        if self._coming:
            self._follow()
        elif self._stirred.is_set():
            self._stirred.clear()
            self._update()
        else:
            self._report()

    def _update(self) -> None:
        """Start the variants of the next plan, if there is one."""
        thing = insist(lambda: self.platform.store.get(KIND, self.name), self.platform.closing)
        if thing is not None and (plan := thing.document.get("_Next")):
            self._coming = self._planned(plan, plan["Summaries"])
            _start(self._coming)

    def _follow(self) -> None:
        """Let the variants that are being started take over when all of them answer, or none when one does not."""
        failures = [variant.failure for variant in self._coming if variant.failure is not None]
        if not failures and not all(variant.target for variant in self._coming):
            return
        coming, self._coming = self._coming, ()
        if failures:
            self._leave(coming, 0)
            self._settle(failures[0])
        else:
            before, self._variants = self._variants, coming
            self._settle()
            self._leave(before, _PATIENCE)

    def _report(self) -> None:
        """Note how the variants are, unless that is known or they are just being started."""
        down = [variant for variant in self._variants if variant.target is None]
        failures = [variant.failure for variant in down if variant.failure is not None]
        state = ("Failed", failures[0]) if failures else ("InService", None)
        if not self._variants or (down and not failures) or state == self._told:
            return

        def note(document: dict[str, Any]) -> None:
            if "_Next" not in document:  # else it is updated, which ends with a status
                _note(document, *state)

        self._write(note)
        self._told = state

    def _settle(self, failure: str | None = None) -> None:
        """Note how the start or an update has ended."""
        state = "InService" if self._variants and all(variant.target for variant in self._variants) else "Failed"

        def settle(document: dict[str, Any]) -> None:
            plan = document.pop("_Next", None)
            if plan and failure is None:
                document["EndpointConfigName"] = plan["EndpointConfigName"]
                document["ProductionVariants"] = plan.pop("Summaries")
                document["_Now"] = plan
            _note(document, state, failure)

        self._write(settle)
        self._told = (state, None)

    def _write(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change what describes it, however long that takes, unless it ends: the next platform finds it as it was."""

        def write() -> None:
            with self.platform.store.changing(KIND, self.name, "EndpointStatus") as document:
                if document is not None and document["EndpointStatus"] != "Deleting":
                    change(document)

        if not self.is_ending():
            insist(write, self.platform.closing)

    def _leave(self, variants: Sequence[_Variant], patience: float) -> None:
        """End variants while others go on."""
        for variant in variants:
            variant.end(patience)
        self._leaving = [variant for variant in (*self._leaving, *variants) if variant.is_alive()]

    def _end(self) -> None:
        """End all containers; of an endpoint that was deleted nothing is left."""
        variants, self._variants = self._variants, ()
        self._leave([*variants, *self._coming], 0)
        deadline = time.monotonic() + _PATIENCE + _END
        for variant in self._leaving:
            variant.join(max(0.0, deadline - time.monotonic()))
        if self._deleted.is_set():
            shutil.rmtree(self.platform.folder.work("endpoints", self.name), ignore_errors=True)
            self.platform.jobs.pop((KIND, self.name), None)  # before the name is free for another
            insist(self._forget, self.platform.closing)

    def _forget(self) -> None:
        self.asynchronous.forget()
        thing = self.platform.store.get(KIND, self.name)
        if thing is not None:
            self.platform.store.untag(thing.document["EndpointArn"])
            self.platform.store.remove(KIND, self.name)


class _Variant(threading.Thread):
    """A production variant: its containers, which are started again when they die.

    Parameters
    ----------
    endpoint
        Whose it is.
    config
        Its part of the endpoint's configuration.
    model
        What describes its model.
    weight
        Its share of the requests.
    lasting
        Whether they are started again, too, when they have never answered.

    Attributes
    ----------
    target
        The containers, while they answer.
    failure
        Why they do not; None while they are started for the first time, too.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: Mapping[str, Any],
        model: Mapping[str, Any],
        weight: float,
        *,
        lasting: bool,
    ) -> None:
        super().__init__(name=config["VariantName"], daemon=True)
        self.weight = weight
        self.target: Target | None = None
        self.failure: str | None = None
        self._endpoint = endpoint
        self._config = config
        self._model = model
        self._lasting = lasting
        self._pause = _FIRST
        self._patience = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        """Keep the containers up until they are not needed any more."""
        while not self._is_over():
            guarded(f"production variant {self.name} of endpoint {self._endpoint.name}", self._try, self._fail)
            if not self._lasting:
                return
            self._over.wait(self._pause)
            self._pause = min(2 * self._pause, _LONGEST)

    def end(self, patience: float) -> None:
        """End the containers, after `patience` seconds at most for what they have been asked."""
        self._patience = patience
        self._over.set()

    def _is_over(self) -> bool:
        return self._over.is_set() or self._endpoint.is_ending()

    def _try(self) -> None:
        try:
            self._live()
        except ClaryError as error:
            self._fail(str(error))

    def _fail(self, why: str) -> None:
        self.failure = why

    def _live(self) -> None:
        """Start the containers, and stay until one dies or they are not needed any more."""
        with closing(self._served()) as served:
            with self._telling():
                served.start()
            self._lasting = True
            since = time.monotonic()
            target = Target(self._endpoint.platform, self._model, served, self._endpoint.log, self.name)
            self.target, self.failure = target, None
            try:
                while (reason := served.dead()) is None and not self._is_over():
                    self._over.wait(_TICK)
                if reason is not None:
                    self.failure = f"production variant {self.name}: {reason}"
            finally:  # after the failure is told: it is never down without a reason
                self.target = None
                target.retire(self._patience)
            if time.monotonic() > since + _WELL:
                self._pause = _FIRST

    def _served(self) -> Served:
        """New containers."""
        run = uuid.uuid4().hex[:17]
        platform, endpoint = self._endpoint.platform, self._endpoint.name
        return Served(
            platform,
            self._model,
            group=f"{endpoint}-{self.name}-{run}",
            work=platform.folder.work("endpoints", endpoint, f"{self.name}-{run}"),
            heard=self._listener(f"{self.name}/i-{run}"),
            instance=Instance.of(self._config.get("InstanceType", "")),
            startup=self._config.get("ContainerStartupHealthCheckTimeoutInSeconds", 240),
            unwanted=self._is_over,
        )

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say of which variant an error is, as AWS does."""
        try:
            yield
        except OSError as error:
            raise PlatformError(f"production variant {self.name} cannot be started: {error}") from error
        except UnhealthyError as error:
            raise PlatformError(
                f"The {error.container} container for production variant {self.name} did not pass the ping health "
                f"check. Please check CloudWatch logs for this endpoint. ({error})"
            ) from error

    def _listener(self, stream: str) -> Heard:
        group, logs, region = self._endpoint.group, self._endpoint.platform.logs, self._endpoint.region
        several = len(self._model.get("Containers", ())) > 1

        def heard(container: str, line: bytes) -> None:
            where = f"{stream}/{container}" if several else stream
            logs.write(region, group, where, line.decode(errors="replace").rstrip("\r\n"))

        return heard


def _start(variants: Sequence[_Variant]) -> None:
    for variant in variants:
        variant.start()


def live_endpoint(platform: Platform, name: str) -> Endpoint | None:
    """The endpoint of that name that runs here."""
    found = platform.jobs.get((KIND, name))
    return found if isinstance(found, Endpoint) else None


def _note(document: dict[str, Any], status: str, failure: str | None = None) -> None:
    document["EndpointStatus"] = status
    if status == "InService":
        document["_Served"] = True
    document.pop("FailureReason", None)
    if failure is not None:
        document["FailureReason"] = failure[:_REASON]
