"""A batch transform job from InProgress to its end."""

from __future__ import annotations

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
from ..errors import AlgorithmError, ClaryError
from .executors import Instance
from .job_thread import JobThread, WholeReasonError, blame
from .manifests import Location
from .platform import Platform
from .served import Served, UnhealthyError, containers_of
from .transform_objects import find, sources, uploader

__all__ = ["KIND", "LOG_GROUP", "TransformJob", "settings_of"]

KIND: Final = "transform-job"
LOG_GROUP: Final = "/aws/sagemaker/TransformJobs"

_TICK: Final = 0.1  # seconds
_LIMIT: Final = 10  # seconds for a thread that only waits for ticks
_SEE: Final = "See job logs for more information"


class TransformJob(JobThread):
    """One job.

    Whatever InstanceCount says, one set of containers gets all files: SageMaker deals files to instances and never
    splits one, so the outputs are the same.

    Parameters
    ----------
    platform
        On which it runs.
    name
        Of the job, which the store knows.
    """

    kind = KIND
    noun = "TransformJob"
    status = f"{noun}Status"
    called = "transform job"
    title = "Transform job"

    def __init__(self, platform: Platform, name: str) -> None:
        super().__init__(platform, name)
        self._region = platform.region
        self._stream = f"{name}/i-{uuid.uuid4().hex[:17]}-{int(time.time())}"

    def work(self) -> dict[str, Any]:
        """Transform all objects."""
        self._region = self.document["TransformJobArn"].split(":")[3]
        try:
            reason = self._transform()
        except UnhealthyError as error:
            reason = f"AlgorithmError: {_SEE}: the model did not start: {error}"
        self.check_closing()  # the next platform does it again: outputs are replaced
        if reason and not self.stopping.is_set():
            raise WholeReasonError(reason)
        return {"TransformJobStatus": "Stopped" if self.stopping.is_set() else "Completed"}

    def failed(self, reason: str) -> dict[str, Any]:
        """What tells of a failure; there is none of a job that was stopped in the middle of its work."""
        if self.stopping.is_set():
            return {"TransformJobStatus": "Stopped"}
        return {"TransformJobStatus": "Failed", "FailureReason": reason}

    def _transform(self) -> str:
        """Transform all objects; why some have no output."""
        settings = settings_of(self.document)
        with self.turn():
            if self.ending:
                return ""
            self.change(lambda document: document.update(TransformStartTime=time.time()))
            source = self.document["TransformInput"]["DataSource"]["S3DataSource"]
            found = find(self.platform.s3, source, lambda: self.ending)
            self.take_folder()
            failed = self._failed(settings, found)
        if not failed:
            return ""
        at, error = failed[0]
        count = f"{len(failed)} of {len(found)} objects have no output"
        return f"{blame(error)}: {_SEE}: {count}; {at}: {error}"

    def _failed(self, settings: Settings, found: Mapping[str, Location]) -> list[tuple[Location, ClaryError]]:
        """Start the model and send it all objects; those that have no output, and why."""
        s3, source = self.platform.s3, self.document["TransformInput"]
        objects = sources(s3, found, zipped=source.get("CompressionType") == "Gzip")
        sink = uploader(s3, self.document["TransformOutput"]["S3OutputPath"], self.folder)
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
                        if self.ending:
                            break
                        if outcome.error is not None:
                            failed.append((found[outcome.name], outcome.error))
                            self._tell(*failed[-1])
        except ServerGoneError as error:
            raise AlgorithmError(f"{_SEE}: {served.dead() or error}") from error
        return failed

    def _served(self, settings: Settings) -> Served:
        return Served(
            self.platform,
            self.document["_model"],
            group=f"transform-{self.job}",
            work=self.folder / "model",
            heard=self._heard,
            environment=settings.variables,
            instance=Instance.of(self.document["TransformResources"]["InstanceType"]),
            unwanted=self.stopping.is_set,
        )

    @contextmanager
    def _breaking_off(self, server: Server) -> Iterator[None]:
        """Break off what the server has been asked as soon as the job is to end."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_TICK):
                if self.ending:
                    server.stop()
                    return

        watcher = threading.Thread(target=watch, name=f"{self.name}: watch", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join(_LIMIT)

    def _heard(self, container: str, line: bytes) -> None:
        """A line of a container."""
        stream = f"{self._stream}/{container}" if len(containers_of(self.document["_model"])) > 1 else self._stream
        text = line.decode(errors="replace").rstrip("\r\n")
        self.platform.logs.write(self._region, LOG_GROUP, stream, text)

    def _tell(self, at: Location, error: ClaryError) -> None:
        """Log why an object has no output, as SageMaker does."""
        now = datetime.now(timezone.utc).replace(tzinfo=None).isoformat(timespec="milliseconds")
        for line in f"{blame(error)}: {error}".splitlines():
            text = f"{now}:[sagemaker logs]: {at.bucket}/{at.key}: {line}"
            self.platform.logs.write(self._region, LOG_GROUP, f"{self._stream}/data-log", text)


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
