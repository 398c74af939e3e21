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


def start(bases: list[str], turns: float) -> int:
    """Run the jobs of the base directories in turns, in a process of its own; give its number."""
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        while turns > 0:
            for base in bases:
                assert main({"SAGEMAKER_BASE_DIR": base, "CLARY_ALGORITHM": "kmeans"}) == 0
            turns -= 1
        os._exit(0)
    return child


def kill_often(kills: int, bases: list[str]) -> None:
    """Start, wait, kill, look; the waits fit how long this machine takes for one turn."""
    rng = random.Random(0)  # noqa: S311
    artifact = Path(bases[0], "model", "model_algo-1")
    begin = time.monotonic()
    os.waitpid(start(bases, 1), 0)
    turn = time.monotonic() - begin
    for _ in range(kills):
        child = start(bases, float("inf"))
        time.sleep(rng.uniform(0.0, 1.5 * turn))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(hashlib.sha256(artifact.read_bytes()).hexdigest() if artifact.exists() else "none", flush=True)


if __name__ == "__main__":
    kill_often(int(sys.argv[1]), sys.argv[2:])
