"""What is wrong with a request in ways that the shapes of SageMaker's requests do not tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from ..errors import UserError
from .executors import Container
from .faults import ValidationException
from .outputs import location

__all__ = ["check_job"]

_CHECKPOINTS: Final = "/opt/ml/checkpoints"


def check_job(request: Mapping[str, Any], container: Container) -> None:
    """Refuse a training job that could not run.

    Raises
    ------
    ValidationException
        When it could not.
    """
    if container.algorithm is not None and (container.entrypoint or container.arguments):
        raise ValidationException("ContainerEntrypoint and ContainerArguments are not for built-in algorithms")
    names = Counter(channel["ChannelName"] for channel in request.get("InputDataConfig", ()))
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValidationException(f"Duplicate channel names: {', '.join(twice)}")
    places = [request["OutputDataConfig"]["S3OutputPath"]]
    if config := request.get("CheckpointConfig"):
        places.append(config["S3Uri"])
        path = config.get("LocalPath", _CHECKPOINTS)
        if not path.startswith("/opt/ml/") or ".." in path:
            raise ValidationException(f"LocalPath {path!r} is not supported here: name a folder below /opt/ml")
    try:
        for place in places:
            location(place)
    except UserError as error:
        raise ValidationException(str(error)) from error
