"""``clary serve`` and ``inspect``: whose model it is, and who ends with whom."""

from __future__ import annotations

import http.client
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

Clary = Callable[..., "subprocess.CompletedProcess[bytes]"]
Start = Callable[..., "subprocess.Popen[bytes]"]

SOON = 50.0


def test_a_server_ends_with_who_started_it(started: Start, folder: Path, tmp_path: Path) -> None:
    """When ``clary serve`` is killed, nobody goes on to answer on its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = ("--port", str(port), "--workers", "2", "--root", str(tmp_path / "ml"))
    with started("serve", "model.tar.gz", *words, cwd=folder) as process:
        _until(lambda: _answers(port))
        process.kill()
        process.communicate(timeout=SOON)  # all of its processes have closed their output
        _until(lambda: not _answers(port))


def test_a_model_of_nobody_is_named_as_the_user_did(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """The user's file is in the message, not the temporary folder that it was unpacked to."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model_algo-1").write_bytes(b"no model")
    archive = tmp_path / "odd.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", tmp_path / "model", "model_algo-1"], check=True, timeout=SOON)
    inspected, served = (clary(word, archive, cwd=folder) for word in ("inspect", "serve"))

    assert inspected.stderr.startswith(f"clary: no algorithm can read the artifact in {archive}: kmeans: ".encode())
    assert served.stderr.endswith(f"clary: {archive} cannot be served: the log above says why\n".encode())
    assert (inspected.returncode, served.returncode) == (2, 2)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
