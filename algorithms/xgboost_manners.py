"""How Amazon's open XGBoost container speaks, of which every sentence is known from its source, version 3.0-5.

References
----------
- https://github.com/aws/sagemaker-xgboost-container, Apache-2.0
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from ..errors import ChannelError
from .manners import Manners, Reading

if TYPE_CHECKING:
    from .base import Algorithm

__all__ = ["XGBoostManners", "purpose"]

_CONTENT_TYPES: Final = (
    *("csv", "libsvm", "parquet", "recordio-protobuf", "text/csv", "text/libsvm", "text/x-libsvm"),
    *("application/x-parquet", "application/x-recordio-protobuf"),
)

_LABELS: Final = {"csv": "csv", "libsvm": "libsvm", "parquet": "parquet", "recordio": "recordio-protobuf"}
"""What the container calls our formats."""

_LIBSVM: Final = re.compile(rb"\s*[-+.\w]+(:[-+.\w]+)?(\s+(qid:\d+|\d+:\S+))*\s*(#.*)?")


def purpose(channel: str) -> str:
    """What the container says that a channel is for.

    Examples
    --------
    >>> purpose("train"), purpose("validation")
    ('training', 'validation')
    """
    return {"train": "training"}.get(channel, channel)


class XGBoostManners(Manners):
    """The container's log, its refusals and its answers."""

    line_format: ClassVar[str] = "[%(asctime)s:%(levelname)s] %(message)s"
    time_format: ClassVar[str] = "%Y-%m-%d:%H:%M:%S"
    measures: ClassVar[bool] = False
    channel_parameters: ClassVar[Mapping[str, str]] = {"first_index": "0", "delimiter": "auto"}
    suffixes: ClassVar[bool] = False
    no_data_suffixes: ClassVar[tuple[str, ...]] = (".cache",)
    requests: ClassVar[tuple[str, ...]] = ("csv", "libsvm", "recordio", "parquet")
    default_request: ClassVar[str] = "text/libsvm"
    spare_columns: ClassVar[int] = 1
    row_texts_in_batch: ClassVar[bool] = True

    def opening(self, algorithm: Algorithm, given: Mapping[str, str], path: Path) -> Iterator[str]:
        """What the container says while it starts."""
        del algorithm, path
        yield "Imported framework sagemaker_xgboost_container.training"
        for name, text in given.items():
            if not _is_json(text):
                yield f"Failed to parse hyperparameter {name} value {text} to Json.\nReturning the value itself"
        yield "No GPUs detected (normal if no gpus installed)"
        yield "Running XGBoost Sagemaker in algorithm mode"

    def missing_channel(self, channel: str, why: str) -> ChannelError:
        """A channel that has to be there is not."""
        return ChannelError(f"Missing required channel: {channel}: {why}")

    def unknown_channel(self, channel: str) -> ChannelError | None:
        """Any channel but train, validation and code is refused."""
        return ChannelError(f"Extraneous channel found: {channel}: the channels are train, validation and code")

    def no_data(self, channel: str, path: Path) -> ChannelError | None:
        """A channel that is configured has to have data."""
        if path.exists() and not path.is_dir():
            return ChannelError(f"{path} is not a valid path! It has to be a folder with the files of the channel")
        return ChannelError(f"No data in {purpose(channel)} channel path {path}")

    def hidden_file(self) -> ChannelError | None:
        """The container wants none."""
        return ChannelError("Hidden file found in the data path! Remove that before training.")

    def opened(self, reading: Reading) -> str:
        """What is told of the first file of a channel."""
        if reading.format != "csv":
            return ""
        return f"Determined delimiter of CSV input is '{_delimiter(reading.first_line)}'"

    def objection(self, format_name: str, parameters: Mapping[str, str], *, piped: bool) -> str:
        """The label of CSV is one column; libsvm does not come through FIFOs."""
        if format_name == "libsvm" and piped:
            return "Pipe mode not supported for LibSVM."
        if parameters.get("label_size", "1") != "1":
            told = ";".join(["text/csv", *(f"{name}={value}" for name, value in parameters.items())])
            kind = f"`{told}` is not an accepted {_LABELS[format_name]} ContentType"
            return f"{kind}. Optional parameter label_size must be equal to 1"
        return ""

    def unsupported(self, reading: Reading, entry: Mapping[str, str], why: str) -> ChannelError:
        """The container compares the whole configuration with those it knows."""
        if not reading.format:
            why = f"{reading.content_type} is not an accepted ContentType: {', '.join(_CONTENT_TYPES)}."
        told = f"Channel configuration for '{reading.channel}' channel is not supported: {dict(entry)}"
        return ChannelError(f"{told}: {why}")

    def unreadable(self, reading: Reading, why: str) -> ChannelError:
        """Bytes that are not what their content type says; libsvm is the default, so CSV is often taken for it."""
        if reading.format == "libsvm" and not _LIBSVM.fullmatch(_whole_words(reading.first_line)):
            start = reading.first_line.decode(errors="replace")
            told = f"First line '{start}...' of file '{reading.file}' is not 'LIBSVM' format."
            hint = "For CSV, set the ContentType of the channel to text/csv"
            return ChannelError(f"{told} Please ensure the file is in 'LIBSVM' format. {hint}: {why}")
        label = _LABELS.get(reading.format, reading.format)
        told = f"Failed to load {label} data with exception:\nchannel '{reading.channel}', {why}"
        if reading.format == "csv" and _delimiter(reading.first_line) == " ":
            told = f"Could not determine delimiter on line {reading.first_line.decode(errors='replace')!r}: {told}"
        return ChannelError(told)

    def unsupported_request(self, content_type: str, known: Sequence[str]) -> str:
        """A content type that cannot be read."""
        del known
        return f"{content_type} is not an accepted ContentType: {', '.join(_CONTENT_TYPES)}."

    def request_parameters(self, given: Mapping[str, str]) -> Mapping[str, str]:
        """A request never has a label, whatever its content type says."""
        return {**self.channel_parameters, **given, "label_size": "0"}

    def unsupported_accept(self, accept: str, known: Sequence[str]) -> str:
        """What the client accepts cannot be written."""
        return f"Accept type {accept} is not supported. Please use supported accept types: {sorted(known)}."

    def undecodable(self, format_name: str, why: str) -> tuple[int, str]:
        """The container takes a body that it cannot parse for one of another type."""
        label = _LABELS[format_name]
        return 415, f"Loading {label} data failed with Exception, please ensure data is in {label} format: {why}"

    def unpredictable(self, why: str) -> str:
        """Rows that the model cannot take."""
        return f"Unable to evaluate payload provided: {why}"

    def wrong_width(self, format_name: str, width: int, expected: int) -> str:
        """Rows of another width than the model's."""
        told = f"Feature size of {_LABELS[format_name]} inference data {width}"
        hint = "; send no label column" if width == expected + 1 else ""
        if format_name == "libsvm":
            hint = "; columns count from 0, or with text/libsvm;first_index=1 from 1"
        return f"{told} is not consistent with feature size of trained model {expected}.{hint}"


def _delimiter(line: bytes) -> str:
    from ..recordio.csv import find_delimiter  # needs NumPy, which who only asks for the manners does not

    return find_delimiter(line)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _whole_words(line: bytes) -> bytes:
    """A line that may have been cut, without its last word."""
    return line.rpartition(b" ")[0] if len(line) >= 100 and b" " in line else line
