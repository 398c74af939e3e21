"""Live endpoints: each a thread that starts the containers of its variants, and starts them again when they die."""

from __future__ import annotations

import random
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from ..errors import ClaryError, PlatformError
from ..logs import emit
from .async_invocations import AsyncInvocations
from .executors import Instance
from .faults import ServiceUnavailable, ValidationError
from .platform import Platform
from .served import Heard, Served, UnhealthyError
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
        self._deleted = threading.Event()
        self._stirred = threading.Event()
        self._leaving: list[threading.Thread] = []

    def begin(self) -> None:
        """Let it run, so that others find it, unless it does already."""
        if self.platform.jobs.setdefault((KIND, self.name), self) is self:
            self.start()

    def stop(self) -> None:
        """Delete it."""
        self._deleted.set()
        self._stirred.set()

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
        while not self.is_ending():
            try:
                step()
            except Exception as error:  # noqa: BLE001  # the edge of the thread, which can still be told to end
                emit(f"endpoint {self.name} failed: {error!r}")
                self._settle(failure=f"the local platform failed: {error!r}")
            step = self._look
            self._stirred.wait(_TICK)
        self._end()

    def _choose(self, name: str | None) -> Target:
        variants = self._variants
        if not variants:
            thing = self.platform.store.get(KIND, self.name)
            status = thing.status if thing else "Deleting"
            raise ValidationError(
                f"Endpoint {self.name} of account {self.platform.account} is not in service: its status is {status}"
            )
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
        shutil.rmtree(self.platform.folder.work("endpoints", self.name), ignore_errors=True)  # of an earlier run
        thing = self.platform.store.get(KIND, self.name)
        if thing is None:
            return
        if "_Next" in thing.document:
            self._stirred.set()
        try:
            self._variants = self._brought_up(thing.document["_Now"], thing.document["ProductionVariants"])
        except ClaryError as error:
            self._say("Failed", str(error))
        else:
            self._say("InService")
        self.asynchronous.resume()

    def _brought_up(self, plan: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]]) -> Sequence[_Variant]:
        """The variants of a plan, which answer."""
        weights = {one["VariantName"]: one["CurrentWeight"] for one in summaries}
        variants = [
            _Variant(self, config, plan["Models"][config["ModelName"]], weights[config["VariantName"]])
            for config in plan["ProductionVariants"]
        ]
        try:
            for variant in variants:
                variant.begin()
            for variant in variants:
                variant.wait()
        except ClaryError:
            self._retire(variants, 0)
            raise
        return variants

    def _look(self) -> None:
        """See to what has changed."""
        if self._stirred.is_set():
            self._stirred.clear()
            self._update()
        for variant in self._variants:
            if reason := variant.dead():
                self._say("Failed", reason)
                variant.bury()
        down = [variant for variant in self._variants if variant.target is None]
        for variant in down:
            self._restart(variant)
        if down and all(variant.target for variant in self._variants):
            self._say("InService")

    def _restart(self, variant: _Variant) -> None:
        """Start a variant again when it is time."""
        if time.monotonic() < variant.due:
            return
        try:
            variant.begin()
            variant.wait()
        except ClaryError as error:
            self._say("Failed", str(error))
            variant.close(0)
            variant.postpone()

    def _update(self) -> None:
        """Replace the variants by those of the next plan, if there is one, when these answer."""
        thing = self.platform.store.get(KIND, self.name)
        plan = thing and thing.document.get("_Next")
        if not plan:
            return
        before = self._variants
        try:
            self._variants = self._brought_up(plan, plan["Summaries"])
        except ClaryError as error:
            self._settle(failure=str(error))
        else:
            self._settle()
            self._retire(before, _PATIENCE)

    def _settle(self, failure: str | None = None) -> None:
        """Note how an update has ended."""
        if self.is_ending():  # the next platform updates it
            return
        with self.platform.store.changing(KIND, self.name, "EndpointStatus") as document:
            if document is None or document["EndpointStatus"] == "Deleting":
                return
            plan = document.pop("_Next", None)
            if plan and failure is None:
                document["EndpointConfigName"] = plan["EndpointConfigName"]
                document["ProductionVariants"] = plan.pop("Summaries")
                document["_Now"] = plan
            lives = bool(self._variants) and all(variant.target for variant in self._variants)
            _note(document, "InService" if lives else "Failed", failure)

    def _say(self, status: str, failure: str | None = None) -> None:
        """Note how it is, unless it is about to become something else."""
        if self.is_ending():
            return
        with self.platform.store.changing(KIND, self.name, "EndpointStatus") as document:
            if document is not None and document["EndpointStatus"] != "Deleting" and "_Next" not in document:
                _note(document, status, failure)

    def _retire(self, variants: Sequence[_Variant], patience: float) -> None:
        """End variants while others go on."""
        self._leaving = [thread for thread in self._leaving if thread.is_alive()]
        for variant in variants:
            thread = threading.Thread(target=variant.close, args=[patience], name=variant.name, daemon=True)
            thread.start()
            self._leaving.append(thread)

    def _end(self) -> None:
        """End all containers; of an endpoint that was deleted nothing is left."""
        variants, self._variants = self._variants, ()
        self._retire(variants, 0)
        deadline = time.monotonic() + _PATIENCE + _END
        for thread in self._leaving:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._deleted.is_set():
            self.asynchronous.forget()
            shutil.rmtree(self.platform.folder.work("endpoints", self.name), ignore_errors=True)
            thing = self.platform.store.get(KIND, self.name)
            self.platform.jobs.pop((KIND, self.name), None)
            if thing is not None:
                self.platform.store.untag(thing.document["EndpointArn"])
                self.platform.store.remove(KIND, self.name)


class _Variant:
    """A production variant: its containers, which may be down.

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
    """

    def __init__(self, endpoint: Endpoint, config: Mapping[str, Any], model: Mapping[str, Any], weight: float) -> None:
        self.name: str = config["VariantName"]
        self.weight = weight
        self.target: Target | None = None
        self.due = 0.0
        self._endpoint = endpoint
        self._config = config
        self._model = model
        self._served: Served | None = None
        self._pause = _FIRST
        self._since = time.monotonic()

    def begin(self) -> None:
        """Start its containers; `wait` for them.

        Raises
        ------
        PlatformError
            When they cannot be started, in AWS's words.
        """
        run = uuid.uuid4().hex[:17]
        platform, endpoint = self._endpoint.platform, self._endpoint.name
        self._served = Served(
            platform,
            self._model,
            group=f"{endpoint}-{self.name}-{run}",
            work=platform.folder.work("endpoints", endpoint, f"{self.name}-{run}"),
            heard=self._listener(f"{self.name}/i-{run}"),
            instance=Instance.of(self._config.get("InstanceType", "")),
            startup=self._config.get("ContainerStartupHealthCheckTimeoutInSeconds", 240),
            unwanted=self._endpoint.is_ending,
        )
        with self._telling():
            self._served.begin()

    def wait(self) -> None:
        """Return when they answer."""
        assert self._served is not None  # noqa: S101  # it has begun
        with self._telling():
            self._served.wait()
        self._since = time.monotonic()
        self.target = Target(self._endpoint.platform, self._model, self._served, self._endpoint.log, self.name)

    def dead(self) -> str | None:
        """Why it has gone down just now, if it has."""
        if self.target is None or self._served is None or (reason := self._served.dead()) is None:
            return None
        return f"production variant {self.name}: {reason}"

    def bury(self) -> None:
        """End what is left of its containers, of which one has died, and let them be started again."""
        self.close(0)
        if time.monotonic() > self._since + _WELL:
            self._pause = _FIRST
        self.postpone()

    def postpone(self) -> None:
        """Let it be started again after a pause."""
        self.due = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST)

    def close(self, patience: float) -> None:
        """End its containers, after `patience` seconds at most for what they have been asked."""
        target, self.target = self.target, None
        if target is not None:
            target.retire(patience)
        if self._served is not None:
            self._served.close()

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


def live_endpoint(platform: Platform, name: str) -> Endpoint | None:
    """The endpoint of that name that runs here."""
    found = platform.jobs.get((KIND, name))
    return found if isinstance(found, Endpoint) else None


def _note(document: dict[str, Any], status: str, failure: str | None = None) -> None:
    document["EndpointStatus"] = status
    document.pop("FailureReason", None)
    if failure is not None:
        document["FailureReason"] = failure[:_REASON]
