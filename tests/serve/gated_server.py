"""A server whose predictions wait for the end of a FIFO: ``python gated_server.py FIFO``."""

import os
import socket
import sys
from pathlib import Path

import numpy as np

from clary import logs
from clary.algorithms.base import Predictions
from clary.algorithms.kmeans import ALGORITHM, KMeansModel
from clary.recordio.batch import CSR, Array
from clary.serve.settings import Settings
from clary.serve.workers import serve


class Gated(KMeansModel):
    """K-means that takes its time."""

    def predict(self, features: Array | CSR) -> Predictions:
        """Wait, then predict."""
        Path(sys.argv[1]).read_bytes()
        return super().predict(features)


if __name__ == "__main__":
    logs.setup()
    settings = Settings.from_environment(os.environ)
    serve(Gated(np.zeros((1, 2), np.float32)), ALGORITHM, settings, socket.create_server(("127.0.0.1", settings.port)))
