"""Objects in S3, behind connections that break and names that are wrong."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from clary.errors import ChannelError, PlatformError, UserError
from clary.local.objects import Location, RefusedError, TooLargeError, download, keys, opened, remove, upload

from .conftest import LIMIT, Put, connected

CONTENT = bytes(range(256)) * (3 << 12)  # 3 MiB


def never() -> bool:
    """Nobody has stopped anything."""
    return False


class Breaking:
    """The same S3 behind connections that break.

    Attributes
    ----------
    left
        How many objects are still cut in half.
    ranges
        The Range of each request for an object, empty where it has none.
    """

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self.left = 0
        self.ranges: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, not always to the end."""
        answer: Iterable[bytes] = self._app(environ, start_response)
        if environ["REQUEST_METHOD"] != "GET":
            return answer
        self.ranges.append(environ.get("HTTP_RANGE", ""))
        return self._cut(b"".join(answer))

    def _cut(self, content: bytes) -> Iterator[bytes]:
        if not self.left:
            yield content
            return
        self.left -= 1
        yield content[: len(content) // 2]
        raise ConnectionAbortedError


@contextmanager
def serving(app: Any) -> Iterator[Any]:
    """A client of an S3 that is an application of ours."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    client = connected(server.server_port, retries={"total_max_attempts": 1}, read_timeout=LIMIT)
    try:
        yield client
    finally:
        client.close()
        server.shutdown()
        server.server_close()


def test_a_broken_download_goes_on_where_it_broke(put: Put, bucket: str, tmp_path: Path) -> None:
    """Three times in one object; what is here is not fetched again."""
    put("a", content=CONTENT)
    breaking = Breaking()
    breaking.left = 3
    with serving(breaking) as s3:
        assert download(s3, Location(bucket, "a"), tmp_path / "deep/a", never)

    assert (tmp_path / "deep/a").read_bytes() == CONTENT
    starts = [int(text.removeprefix("bytes=").rstrip("-") or 0) for text in breaking.ranges]
    assert starts == [0, len(CONTENT) // 2, len(CONTENT) * 3 // 4, len(CONTENT) * 7 // 8]


def test_a_connection_that_breaks_too_often_is_not_the_users_fault(put: Put, bucket: str, tmp_path: Path) -> None:
    """The fourth time is the last, and half an object is no file."""
    put("a", content=CONTENT)
    breaking = Breaking()
    breaking.left = 4
    with serving(breaking) as s3, pytest.raises(PlatformError, match=f"s3://{bucket}/a cannot be read: "):
        download(s3, Location(bucket, "a"), tmp_path / "a", never)

    assert list(tmp_path.iterdir()) == []


def test_no_object_is_made_of_two(put: Put, bucket: str) -> None:
    """One that is replaced while its connection breaks is refused."""
    put("a", content=CONTENT)
    breaking = Breaking()
    breaking.left = 1
    with serving(breaking) as s3, opened(s3, Location(bucket, "a")) as stream:
        assert stream.read(1) == b"\0"
        put("a", content=CONTENT[::-1])
        with pytest.raises(RefusedError, match="PreconditionFailed"):
            stream.read()


def test_a_failing_s3_is_not_the_users_fault(tmp_path: Path) -> None:
    """Neither one that answers 503 nor one that does not answer."""

    def failing(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("503 Service Unavailable", [("Content-Length", "0")])
        return [b""]

    at = Location("bucket", "key")
    nobody = connected(1, retries={"total_max_attempts": 1}, connect_timeout=5)
    with serving(failing) as failed:
        for s3 in (failed, nobody):
            cases: list[tuple[str, Callable[[], Any]]] = [
                ("listed", lambda s3=s3: list(keys(s3, at))),
                ("read", lambda s3=s3: download(s3, at, tmp_path / "a", never)),
                ("written", lambda s3=s3: upload(s3, at, io.BytesIO(b"x"))),
                ("removed", lambda s3=s3: remove(s3, at)),
            ]
            for done, ask in cases:
                with pytest.raises(PlatformError, match=f"^s3://bucket/key cannot be {done}: "):
                    ask()


@pytest.mark.parametrize("size", [1, 9 << 20])
def test_a_bucket_that_is_not_there_is_told(s3: Any, size: int) -> None:
    """Also when what is written is so large that it goes in parts."""
    with pytest.raises(RefusedError, match=r"^s3://nobody/a cannot be written: .*bucket does not exist") as caught:
        upload(s3, Location("nobody", "a"), io.BytesIO(bytes(size)))

    assert isinstance(caught.value, UserError)


@pytest.mark.parametrize(("name", "key"), [("No Bucket!", "a"), ("", ""), ("", "\ud800")])
def test_names_that_s3_does_not_know_are_the_users_fault(s3: Any, bucket: str, name: str, key: str) -> None:
    """They are refused before anybody is asked."""
    with pytest.raises(RefusedError, match="cannot be written: "):
        upload(s3, Location(name or bucket, key), io.BytesIO(b"x"))


def test_keys_may_have_any_characters(s3: Any, bucket: str, tmp_path: Path) -> None:
    """What ends the path of other URIs is a part of a key."""
    key = "a?b#c%20d e+f&g/µ"
    at = Location.of(f"s3://{bucket}/{key}")
    upload(s3, at, io.BytesIO(b"x"))

    assert list(keys(s3, Location(bucket, "a?b#"))) == [key]
    assert download(s3, at, tmp_path / "a", never)
    assert (tmp_path / "a").read_bytes() == b"x"
    remove(s3, at)
    assert list(keys(s3, at)) == []


def test_a_download_that_is_not_wanted_any_more_leaves_nothing(s3: Any, put: Put, bucket: str, tmp_path: Path) -> None:
    """It ends between two chunks."""
    put("a", content=CONTENT)
    answers = iter([False, False, True])

    assert not download(s3, Location(bucket, "a"), tmp_path / "a", lambda: next(answers))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_stored_is_told(s3: Any, put: Put, bucket: str, tmp_path: Path) -> None:
    """The disk is not the user's fault."""
    put("a", "empty", content=b"")
    (tmp_path / "file").touch()
    with pytest.raises(PlatformError, match=f"s3://{bucket}/a cannot be stored: "):
        download(s3, Location(bucket, "a"), tmp_path / "file/a", never)

    assert download(s3, Location(bucket, "empty"), tmp_path / "empty", never)
    assert (tmp_path / "empty").read_bytes() == b""


def test_an_object_can_be_too_large(s3: Any, put: Put, bucket: str) -> None:
    """That is known before it is read."""
    put("a", content=b"four")
    with opened(s3, Location(bucket, "a"), 4) as stream:
        assert stream.read() == b"four"
    with pytest.raises(TooLargeError, match=f"s3://{bucket}/a has 4 bytes, over the limit of 3"):
        opened(s3, Location(bucket, "a"), 3)


@pytest.mark.parametrize("uri", ["", "bucket/key", "https://bucket/key", "s3:///key"])
def test_what_is_no_uri_of_s3_is_told(uri: str) -> None:
    """The error says how to write one."""
    with pytest.raises(ChannelError, match="write s3://bucket/key"):
        Location.of(uri)
