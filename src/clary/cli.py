"""The ``clary`` command: what can be typed, and which function does it.

Whatever a command needs is imported when it runs, so that ``clary --help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from . import __version__
from .errors import ClaryError, PlatformError, UsageError, UserError

__all__ = ["main", "parser"]

FORMATS: Final = ("csv", "jsonlines", "libsvm", "npy", "npz", "recordio")
"""What `convert` and its kin can be told."""

_USERS_FILES: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process, and return the exit code."""
    _fill_streams()
    words = sys.argv[1:] if words is None else list(words)
    if words == ["train"]:
        from .train.job import main as job

        return job()
    if words == ["serve"]:
        from .serve.workers import main as server

        return server()
    _handle(signal.SIGTERM, _leave)
    _handle(signal.SIGHUP, _leave)
    _handle(signal.SIGINT, _quit)
    try:
        return _run(words)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Python would say so once more when it flushes standard output at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ClaryError as error:
        print(f"clary: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"clary: {error.filename}: {error.strerror}" if error.filename else f"clary: {error}", file=sys.stderr)
        return (UserError if isinstance(error, _USERS_FILES) else PlatformError).exit_code


def _run(words: Sequence[str]) -> int:
    arguments = vars(parser().parse_args(words))
    if not arguments:
        parser().print_help()
        return 0
    module, function = arguments.pop("run")
    run = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    _handle(signal.SIGINT, signal.default_int_handler)
    code: int = run(**arguments) or 0
    sys.stdout.flush()
    return code


def _fill_streams() -> None:
    """Put /dev/null in the place of standard streams that are closed, before a file gets their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # for as long as we run


def _handle(number: int, handler: Callable[[int, FrameType | None], object]) -> None:
    """Handle a signal, unless it is ignored, as nohup wants it."""
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, handler)


def _quit(number: int, _frame: FrameType | None) -> NoReturn:
    """End at once, as nothing is there to lose yet: an import that Ctrl-C breaks off would blame NumPy for it."""
    os._exit(128 + number)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """End by way of every ``finally``, so that no process and no temporary file is left behind."""
    raise SystemExit(128 + number)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """Everything that can be typed."""
    top = _Parser(prog="clary", description="Amazon SageMaker's built-in algorithms, on this machine.")
    top.add_argument("--version", action="version", version=f"clary {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    for add in (
        _add_train,
        _add_serve,
        _add_predict,
        _add_transform,
        _add_inspect,
        _add_convert_model,
        _add_algorithms,
        _add_convert,
        _add_head,
        _add_datasets,
        _add_images,
        _add_doctor,
        _add_up,
        _add_env,
        _add_jobs,
        _add_logs,
        _add_endpoints,
        _add_stop,
        _add_down,
        _add_reset,
    ):
        add(commands)
    return top


def _command(commands: Any, name: str, module: str, text: str, more: str = "") -> argparse.ArgumentParser:
    """A command that calls the function of its name in a module of ours, with the flags by keyword."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text} {more}".strip())
    command.set_defaults(run=(f"containers.{module}" if "." not in module else module, name.replace("-", "_")))
    return command


def _add_train(commands: Any) -> None:
    text = "Train a model as a SageMaker training job would."
    more = "Without any further word: be that job, in a container."
    add = _command(commands, "train", "train", text, more).add_argument
    add("algorithm", metavar="ALGORITHM", help="see: clary algorithms")
    add("--train", dest="train_path", type=Path, metavar="PATH", help="file or directory for the channel train")
    add("--test", dest="test_path", type=Path, metavar="PATH", help="file or directory for the channel test")
    add(
        "--channel",
        dest="channels",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="any other channel; may be repeated",
    )
    add(
        "-p",
        "--param",
        dest="params",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="hyperparameters; may be repeated",
    )
    add("--mode", choices=("file", "pipe"), default="file", help="how the job gets its data (default: %(default)s)")
    add("--content-type", metavar="T", help="of the data (default: by the suffix of the files)")
    add("--out", type=Path, default=Path("model.tar.gz"), metavar="FILE", help="the artifact (default: %(default)s)")
    add("--root", type=Path, metavar="DIR", help="build the /opt/ml tree here and keep it (default: a temporary one)")
    add("--logs", action="store_true", help="show the job's log on a terminal too")


def _add_serve(commands: Any) -> None:
    text = "Serve a model over HTTP as a SageMaker endpoint would."
    more = "Without any further word: be that endpoint, in a container."
    add = _command(commands, "serve", "endpoint", text, more).add_argument
    add("models", type=Path, nargs="+", metavar="MODEL", help="model.tar.gz or a model directory")
    text = "serve 2 to 15 models in a row, each of which is asked what the one before it has answered"
    add("--pipeline", action="store_true", help=text)
    text = "set a variable of the server, with --pipeline also as N:KEY=VALUE that of the Nth model; may be repeated"
    add("--env", dest="variables", action="append", default=[], metavar="KEY=VALUE", help=text)
    add("--host", type=_host, default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=_port, default=8080, help="port to listen on, 0 for any free one (default: %(default)s)")
    add("--workers", type=_positive, metavar="N", help="processes for each model (default: one for each core in all)")
    add("--root", type=Path, metavar="DIR", help="build the /opt/ml tree here and keep it (default: a temporary one)")


def _add_predict(commands: Any) -> None:
    add = _command(commands, "predict", "predict", "Predict every row of a data file.").add_argument
    add("model", type=Path, metavar="MODEL", help="model.tar.gz or a model directory")
    add("data", metavar="DATA", help="file with the rows, - for standard input")
    add("--accept", default="application/jsonlines", metavar="T", help="of the answers (default: %(default)s)")
    add("--content-type", metavar="T", help="of the data (default: by its suffix)")
    add("--label-size", type=_natural, default=0, metavar="N", help="label columns in csv and npy (default: 0)")
    text = "for series and random cut forest: ask for N rows side by side, the first answer is for row N (default: 1)"
    add("--shingle", type=_positive, default=1, metavar="N", help=text)
    add("--out", default="-", metavar="FILE", help="where the answers go (default: standard output)")


def _add_transform(commands: Any) -> None:
    text = "Answer whole files as a SageMaker batch transform job would."
    more = "Its words are those of CreateTransformJob."
    add = _command(commands, "transform", "transform", text, more).add_argument
    server = "or http://HOST:PORT of a server that runs"
    add("model", metavar="MODEL", help=f"model.tar.gz or a model directory, {server}")
    add("source", type=Path, metavar="INPUT", help="a file, or a directory with all that is below it")
    add("out", type=Path, metavar="OUTPUT", help="folder for the answers, NAME.out for each file")
    add("--manifest", action="store_true", help="INPUT is a ManifestFile, a JSON list of files")
    text = "of the files (default: by the suffix .gz)"
    add("--compression", choices=("None", "Gzip"), help=text)
    add("--content-type", metavar="T", help="of the data (default: by the suffix of the files)")
    add("--accept", metavar="T", help="of the answers (default: the algorithm's own)")
    text = "what a record is: the whole file, a line, a frame (default: %(default)s)"
    add("--split-type", choices=("None", "Line", "RecordIO", "TFRecord"), default="None", help=text)
    text = "one record in a request, or many (default: as the container says, else MultiRecord)"
    add("--strategy", dest="batch_strategy", choices=("SingleRecord", "MultiRecord"), help=text)
    text = "most MiB in a request, 0 to stream without a limit (default: as the container says, else 6)"
    add("--max-payload", dest="max_payload_in_mb", type=_natural, metavar="MB", help=text)
    text = "requests under way together (default: as the container says, else 1)"
    add("--max-concurrent", dest="max_concurrent_transforms", type=_positive, metavar="N", help=text)
    text = "Line ends each answer with a newline (default: %(default)s)"
    add("--assemble-with", choices=("None", "Line"), default="None", help=text)
    add("--input-filter", default="$", metavar="PATH", help="JSONPath: what is sent of a record (default: all)")
    add("--output-filter", default="$", metavar="PATH", help="JSONPath: what is written of an answer (default: all)")
    text = "Input writes each answer beside its record (default: %(default)s)"
    add("--join-source", choices=("None", "Input"), default="None", help=text)
    text = "seconds for one answer (default: %(default)s)"
    add(
        "--invocations-timeout",
        dest="invocations_timeout_in_seconds",
        type=_positive,
        default=600,
        metavar="S",
        help=text,
    )
    text = "how often a request that failed is sent again (default: %(default)s)"
    add("--max-retries", dest="invocations_max_retries", type=_natural, default=3, metavar="N", help=text)
    add("--env", action="append", default=[], metavar="KEY=VALUE", help="variable of the server; may be repeated")


def _add_inspect(commands: Any) -> None:
    add = _command(commands, "inspect", "inspect", "Show what is in a model.").add_argument
    add("model", type=Path, metavar="MODEL", help="model.tar.gz or a model directory")
    add("--json", action="store_true", dest="as_json", help="as JSON, also on a terminal")


def _add_convert_model(commands: Any) -> None:
    text = "Write a model again in the current format, whichever version wrote it."
    add = _command(commands, "convert-model", "convert_model", text).add_argument
    add("source", type=Path, metavar="OLD", help="model.tar.gz or a model directory")
    add("out", type=Path, metavar="NEW", help="model.tar.gz to write")


def _add_algorithms(commands: Any) -> None:
    add = _command(commands, "algorithms", "catalogue", "List the algorithms, or one's hyperparameters.").add_argument
    add("name", nargs="?", metavar="NAME", help="show the hyperparameters of this one")
    add("--json", action="store_true", dest="as_json", help="in the form of a CreateAlgorithm request")


def _add_convert(commands: Any) -> None:
    text = "Convert data between formats, by the files' suffixes."
    more = "Labels are the first columns of csv and npy files, and known from the file in all other formats."
    command = _command(commands, "convert", "convert", text, more)
    add = command.add_argument
    add("source", metavar="IN", help="file or FIFO to read, - for standard input")
    add("out", metavar="OUT", help="file to write, - for standard output")
    add("--from", dest="source_format", choices=FORMATS, metavar="F", help=f"format of IN: {', '.join(FORMATS)}")
    add("--label-size", type=_natural, default=0, metavar="N", help="label columns in csv and npy (default: 0)")
    add("--features", type=_positive, metavar="N", help="columns of libsvm rows (default: found in a first pass)")
    add("--first-index", type=int, choices=(0, 1), default=1, help="of libsvm columns (default: %(default)s)")
    text = "for series and random cut forest: write N rows side by side, the first with row N (default: 1)"
    add("--shingle", type=_positive, default=1, metavar="N", help=text)
    _add_output(command)


def _add_output(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    choices = tuple(name for name in FORMATS if name != "jsonlines")
    add("--to", dest="out_format", choices=choices, metavar="F", help="format to write")
    add("--shards", type=_positive, default=1, metavar="N", help="write N files, NAME-00000-of-0000N.SUFFIX and so on")
    add("--dtype", choices=("float32", "float64"), default="float32", help="of the numbers (default: %(default)s)")
    add(
        "--sparse",
        action=argparse.BooleanOptionalAction,
        help="write only the values that are not zero, or all (default: as they come)",
    )


def _add_head(commands: Any) -> None:
    add = _command(commands, "head", "head", "Show the first rows of a data file, whatever its format.").add_argument
    add("source", metavar="FILE", help="file to read, - for standard input")
    add("-n", type=_natural, default=5, dest="count", metavar="N", help="number of rows (default: %(default)s)")
    add("--from", dest="source_format", choices=FORMATS, metavar="F", help=f"format of FILE: {', '.join(FORMATS)}")
    add("--label-size", type=_natural, default=0, metavar="N", help="label columns in csv and npy (default: 0)")


def _add_datasets(commands: Any) -> None:
    text = "Write a real data set that scikit-learn brings along; list them without NAME."
    command = _command(commands, "datasets", "datasets", text)
    command.add_argument("name", nargs="?", metavar="NAME", help="data set to write")
    command.add_argument("--out", metavar="FILE", help="file to write, - for standard output (default: NAME.rec)")
    _add_output(command)


def _add_images(commands: Any) -> None:
    text = "Show the container images on this machine, or give them the names of AWS's."
    images: argparse.ArgumentParser = commands.add_parser("images", help=text, description=text)
    actions = images.add_subparsers(metavar="ACTION", parser_class=_Parser, required=True, help="list or tag-aws")
    _command(actions, "list", "images", "List the local images.").set_defaults(run=("containers.images", "list_images"))
    text = "Give local images the names of AWS's, which the SageMaker SDK then finds here without a login."
    add = _command(actions, "tag-aws", "images", text).add_argument
    text = "of the names, or all (default: AWS_REGION, AWS_DEFAULT_REGION, or all where neither is set)"
    add("--region", metavar="R", help=text)
    add("--algorithm", metavar="A", help="only this one (default: all)")


def _add_doctor(commands: Any) -> None:
    text = "Say what of this machine clary can use, what stands in its way, and how to put that right."
    add = _command(commands, "doctor", "doctor", text).add_argument
    add("--json", action="store_true", dest="as_json", help="as JSON")


def _natural(text: str) -> int:
    return _whole(text, 0)


def _positive(text: str) -> int:
    return _whole(text, 1)


def _host(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty address: 127.0.0.1 is this machine alone, 0.0.0.0 all networks")
    return text


def _port(text: str) -> int:
    return _whole(text, 0, 65535)


def _whole(text: str, low: int, high: int | None = None) -> int:
    if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}")
    return int(text)


def _add_up(commands: Any) -> None:
    text = "Run a local SageMaker: unmodified boto3 and SDK code trains, deploys and predicts against it."
    add = _command(commands, "up", "local.up", text).add_argument
    add("--port", type=_port, default=4570, metavar="N", help="0 for a free one (default: 4570)")
    add("--host", default="127.0.0.1", help="address to listen on; any other than this machine's own needs a token")
    add("--token", default="", help="what clients have to show as their access key")
    add("--region", default="us-east-1", help="region of what is made here (default: us-east-1)")
    add("--executor", choices=("process", "docker"), default="process", help="where our algorithms run")
    add("--s3-endpoint", default="", metavar="URL", help="another S3, in the place of the one that is built in")
    _add_state(add)


def _add_env(commands: Any) -> None:
    text = "Print the variables that lead SDKs to the platform."
    _add_state(_command(commands, "env", "local.commands", text, 'Write:  eval "$(clary env)"').add_argument)


def _add_jobs(commands: Any) -> None:
    _add_state(_command(commands, "jobs", "local.commands", "List the platform's jobs.").add_argument)


def _add_logs(commands: Any) -> None:
    add = _command(
        commands, "logs", "local.commands", "Print what a job or an endpoint of the platform says."
    ).add_argument
    add("name", metavar="JOB", help="a training or transform job, or an endpoint")
    add("-f", "--follow", action="store_true", help="go on until it ends; exit code 1 where it fails")
    _add_state(add)


def _add_endpoints(commands: Any) -> None:
    _add_state(_command(commands, "endpoints", "local.commands", "List the platform's endpoints.").add_argument)


def _add_stop(commands: Any) -> None:
    add = _command(commands, "stop", "local.commands", "End a job with what it has so far.").add_argument
    add("name", metavar="JOB")
    _add_state(add)


def _add_down(commands: Any) -> None:
    _add_state(_command(commands, "down", "local.commands", "End the platform; its state stays.").add_argument)


def _add_reset(commands: Any) -> None:
    text = "Remove all jobs, endpoints and objects that a platform has kept."
    add = _command(commands, "reset", "local.commands", text).add_argument
    add("--yes", action="store_true", help="do not ask")
    _add_state(add)


def _add_state(add: Callable[..., Any]) -> None:
    add("--state", type=Path, metavar="FOLDER", help="where the platform keeps its state (default: $CLARY_STATE)")


if __name__ == "__main__":
    sys.exit(main())
