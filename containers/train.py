"""A training job on this machine: the tree, the feeders, the process, and what is to be said about its end."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..algorithms.base import Algorithm
from ..algorithms.registry import algorithm as find_algorithm
from ..errors import AlgorithmError, ChannelError, PlatformError, UsageError
from .artifact import pack
from .engine import Child
from .feeder import Feeder, Piece
from .files import size_text
from .inputs import content_type, first_width, glued
from .screen import Log, Terminal, shorten, smart, table
from .tree import Mode, Source, Tree, workspace

__all__ = ["train"]

_GRACE: Final = 10  # seconds between SIGTERM and SIGKILL, as Docker and the local SDK have it
_SHOWN: Final = 1024  # characters of the failure file, as many as SageMaker shows
_KILLED: Final = 128 + signal.SIGKILL


def train(
    *,
    algorithm: str,
    train_path: Path | None,
    test_path: Path | None,
    channels: Sequence[str],
    params: Sequence[str],
    mode: str,
    content_type: str | None,
    out: Path,
    root: Path | None,
    logs: bool,
) -> int:
    """Run a training job to its end and pack its model; give the exit code."""
    _try_out(out)
    found = find_algorithm(algorithm)
    paths = _paths(train_path, test_path, channels)
    sources = [_source(found, name, path, content_type) for name, path in paths.items()]
    if found.channels[0] not in paths:
        raise UsageError(f"{found.name} needs the channel {found.channels[0]}: give it with --{found.channels[0]} PATH")
    hyperparameters = _complete(found, _given(params), sources)
    job = _Job(found, sources, hyperparameters, "Pipe" if mode == "pipe" else "File", out, logs)
    for warning in job.warnings():
        print(f"clary: {warning}", file=sys.stderr)
    with workspace(root) as tree:
        tree.build(hyperparameters, sources, job.mode)
        return job.run(tree)


@dataclass(frozen=True, slots=True)
class _Job:
    """A job that is ready to run."""

    algorithm: Algorithm
    sources: Sequence[Source]
    hyperparameters: Mapping[str, str]
    mode: Mode
    out: Path
    logs: bool

    def warnings(self) -> list[str]:
        """What will go wrong, though it may."""
        names = ", ".join(self.algorithm.channels)
        unused = [source.name for source in self.sources if source.name not in self.algorithm.channels]
        found = [f"{self.algorithm.name} reads the channels {names}: {name} is not used" for name in unused]
        return found + [text for source in self.sources for text in glued(source) if self.mode == "Pipe"]

    def run(self, tree: Tree) -> int:
        """Run the process and say how it ended; give the exit code."""
        job_name = f"{self.algorithm.name}-{time.strftime('%Y-%m-%d-%H-%M-%S')}"
        environment = {"CLARY_ALGORITHM": self.algorithm.name, "TRAINING_JOB_NAME": job_name}
        with ExitStack() as stack:
            piped = self.sources if self.mode == "Pipe" else ()
            feeders = [Feeder(source.name, _passes(source), tree.data) for source in piped]
            log = self._log(feeders)
            for feeder in feeders:
                stack.callback(feeder.stop)
            child = stack.enter_context(closing(Child("train", tree, environment, grace=_GRACE)))
            stack.enter_context(child.forwarding())
            for feeder in feeders:
                feeder.start()
            for line in child.lines():
                log.line(line)
                if any(feeder.error for feeder in feeders):
                    child.stop()
            log.done()
            for feeder in feeders:
                if error := feeder.error:
                    raise ChannelError(f"channel {feeder.channel!r} could not be fed: {error}") from error
            # a closed terminal sends more than one SIGHUP: none may come between the model and its archive
            return self._finish(tree, child, log)

    def _log(self, feeders: Sequence[Feeder]) -> Log:
        if not smart(sys.stdout.isatty()):
            return Log()
        epochs = _count(self.algorithm, self.hyperparameters, "epochs") or 1
        rounds = _count(self.algorithm, self.hyperparameters, "num_round")
        expected = sum(source.size for source in self.sources) + (epochs - 1) * self.sources[0].size if feeders else 0
        title = f"training {self.algorithm.name}"
        return Terminal(
            title, lambda: (sum(feeder.passed for feeder in feeders), expected), logs=self.logs, rounds=rounds
        )

    def _finish(self, tree: Tree, child: Child, log: Log) -> int:
        """Pack the model of a job that ended well, explain one that did not."""
        if child.code:
            _explain(tree, child, log)
        elif any(path.is_file() for path in tree.model.rglob("*")):
            self._pack(tree)
            if child.signal is not None:
                print(f"clary: told to end; {self.out} is the model so far", file=sys.stderr)
            if isinstance(log, Terminal):
                self._celebrate(log)
        elif child.signal is None:
            raise AlgorithmError(f"{self.algorithm.name} ended as if all were well, but left no model")
        else:
            print("clary: the training was told to end and left no model", file=sys.stderr)
            return 128 + child.signal
        return 128 + signal.SIGINT if child.signal == signal.SIGINT else child.code

    def _pack(self, tree: Tree) -> None:
        try:
            pack(tree.model, self.out)
        except (OSError, UsageError) as error:  # the latter where the folder has gone meanwhile
            why = getattr(error, "strerror", None) or error
            text = f"{self.out} could not be written: {why}; the model is kept in {tree.rescue()}"
            raise PlatformError(text) from error

    def _celebrate(self, log: Terminal) -> None:
        print(f"{self.algorithm.name} trained for {log.seconds:.1f} s\n")
        if log.quality:
            print(table([("metric", "value"), *log.quality.items()]) + "\n")
        print(f"{self.out}  {size_text(self.out.stat().st_size)}\nserve it:  clary serve {self.out}")


def _passes(source: Source) -> Callable[[int], Iterable[Piece]]:
    """Each pass is all files in name order; those with the suffix ``.gz`` are decompressed."""
    pieces = [Piece(file, unzip=file.suffix == ".gz") for file in source.files.values()]
    return lambda _number: pieces


def _explain(tree: Tree, child: Child, log: Log) -> None:
    """Say why a job failed: its own words, and where they would scroll by unseen, the last lines of its log."""
    if tree.failure.is_file():
        reason = tree.failure.read_text(errors="replace")[:_SHOWN].strip()
    elif child.signal is not None:
        reason = "the training did not end by itself and was stopped: there is no model"
    elif child.code == _KILLED:
        reason = "the training was killed, as the system does where memory runs out: there is no model"
    else:
        reason = f"the training ended with exit code {child.code} and did not say why"
    if isinstance(log, Terminal):
        width = shutil.get_terminal_size().columns
        print(
            *(shorten(line.decode(errors="replace").rstrip(), width) for line in log.tail),
            "",
            sep="\n",
            file=sys.stderr,
        )
    print(f"clary: {reason}", file=sys.stderr)


def _try_out(out: Path) -> None:
    """Find out before the training whether its model can be written."""
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory: name a file")
    folder = out.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"--out {out}: there is no directory {out.parent}")
    if out.exists() and not out.is_file():
        return  # a device or FIFO, which opening could disturb
    try:
        with tempfile.NamedTemporaryFile(prefix=f".{out.name}.", suffix=".tmp", dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror}") from error


def _given(params: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in (_pair(word, "-p") for word in params):
        if key in found:
            raise UsageError(f"the hyperparameter {key} is given twice")
        found[key] = value
    return found


def _paths(train_path: Path | None, test_path: Path | None, channels: Sequence[str]) -> dict[str, Path]:
    paths = {name: path for name, path in (("train", train_path), ("test", test_path)) if path is not None}
    for word in channels:
        name, path = _pair(word, "--channel")
        if name in paths:
            raise UsageError(f"the channel {name} is given twice")
        paths[name] = Path(path)
    return paths


def _pair(word: str, flag: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals:
        raise UsageError(f"{flag} {word}: write it as NAME=VALUE")
    return key, value


def _source(algorithm: Algorithm, name: str, path: Path, given: str | None) -> Source:
    source = Source.find(name, path)
    told = given or content_type(source, labelled=name in algorithm.labelled)
    return Source(name, source.files, told, algorithm.distribution.get(name, source.distribution))


def _complete(algorithm: Algorithm, given: Mapping[str, str], sources: Sequence[Source]) -> Mapping[str, str]:
    """Add feature_dim where the algorithm wants it and the user did not say; the container itself never does."""
    missing = any(spec.required and spec.name == "feature_dim" for spec in algorithm.params.specs())
    if not missing or "feature_dim" in given:
        return given
    source = next(source for source in sources if source.name == algorithm.channels[0])
    width = first_width(source, algorithm)
    print(f"clary: feature_dim={width}, as in {next(iter(source.files.values())).name}", file=sys.stderr)
    return {**given, "feature_dim": str(width)}


def _count(algorithm: Algorithm, given: Mapping[str, str], name: str) -> int:
    """Number of passes or rounds to expect, for the progress bar only; 0 where there are none of the kind."""
    defaults = {spec.name: str(spec.default) for spec in algorithm.params.specs()}
    text = given.get(name, defaults.get(name, ""))
    return int(text) if name in defaults and text.isdecimal() else 0
