"""Objects of Amazon S3 outlast a kill: a real server, killed and started again on the same folder."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from .test_services import WAIT, client, serving

BUCKET: Final = "a-bucket"
MIB: Final = 1 << 20
KEYS: Final = [
    "../../x",
    "..",
    "/leading",
    "a//b",
    "a/",
    "with spaces and +plus&and=?#%25",
    "ünïcödé/日本語/🙂",
    "k" * 1000,
    "bucket.json",
    "tab\tand\x7f",
]


@contextmanager
def s3_on(folder: Path) -> Iterator[Any]:
    """A client of a server on `folder`; the server is killed at the end."""
    with serving(folder) as (address, _):
        yield client("s3", address)


def create(s3: Any, bucket: str = BUCKET) -> None:
    """Create a bucket."""
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})


def listing(s3: Any, bucket: str = BUCKET) -> dict[str, tuple[str, int, str]]:
    """ETag, size and time of all objects."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    found = [entry for page in pages for entry in page.get("Contents", ())]
    return {entry["Key"]: (entry["ETag"], entry["Size"], str(entry["LastModified"])) for entry in found}


def read(s3: Any, key: str, **more: Any) -> bytes:
    """The bytes of an object."""
    data: bytes = s3.get_object(Bucket=BUCKET, Key=key, **more)["Body"].read()
    return data


def known(s3: Any, key: str) -> dict[str, Any]:
    """All that HEAD says of an object."""
    answer: dict[str, Any] = s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    del answer["ResponseMetadata"]
    return answer


def stored(folder: Path) -> list[str]:
    """The names of the files of the bucket, without what is random."""
    return sorted(".".join([file.name.split(".")[0], file.suffix]) for file in (folder / "s3" / BUCKET).iterdir())


def test_objects_outlast_a_kill(tmp_path: Path) -> None:
    """Bytes, metadata, ETags, checksums, tags, times and the list are the same after a kill."""
    body = os.urandom(100_000)
    with s3_on(tmp_path) as s3:
        create(s3)
        s3.put_object(
            Bucket=BUCKET,
            Key="data/train.csv",
            Body=body,
            ContentType="text/csv",
            ContentEncoding="gzip",
            CacheControl="no-cache",
            Metadata={"owner": "me", "my_note": "two words"},
            StorageClass="STANDARD_IA",
            Tagging="team=one&stage=a%20b",
            ChecksumAlgorithm="SHA256",
        )
        s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")
        s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": [{"Key": "cost", "Value": "none"}]})
        before = known(s3, "data/train.csv"), known(s3, "empty"), listing(s3)
    with s3_on(tmp_path) as s3:
        assert (known(s3, "data/train.csv"), known(s3, "empty"), listing(s3)) == before
        assert before[0]["Metadata"] == {"owner": "me", "my_note": "two words"}
        assert read(s3, "data/train.csv") == body
        assert read(s3, "empty") == b""
        tags = s3.get_object_tagging(Bucket=BUCKET, Key="data/train.csv")["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "one", "stage": "a b"}
        assert s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"] == [{"Key": "cost", "Value": "none"}]
        assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] == "eu-west-1"


def test_any_key(tmp_path: Path) -> None:
    """No key leads out of the folder, and each names its own object, also after a kill."""
    with s3_on(tmp_path) as s3:
        create(s3)
        for key in KEYS:
            s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
        assert {key: read(s3, key) for key in KEYS} == {key: key.encode() for key in KEYS}
    assert [entry.name for entry in tmp_path.iterdir()] == ["s3"]
    assert [entry.name for entry in (tmp_path / "s3").iterdir()] == [BUCKET]
    with s3_on(tmp_path) as s3:
        assert listing(s3).keys() == set(KEYS)
        assert {key: read(s3, key) for key in KEYS} == {key: key.encode() for key in KEYS}
        for key in KEYS:
            s3.delete_object(Bucket=BUCKET, Key=key)
        assert listing(s3) == {}
    assert stored(tmp_path) == ["bucket..json"]


def test_answered_uploads_are_there(tmp_path: Path) -> None:
    """Of many uploads at once, every one that was answered before the kill is there, whole, with its metadata."""
    bodies: dict[str, list[bytes]] = {f"key-{number}": [] for number in range(20)}
    answered: dict[str, int] = {}
    enough = threading.Event()
    with serving(tmp_path) as (address, process), ThreadPoolExecutor(20) as pool:
        s3 = client("s3", address, max_pool_connections=20)
        create(s3)

        def upload(key: str) -> None:
            for number in range(1000):
                body = os.urandom(1000 + 50_000 * (number % 3))
                bodies[key].append(body)
                try:
                    metadata = {"md5": hashlib.md5(body).hexdigest()}  # noqa: S324
                    s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata)
                except (BotoCoreError, ClientError):
                    return
                answered[key] = number
                if sum(answered.values()) > 100:
                    enough.set()

        futures = [pool.submit(upload, key) for key in bodies]
        assert enough.wait(WAIT)
        process.kill()
        for future in as_completed(futures, WAIT):
            future.result()
    with s3_on(tmp_path) as s3:
        for key, number in answered.items():
            found = s3.get_object(Bucket=BUCKET, Key=key)
            body = found["Body"].read()
            assert body in bodies[key][number:]  # what was answered last, or what was being sent
            assert found["Metadata"]["md5"] == hashlib.md5(body).hexdigest()  # noqa: S324
            assert found["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'  # noqa: S324
    files = stored(tmp_path)
    assert len([name for name in files if name.endswith(".data")]) == len(set(files)) // 2  # no leftovers


def test_upload_in_parts(tmp_path: Path) -> None:
    """A large upload in parts is one object after a kill, with the ETag of one in parts; parts take no room."""
    body = os.urandom(12 * MIB)
    file, copy = tmp_path / "body", tmp_path / "copy"
    file.write_bytes(body)
    with s3_on(tmp_path / "state") as s3:
        create(s3)
        s3.upload_file(str(file), BUCKET, "large", ExtraArgs={"Metadata": {"a": "b"}})
        before = known(s3, "large")
        assert before["ETag"].endswith('-2"')
        unfinished = s3.create_multipart_upload(Bucket=BUCKET, Key="unfinished")
        part = {"Bucket": BUCKET, "Key": "unfinished", "UploadId": unfinished["UploadId"]}
        s3.upload_part(**part, PartNumber=1, Body=b"x")
        other = s3.create_multipart_upload(Bucket=BUCKET, Key="large")
        s3.abort_multipart_upload(Bucket=BUCKET, Key="large", UploadId=other["UploadId"])
    with s3_on(tmp_path / "state") as s3:
        assert known(s3, "large") == before
        s3.download_file(BUCKET, "large", str(copy))
        assert copy.read_bytes() == body
        assert listing(s3).keys() == {"large"}
    assert len(stored(tmp_path / "state")) == 3


def test_ranges(tmp_path: Path) -> None:
    """Ranges of an object are what they say they are, before and after a restart."""
    body = os.urandom(3 * MIB + 5)
    for fresh in (True, False):
        with s3_on(tmp_path) as s3:
            if fresh:
                create(s3)
                s3.put_object(Bucket=BUCKET, Key="key", Body=body)
            assert read(s3, "key", Range="bytes=0-0") == body[:1]
            assert read(s3, "key", Range="bytes=1000000-2500000") == body[1_000_000:2_500_001]
            assert read(s3, "key", Range=f"bytes={3 * MIB}-") == body[-5:]
            assert read(s3, "key", Range="bytes=-7") == body[-7:]
            answer = s3.get_object(Bucket=BUCKET, Key="key", Range="bytes=10-19")
            assert (answer["ContentRange"], answer["ContentLength"]) == (f"bytes 10-19/{len(body)}", 10)
            with pytest.raises(ClientError, match="InvalidRange"):
                read(s3, "key", Range=f"bytes={len(body)}-")
            with pytest.raises(ClientError, match="304"):
                read(s3, "key", IfNoneMatch=answer["ETag"])


def test_reading_takes_no_memory(tmp_path: Path) -> None:
    """A large object is read in pieces: neither it nor its ranges are in the server's memory as a whole."""
    body = os.urandom(100 * MIB)
    with s3_on(tmp_path) as s3:
        create(s3)
        s3.put_object(Bucket=BUCKET, Key="key", Body=body)
    with serving(tmp_path) as (address, process):
        s3 = client("s3", address)
        s3.put_object(Bucket=BUCKET, Key="small", Body=b"loads all modules")
        assert read(s3, "small")
        before = peak(process.pid)
        assert read(s3, "key") == body
        assert read(s3, "key", Range="bytes=1-") == body[1:]
        assert peak(process.pid) - before < 50 * MIB


def test_uploads_in_parts_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts lie in files until they are together; those of an upload that is given up, or killed, go."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(MIB))  # what is free goes back to the system, and is not counted
    part, count = os.urandom(10 * MIB), 20
    where = {"Bucket": BUCKET, "Key": "key"}
    parts = tmp_path / "s3-parts"
    with serving(tmp_path) as (address, process):
        s3 = client("s3", address)
        create(s3)
        s3.put_object(Bucket=BUCKET, Key="small", Body=part)
        before = peak(process.pid)
        tags: list[str] = []
        uploads = [s3.create_multipart_upload(**where)["UploadId"] for _ in range(2)]
        for upload in uploads:
            tags = [
                s3.upload_part(**where, UploadId=upload, PartNumber=number + 1, Body=part)["ETag"]
                for number in range(count)
            ]
            s3.upload_part(**where, UploadId=upload, PartNumber=count, Body=part[:5])  # in the place of the one before
        assert len(list(parts.iterdir())) == 2 * count
        s3.abort_multipart_upload(**where, UploadId=uploads[0])
        assert len(list(parts.iterdir())) == count
        tags[-1] = s3.list_parts(**where, UploadId=uploads[1])["Parts"][-1]["ETag"]
        whole = [{"PartNumber": number + 1, "ETag": tag} for number, tag in enumerate(tags)]
        tag = s3.complete_multipart_upload(**where, UploadId=uploads[1], MultipartUpload={"Parts": whole})["ETag"]
        assert list(parts.iterdir()) == []
        assert peak(process.pid) - before < 100 * MIB
        digests = b"".join(bytes.fromhex(one.strip('"')) for one in tags)
        assert tag == f'"{hashlib.md5(digests).hexdigest()}-{count}"'  # noqa: S324
        assert read(s3, "key") == part * (count - 1) + part[:5]
        killed = s3.create_multipart_upload(**where)["UploadId"]
        s3.upload_part(**where, UploadId=killed, PartNumber=1, Body=part)
    with s3_on(tmp_path) as s3:
        assert not parts.exists()
        assert read(s3, "key") == part * (count - 1) + part[:5]


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    """Parts that are not there, are others, or are too small, are refused as by AWS; they can be sent again."""
    where = {"Bucket": BUCKET, "Key": "key"}
    with s3_on(tmp_path) as s3:
        create(s3)
        upload = s3.create_multipart_upload(**where)["UploadId"]

        def complete(*tags: str) -> dict[str, Any]:
            whole = [{"PartNumber": number + 1, "ETag": tag} for number, tag in enumerate(tags)]
            done: dict[str, Any] = s3.complete_multipart_upload(
                **where, UploadId=upload, MultipartUpload={"Parts": whole}
            )
            return done

        first, second = (
            s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=b"x" * number)["ETag"] for number in (1, 2)
        )
        for tags, why in (((second,), "InvalidPart"), ((first, second, first), "EntityTooSmall"), ((), "MalformedXML")):
            with pytest.raises(ClientError, match=why):
                complete(*tags)
        large = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"y" * 5 * MIB)["ETag"]
        complete(large, second)
        assert read(s3, "key") == b"y" * 5 * MIB + b"xx"


def test_a_bucket_that_comes_and_goes(tmp_path: Path) -> None:
    """Whoever stores in a bucket that others delete and create has it stored, or hears that there is no bucket."""
    refused = {"NoSuchBucket", "BucketNotEmpty", "BucketAlreadyOwnedByYou", "NoSuchKey"}
    with serving(tmp_path) as (address, _), ThreadPoolExecutor(12) as pool:
        s3 = client("s3", address, max_pool_connections=12)

        def turn(number: int) -> set[str]:
            codes = set()
            for _ in range(40):
                for ask in (
                    lambda: create(s3),
                    lambda: s3.put_object(Bucket=BUCKET, Key=f"{number}", Body=b"x"),
                    lambda: s3.delete_object(Bucket=BUCKET, Key=f"{number}"),
                    lambda: s3.delete_bucket(Bucket=BUCKET),
                ):
                    try:
                        ask()
                    except ClientError as error:
                        codes.add(error.response["Error"]["Code"])
            return codes

        assert set().union(*pool.map(turn, range(12))) <= refused


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_copy_and_delete(tmp_path: Path) -> None:
    """Copies, deletions, one or many at once, and the end of a bucket outlast a kill."""
    with s3_on(tmp_path) as s3:
        for bucket in (BUCKET, "another", "emptied"):
            create(s3, bucket)
        s3.put_object(Bucket=BUCKET, Key="source", Body=b"bytes", Metadata={"a": "b"}, ContentType="text/plain")
        s3.copy_object(Bucket="another", Key="target", CopySource=f"{BUCKET}/source")
        s3.copy_object(
            Bucket=BUCKET,
            Key="source",
            CopySource=f"{BUCKET}/source",
            MetadataDirective="REPLACE",
            Metadata={"c": "d"},
        )
        for number in range(5):
            s3.put_object(Bucket=BUCKET, Key=f"many/{number}", Body=b"x")
        s3.put_object(Bucket=BUCKET, Key="one", Body=b"x")
        s3.delete_object(Bucket=BUCKET, Key="one")
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": f"many/{number}"} for number in range(4)]})
        s3.put_object(Bucket="emptied", Key="one", Body=b"x")
        s3.delete_object(Bucket="emptied", Key="one")
        s3.delete_bucket(Bucket="emptied")
    assert not (tmp_path / "s3" / "emptied").exists()
    with s3_on(tmp_path) as s3:
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET, "another"]
        assert listing(s3).keys() == {"source", "many/4"}
        assert known(s3, "source")["Metadata"] == {"c": "d"}
        copied = s3.get_object(Bucket="another", Key="target")
        assert (copied["Body"].read(), copied["Metadata"], copied["ContentType"]) == (
            b"bytes",
            {"a": "b"},
            "text/plain",
        )
        with pytest.raises(ClientError, match="NoSuchKey"):
            read(s3, "one")


def test_versioned_bucket(tmp_path: Path) -> None:
    """All versions can be read until the restart, the current one after it; a deleted object stays deleted."""
    with s3_on(tmp_path) as s3:
        create(s3)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket=BUCKET, Key="key", Body=b"first")["VersionId"]
        second = s3.put_object(Bucket=BUCKET, Key="key", Body=b"second")["VersionId"]
        s3.put_object(Bucket=BUCKET, Key="deleted", Body=b"x")
        s3.delete_object(Bucket=BUCKET, Key="deleted")
        assert read(s3, "key", VersionId=first) == b"first"
    with s3_on(tmp_path) as s3:
        assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
        assert listing(s3).keys() == {"key"}
        assert read(s3, "key", VersionId=second) == read(s3, "key") == b"second"
        s3.delete_object(Bucket=BUCKET, Key="key", VersionId=second)
        assert listing(s3) == {}
    assert stored(tmp_path) == ["bucket..json"]


def test_presigned(tmp_path: Path) -> None:
    """Presigned addresses store and fetch, even where the client takes the body for a form."""
    with s3_on(tmp_path) as s3:
        create(s3)
        where = {"Bucket": BUCKET, "Key": "a b/c"}
        put = urllib.request.Request(s3.generate_presigned_url("put_object", where), b"a=b&c", method="PUT")  # noqa: S310
        with urllib.request.urlopen(put, timeout=WAIT) as answer:  # noqa: S310 - http
            assert answer.status == 200
    with s3_on(tmp_path) as s3:
        get = s3.generate_presigned_url("get_object", {**where, "ResponseContentType": "text/x-mine"})
        with urllib.request.urlopen(get, timeout=WAIT) as answer:  # noqa: S310 - http
            assert (answer.read(), answer.headers["Content-Type"]) == (b"a=b&c", "text/x-mine")


def test_read_while_replaced(tmp_path: Path) -> None:
    """Whoever reads an object while others replace it gets one of its versions, whole, with the ETag of that one."""
    bodies = [bytes([number]) * 300_000 for number in range(4)]
    tags = {f'"{hashlib.md5(body).hexdigest()}"': body for body in bodies}  # noqa: S324
    with serving(tmp_path) as (address, _), ThreadPoolExecutor(8) as pool:
        s3 = client("s3", address)
        create(s3)
        s3.put_object(Bucket=BUCKET, Key="key", Body=bodies[0])

        def replace(number: int) -> None:
            for turn in range(30):
                s3.put_object(Bucket=BUCKET, Key="key", Body=bodies[(number + turn) % 4])

        def look() -> None:
            for _ in range(40):
                answer = s3.get_object(Bucket=BUCKET, Key="key")
                assert tags[answer["ETag"]] == answer["Body"].read()

        futures = [pool.submit(replace, number) for number in range(4)] + [pool.submit(look) for _ in range(4)]
        for future in as_completed(futures, WAIT):
            future.result()
        assert len(stored(tmp_path)) == 3


def test_damage_is_skipped(tmp_path: Path) -> None:
    """What cannot be read is left out and left alone; all else is there, and what a kill leaves is cleaned up."""
    with s3_on(tmp_path) as s3:
        create(s3)
        for key in ("good", "cut", "short"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"bytes")
    folder = tmp_path / "s3" / BUCKET
    by_key = {json.loads(file.read_bytes()).get("key"): file for file in folder.glob("*.json")}
    by_key["cut"].write_bytes(by_key["cut"].read_bytes()[:30])
    next(folder.glob(f"{by_key['short'].stem}.*.data")).write_bytes(b"byt")
    (folder / f"{by_key['good'].stem}.0123.data").write_bytes(b"of an upload that was killed")
    (folder / ".x.json.1.tmp").write_bytes(b"")
    begun, broken = tmp_path / "s3" / "begun", tmp_path / "s3" / "broken"
    for bucket in (begun, broken):
        bucket.mkdir()
    (begun / ".bucket.json.1.tmp").write_bytes(b"{")
    (broken / "bucket.json").write_bytes(b"{")
    with s3_on(tmp_path) as s3:
        assert listing(s3).keys() == {"good"}
        assert read(s3, "good") == b"bytes"
        assert len(stored(tmp_path)) == 7
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET]
        assert broken.exists()
        assert not begun.exists()
        s3.put_object(Bucket=BUCKET, Key="cut", Body=b"anew")
    with s3_on(tmp_path) as s3:
        assert read(s3, "cut") == b"anew"


def test_full_disk(tmp_path: Path) -> None:
    """An object that cannot be written is answered 500 and what it was to replace is there after a restart."""
    with serving(tmp_path) as (address, process):
        s3 = client("s3", address)
        create(s3)
        s3.put_object(Bucket=BUCKET, Key="key", Body=b"before")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(ClientError, match=r"InternalError.*it could not be stored"):
            s3.put_object(Bucket=BUCKET, Key="key", Body=bytes(300_000))
        s3.put_object(Bucket=BUCKET, Key="small", Body=b"fits")
    with s3_on(tmp_path) as s3:
        assert read(s3, "key") == b"before"
        assert read(s3, "small") == b"fits"
    assert len(stored(tmp_path)) == 5
