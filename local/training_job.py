"""A training job from Starting to its end."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from ..containers.registries import algorithm_of
from ..containers.tree import Tree
from ..errors import AlgorithmError, ChannelError, ClaryError, PlatformError, UserError
from ..logs import emit
from . import opt_ml
from .checkpoint_sync import CheckpointSync
from .cloudwatch import publish
from .data import ChannelData
from .executors import Container, Executor, Instance
from .hosts import Host, feeders, run_hosts
from .metric_lines import MetricLines
from .outputs import merged, put_folder
from .platform import Platform
from .store import Metric

__all__ = ["KIND", "LOG_GROUP", "TrainingJob", "container_of"]

KIND: Final = "training-job"
LOG_GROUP: Final = "/aws/sagemaker/TrainingJobs"

_GRACE: Final = 120  # seconds between SIGTERM and SIGKILL, as SageMaker gives a training job
_HASTE: Final = 5  # the same when the platform ends
_WRITE: Final = 0.5  # seconds between two writes of what was printed and saved
_DAY: Final = 86400
_TICK: Final = 0.1  # seconds
_KILLED: Final = 137
_AT_ONCE: Final = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))
"""Jobs that train at a time; others wait for their turn."""

_MESSAGES: Final[Mapping[str, str]] = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "Interrupted": "The local platform ended while the job ran; it is taken up again",
}
_PREFIXES: Final = (
    (UserError, "ClientError"),
    (AlgorithmError, "AlgorithmError"),
    (PlatformError, "InternalServerError"),
)


class _PlatformEnds(Exception):  # noqa: N818  # no error: the next platform goes on
    """The platform ends before the job does."""


class TrainingJob(threading.Thread):
    """One job; implements `clary.local.platform.Job`.

    Parameters
    ----------
    platform
        On which it runs.
    name
        Of the job, which the store knows.
    lost
        Why it cannot go on, for one that was under way when an earlier platform ended.
    """

    def __init__(self, platform: Platform, name: str, lost: str | None = None) -> None:
        super().__init__(name=f"training job {name}", daemon=True)
        self._platform = platform
        self._name = name
        self._lost = lost
        self._stopping = threading.Event()
        self._printed: list[Metric] = []
        self._lock = threading.Lock()
        thing = platform.store.get(KIND, name)
        assert thing is not None  # noqa: S101  # whoever starts a job has added it
        self._request: dict[str, Any] = thing.document
        self._metrics = MetricLines(self._request["AlgorithmSpecification"].get("MetricDefinitions", ()))
        self._folder = self._run_folder()
        self._region: str = self._request["TrainingJobArn"].split(":")[3]
        self._stream = ""

    def stop(self) -> None:
        """End it with what it has so far."""
        self._stopping.set()

    def run(self) -> None:
        """Run the job."""
        try:
            self._run()
        except _PlatformEnds:
            return
        except ClaryError as error:
            self._fail(_reason(error))
        except (ClientError, BotoCoreError) as error:
            self._fail(f"ClientError: S3 refuses what the job needs: {error}")
        except Exception as error:  # noqa: BLE001  # the edge of the thread
            emit(f"training job {self._name}: {error!r}")
            self._fail(f"InternalServerError: the local platform failed: {error!r}")
        finally:
            self._platform.jobs.pop((KIND, self._name), None)
        shutil.rmtree(self._folder.parent, ignore_errors=True)

    def _run(self) -> None:
        if self._lost is not None:
            raise _ContainerFailedError(self._lost)
        phase = self._request.get("_phase")
        if phase == "Uploading":
            return self._upload(self._trees(), self._request["_ending"])
        thing = self._platform.store.get(KIND, self._name)
        if thing is not None and thing.status == "Stopping":
            return self._upload(self._trees(), "Stopped")
        if phase is not None:
            self._move("Interrupted")
        self._move("Starting")
        with self._turn():
            container = container_of(self._request)
            executor = self._platform.executor_of(container)
            trees = self._prepare()
            ending = self._train(executor, container, trees)
        self._upload(trees, ending)
        return None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until not too many jobs train; one that is to end need not."""
        taken = False
        while not (taken or self._ended()):
            taken = _AT_ONCE.acquire(timeout=_TICK)
        try:
            self._check_closing()
            yield
        finally:
            if taken:
                _AT_ONCE.release()

    def _prepare(self) -> list[Tree]:
        """Fetch what the job reads, and lay it where its hosts look for it."""
        self._move("Downloading")
        mode = self._request["AlgorithmSpecification"]["TrainingInputMode"]
        self._channels = [ChannelData.of(each, mode) for each in self._request.get("InputDataConfig", ())]
        for channel in self._channels:
            folder = self._folder / "channels" / channel.name
            folder.mkdir(parents=True)
            try:
                channel.fetch(self._platform.s3, folder, self._ended)
            except ChannelError as error:
                raise ChannelError(f"Data download failed:{error}") from error
            self._check_closing()
        config = {channel.name: channel.config for channel in self._channels}
        trees = self._trees()
        for number, (host, tree) in enumerate(zip(self._hosts, trees, strict=True)):
            opt_ml.build(tree, _public(self._request), config, host, self._hosts)
            for channel in self._channels:
                channel.lay(tree.data, number, len(trees))
        return trees

    def _train(self, executor: Executor, container: Container, trees: Sequence[Tree]) -> str:
        """Run the hosts to their end; how the job ends."""
        syncs = self._syncs(trees)
        for sync in syncs:
            sync.restore()
        group = f"training-{self._name}"
        self._stream = str(int(time.time()))
        hosts = [
            Host(
                self._on(container, host, tree),
                executor,
                group,
                partial(feeders, self._channels, tree.data, number, len(trees)),
                self._heard,
            )
            for number, (host, tree) in enumerate(zip(self._hosts, trees, strict=True))
        ]
        ending = "Stopped" if self._stopping.is_set() else "Completed"
        if ending == "Completed":
            self._move("Training")
            with run_hosts(hosts, executor, group) as ticks:
                ending = self._watch(hosts, ticks, syncs)
        for sync in syncs:
            sync.push()
        self._write()
        self._platform.logs.flush()
        self._check_closing()
        failed = next((host for host in hosts if host.failed), None)
        if failed is not None and ending == "Completed":
            self._put_output(trees)
            raise _ContainerFailedError(_failure(failed, built_in=container.algorithm is not None))
        return ending

    def _watch(self, hosts: Sequence[Host], ticks: Iterator[None], syncs: Sequence[CheckpointSync]) -> str:
        """Look after the hosts until they have ended."""
        deadline = time.monotonic() + self._request["StoppingCondition"].get("MaxRuntimeInSeconds", _DAY)
        ending, written = "Completed", time.monotonic()
        for _ in ticks:
            now = time.monotonic()
            if self._platform.closing.is_set():
                for host in hosts:
                    host.end(_HASTE)
            elif ending == "Completed" and self._stopping.is_set():
                ending = "Stopped"
            elif ending == "Completed" and now > deadline:
                ending = "MaxRuntimeExceeded"
                self._move("Stopping", status="Stopping")
            if ending != "Completed":
                for host in hosts:
                    host.end(_GRACE)
            if now > written + _WRITE:
                written = now
                self._write()
                for sync in syncs:
                    sync.push()
        return ending

    def _upload(self, trees: Sequence[Tree], ending: str) -> None:
        """Put what the job has made into S3, and end it."""
        self._move("Uploading", _ending=ending)
        config = self._request["OutputDataConfig"]
        model = merged([tree.model for tree in trees], self._folder / "merged-model")
        uri = f"{config['S3OutputPath'].rstrip('/')}/{self._name}/output"
        packed = config.get("CompressionType", "GZIP") != "NONE"
        where = put_folder(self._platform.s3, model, uri, archive=self._folder / "model.tar.gz", packed=packed)
        self._put_output(trees)
        self._end(ending, where)

    def _put_output(self, trees: Sequence[Tree]) -> None:
        """Put what the job has left beside its model into S3."""
        config = self._request["OutputDataConfig"]
        data = merged([tree.root / "output/data" for tree in trees], self._folder / "merged-output")
        uri = f"{config['S3OutputPath'].rstrip('/')}/{self._name}/output"
        put_folder(self._platform.s3, data, uri, archive=self._folder / "output.tar.gz")

    def _end(self, ending: str, model: str | None) -> None:
        status = "Completed" if ending == "Completed" else "Stopped"
        found: dict[str, Any] = {} if model is None else {"ModelArtifacts": {"S3ModelArtifacts": model}}
        self._move(ending, status=status, **found)

    def _fail(self, reason: str) -> None:
        if self._platform.closing.is_set():  # what it needs has ended before it: the next platform goes on
            return
        self._move("Failed", reason, status="Failed", FailureReason=reason[:1024])

    def _move(self, secondary: str, message: str | None = None, *, status: str | None = None, **fields: Any) -> None:
        """Go over to another secondary status."""
        now = time.time()
        with self._platform.store.changing(KIND, self._name, "TrainingJobStatus") as job:
            if job is None:
                return
            transitions = job.setdefault("SecondaryStatusTransitions", [])
            if transitions and "EndTime" not in transitions[-1]:
                transitions[-1]["EndTime"] = now
            told = message or _MESSAGES[secondary]
            transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": told})
            job.update(fields, SecondaryStatus=secondary, _phase=secondary, LastModifiedTime=now)
            if status is not None:
                job["TrainingJobStatus"] = status
            if secondary == "Downloading":
                job["TrainingStartTime"] = now
            if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
                transitions[-1]["EndTime"] = now
                job["TrainingEndTime"] = now
                job["TrainingTimeInSeconds"] = int(now - job.get("TrainingStartTime", now))
                job["BillableTimeInSeconds"] = job["TrainingTimeInSeconds"]
                job["FinalMetricDataList"] = self._metrics.final() or job.get("FinalMetricDataList", [])

    def _heard(self, host: str, line: bytes) -> None:
        """A line of a host."""
        text = line.decode(errors="replace").rstrip("\r\n")
        self._platform.logs.write(self._region, LOG_GROUP, f"{self._name}/{host}-{self._stream}", text)
        if found := self._metrics.found(text):
            with self._lock:
                self._printed += found

    def _write(self) -> None:
        """Keep the metrics that were printed."""
        with self._lock:
            printed, self._printed = self._printed, []
        self._platform.store.add_metrics(KIND, self._name, printed)
        publish(self._region, self._name, printed)

    def _syncs(self, trees: Sequence[Tree]) -> list[CheckpointSync]:
        config = self._request.get("CheckpointConfig")
        if config is None:
            return []
        path = config.get("LocalPath", "/opt/ml/checkpoints")
        return [CheckpointSync(self._platform.s3, config["S3Uri"], opt_ml.inside(tree, path)) for tree in trees]

    def _on(self, container: Container, host: str, tree: Tree) -> Container:
        """The container for a host."""
        environment = {
            "TRAINING_JOB_NAME": self._name,
            "TRAINING_JOB_ARN": self._request["TrainingJobArn"],
            "AWS_REGION": self._region,
            **container.environment,
        }
        return Container(
            name=host,
            image=container.image,
            algorithm=container.algorithm,
            word="train",
            tree=tree,
            environment=environment,
            instance=container.instance,
            entrypoint=container.entrypoint,
            arguments=container.arguments,
            isolated=container.isolated,
        )

    @property
    def _hosts(self) -> list[str]:
        return sorted(f"algo-{number + 1}" for number in range(self._request["ResourceConfig"].get("InstanceCount", 1)))

    def _run_folder(self) -> Path:
        """A folder of this run's own: containers of an earlier one may still be ending.

        A job that had nothing more to do than to give its model away has it in the folder of that run.
        """
        over = self._request.get("_phase") == "Uploading" or self._request["TrainingJobStatus"] == "Stopping"
        run: str = self._request["_run"] if over and "_run" in self._request else secrets.token_hex(4)
        with self._platform.store.changing(KIND, self._name) as job:
            if job is not None:
                job["_run"] = run
        return self._platform.folder.work("training-jobs", self._name, run)

    def _trees(self) -> list[Tree]:
        return [Tree(self._folder / host) for host in self._hosts]

    def _ended(self) -> bool:
        return self._stopping.is_set() or self._platform.closing.is_set()

    def _check_closing(self) -> None:
        if self._platform.closing.is_set():
            raise _PlatformEnds


class _ContainerFailedError(ClaryError):
    """The job's own container has failed; the message is the whole reason."""


def container_of(request: Mapping[str, Any]) -> Container:
    """What runs on each host of a job; its tree is that of no host yet."""
    specification = request["AlgorithmSpecification"]
    image = specification["TrainingImage"]
    return Container(
        name="algo-1",
        image=image,
        algorithm=algorithm_of(image),
        word="train",
        tree=Tree(Path()),
        environment=request.get("Environment", {}),
        instance=Instance.of(request["ResourceConfig"].get("InstanceType", "")),
        entrypoint=specification.get("ContainerEntrypoint", ()),
        arguments=specification.get("ContainerArguments", ()),
        isolated=request.get("EnableNetworkIsolation", False),
    )


def _failure(host: Host, *, built_in: bool) -> str:
    """The FailureReason of a job of which a host has failed."""
    if host.error is not None:
        return _reason(host.error)
    kinds = {kind.exit_code: word for kind, word in _PREFIXES} if built_in else {}
    text = host.failure
    if not text and host.code == _KILLED:
        text = "the container was killed, as the system does where memory runs out"
    return f"{kinds.get(host.code or 0, 'AlgorithmError')}: {text}, exit code: {host.code}"


def _reason(error: ClaryError) -> str:
    if isinstance(error, _ContainerFailedError):
        return str(error)
    return f"{next((word for kind, word in _PREFIXES if isinstance(error, kind)), 'InternalServerError')}: {error}"


def _public(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what only we need to know."""
    return {name: value for name, value in document.items() if not name.startswith("_")}
