"""What jobs leave, and how it gets into S3."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from clary.local.objects import Location, RefusedError, keys
from clary.local.outputs import merged, put_folder


def left(folder: Path, **files: str) -> Path:
    """Fill a folder as a job does."""
    for name, text in files.items():
        place = folder / name.replace("_", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


def stored(s3: Any, bucket: str) -> dict[str, bytes]:
    """Key → content of all that is in a bucket."""
    found = keys(s3, Location(bucket, ""))
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in found}


def members(content: bytes) -> list[str]:
    """Names in an archive."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.getnames()


@pytest.mark.parametrize("prefix", ["", "/out/"])
def test_a_folder_becomes_an_archive_or_objects(s3: Any, bucket: str, tmp_path: Path, prefix: str) -> None:
    """They lie below the prefix, with no slash too many."""
    folder = left(tmp_path / "model", a="1", sub_b="2")
    archive, uri, below = tmp_path / "model.tar.gz", f"s3://{bucket}{prefix}", prefix.removeprefix("/")

    assert put_folder(s3, folder, uri, archive=archive) == f"s3://{bucket}/{below}model.tar.gz"
    assert put_folder(s3, folder, uri, archive=archive, packed=False) == f"s3://{bucket}/{below}model/"
    found = stored(s3, bucket)
    assert members(found.pop(f"{below}model.tar.gz")) == ["a", "sub/b"]
    assert found == {f"{below}model/a": b"1", f"{below}model/sub/b": b"2"}


@pytest.mark.parametrize("packed", [True, False])
def test_links_lead_nowhere(s3: Any, bucket: str, tmp_path: Path, packed: bool) -> None:
    """A folder of links is as good as empty, and so is one behind a link, wherever that is on the way."""
    left(tmp_path, secret_key="secret")
    model = tmp_path / "run/algo-1/output/data"
    model.mkdir(parents=True)
    (model / "file").symlink_to(tmp_path / "secret/key")
    (model / "folder").symlink_to(tmp_path / "secret")
    archive = tmp_path / "run/model.tar.gz"
    assert put_folder(s3, model, f"s3://{bucket}/", archive=archive, packed=packed) is None
    model.parent.rename(tmp_path / "moved")
    left(tmp_path, other_data_key="secret")
    model.parent.symlink_to(tmp_path / "other")

    assert put_folder(s3, model, f"s3://{bucket}/", archive=archive, packed=packed) is None
    assert stored(s3, bucket) == {}


@pytest.mark.parametrize("packed", [True, False])
def test_a_bucket_that_is_not_there_is_the_users_fault(s3: Any, tmp_path: Path, packed: bool) -> None:
    """It is said so, whatever is written."""
    folder = left(tmp_path / "model", a="1")
    with pytest.raises(RefusedError, match=r"^s3://nobody/out/model.* cannot be written: .*bucket does not exist"):
        put_folder(s3, folder, "s3://nobody/out", archive=tmp_path / "model.tar.gz", packed=packed)


def test_hosts_leave_one_folder(tmp_path: Path) -> None:
    """Of the same name the last host's file stays; links of a host are left where they are."""
    left(tmp_path, secret_key="secret")
    one = left(tmp_path / "algo-1/model", a="1", sub_b="1")
    two = left(tmp_path / "algo-2/model", b="2", sub_b="2")
    (two / "link").symlink_to(tmp_path / "secret/key")
    (tmp_path / "algo-3").mkdir()
    (tmp_path / "algo-3/model").symlink_to(tmp_path / "secret")
    for _ in range(2):
        into = merged([one, two, tmp_path / "algo-3/model"], tmp_path / "merged")
        found = {str(path.relative_to(into)): path.read_text() for path in into.rglob("*") if path.is_file()}
        assert found == {"a": "1", "b": "2", "sub/b": "2"}

    assert (one / "sub/b").read_text() == "1"
    assert merged([one], tmp_path / "none") == one
