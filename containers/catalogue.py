"""The algorithms and their hyperparameters."""

from __future__ import annotations

import json
from typing import Any

from ..algorithms.base import Algorithm
from ..algorithms.params import Spec, default_text
from ..algorithms.registry import ALGORITHMS, algorithm
from ..train.metrics import metric_definitions
from .formats import media_type
from .screen import table

__all__ = ["algorithms"]


def algorithms(*, name: str | None, as_json: bool) -> None:
    """List the algorithms, or show one's hyperparameters."""
    found = [algorithm(key) for key in ([name] if name else ALGORITHMS)]
    if as_json:
        requests = [_request(item) for item in found]
        print(json.dumps(requests[0] if name else requests, indent=2))
    elif name:
        print(f"{found[0].title} ({found[0].name}); channels: {', '.join(found[0].channels)}\n")
        print(table([("hyperparameter", "default", "tunable", "allowed"), *map(_row, found[0].params.specs())]))
    else:
        rows = [(item.name, item.title, " ".join(item.channels), " ".join(item.content_types)) for item in found]
        print(table([("name", "algorithm", "channels", "data"), *rows]))


def _row(spec: Spec) -> tuple[str, str, str, str]:
    default = "(required)" if spec.required else default_text(spec)
    return spec.name, default, "yes" if spec.tunable else "", f"{spec.allowed}: {spec.doc}"


def _request(item: Algorithm) -> dict[str, Any]:
    """The parts of a CreateAlgorithm request that clary knows."""
    types = [media_type(name) for name in item.content_types]
    channels = [
        {
            "Name": name,
            "IsRequired": name == item.channels[0],
            "SupportedContentTypes": types,
            "SupportedInputModes": ["File", "Pipe"],
        }
        for name in item.channels
    ]
    return {
        "AlgorithmName": item.name,
        "TrainingSpecification": {
            "SupportedHyperParameters": item.params.create_algorithm_json(),
            "TrainingChannels": channels,
            "MetricDefinitions": metric_definitions(item),
        },
    }
