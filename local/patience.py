"""Who waits for something is answered when it has happened.

boto3's waiters and the SageMaker SDK ask, and sleep for up to two minutes before they ask again, which suits AWS's
pace and not ours. Their questions are held back until there is an end to tell of; all others are answered at once.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from .platform import Platform

__all__ = ["Patience"]

_ASKED: Final[Mapping[str, tuple[str, str]]] = {
    "DescribeTrainingJob": ("training-job", "TrainingJobName"),
    "DescribeTransformJob": ("transform-job", "TransformJobName"),
    "DescribeHyperParameterTuningJob": ("hyper-parameter-tuning-job", "HyperParameterTuningJobName"),
    "DescribeEndpoint": ("endpoint", "EndpointName"),
}
"""Operation → kind of the thing, and field of its name."""

_UNDER_WAY: Final = frozenset(("InProgress", "Stopping", "Creating", "Updating", "SystemUpdating", "Deleting"))
_SDK: Final = re.compile(r"sagemaker[-_]?(python-sdk|core)", re.IGNORECASE)
_LONG: Final = 25.0  # seconds; clients wait a minute for an answer
_SHORT: Final = 5.0  # the SDK prints log lines between its questions
_AT_ONCE: Final = 16  # questions that are held back together, so that threads are left for others
_STEP: Final = 1.0  # seconds between two looks at whether the platform ends


class Patience:
    """Holds back answers.

    Parameters
    ----------
    platform
        What is asked about.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    def wait(self, operation: str, request: Mapping[str, Any], agent: str) -> None:
        """Return when there is something to tell, or there has been no such thing for long enough."""
        limit = _LONG if _waits(agent) else _SHORT if _SDK.search(agent) else 0.0
        if operation not in _ASKED or not limit or not self._places.acquire(blocking=False):
            return
        try:
            kind, field = _ASKED[operation]
            deadline = time.monotonic() + limit
            while time.monotonic() < deadline and not self._platform.closing.is_set():
                if self._platform.store.await_change(kind, request[field], _UNDER_WAY, _STEP):
                    return
        finally:
            self._places.release()


def _waits(agent: str) -> bool:
    """Whether a user agent is that of a waiter of botocore's.

    Examples
    --------
    >>> _waits("Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.11 m/N,E,B,b,Z cfg/retry-mode#legacy")
    True
    >>> _waits("Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.11 m/N,E,b,Z cfg/retry-mode#legacy")
    False
    """
    found = re.search(r"\bm/(\S+)", agent)
    return found is not None and "B" in found[1].split(",")
