"""What Docker asks a container every now and then: is it well? One that serves is when ``/ping`` answers.

A container that does anything else, such as training, is well for as long as it runs.
"""

from __future__ import annotations

import http.client
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

__all__ = ["main"]

_ANSWER: Final = 5  # seconds


def main(first_process: Path = Path("/proc/1/cmdline")) -> int:
    """Return 0 where the container is well, 1 where it is not."""
    words = first_process.read_bytes().rstrip(b"\0").split(b"\0")
    if words[-1] != b"serve":
        return 0
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT") or 8080)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER)) as connection:
        try:
            connection.request("GET", "/ping")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            print(f"/ping at port {port} does not answer: {error}")
            return 1
    print(f"/ping at port {port} answers {status}")
    return int(status != http.client.OK)


if __name__ == "__main__":
    sys.exit(main())
