"""A real S3, and readers of real folders and FIFOs."""

from __future__ import annotations

import os
import select
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from clary.containers.feeder import Feeder
from clary.local.data import ChannelData

LIMIT = 60  # seconds of any wait

Fetch = Callable[..., ChannelData]
Put = Callable[..., None]
Read = Callable[..., list[bytes]]


def connected(port: int, **config: Any) -> Any:
    """Return a client of the S3 on a port."""
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}, **config),
    )


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """Return a client of a server of S3."""
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    client = connected(server.server_port)
    yield client
    client.close()
    server.shutdown()
    server.server_close()


@pytest.fixture
def bucket(s3: Any) -> str:
    """Make a bucket of the test's own and return its name."""
    name = f"bucket-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return name


@pytest.fixture
def put(s3: Any, bucket: str) -> Put:
    """Return what puts objects into the bucket; without content their content is their key."""

    def putting(*keys: str, content: bytes | None = None) -> None:
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=key.encode() if content is None else content)

    return putting


@pytest.fixture
def fetch(s3: Any, bucket: str, tmp_path: Path) -> Fetch:
    """Return what fetches a channel ``train`` of the bucket."""

    def fetching(key: str, mode: str = "File", **options: Any) -> ChannelData:
        found = ChannelData.of(channel(f"s3://{bucket}/{key}", **options), mode)
        found.fetch(s3, tmp_path / "fetched" / str(uuid.uuid4()), lambda: False)
        return found

    return fetching


def channel(uri: str, **options: Any) -> dict[str, Any]:
    """Return an entry of InputDataConfig; `options` are of the channel or its source."""
    source = {"S3DataType": "S3Prefix", "S3Uri": uri}
    of_source = {"S3DataType", "S3DataDistributionType", "AttributeNames"}
    source |= {name: value for name, value in options.items() if name in of_source}
    rest = {name: value for name, value in options.items() if name not in of_source}
    return {"ChannelName": "train", "DataSource": {"S3DataSource": source}, **rest}


def laid(data: ChannelData, folder: Path, host: int = 0, hosts: int = 1) -> dict[str, bytes]:
    """Lay a channel and return its files: place → content."""
    folder.mkdir(exist_ok=True)
    data.lay(folder, host, hosts)
    root = folder / data.name
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Read]:
    """Return what feeds a channel to one host and gives some passes, as a reader of its FIFOs gets them."""
    with ExitStack() as stack:

        def reading(data: ChannelData, passes: int = 1, host: int = 0, hosts: int = 1) -> list[bytes]:
            folder = tmp_path / str(uuid.uuid4())
            folder.mkdir()
            feeder = Feeder(data.name, data.passes(host, hosts), folder)
            stack.callback(feeder.stop)
            feeder.start()
            found = [drained(folder / f"{data.name}_{number}") for number in range(passes)]
            assert feeder.error is None
            return found

        yield reading


def drained(fifo: Path, most: int | None = None) -> bytes:
    """Read a FIFO to its end, or close it early after `most` bytes."""
    pipe = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        found = b""
        while most is None or len(found) < most:
            assert poll.poll(1000 * LIMIT), f"nobody feeds {fifo}"
            chunk = os.read(pipe, 1 << 20)
            if not chunk:
                break
            found += chunk
        return found
    finally:
        os.close(pipe)
