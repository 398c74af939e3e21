"""K-means from a data set to answers over HTTP, with nothing but clary: what ``make demo`` runs.

A real data set becomes a RecordIO file; the file goes through a FIFO into a training job, as in SageMaker's Pipe
mode; the job's model.tar.gz is served; three images are sent to the endpoint, as CSV and as JSON.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLARY = [sys.executable, "-m", "clary"]


def main() -> None:
    """Run the demo in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="clary-demo-") as name:
        folder = Path(name)
        clary("datasets", "digits", "--out", "digits.rec", folder=folder)
        clary("head", "digits.rec", "-n", "3", folder=folder)
        clary(
            *("train", "kmeans", "--train", "digits.rec", "--mode", "pipe"),
            *("-p", "k=10", "-p", "epochs=10", "--out", "model.tar.gz"),
            folder=folder,
        )
        with endpoint(folder / "model.tar.gz") as port:
            for content_type, body in requests(folder):
                ask(port, content_type, body)


def clary(*words: str, folder: Path) -> None:
    """Type a command, and show it."""
    print(f"\n$ clary {' '.join(words)}", flush=True)
    code = subprocess.run([*CLARY, *words], cwd=folder, check=False, timeout=120).returncode
    if code:
        raise SystemExit(code)


@contextmanager
def endpoint(model: Path) -> Iterator[int]:
    """Serve the model on a free port until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    print(f"\n$ clary serve {model.name} --port {port} &", flush=True)
    command = [*CLARY, "serve", model, "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not alive(port):
            if time.monotonic() > deadline or server.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=30)


def alive(port: int) -> bool:
    """Whether the server answers."""
    try:
        return send(port, "GET", "/ping").status == http.client.OK
    except OSError:
        return False


def send(port: int, method: str, path: str, body: str = "", content_type: str = "") -> http.client.HTTPResponse:
    """One request, and its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {"Content-Type": content_type, "Connection": "close"})
    return connection.getresponse()


def requests(folder: Path) -> Iterator[tuple[str, str]]:
    """Three images of the data set, once as CSV and once as JSON."""
    subprocess.run([*CLARY, "convert", "digits.rec", "digits.csv"], cwd=folder, check=True, timeout=60)
    rows = [line.split(",")[1:] for line in (folder / "digits.csv").read_text().splitlines()[:3]]  # without the label
    yield "text/csv", "\n".join(",".join(row) for row in rows) + "\n"
    yield "application/json", json.dumps({"instances": [{"features": [float(cell) for cell in row]} for row in rows]})


def ask(port: int, content_type: str, body: str) -> None:
    """Send one request and show it with its answer."""
    print(f"\nPOST /invocations  {content_type}")
    for line in body.splitlines():
        print("  " + (line if len(line) < 90 else line[:89] + "…"))
    response = send(port, "POST", "/invocations", body, content_type)
    answer = response.read().decode().strip()
    print(f"{response.status} {response.headers['Content-Type']}\n  {answer}", flush=True)


if __name__ == "__main__":
    main()
