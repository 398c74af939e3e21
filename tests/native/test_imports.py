"""What a training job and a server import: NumPy and what answers HTTP, none of the large packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clary.algorithms.registry import ALGORITHMS
from clary.serve.encode import MEDIA_TYPES

from ..golden_job import Golden
from ..job import SOON, csv

LARGE = ("numba", "cython", "pandas", "polars", "pyarrow", "scipy", "sklearn", "torch", "xgboost", "orjson", "boto3")

TRAIN = """
import os, sys
from clary.containers.entrypoint import main
assert main(["train"]) == 0
print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}))
"""

SERVE = """
import os, sys
from pathlib import Path
from werkzeug.test import Client
from clary.serve import connections, workers
from clary.serve.settings import Settings
app = workers._application(Settings.from_environment(os.environ))
client = Client(app)
assert client.get("/ping").status_code == 200
for accept in sys.argv[2:]:
    body = Path(sys.argv[1]).read_bytes()
    answer = client.post("/invocations", data=body, headers={"Content-Type": "text/csv", "Accept": accept})
    assert answer.status_code == 200, answer.data
print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}))
"""

PLAIN = """
import os, sys
from pathlib import Path
from clary.serve import quick, workers
from clary.serve.plain import plain
from clary.serve.settings import Settings
app = workers._application(Settings.from_environment(os.environ))
rows = Path(sys.argv[1]).read_bytes()
head = b"POST /invocations HTTP/1.1\\r\\nContent-Type: text/csv\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(rows)
for data in (b"GET /ping HTTP/1.1\\r\\n\\r\\n", head + rows):
    request = plain(data)
    assert app.shortcuts[request.line](request, data[request.start:])
print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def modules(program: str, *words: str, **env: object) -> set[str]:
    """Packages that a process has imported at its end."""
    whole = {**os.environ, **{name: str(value) for name, value in env.items()}}
    run = subprocess.run([sys.executable, "-c", program, *words], env=whole, capture_output=True, timeout=SOON)
    text = run.stdout.decode()
    assert run.returncode == 0, text + run.stderr.decode()
    return set(text.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("kernels", ["1", "0"])
@pytest.mark.parametrize("golden", ALGORITHMS, indirect=True)
def test_imports(golden: Golden, kernels: str, tmp_path: Path) -> None:
    """No large package is imported to train or to answer in any format, and no Flask to answer plain requests."""
    environment = {"CLARY_ALGORITHM": golden.algorithm.name, "SAGEMAKER_BASE_DIR": tmp_path, "CLARY_NATIVE": kernels}
    golden.tree(tmp_path, "csv" if "csv" in golden.algorithm.content_types else "recordio")
    trained = modules(TRAIN, **environment)
    assert "numpy" in trained
    assert trained.isdisjoint((*LARGE, "flask", "gunicorn", "google"))
    (tmp_path / "rows.csv").write_bytes(csv(golden.rows).replace(b"nan", b""))
    accepted = [MEDIA_TYPES[name] for name in golden.algorithm.accepts]
    serving = modules(SERVE, str(tmp_path / "rows.csv"), *accepted, **environment)
    assert {"numpy", "flask", "gunicorn"} <= serving
    assert serving.isdisjoint(LARGE)
    plainly = modules(PLAIN, str(tmp_path / "rows.csv"), **environment)
    assert {"numpy", "gunicorn"} <= plainly
    assert plainly.isdisjoint((*LARGE, "flask", "werkzeug"))
