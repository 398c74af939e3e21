"""The page's files and its answers in JSON, from a store and logs that are real."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import Client, TestResponse

import clary.local.page
import clary.local.training  # its operations answer
from clary.local.folder import StateFolder
from clary.local.logs import Logs
from clary.local.page import Page
from clary.local.platform import Platform
from clary.local.processes import Processes
from clary.local.store import Metric, Store

KIND = "training-job"
GROUP = "/aws/sagemaker/TrainingJobs"
HOSTILE = "<img src=x onerror=alert(1)>/../../x"
FOLDER = Path(clary.local.page.__file__).parent / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())
PROOF = {"X-Clary": "page"}


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """One with nothing."""
    folder = StateFolder(tmp_path / "state")
    with folder.locked():
        here = Processes()
        made = Platform(folder, Store(folder.database), Logs(folder.path), None, here, here, "eu-west-1")
        yield made
        made.close()


@pytest.fixture
def client(platform: Platform) -> Client:
    """Who looks at the page."""
    return Client(Page(platform))


def add(platform: Platform, name: str, status: str = "Completed", **fields: Any) -> None:
    """A training job."""
    arn = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name.lower()}"
    document = {"TrainingJobName": name, "TrainingJobArn": arn, "TrainingJobStatus": status, **fields}
    platform.store.add(KIND, name, document, status=status)


def got(client: Client, path: str, **query: Any) -> Any:
    """The answer in JSON."""
    response = client.get(f"/_clary/{path}", query_string=query)
    assert response.status_code == 200, response.text
    return json.loads(response.text)


def told(response: TestResponse) -> tuple[int, str]:
    """Status and message of a refusal."""
    return response.status_code, json.loads(response.text)["message"]


@pytest.mark.parametrize("name", FILES)
def test_files(client: Client, name: str) -> None:
    """Each file of the folder is served as what it is, and not again to who has it."""
    path = "/" if name == "index.html" else f"/_clary/{name}"
    response = client.get(path)
    assert response.status_code == 200
    assert response.data == (FOLDER / name).read_bytes()
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert response.mimetype == kinds[Path(name).suffix]
    again = client.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.head(path).data == b""
    assert client.post(path, headers=PROOF).status_code == 405


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/_clary/page.js", "/_clary/overview", "/_clary/none"])
def test_headers(client: Client, path: str) -> None:
    """Every answer forbids what the page does not need: other origins, frames, inline scripts, guessed types."""
    headers = client.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".svg")])
def test_text_is_never_markup(name: str) -> None:
    """No file has a way for text to become markup, script or style, and none names another host."""
    text = (FOLDER / name).read_text()
    markup = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|srcdoc|\.style\b|javascript:"
    assert not re.search(rf"{markup}|DOMParser|createContextualFragment|<style| style=| on\w+=", text)
    assert set(re.findall(r"https?://[^\"'` /]+", text)) <= {"http://www.w3.org"}  # SVG's name space


UNKNOWN = "page.html page.py ../page.py page%2F..%2Findex.html overview/x list/x list/training/x describe/training"
UNKNOWN += " describe/training/ describe/x/a trials/training/a log/model/a metrics"


@pytest.mark.parametrize("path", ["", *UNKNOWN.split()])
def test_unknown_paths(client: Client, path: str) -> None:
    """What is not there is answered with 404."""
    assert client.get(f"/_clary/{path}").status_code == 404


@pytest.mark.parametrize("word", ["describe", "metrics", "log"])
def test_unknown_job(client: Client, word: str) -> None:
    """A job that is not there is told of by its name."""
    assert told(client.get(f"/_clary/{word}/training/nobody")) == (404, "there is no training-job 'nobody'")


def test_overview(platform: Platform, client: Client) -> None:
    """The overview tells the region, the folder and the last things of each kind."""
    for number in range(8):
        add(platform, f"job-{number}", SecondaryStatus="Completed", TrainingEndTime=7.5)
    found = got(client, "overview")
    assert (found["region"], found["state"]) == ("eu-west-1", str(platform.folder.path))
    assert [thing["name"] for thing in found["training"]["things"]] == [f"job-{number}" for number in range(7, 1, -1)]
    assert found["training"]["next"]
    assert found["training"]["things"][0]["ended"] == 7.5
    assert found["endpoints"] == {"things": [], "next": None}


def test_list_goes_on(platform: Platform, client: Client) -> None:
    """A long list comes in parts, newest first, and can be searched."""
    for number in range(60):
        add(platform, f"job-{number}")
    first = got(client, "list/training")
    rest = got(client, "list/training", next=first["next"])
    names = [thing["name"] for part in (first, rest) for thing in part["things"]]
    assert names == [f"job-{number}" for number in range(59, -1, -1)]
    assert rest["next"] is None
    found = got(client, "list/training", contains="b-59")
    assert [thing["name"] for thing in found["things"]] == ["job-59"]
    assert client.get("/_clary/list/training?next=@").status_code == 400


def test_hostile_name(platform: Platform, client: Client) -> None:
    """A name that no request could give is data as any other: no path, no markup."""
    add(platform, HOSTILE, "Failed", FailureReason=HOSTILE)
    platform.logs.write("eu-west-1", GROUP, f"{HOSTILE}/algo-1", HOSTILE)
    name = quote(HOSTILE, safe="")
    assert got(client, "list/training")["things"][0]["name"] == HOSTILE
    assert got(client, f"describe/training/{name}")["description"]["FailureReason"] == HOSTILE
    assert got(client, f"log/training/{name}")["lines"][0][1:] == ["algo-1", HOSTILE]
    response = client.get(f"/_clary/describe/training/{name}")
    assert response.mimetype == "application/json"


def test_environment_stays_secret(platform: Platform, client: Client) -> None:
    """Of environment variables the page gets the names, and of our own notes nothing."""
    add(platform, "job", Environment={"TOKEN": "secret-1"}, HyperParameters={"k": "2"}, _note="secret-2")
    response = client.get("/_clary/describe/training/job")
    assert "secret" not in response.text
    found = json.loads(response.text)["description"]
    assert found["Environment"] == ["TOKEN"]
    assert found["HyperParameters"] == {"k": "2"}


def test_metrics(platform: Platform, client: Client) -> None:
    """Metrics come in order, later ones alone where the earlier ones are known; JSON has no infinity."""
    add(platform, "job")
    values = [1.5, float("inf"), 0.25]
    platform.store.add_metrics(KIND, "job", [Metric("loss", at, value) for at, value in enumerate(values)])
    found = got(client, "metrics/training/job")
    assert found == {"count": 3, "points": [["loss", 0, 1.5], ["loss", 1, None], ["loss", 2, 0.25]]}
    assert got(client, "metrics/training/job", after=2) == {"count": 3, "points": [["loss", 2, 0.25]]}


@pytest.mark.parametrize("after", ["-1", "x", "1e3", "9" * 5000, "²"])
def test_wrong_number_of_metrics(platform: Platform, client: Client, after: str) -> None:
    """What is no number is refused."""
    add(platform, "job")
    assert client.get("/_clary/metrics/training/job", query_string={"after": after}).status_code == 400


def test_log_goes_on(platform: Platform, client: Client) -> None:
    """Of a long log the last lines are told, then what is new; a job whose name begins alike has its own."""
    add(platform, "job")
    for number in range(1200):
        platform.logs.write("eu-west-1", GROUP, "job/algo-1", f"line {number}")
    platform.logs.write("eu-west-1", GROUP, "job-2/algo-1", "of another job")
    found = got(client, "log/training/job")
    assert [text for _, _, text in found["lines"]] == [f"line {number}" for number in range(200, 1200)]
    assert found["left_out"] == 200
    platform.logs.write("eu-west-1", GROUP, "job/algo-2", "more")
    rest = got(client, "log/training/job", position=json.dumps(found["position"]))
    assert [line[1:] for line in rest["lines"]] == [["algo-2", "more"]]


@pytest.mark.parametrize("position", ["[]", "x", '{"a": -1}', '{"a": "1"}', '{"a": true}', "[" * 50_000])
def test_wrong_position(platform: Platform, client: Client, position: str) -> None:
    """What is no position is refused."""
    add(platform, "job")
    assert client.get("/_clary/log/training/job", query_string={"position": position}).status_code == 400


def test_stop_needs_proof(platform: Platform, client: Client) -> None:
    """A form of another site, which can send no such header, stops nothing."""
    add(platform, "job")
    assert told(client.post("/_clary/stop/training/job", data={"a": "b"})) == (
        403,
        "the header X-Clary: page is missing",
    )
    assert client.get("/_clary/stop/training/job", headers=PROOF).status_code == 405
    assert client.post("/_clary/describe/training/job", headers=PROOF).status_code == 405
    assert client.post("/_clary/stop/endpoints/job", headers=PROOF).status_code == 404
    assert client.post("/_clary/stop/training/none", headers=PROOF).status_code == 404


def test_stop_of_an_ended_job(platform: Platform, client: Client) -> None:
    """A job that has ended is not stopped, in AWS's words."""
    add(platform, "job")
    assert told(client.post("/_clary/stop/training/job", headers=PROOF)) == (
        400,
        "The request was rejected because the training job is in status Completed.",
    )
