"""How a container speaks to its users: words and habits in which one family of Amazon's images differs from another.

`train` and `serve` ask here for every sentence that users' code may compare, and never learn an algorithm's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..errors import ChannelError
from ..logs import LINE_FORMAT, TIME_FORMAT

if TYPE_CHECKING:
    from .base import Algorithm

__all__ = ["Manners", "Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is being read when a channel turns out to be unreadable.

    Parameters
    ----------
    channel
        Its name.
    content_type
        As the user gave it, or the algorithm's own.
    format
        Name of the format.
    file
        Name of the file or FIFO; empty where none was opened yet.
    first_line
        How it begins, cut at 100 bytes.
    """

    channel: str
    content_type: str
    format: str
    file: str = ""
    first_line: bytes = b""


class Manners:
    """The habits of the five images that Amazon built on MXNet; a family that differs is a subclass."""

    line_format: ClassVar[str] = LINE_FORMAT
    time_format: ClassVar[str] = TIME_FORMAT
    """Of the lines of a job's log."""

    measures: ClassVar[bool] = True
    """Whether a job's log ends with ``#metrics`` lines of its times."""

    channel_parameters: ClassVar[Mapping[str, str]] = {}
    """Parameters of a content type where it does not say otherwise: ``{"first_index": "0"}``."""

    suffixes: ClassVar[bool] = True
    """Whether a file is passed over when its name says that it is of another format, or no data."""

    no_data_suffixes: ClassVar[tuple[str, ...]] = ()
    """Ends of the names of files that are passed over whatever else is read."""

    requests: ClassVar[tuple[str, ...]] = ("csv", "json", "jsonlines", "recordio")
    """Formats a request may have."""

    default_request: ClassVar[str] = ""
    """Content type of a request that says none."""

    spare_columns: ClassVar[int] = 0
    """How many columns fewer than the model's a dense row may have."""

    row_texts_in_batch: ClassVar[bool] = False
    """Whether a batch transform is answered with one line of text a row, whatever it accepts."""

    # Training

    def opening(self, algorithm: Algorithm, given: Mapping[str, str], path: Path) -> Iterator[str]:
        """First lines of a job's log: what is configured, and where that was read."""
        from .params import default_text

        defaults = {spec.name: default_text(spec) for spec in algorithm.params.specs() if not spec.required}
        yield f"Reading default configuration from clary.algorithms.{algorithm.name}: {defaults}"
        yield f"Merging with provided configuration from {path}: {dict(given)}"
        yield f"Final configuration: { ({**defaults, **given}) }"
        yield "Checkpoint loading and saving are disabled."

    def missing_channel(self, channel: str, why: str) -> ChannelError:
        """A channel that has to be there is not."""
        return ChannelError(
            f"Unable to read data channel '{channel}'. Please verify the correct data channel configuration is "
            f"provided: {why}"
        )

    def unknown_channel(self, channel: str) -> ChannelError | None:
        """A channel that the algorithm does not know; None where a warning is enough."""
        del channel
        return None

    def no_data(self, channel: str, path: Path) -> ChannelError | None:
        """A channel without any file; None where the algorithm finds out by itself."""
        del channel, path
        return None

    def hidden_file(self) -> ChannelError | None:
        """A file whose name begins with a dot; None where it is passed over."""
        return None

    def opened(self, reading: Reading) -> str:
        """What the log says of the first file of a channel; nothing where it is empty."""
        del reading
        return ""

    def objection(self, format_name: str, parameters: Mapping[str, str], *, piped: bool) -> str:
        """Why a format cannot be read with these parameters, or from a FIFO; empty where it can."""
        del format_name, parameters, piped
        return ""

    def unsupported(self, reading: Reading, entry: Mapping[str, str], why: str) -> ChannelError:
        """A channel whose configuration, `entry`, cannot work."""
        del entry
        return self.unreadable(reading, why)

    def unreadable(self, reading: Reading, why: str) -> ChannelError:
        """Bytes that are not what their content type says."""
        return ChannelError(
            f"Unable to read data channel '{reading.channel}'. Requested content-type is '{reading.content_type}'. "
            f"Please verify the data matches the requested content-type. {why}"
        )

    # Serving

    def unsupported_request(self, content_type: str, known: Sequence[str]) -> str:
        """A content type that cannot be read: 415."""
        return f"content-type {content_type} not supported. Supported are: {', '.join(known)}"

    def request_parameters(self, given: Mapping[str, str]) -> Mapping[str, str]:
        """The parameters of a request's content type, as they count."""
        return given

    def unsupported_accept(self, accept: str, known: Sequence[str]) -> str:
        """What the client accepts cannot be written: 406."""
        return f"Accept type '{accept}' is not supported. Supported are: {', '.join(known)}"

    def undecodable(self, format_name: str, why: str) -> tuple[int, str]:
        """A body that is not what its content type says: status and text."""
        del format_name
        return 400, self.unpredictable(why)

    def unpredictable(self, why: str) -> str:
        """Rows that the model cannot take: 400."""
        return f"unable to evaluate payload provided: {why}"

    def wrong_width(self, format_name: str, width: int, expected: int) -> str:
        """Rows of another width than the model's."""
        del format_name
        hint = "; send no label column" if width == expected + 1 else ""
        return f"wrong number of features: {width} instead of {expected}{hint}"
