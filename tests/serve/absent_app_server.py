"""A server whose application has but one answer, 418: what it is not asked goes past it."""

import os
import socket
from collections.abc import Iterable
from typing import Any

import numpy as np

from clary import logs
from clary.algorithms.kmeans import ALGORITHM, KMeansModel
from clary.serve.deferred import Deferred
from clary.serve.endpoint import Endpoint
from clary.serve.places import predictions
from clary.serve.settings import Settings
from clary.serve.workers import run


def absent(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Say that nobody is there."""
    environ["wsgi.input"].read()
    start_response("418 I'm a teapot", [("Content-Length", "0")])
    return [b""]


if __name__ == "__main__":
    logs.setup()
    settings = Settings.from_environment(os.environ)
    endpoint = Endpoint(KMeansModel(np.zeros((1, 2), np.float32)), ALGORITHM, settings, predictions(settings.threads))
    app = Deferred(lambda: absent, {"POST /invocations": endpoint.invoked_plainly})
    run(app, settings, socket.create_server(("127.0.0.1", settings.port)))
