"""The settings of a batch transform job, by the names and words of CreateTransformJob."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, cast

from ..errors import UsageError
from .splitting import SplitType

__all__ = ["MIB", "TransformJob"]

Strategy = Literal["MultiRecord", "SingleRecord"]

MIB: Final = 1 << 20
"""What MaxPayloadInMB counts, as servers understand it."""

_TOTAL_MB: Final = 100  # for all requests that are under way together
_USUAL_MB: Final = 6
_STRATEGIES: Final[Mapping[str, Strategy]] = {"MULTI_RECORD": "MultiRecord", "SINGLE_RECORD": "SingleRecord"}
"""As containers say it → as the API does."""

_WORDS: Final[Mapping[str, Sequence[str]]] = {
    "split_type": ("None", "Line", "RecordIO", "TFRecord"),
    "batch_strategy": ("MultiRecord", "SingleRecord"),
    "assemble_with": ("None", "Line"),
    "join_source": ("None", "Input"),
}
_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "max_payload_in_mb": (0, _TOTAL_MB),
    "max_concurrent_transforms": (1, _TOTAL_MB),
    "invocations_timeout_in_seconds": (1, 3600),
    "invocations_max_retries": (0, 3),
}
_MOST_VARIABLES: Final = 16
_VARIABLE: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,1023}")
_LONGEST_VALUE: Final = 10240


@dataclass(frozen=True, slots=True)
class TransformJob:
    """What is asked for; None leaves it to the container, or to the default.

    Parameters
    ----------
    content_type, accept
        Headers of the requests; an empty one is not sent.
    split_type
        What a record is.
    batch_strategy
        Whether a request has one record or as many as fit.
    max_payload_in_mb
        Most that a request may have, in MiB; 0 streams whole files, without a limit.
    max_concurrent_transforms
        Number of requests under way together.
    assemble_with
        Line ends each answer with a newline.
    input_filter, output_filter
        JSONPaths: what is sent of a record, and what is written of an answer.
    join_source
        Input writes each answer beside its record.
    invocations_timeout_in_seconds
        Time for one answer.
    invocations_max_retries
        How often a request that failed is sent again.
    environment
        Variables of the container.

    Raises
    ------
    UsageError
        When a value is not allowed.
    """

    content_type: str = ""
    accept: str = ""
    split_type: SplitType = "None"
    batch_strategy: Strategy | None = None
    max_payload_in_mb: int | None = None
    max_concurrent_transforms: int | None = None
    assemble_with: Literal["None", "Line"] = "None"
    input_filter: str = "$"
    output_filter: str = "$"
    join_source: Literal["None", "Input"] = "None"
    invocations_timeout_in_seconds: int = 600
    invocations_max_retries: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            if (word := getattr(self, name)) is not None and word not in words:
                raise UsageError(f"{_api_name(name)} {word!r} is not allowed: write {' or '.join(words)}")
        for name, (low, high) in _RANGES.items():
            if (value := getattr(self, name)) is not None and not low <= value <= high:
                raise UsageError(f"{_api_name(name)} {value} is not allowed: it takes {low} to {high}")
        self._check_total()
        self._check_environment()

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the container: its own variables, and what tells it of the job."""
        told = {
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": self.max_payload_in_mb,
            "SAGEMAKER_BATCH_STRATEGY": next((k for k, v in _STRATEGIES.items() if v == self.batch_strategy), None),
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": self.max_concurrent_transforms,
        }
        given = {name: str(value) for name, value in told.items() if value is not None}
        return {**self.environment, "SAGEMAKER_BATCH": "true", **given}

    @property
    def limit(self) -> int:
        """Most bytes of a request, 0 for no limit."""
        return MIB * (_USUAL_MB if self.max_payload_in_mb is None else self.max_payload_in_mb)

    def completed(self, offered: Mapping[str, Any]) -> TransformJob:
        """The job with what the container's ``/execution-parameters`` offers, where nothing was asked for.

        Raises
        ------
        UsageError
            When it offers what is not allowed.
        """
        strategy = str(offered.get("BatchStrategy", "MULTI_RECORD"))
        try:
            payload = self._asked(self.max_payload_in_mb, offered, "MaxPayloadInMB", _USUAL_MB)
            concurrent = self._asked(self.max_concurrent_transforms, offered, "MaxConcurrentTransforms", 1)
            if self.max_concurrent_transforms is None and payload:
                concurrent = min(concurrent, _TOTAL_MB // payload)
            return replace(
                self,
                batch_strategy=self.batch_strategy
                or _STRATEGIES.get(strategy, cast("Strategy", strategy)),  # which is checked
                max_payload_in_mb=payload,
                max_concurrent_transforms=concurrent,
            )
        except (TypeError, ValueError, UsageError) as error:
            raise UsageError(f"the container's /execution-parameters cannot be used: {error}") from error

    @staticmethod
    def _asked(asked: int | None, offered: Mapping[str, Any], name: str, usual: int) -> int:
        return int(offered.get(name, usual)) if asked is None else asked

    def _check_total(self) -> None:
        total = (self.max_payload_in_mb or 0) * (self.max_concurrent_transforms or 1)
        if total > _TOTAL_MB:
            raise UsageError(
                f"MaxPayloadInMB times MaxConcurrentTransforms is {total} MB: at most {_TOTAL_MB} MB are allowed"
            )

    def _check_environment(self) -> None:
        if len(self.environment) > _MOST_VARIABLES:
            raise UsageError(
                f"Environment has {len(self.environment)} variables: at most {_MOST_VARIABLES} are allowed"
            )
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name):
                raise UsageError(f"Environment: {name!r} is no name of a variable: use letters, digits and underscores")
            if len(value) > _LONGEST_VALUE:
                raise UsageError(f"Environment: {name} has {len(value)} characters: at most {_LONGEST_VALUE}")


def _api_name(name: str) -> str:
    """A field's name in CreateTransformJob.

    Examples
    --------
    >>> _api_name("max_payload_in_mb")
    'MaxPayloadInMB'
    """
    return "".join(part.capitalize() for part in name.split("_")).replace("Mb", "MB")
