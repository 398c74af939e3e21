"""Checkpoints, kept in S3 while a job runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clary.errors import PlatformError, UserError
from clary.local.checkpoint_sync import CheckpointSync
from clary.local.objects import Location, RefusedError, keys

from .conftest import LIMIT, Put, connected


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kept(s3: Any, bucket: str) -> set[str]:
    """Keys of a bucket."""
    return set(keys(s3, Location(bucket, "")))


def test_checkpoints_come_back_and_go_on(s3: Any, bucket: str, put: Put, tmp_path: Path) -> None:
    """What is in S3 is there before the job is; what it writes, changes and removes goes to S3 at its end."""
    put("ck/old", "ck/deep/gone", "ckx/other", "ck//etc/passwd", "ck/../out")
    with CheckpointSync(s3, f"s3://{bucket}/ck/", tmp_path / "made/here") as sync:
        folder = tmp_path / "made/here"
        assert (folder / "old").read_bytes() == b"ck/old"
        assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"old", "gone"}
        (folder / "old").write_bytes(b"new")
        (folder / "deep/gone").unlink()
        (folder / "deep/a").write_bytes(b"a")
        (folder / "b.sagemaker-uploading").write_bytes(b"b")
        sync.push()
        assert s3.get_object(Bucket=bucket, Key="ck/old")["Body"].read() == b"new"
        (folder / "last").write_bytes(b"last")

    assert kept(s3, bucket) == {"ck/old", "ck/deep/a", "ck/last", "ckx/other", "ck//etc/passwd", "ck/../out"}


def test_checkpoints_are_copied_while_the_job_runs(s3: Any, bucket: str, tmp_path: Path) -> None:
    """Nobody has to ask for it."""
    with CheckpointSync(s3, f"s3://{bucket}", tmp_path / "ck"):
        (tmp_path / "ck/a").write_bytes(b"a")
        until(lambda: kept(s3, bucket) == {"a"})
        shutil.rmtree(tmp_path / "ck")
        until(lambda: kept(s3, bucket) == set())


def test_a_copy_that_fails_is_tried_again(s3: Any, bucket: str, tmp_path: Path) -> None:
    """A bucket that is away for a while does no harm."""
    with CheckpointSync(s3, f"s3://{bucket}/ck", tmp_path / "ck") as sync:
        s3.delete_bucket(Bucket=bucket)
        (tmp_path / "ck/a").write_bytes(b"a")
        with pytest.raises(RefusedError):
            sync.push()
        time.sleep(1.5)  # the thread has tried too
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    assert kept(s3, bucket) == {"ck/a"}


def test_what_fails_to_the_end_is_told(s3: Any, bucket: str, tmp_path: Path) -> None:
    """But only where the job has no error of its own, which matters more."""
    with (
        pytest.raises(UserError, match=f"^s3://{bucket}/ck/a cannot be written: .*bucket does not exist"),
        CheckpointSync(s3, f"s3://{bucket}/ck", tmp_path / "one"),
    ):
        s3.delete_bucket(Bucket=bucket)
        (tmp_path / "one/a").write_bytes(b"a")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    with (
        pytest.raises(PlatformError, match="the job's own"),
        CheckpointSync(s3, f"s3://{bucket}/ck", tmp_path / "two"),
    ):
        s3.delete_bucket(Bucket=bucket)
        (tmp_path / "two/a").write_bytes(b"a")
        raise PlatformError("the job's own")


def test_a_restore_that_fails_is_told_at_once(s3: Any, tmp_path: Path) -> None:
    """The job does not begin without its checkpoints."""
    with pytest.raises(RefusedError, match=r"^s3://nobody/ck/ cannot be listed: "):
        CheckpointSync(s3, "s3://nobody/ck", tmp_path / "ck").__enter__()
    nobody = connected(1, retries={"total_max_attempts": 1}, connect_timeout=5)
    with pytest.raises(PlatformError, match=r"^s3://b/ck/ cannot be listed: "):
        CheckpointSync(nobody, "s3://b/ck", tmp_path / "ck").restore()


def test_a_job_cannot_make_links_of_its_folders(s3: Any, bucket: str, tmp_path: Path) -> None:
    """What it puts in their place is not followed, even where links lead to the folder of the platform."""
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "real")
    (tmp_path / "secret/ck").mkdir(parents=True)
    (tmp_path / "secret/ck/key").write_bytes(b"secret")
    folder = tmp_path / "state/job/ck"
    with CheckpointSync(s3, f"s3://{bucket}/", folder) as sync:
        (folder / "a").write_bytes(b"a")
        (folder / "link").symlink_to(tmp_path / "secret/ck/key")
        (folder / "folder").symlink_to(tmp_path / "secret")
        sync.push()
        assert kept(s3, bucket) == {"a"}
        folder.parent.rename(tmp_path / "moved")
        folder.parent.symlink_to(tmp_path / "secret")

    assert kept(s3, bucket) == set()
