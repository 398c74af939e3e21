"""The input channels of a training job: what they mean, and how they lie in folders."""

from __future__ import annotations

import gzip
import itertools
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clary.errors import ChannelError, PlatformError
from clary.local.data import ChannelData

from .conftest import Fetch, Put, channel, connected, laid

# What a channel is


def test_the_mode_of_the_channel_overrides_that_of_the_job() -> None:
    """InputMode counts where it is given, TrainingInputMode elsewhere."""
    assert ChannelData.of(channel("s3://b/k"), "Pipe").mode == "Pipe"
    assert ChannelData.of(channel("s3://b/k", InputMode="FastFile"), "Pipe").mode == "FastFile"


def test_the_entry_of_inputdataconfig_has_a_content_type_only_where_one_was_given() -> None:
    """The other keys are always there."""
    plain = ChannelData.of(channel("s3://b/k"), "File")
    options = {"S3DataDistributionType": "ShardedByS3Key", "RecordWrapperType": "RecordIO", "ContentType": "text/csv"}
    full = ChannelData.of(channel("s3://b/k", **options), "Pipe")

    assert plain.config == {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    assert full.config == {
        "TrainingInputMode": "Pipe",
        "S3DistributionType": "ShardedByS3Key",
        "RecordWrapperType": "RecordIO",
        "ContentType": "text/csv",
    }


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (
            {"ChannelName": "train", "DataSource": {"FileSystemDataSource": {"FileSystemId": "fs-1"}}},
            "FileSystemDataSource is not supported here; use S3DataSource",
        ),
        ({"ChannelName": "train", "DataSource": {}}, "use S3DataSource"),
        ({**channel("s3://b/k"), "ChannelName": ".."}, "no channel name"),
        (channel("s3://b/k", S3DataType="Converse"), "Converse is not supported here; use S3Prefix"),
        (channel("https://b/k"), "write s3://bucket/key"),
        (channel("s3://b/k", S3DataType="AugmentedManifestFile"), "needs AttributeNames"),
        (channel("s3://b/k", S3DataType="AugmentedManifestFile", AttributeNames=["a"], InputMode="FastFile"), "Pipe"),
        (channel("s3://b/k", S3DataType="ManifestFile", InputMode="FastFile"), "FastFile mode takes"),
    ],
)
def test_what_is_not_supported_is_told(entry: dict[str, Any], text: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(ChannelError, match=text):
        ChannelData.of(entry, "File")


# S3Prefix


@pytest.mark.parametrize(
    ("prefix", "places"),
    [
        ("data/train/", {"a.csv", "deep/b.csv"}),
        ("data/train", {"a.csv", "deep/b.csv", "train.csv", "training/c.csv"}),
        ("data/tr", {"train/a.csv", "train/deep/b.csv", "train.csv", "training/c.csv"}),
        ("data/train/a.csv", {"a.csv"}),
        ("data", {"train/a.csv", "train/deep/b.csv", "train.csv", "training/c.csv"}),
        ("", {"data/train/a.csv", "data/train/deep/b.csv", "data/train.csv", "data/training/c.csv", "data.csv"}),
    ],
)
def test_a_prefix_means_all_keys_that_begin_so(
    prefix: str, places: set[str], put: Put, fetch: Fetch, tmp_path: Path
) -> None:
    """What follows the prefix is the place in the channel; where it ends within a name, that name is whole."""
    put("data/train/a.csv", "data/train/deep/b.csv", "data/train.csv", "data/training/c.csv", "data.csv")
    if prefix == "data":
        places = {*places, "data.csv"}

    assert set(laid(fetch(prefix), tmp_path / "data")) == places


def test_empty_objects_that_stand_for_folders_are_no_data(put: Put, fetch: Fetch, tmp_path: Path) -> None:
    """They would lie where the folder has to be; other empty objects are files."""
    put("data/", "data/x/", "data/x/empty", content=b"")

    assert laid(fetch("data/"), tmp_path / "data") == {"x/empty": b""}


def test_long_lists_come_in_pages(put: Put, fetch: Fetch, s3: Any, tmp_path: Path) -> None:
    """All pages are fetched."""
    put(*(f"p/{number}" for number in range(7)))

    def small(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = 2

    s3.meta.events.register("provide-client-params.s3.ListObjectsV2", small, unique_id="small")
    try:
        data = fetch("p/")
    finally:
        s3.meta.events.unregister("provide-client-params.s3.ListObjectsV2", unique_id="small")

    assert set(laid(data, tmp_path / "data")) == set("0123456")


@pytest.mark.parametrize("kind", ["S3Prefix", "ManifestFile"])
def test_without_an_object_it_is_told_in_known_words(kind: str, fetch: Fetch, bucket: str) -> None:
    """They are those of the cloud, as far as they are known here."""
    text = f'No S3 objects found under S3 URL "s3://{bucket}/none" given in input data source. Please ensure that'
    with pytest.raises(ChannelError) as caught:
        fetch("none", S3DataType=kind)

    assert str(caught.value).startswith(text)
    assert "(eu-west-1)" in str(caught.value)
    assert "'train'" in str(caught.value)


def test_a_missing_bucket_is_told_in_the_same_words(s3: Any, tmp_path: Path) -> None:
    """Nobody has to know which of the two it was."""
    data = ChannelData.of(channel("s3://there-is-none/k"), "File")
    with pytest.raises(ChannelError, match=r'^No S3 objects found under S3 URL "s3://there-is-none/k" given'):
        data.fetch(s3, tmp_path / "fetched", lambda: False)


def test_an_s3_that_does_not_answer_is_not_the_users_fault(tmp_path: Path) -> None:
    """It is an error of the surroundings."""
    client = connected(1, retries={"total_max_attempts": 1}, connect_timeout=5)
    with pytest.raises(PlatformError, match="s3://b/k cannot be listed"):
        ChannelData.of(channel("s3://b/k"), "File").fetch(client, tmp_path / "fetched", lambda: False)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "..", "a\0b", "."])
def test_a_key_that_leads_out_of_the_folder_is_refused(
    name: str, put: Put, fetch: Fetch, tmp_path: Path, bucket: str
) -> None:
    """Nothing is downloaded, nothing is written."""
    put("m", content=json.dumps([{"prefix": f"s3://{bucket}/in/"}, "fine", name]).encode())
    with pytest.raises(ChannelError, match="outside the channel's folder"):
        fetch("m", S3DataType="ManifestFile")

    assert not (tmp_path / "fetched").exists()


def test_a_prefix_with_a_key_that_leads_out_is_refused(put: Put, fetch: Fetch) -> None:
    """Keys of a real listing are no better than those of a manifest."""
    put("in//etc/passwd")
    with pytest.raises(ChannelError, match="outside the channel's folder"):
        fetch("in/")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("p/a", "p/a/b"), "is the file a, and s3://.*/p/a/b needs a folder of that name"),
        (("p", "p/p"), "would both be the file p"),
        (("p/" + "x" * 256,), "a name over 255 bytes"),
    ],
)
def test_keys_that_cannot_lie_in_one_folder_are_told(keys: Sequence[str], text: str, put: Put, fetch: Fetch) -> None:
    """S3 knows no folders, a file system does; a stream has no use for them."""
    put(*keys)
    with pytest.raises(ChannelError, match=text):
        fetch("p")

    fetch("p", "Pipe")


# Manifests


def test_a_manifest_lists_objects_below_its_prefix(put: Put, fetch: Fetch, tmp_path: Path, bucket: str) -> None:
    """The relative name is the place; objects that are not listed are not there."""
    put("dir/matrix_0.pbr", "dir/deep/matrix_1.pbr", "dir/matrix_2.pbr")
    manifest = [{"prefix": f"s3://{bucket}/dir/"}, "deep/matrix_1.pbr", "matrix_0.pbr"]
    put("dir/.amazon.manifest", content=json.dumps(manifest).encode())
    data = fetch("dir/.amazon.manifest", S3DataType="ManifestFile")

    assert laid(data, tmp_path / "data") == {
        "matrix_0.pbr": b"dir/matrix_0.pbr",
        "deep/matrix_1.pbr": b"dir/deep/matrix_1.pbr",
    }
    assert (tmp_path / "data/train-manifest").read_text().splitlines() == [
        "dir/",
        f"s3://{bucket}/dir/deep/matrix_1.pbr",
        f"s3://{bucket}/dir/matrix_0.pbr",
    ]


@pytest.mark.parametrize("prefix", ["dir", "dir/part-"])
def test_the_prefix_of_a_manifest_may_end_anywhere(
    prefix: str, put: Put, fetch: Fetch, tmp_path: Path, bucket: str
) -> None:
    """Prefix and name are put together as they are."""
    name = "/part-0.csv" if prefix == "dir" else "0.csv"
    put("dir/part-0.csv", content=b"x")
    put("m", content=json.dumps([{"prefix": f"s3://{bucket}/{prefix}"}, name]).encode())

    assert laid(fetch("m", S3DataType="ManifestFile"), tmp_path / "data") == {name.removeprefix("/"): b"x"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"{not json", "is no manifest: Expecting"),
        (b"[" * 100_000, "is no manifest: maximum recursion"),
        (b'"text"', "has to be a JSON list"),
        (b"[]", "has to be a JSON list"),
        (b'["s3://b/a.csv"]', "does not begin with its prefix"),
        (b'[{"prefix": "dir/"}, "a"]', "the prefix has to be a URI of S3, got 'dir/'"),
        (b'[{"folder": "s3://b/"}, "a"]', "got None"),
        (b'[{"prefix": "s3://b/"}]', "lists nothing"),
        (b'[{"prefix": "s3://b/"}, 7]', "lists 7, which is no name"),
        (b'[{"prefix": "s3://b/"}, ""]', 'lists "", which is no name'),
        (b'[{"prefix": "s3://b/"}, "s3://b/a"]', "names are relative to the prefix"),
        (b'[{"prefix": "s3://b/"}, "\\ud800"]', "no valid text"),
    ],
)
def test_a_bad_manifest_is_told(text: bytes, error: str, put: Put, fetch: Fetch) -> None:
    """What is wrong, and how to write it."""
    put("m", content=text)
    with pytest.raises(ChannelError, match=error):
        fetch("m", S3DataType="ManifestFile")


def test_an_object_that_a_manifest_lists_and_is_not_there_is_told(put: Put, fetch: Fetch, bucket: str) -> None:
    """The error names it."""
    put("m", content=json.dumps([{"prefix": f"s3://{bucket}/"}, "m", "none"]).encode())
    with pytest.raises(ChannelError, match=f'No S3 objects found under S3 URL "s3://{bucket}/none"'):
        fetch("m", S3DataType="ManifestFile")


def test_manifests_are_bounded(put: Put, fetch: Fetch) -> None:
    """A manifest is read into memory, so it may not be just anything."""
    put("m", content=bytes((64 << 20) + 1))
    with pytest.raises(ChannelError, match="over the limit of 67108864"):
        fetch("m", S3DataType="ManifestFile")


# File mode


def test_the_list_of_what_a_host_got_lies_beside_the_folder(
    put: Put, fetch: Fetch, tmp_path: Path, bucket: str
) -> None:
    """First the prefix of the keys, then the URIs; in Pipe mode it is all there is."""
    put("p/a", "p/b")
    fetch("p").lay(tmp_path, 0, 1)
    (tmp_path / "pipe").mkdir()
    fetch("p", "Pipe").lay(tmp_path / "pipe", 0, 1)

    assert (tmp_path / "train-manifest").read_text() == f"p\ns3://{bucket}/p/a\ns3://{bucket}/p/b\n"
    assert (tmp_path / "pipe/train-manifest").read_text() == (tmp_path / "train-manifest").read_text()
    assert [path.name for path in (tmp_path / "pipe").iterdir()] == ["train-manifest"]


def test_hosts_share_the_bytes_of_a_file(put: Put, fetch: Fetch, tmp_path: Path) -> None:
    """However many there are, the data is on disk once."""
    put("p/a")
    data = fetch("p/", "FastFile")
    laid(data, tmp_path / "one", 0, 2)
    laid(data, tmp_path / "two", 1, 2)

    assert (tmp_path / "one/train/a").samefile(tmp_path / "two/train/a")


def test_files_are_copied_where_they_cannot_be_linked(s3: Any, bucket: str, put: Put, tmp_path: Path) -> None:
    """The folder of a job may lie on another file system than what was fetched."""
    other = Path("/dev/shm")  # noqa: S108
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    put("p/a")
    data = ChannelData.of(channel(f"s3://{bucket}/p/"), "File")
    folder = other / f"clary-test-{uuid.uuid4()}"
    try:
        data.fetch(s3, folder, lambda: False)
        assert laid(data, tmp_path / "data") == {"a": b"p/a"}
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_objects_are_dealt_to_hosts(put: Put, fetch: Fetch, tmp_path: Path) -> None:
    """Each host gets about as many, and a host for which none is left an empty folder."""
    put("p/a", "p/b", "p/c", "p/d", "p/e")
    sharded = fetch("p/", S3DataDistributionType="ShardedByS3Key", ShuffleConfig={"Seed": 1})
    few = fetch("p/a", S3DataDistributionType="ShardedByS3Key")

    assert set(laid(sharded, tmp_path / "one", 0, 2)) == {"a", "c", "e"}
    assert set(laid(sharded, tmp_path / "two", 1, 2)) == {"b", "d"}
    assert laid(few, tmp_path / "none", 1, 2) == {}
    assert (tmp_path / "none/train").is_dir()


def test_compressed_files_stay_so_in_file_mode(put: Put, fetch: Fetch, tmp_path: Path) -> None:
    """CompressionType is about streams."""
    content = gzip.compress(b"x")
    put("p/a.gz", content=content)

    assert laid(fetch("p/", CompressionType="Gzip"), tmp_path / "data") == {"a.gz": content}


# Stopping


def test_a_stopped_job_fetches_no_more(s3: Any, bucket: str, put: Put, tmp_path: Path) -> None:
    """Downloads that have not begun do not."""
    put(*(f"p/{number}" for number in range(40)))
    asked = itertools.count()
    data = ChannelData.of(channel(f"s3://{bucket}/p/"), "File")
    data.fetch(s3, tmp_path / "fetched", lambda: next(asked) > 20)

    assert 0 < len(list((tmp_path / "fetched").iterdir())) < 40


def test_a_job_that_is_stopped_at_once_fetches_nothing(s3: Any, bucket: str, tmp_path: Path) -> None:
    """That there is nothing is then no error."""
    data = ChannelData.of(channel(f"s3://{bucket}/p/"), "File")
    data.fetch(s3, tmp_path / "fetched", lambda: True)

    assert list((tmp_path / "fetched").iterdir()) == []
