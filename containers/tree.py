"""A folder with the shape of a training container's /opt/ml."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import ChannelError, UsageError

__all__ = ["Mode", "Source", "Tree", "workspace"]

Mode = Literal["File", "Pipe"]

_NAME: Final = re.compile(r"[A-Za-z0-9.\-_]{1,64}")  # CreateTrainingJob's rule for ChannelName
_MAX_CHANNELS: Final = 20


@dataclass(frozen=True, slots=True)
class Source:
    """The user's files behind one channel.

    Parameters
    ----------
    name
        Of the channel.
    files
        Place in the channel → file, in name order.
    content_type
        None where the user said nothing and the suffixes tell nothing.
    distribution
        The S3DistributionType; for one host they are all the same.
    """

    name: str
    files: Mapping[str, Path]
    content_type: str | None = None
    distribution: str = "FullyReplicated"

    @classmethod
    def find(cls, name: str, path: Path) -> Source:
        """The files of `path`, a file or a directory; hidden ones and ``_SUCCESS`` are no data.

        Raises
        ------
        ChannelError
            When the name is not allowed, or there is no file.
        """
        if not _NAME.fullmatch(name) or name in {".", ".."}:
            raise ChannelError(f"{name!r} is no channel name: use 1 to 64 letters, digits, dots, dashes or underscores")
        if path.is_file():
            return cls(name, {path.name: path.resolve()})
        if not path.is_dir():
            found = "is neither a file nor a directory" if path.exists() else "does not exist"
            raise ChannelError(f"channel {name!r}: {path} {found}")
        places = {str(file.relative_to(path)): file.resolve() for file in path.rglob("*") if file.is_file()}
        files = {place: places[place] for place in sorted(places) if not _ignored(place)}
        if not files:
            raise ChannelError(f"channel {name!r}: there is no file in {path}")
        return cls(name, files)

    @property
    def size(self) -> int:
        """Bytes of all files, as they lie on disk."""
        return sum(file.stat().st_size for file in self.files.values())


@dataclass(frozen=True, slots=True)
class Tree:
    """The places of a /opt/ml tree.

    Parameters
    ----------
    root
        What ``/opt/ml`` is in a container.
    temporary
        Whether `workspace` will remove it.
    """

    root: Path
    temporary: bool = False

    @property
    def config(self) -> Path:
        """Where the JSON files are."""
        return self.root / "input/config"

    @property
    def data(self) -> Path:
        """Where the channels are."""
        return self.root / "input/data"

    @property
    def model(self) -> Path:
        """Where training leaves its artifact and serving finds it."""
        return self.root / "model"

    @property
    def failure(self) -> Path:
        """Where a job that fails says why."""
        return self.root / "output/failure"

    def build(self, hyperparameters: Mapping[str, str], sources: Sequence[Source], mode: Mode) -> None:
        """Write everything a job finds when it starts; FIFOs are the feeder's business."""
        if len(sources) > _MAX_CHANNELS:
            raise ChannelError(f"a job has at most {_MAX_CHANNELS} channels, got {len(sources)}")
        for folder in (self.config, self.data, self.model, self.root / "output/data"):
            folder.mkdir(parents=True)
        self._write("hyperparameters", dict(hyperparameters))
        self._write("inputdataconfig", {source.name: _channel(source, mode) for source in sources})
        self._write("resourceconfig", _RESOURCES)
        if mode == "File":
            for source in sources:
                self._link(source)

    def rescue(self) -> Path:
        """Where the model is when the tree is gone; what a temporary one holds moves out of it."""
        return self.model.rename(self.root.with_name(f"{self.root.name}-model")) if self.temporary else self.model

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        (self.config / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")

    def _link(self, source: Source) -> None:
        for place, file in source.files.items():
            link = self.data / source.name / place
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)


@contextmanager
def workspace(root: Path | None) -> Iterator[Tree]:
    """A tree in `root`, which stays, or in a temporary folder, which is removed.

    Raises
    ------
    UsageError
        When `root` is not empty: what lies there would be taken for part of the job.
    """
    if root is None:
        folder = Path(tempfile.mkdtemp(prefix="clary-"))
        try:
            yield Tree(folder, temporary=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"--root {root} is not an empty folder: name one that is, or that does not exist yet")
    root.mkdir(parents=True, exist_ok=True)
    yield Tree(root.resolve())


_RESOURCES: Final[Mapping[str, Any]] = {
    "current_host": "algo-1",
    "current_instance_type": "local",
    "current_group_name": "homogeneousCluster",
    "hosts": ["algo-1"],
    "instance_groups": [{"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": ["algo-1"]}],
    "network_interface_name": "eth0",
    "topology": None,
}


def _channel(source: Source, mode: Mode) -> dict[str, str]:
    entry = {"TrainingInputMode": mode, "S3DistributionType": source.distribution, "RecordWrapperType": "None"}
    return entry if source.content_type is None else {**entry, "ContentType": source.content_type}


def _ignored(place: str) -> bool:
    parts = Path(place).parts
    return parts[-1] == "_SUCCESS" or any(part.startswith(".") for part in parts)
