"""What the platform tells a training job: the files under /opt/ml/input/config, and where everything lies.

Any of the files may be missing, empty, differently spelt (``resourceConfig.json``) or hold more than we know.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import UserError

__all__ = ["ChannelConfig", "Job", "Resources", "read_job", "seconds"]

_DEFAULT_HOST: Final = "algo-1"


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """One channel of inputdataconfig.json; every key may be missing there.

    Parameters
    ----------
    content_type
        As the user gave it; None where the user gave none.
    input_mode
        File, FastFile or Pipe: a hint only, as local runs say File whatever was asked for.
    record_wrapper
        None or RecordIO.
    distribution
        FullyReplicated or ShardedByS3Key; None where the configuration says none, as on a laptop.
    """

    content_type: str | None = None
    input_mode: str = "File"
    record_wrapper: str = "None"
    distribution: str | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """The hosts of the job, as resourceconfig.json has them; the machine's own name is another."""

    current_host: str = _DEFAULT_HOST
    hosts: tuple[str, ...] = (_DEFAULT_HOST,)

    @property
    def is_leader(self) -> bool:
        """Whether this host writes the artifact: the first of the sorted hosts does."""
        return self.current_host == self.leader

    @property
    def leader(self) -> str:
        """The host that writes the artifact."""
        return min(self.hosts)


@dataclass(frozen=True, slots=True)
class Job:
    """Everything about a training job, read once.

    Parameters
    ----------
    base
        /opt/ml, or what SAGEMAKER_BASE_DIR says.
    hyperparameters
        Names and values, all text.
    channels
        What inputdataconfig.json says of each channel.
    resources
        The hosts.
    checkpoint_dir
        Where checkpoints go, for jobs that were given such a place; else None.
    """

    base: Path
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, ChannelConfig] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    checkpoint_dir: Path | None = None

    @property
    def data_dir(self) -> Path:
        """Where the channels are."""
        return self.base / "input" / "data"

    @property
    def model_dir(self) -> Path:
        """Where the artifact goes."""
        return self.base / "model"

    @property
    def output_dir(self) -> Path:
        """Where a job leaves what is no model."""
        return self.base / "output" / "data"

    @property
    def failure_file(self) -> Path:
        """Where the reason of a failure goes."""
        return self.base / "output" / "failure"


def read_job(env: Mapping[str, str] = os.environ) -> Job:
    """Read the configuration of the job.

    Raises
    ------
    UserError
        When a file is there and is not what it should be.
    """
    base = Path(env.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
    config = base / "input" / "config"
    return Job(
        base=base,
        hyperparameters=_hyperparameters(_read_object(config, "hyperparameters.json")),
        channels={name: _channel(entry) for name, entry in _read_object(config, "inputdataconfig.json").items()},
        resources=_resources(_read_object(config, "resourceconfig.json")),
        checkpoint_dir=_checkpoint_dir(_read_object(config, "checkpointconfig.json"), base),
    )


def seconds(env: Mapping[str, str], name: str, default: float, most: float = math.inf) -> float:
    """A time that the environment may say.

    Raises
    ------
    UserError
        When it is no positive number of at most `most`.
    """
    text = env.get(name) or str(default)
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= most:
        raise UserError(f"{name}={text!r}: expected a number of seconds above 0")
    return found


def _read_object(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file, found whatever the case of its name; {} where there is none."""
    found = [path for path in sorted(folder.glob("*")) if path.name.lower() == name and path.is_file()]
    if not found:
        return {}
    path = folder / name if folder / name in found else found[0]
    try:
        text = path.read_text(encoding="utf-8-sig")
        value = json.loads(text) if text.strip(" \t\r\n\0") else {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}: expected an object")
    return value


def _hyperparameters(given: Mapping[str, Any]) -> dict[str, str]:
    """All values as text: hand-written files have bare numbers, booleans and lists."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}


def _channel(entry: Any) -> ChannelConfig:
    if not isinstance(entry, dict):
        return ChannelConfig()
    texts = {name: value for name, value in entry.items() if isinstance(value, str) and value.strip()}
    return ChannelConfig(
        content_type=texts.get("ContentType"),
        input_mode=texts.get("TrainingInputMode", "File"),
        record_wrapper=texts.get("RecordWrapperType", "None"),
        distribution=texts.get("S3DistributionType"),
    )


def _resources(given: Mapping[str, Any]) -> Resources:
    """The hosts; one that its own list does not name is on its own, as nobody else would write the artifact."""
    hosts = given.get("hosts")
    names = tuple(sorted(str(host) for host in hosts)) if isinstance(hosts, list) and hosts else ()
    current = str(given.get("current_host") or (names[0] if names else _DEFAULT_HOST))
    return Resources(current, names if current in names else (current,))


def _checkpoint_dir(given: Mapping[str, Any], base: Path) -> Path | None:
    """LocalPath of checkpointconfig.json; a path below /opt/ml is one below `base`."""
    path = given.get("LocalPath")
    if not isinstance(path, str) or not path.strip():
        return None
    inner = path.removeprefix("/opt/ml/")
    return base / inner if inner != path else Path(path)
