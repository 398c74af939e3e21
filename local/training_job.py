"""A training job from Starting to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..containers.registries import algorithm_of
from ..containers.tree import Tree
from ..errors import AlgorithmError, ChannelError, PlatformError, UserError
from . import opt_ml
from .checkpoint_sync import CheckpointSync
from .cloudwatch import publish
from .data import ChannelData
from .executors import Container, Executor, Instance
from .hosts import Host, feeders, run_hosts
from .job_thread import JobThread, WholeReasonError, blame
from .metric_lines import MetricLines
from .outputs import merged, put_folder
from .platform import Platform
from .store import Metric, insist

__all__ = ["KIND", "LOG_GROUP", "MESSAGES", "TrainingJob", "container_of", "move"]

KIND: Final = "training-job"
LOG_GROUP: Final = "/aws/sagemaker/TrainingJobs"

_GRACE: Final = 120  # seconds between SIGTERM and SIGKILL, as SageMaker gives a training job
_HASTE: Final = 5  # the same when the platform ends
_WRITE: Final = 0.5  # seconds between two writes of what was printed
_DAY: Final = 86400
_KILLED: Final = 137

MESSAGES: Final[Mapping[str, str]] = {
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
"""Secondary status → what is told of it."""

_KINDS: Final = {
    UserError.exit_code: "ClientError",
    AlgorithmError.exit_code: "AlgorithmError",
    PlatformError.exit_code: "InternalServerError",
}
"""Exit code of a built-in algorithm → whose fault it is."""


class TrainingJob(JobThread):
    """One job.

    Parameters
    ----------
    platform
        On which it runs.
    name
        Of the job, which the store knows.
    lost
        Why it cannot go on, for one that was under way when an earlier platform ended.
    """

    kind = KIND
    noun = "TrainingJob"
    status = f"{noun}Status"
    called = "training job"
    title = "Training job"

    def __init__(self, platform: Platform, name: str, lost: str | None = None) -> None:
        super().__init__(platform, name)
        self._lost = lost
        self._printed: list[Metric] = []
        self._lock = threading.Lock()
        self._metrics = MetricLines(())
        self._region = platform.region
        self._stream = ""

    @staticmethod
    def note_stopping(document: dict[str, Any]) -> None:
        """Note that it goes over to its end."""
        move(document, "Stopping", MESSAGES["Stopping"], time.time())

    def work(self) -> dict[str, Any]:
        """Train, and give the model away."""
        before = self.document.get("_run")
        if self._lost is not None and not self.stopping.is_set():
            self.take_folder(before)
            raise WholeReasonError(self._lost)
        self._metrics = MetricLines(self.document["AlgorithmSpecification"].get("MetricDefinitions", ()))
        self._region = self.document["TrainingJobArn"].split(":")[3]
        phase = self.document.get("_phase")
        # one that had nothing more to do than to give its model away has it in the folder of that run
        over = phase == "Uploading" or self.stopping.is_set()
        if before is not None and not over:
            self.drop_folder(before)
        folder = self.take_folder(before if over else None)
        if over:
            return self._upload(self._trees(), self.document.get("_ending", "Stopped"))
        if phase is not None:
            self._move("Interrupted")
        self._move("Starting", _run=folder.name)
        with self.turn():
            container = container_of(self.document)
            executor = self.platform.executor_of(container)
            trees = self._prepare()
            ending = self._train(executor, container, trees)
        return self._upload(trees, ending)

    def failed(self, reason: str) -> dict[str, Any]:
        """What tells of a failure."""
        return {"TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": reason}

    def end(self, document: dict[str, Any], fields: Mapping[str, Any]) -> None:
        """Note what tells of the end."""
        secondary = fields["SecondaryStatus"]
        message = fields.get("FailureReason") or MESSAGES[secondary]
        now = time.time()
        move(document, secondary, message, now)
        document["SecondaryStatusTransitions"][-1]["EndTime"] = now
        document.update(fields, TrainingEndTime=now)
        document["TrainingTimeInSeconds"] = max(1, int(now - document.get("TrainingStartTime", now)))  # AWS's least
        document["BillableTimeInSeconds"] = document["TrainingTimeInSeconds"]
        document["FinalMetricDataList"] = self._metrics.final() or document.get("FinalMetricDataList", [])

    def _prepare(self) -> list[Tree]:
        """Fetch what the job reads, and lay it where its hosts look for it."""
        self._move("Downloading")
        mode = self.document["AlgorithmSpecification"]["TrainingInputMode"]
        self._channels = [ChannelData.of(each, mode) for each in self.document.get("InputDataConfig", ())]
        for channel in self._channels:
            folder = self.folder / "channels" / channel.name
            folder.mkdir(parents=True)
            try:
                channel.fetch(self.platform.s3, folder, lambda: self.ending)
            except ChannelError as error:
                raise ChannelError(f"Data download failed:{error}") from error
            self.check_closing()
        config = {channel.name: channel.config for channel in self._channels}
        trees = self._trees()
        for number, (host, tree) in enumerate(zip(self._hosts, trees, strict=True)):
            opt_ml.build(tree, _public(self.document), config, host, self._hosts)
            if not self.stopping.is_set():  # else not everything may be here, and nobody reads it
                for channel in self._channels:
                    channel.lay(tree.data, number, len(trees))
        return trees

    def _train(self, executor: Executor, container: Container, trees: Sequence[Tree]) -> str:
        """Run the hosts to their end; how the job ends."""
        group = f"training-{self.job}"
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
        ending = "Stopped" if self.stopping.is_set() else "Completed"
        if ending == "Completed":
            self._move("Training")
            with ExitStack() as stack:
                for sync in self._syncs(trees):
                    stack.enter_context(sync)
                ending = self._watch(hosts, stack.enter_context(run_hosts(hosts, executor, group)))
        self._write()
        self._metrics.close()
        self.platform.logs.flush()
        self.check_closing()
        failed = next((host for host in hosts if host.failed), None)
        if failed is not None and ending == "Completed":
            self._put_output(trees)
            raise WholeReasonError(_failure(failed, built_in=container.algorithm is not None))
        return ending

    def _watch(self, hosts: Sequence[Host], ticks: Iterator[None]) -> str:
        """Look after the hosts until they have ended."""
        deadline = time.monotonic() + self.document["StoppingCondition"].get("MaxRuntimeInSeconds", _DAY)
        ending, written = "Completed", time.monotonic()
        for _ in ticks:
            now = time.monotonic()
            if self.platform.closing.is_set():
                for host in hosts:
                    host.end(_HASTE)
            elif ending == "Completed" and self.stopping.is_set():
                ending = "Stopped"
            elif ending == "Completed" and now > deadline:
                ending = "MaxRuntimeExceeded"
                self._move("Stopping", TrainingJobStatus="Stopping")
            if ending != "Completed":
                for host in hosts:
                    host.end(_GRACE)
            if now > written + _WRITE:
                written = now
                self._write()
        return ending

    def _upload(self, trees: Sequence[Tree], ending: str) -> dict[str, Any]:
        """Put what the job has made into S3; what tells of its end."""
        self._move("Uploading", _ending=ending)
        model = merged([tree.model for tree in trees], self.folder / "merged-model")
        packed = self.document["OutputDataConfig"].get("CompressionType", "GZIP") != "NONE"
        where = put_folder(self.platform.s3, model, self._place, archive=self.folder / "model.tar.gz", packed=packed)
        self._put_output(trees)
        status = "Completed" if ending == "Completed" else "Stopped"
        artifacts = {} if where is None else {"ModelArtifacts": {"S3ModelArtifacts": where}}
        return {"TrainingJobStatus": status, "SecondaryStatus": ending, **artifacts}

    def _put_output(self, trees: Sequence[Tree]) -> None:
        """Put what the job has left beside its model into S3."""
        data = merged([tree.root / "output/data" for tree in trees], self.folder / "merged-output")
        put_folder(self.platform.s3, data, self._place, archive=self.folder / "output.tar.gz")

    def _move(self, secondary: str, **fields: Any) -> None:
        """Go over to another secondary status."""
        now = time.time()

        def edit(document: dict[str, Any]) -> None:
            move(document, secondary, MESSAGES[secondary], now)
            document.update(fields, _phase=secondary)

        self.change(edit)

    def _heard(self, host: str, line: bytes) -> None:
        """A line of a host."""
        text = line.decode(errors="replace").rstrip("\r\n")
        self.platform.logs.write(self._region, LOG_GROUP, f"{self.job}/{host}-{self._stream}", text)
        if found := self._metrics.found(text):
            with self._lock:
                self._printed += found

    def _write(self) -> None:
        """Keep the metrics that were printed."""
        with self._lock:
            printed, self._printed = self._printed, []
        if not printed:
            return
        insist(partial(self.platform.store.add_metrics, KIND, self.job, printed), self.platform.closing)
        publish(self._region, self.job, printed)

    def _syncs(self, trees: Sequence[Tree]) -> list[CheckpointSync]:
        config = self.document.get("CheckpointConfig")
        if config is None:
            return []
        path = config.get("LocalPath", "/opt/ml/checkpoints")
        return [CheckpointSync(self.platform.s3, config["S3Uri"], opt_ml.inside(tree, path)) for tree in trees]

    def _on(self, container: Container, host: str, tree: Tree) -> Container:
        """The container for a host."""
        environment = {
            "TRAINING_JOB_NAME": self.job,
            "TRAINING_JOB_ARN": self.document["TrainingJobArn"],
            "AWS_REGION": self._region,
            **container.environment,
        }
        return replace(container, name=host, tree=tree, environment=environment)

    @property
    def _place(self) -> str:
        """Where in S3 the job puts what it has made."""
        return f"{self.document['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.job}/output"

    @property
    def _hosts(self) -> list[str]:
        return sorted(f"algo-{number + 1}" for number in range(self.document["ResourceConfig"].get("InstanceCount", 1)))

    def _trees(self) -> list[Tree]:
        return [Tree(self.folder / host) for host in self._hosts]


def move(job: dict[str, Any], secondary: str, message: str, now: float) -> None:
    """Note in a job's description that it has gone over to another secondary status."""
    transitions = job.setdefault("SecondaryStatusTransitions", [])
    if transitions and "EndTime" not in transitions[-1]:
        transitions[-1]["EndTime"] = now
    transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
    job["SecondaryStatus"] = secondary
    if secondary == "Downloading":
        job["TrainingStartTime"] = now


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
        return f"{blame(host.error)}: {host.error}"
    kinds = _KINDS if built_in else {}
    text = host.failure
    if not text and host.code == _KILLED:
        text = "the container was killed, as the system does where memory runs out"
    return f"{kinds.get(host.code or 0, 'AlgorithmError')}: {text}, exit code: {host.code}"


def _public(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what only we need to know."""
    return {name: value for name, value in document.items() if not name.startswith("_")}
