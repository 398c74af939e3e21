"""A batch transform job from InProgress to its end."""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from typing import Any, Final

from ..containers.batch import BatchTransform
from ..containers.invoking import Server, ServerGoneError
from ..containers.transform_job import TransformJob as Settings
from ..errors import AlgorithmError, ClaryError, UserError
from ..logs import emit
from .executors import Instance
from .manifests import Location
from .platform import Platform
from .served import Served, UnhealthyError, containers_of
from .transform_objects import find, sources, uploader

__all__ = ["KIND", "LOG_GROUP", "UNFINISHED", "TransformJob", "settings_of"]

KIND: Final = "transform-job"
LOG_GROUP: Final = "/aws/sagemaker/TransformJobs"
UNFINISHED: Final = ("InProgress", "Stopping")

_TICK: Final = 0.1  # seconds
_LIMIT: Final = 10  # seconds for a thread that only waits for ticks
_LONGEST_REASON: Final = 1024
_SEE: Final = "See job logs for more information"
_AT_ONCE: Final = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))
"""Jobs that have containers at a time; others wait for their turn."""


class TransformJob(threading.Thread):
    """One job; implements `clary.local.platform.Job`.

    Whatever InstanceCount says, one set of containers gets all files: SageMaker deals files to instances and never
    splits one, so the outputs are the same.

    Parameters
    ----------
    platform
        On which it runs.
    name
        Of the job, which the store knows.
    """

    def __init__(self, platform: Platform, name: str) -> None:
        super().__init__(name=f"transform job {name}", daemon=True)
        self._platform = platform
        self._name = name
        self._folder = platform.folder.work("transform-jobs", name)
        self._stopping = threading.Event()
        self._request: dict[str, Any] = {}
        self._region = platform.region
        self._stream = f"{name}/i-{uuid.uuid4().hex[:17]}-{int(time.time())}"

    def stop(self) -> None:
        """End it with what it has so far."""
        self._stopping.set()

    def run(self) -> None:
        """Run the job, unless it has ended."""
        try:
            thing = self._platform.store.get(KIND, self._name)
            if thing is None or thing.status not in UNFINISHED:
                return
            if thing.status == "Stopping":
                self._stopping.set()
            self._request = thing.document
            self._region = thing.document["TransformJobArn"].split(":")[3]
            reason = self._reason()
            shutil.rmtree(self._folder, ignore_errors=True)
            if not self._platform.closing.is_set():  # else the next platform does it again: outputs are replaced
                self._end(reason)
        finally:
            self._platform.jobs.pop((KIND, self._name), None)

    def _reason(self) -> str:
        """Do the work; why it has failed, empty where it has not."""
        try:
            return self._transform()
        except UnhealthyError as error:
            return f"AlgorithmError: {_SEE}: the model did not start: {error}"
        except ClaryError as error:
            return f"{_blame(error)}: {error}"
        except Exception as error:  # noqa: BLE001  # the edge of the thread
            emit(f"transform job {self._name}: {error!r}")
            return f"InternalServerError: the local platform failed: {error!r}"

    def _transform(self) -> str:
        """Transform all objects; why some have no output."""
        settings = settings_of(self._request)
        with self._turn():
            if self._ended():
                return ""
            self._note(TransformStartTime=time.time())
            found = find(self._platform.s3, self._request["TransformInput"]["DataSource"]["S3DataSource"], self._ended)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            failed = self._failed(settings, found)
        if not failed:
            return ""
        at, error = failed[0]
        count = f"{len(failed)} of {len(found)} objects have no output"
        return f"{_blame(error)}: {_SEE}: {count}; {at}: {error}"

    def _failed(self, settings: Settings, found: Mapping[str, Location]) -> list[tuple[Location, ClaryError]]:
        """Start the model and send it all objects; those that have no output, and why."""
        s3, source = self._platform.s3, self._request["TransformInput"]
        objects = sources(s3, found, zipped=source.get("CompressionType") == "Gzip")
        sink = uploader(s3, self._request["TransformOutput"]["S3OutputPath"], self._folder)
        served = self._served(settings)
        failed = []
        try:
            with closing(served):
                served.start()
                timeout, retries = settings.invocations_timeout_in_seconds, settings.invocations_max_retries
                server = Server(*served.address, timeout=timeout, retries=retries)
                running = BatchTransform(settings).run(server, objects, sink)
                with self._breaking_off(server), closing(running) as outcomes:
                    for outcome in outcomes:
                        if self._ended():
                            break
                        if outcome.error is not None:
                            failed.append((found[outcome.name], outcome.error))
                            self._tell(*failed[-1])
        except ServerGoneError as error:
            raise AlgorithmError(f"{_SEE}: {served.dead() or error}") from error
        return failed

    def _served(self, settings: Settings) -> Served:
        return Served(
            self._platform,
            self._request["_model"],
            group=f"transform-{self._name}",
            work=self._folder / "model",
            heard=self._heard,
            environment=settings.variables,
            instance=Instance.of(self._request["TransformResources"]["InstanceType"]),
            unwanted=self._stopping.is_set,
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until not too many jobs run; one that is to end need not."""
        taken = False
        while not (taken or self._ended()):
            taken = _AT_ONCE.acquire(timeout=_TICK)
        try:
            yield
        finally:
            if taken:
                _AT_ONCE.release()

    @contextmanager
    def _breaking_off(self, server: Server) -> Iterator[None]:
        """Break off what the server has been asked as soon as the job is to end."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_TICK):
                if self._ended():
                    server.stop()
                    return

        watcher = threading.Thread(target=watch, name=f"{self.name}: watch", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join(_LIMIT)

    def _note(self, **fields: Any) -> None:
        with self._platform.store.changing(KIND, self._name, "TransformJobStatus") as job:
            if job is not None:
                job.update(fields)

    def _end(self, reason: str) -> None:
        if self._stopping.is_set():
            self._note(TransformJobStatus="Stopped", TransformEndTime=time.time())
        elif reason:
            told = reason[:_LONGEST_REASON]
            self._note(TransformJobStatus="Failed", TransformEndTime=time.time(), FailureReason=told)
        else:
            self._note(TransformJobStatus="Completed", TransformEndTime=time.time())

    def _heard(self, container: str, line: bytes) -> None:
        """A line of a container."""
        stream = f"{self._stream}/{container}" if len(containers_of(self._request["_model"])) > 1 else self._stream
        text = line.decode(errors="replace").rstrip("\r\n")
        self._platform.logs.write(self._region, LOG_GROUP, stream, text)

    def _tell(self, at: Location, error: ClaryError) -> None:
        """Log why an object has no output, as SageMaker does."""
        now = datetime.now(timezone.utc).replace(tzinfo=None).isoformat(timespec="milliseconds")
        for line in f"{_blame(error)}: {error}".splitlines():
            text = f"{now}:[sagemaker logs]: {at.bucket}/{at.key}: {line}"
            self._platform.logs.write(self._region, LOG_GROUP, f"{self._stream}/data-log", text)

    def _ended(self) -> bool:
        return self._stopping.is_set() or self._platform.closing.is_set()


def settings_of(request: Mapping[str, Any]) -> Settings:
    """What CreateTransformJob asks of the engine.

    Raises
    ------
    UsageError
        When a value is not allowed.
    """
    source, output = request["TransformInput"], request["TransformOutput"]
    processing, client = request.get("DataProcessing", {}), request.get("ModelClientConfig", {})
    asked = {
        "content_type": source.get("ContentType"),
        "accept": output.get("Accept"),
        "split_type": source.get("SplitType"),
        "batch_strategy": request.get("BatchStrategy"),
        "max_payload_in_mb": request.get("MaxPayloadInMB"),
        "max_concurrent_transforms": request.get("MaxConcurrentTransforms") or None,  # 0 is the container's choice too
        "assemble_with": output.get("AssembleWith"),
        "input_filter": processing.get("InputFilter"),
        "output_filter": processing.get("OutputFilter"),
        "join_source": processing.get("JoinSource"),
        "invocations_timeout_in_seconds": client.get("InvocationsTimeoutInSeconds"),
        "invocations_max_retries": client.get("InvocationsMaxRetries"),
        "environment": request.get("Environment"),
    }
    return Settings(**{name: value for name, value in asked.items() if value is not None})


def _blame(error: ClaryError) -> str:
    """Whose fault it is, as the first word of a FailureReason."""
    if isinstance(error, UserError):
        return "ClientError"
    return "AlgorithmError" if isinstance(error, AlgorithmError) else "InternalServerError"
