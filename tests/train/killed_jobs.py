"""Jobs that write one artifact again and again, killed at random moments; prints what each kill has left.

Usage: killed_jobs.py KILLS BASE...
"""

import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path

from clary.train.job import main


def train_for_ever(bases: list[str]) -> None:
    """Run the jobs of the base directories in turns."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    while True:
        for base in bases:
            assert main({"SAGEMAKER_BASE_DIR": base}) == 0


def main_loop(kills: int, bases: list[str]) -> None:
    """Start, wait, kill, look."""
    rng = random.Random(0)  # noqa: S311
    artifact = Path(bases[0], "model", "model_algo-1")
    for _ in range(kills):
        child = os.fork()
        if not child:
            train_for_ever(bases)
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(hashlib.sha256(artifact.read_bytes()).hexdigest() if artifact.exists() else "none", flush=True)


if __name__ == "__main__":
    main_loop(int(sys.argv[1]), sys.argv[2:])
