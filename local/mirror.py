"""Objects of moto's Amazon S3, which lives in memory, in a folder: they outlast a restart and a kill.

A bucket is a folder with ``bucket.json``. An object is ``HASH.json``, all that is known of it, and
``HASH.RANDOM.data``, its bytes, which never change: ``HASH.json`` names them and takes its place last, so the two
always fit together. HASH comes of the key, which itself is never part of a path.

Of a versioned bucket the current versions are kept. Not kept are access control lists, rules for CORS, lifecycle and
notifications, and uploads in parts that have not been completed: their parts lie in a folder beside this one, and go
when it starts anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote

from moto.s3.models import FakeBucket, FakeKey, S3Backend, s3_backends
from moto.s3bucket_path.utils import bucket_name_from_url, parse_key_name

from ..containers.files import atomic
from ..errors import PlatformError
from .moto_s3 import Data, adapt, forget, is_stored

__all__ = ["Mirror"]

_LOG: Final = logging.getLogger("clary.local")
_PIECE: Final = 1 << 20  # bytes
_LOCKS: Final = 64
_PATIENCE: Final = 10.0  # seconds for an object that others replace again and again
_BUCKET: Final = "bucket.json"
_SAFE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{2,62}")

_OBJECT_FIELDS: Final = {
    "etag": "_etag",
    "storage_class": "_storage_class",
    "version": "_version_id",
    "versioned": "_is_versioned",
    "encryption": "encryption",
    "kms_key": "kms_key_id",
    "bucket_key": "bucket_key_enabled",
    "lock_mode": "lock_mode",
    "legal_hold": "lock_legal_status",
    "lock_until": "lock_until",
    "redirect": "website_redirect_location",
    "checksum_algorithm": "checksum_algorithm",
    "checksum": "checksum_value",
    "checksum_type": "checksum_type",
    "checksum_parts": "checksum_parts",
}
_BUCKET_FIELDS: Final = {
    "versioning": "versioning_status",
    "encryption": "encryption",
    "ownership": "ownership_rule",
}
"""By their names in our files: what moto calls the properties that are plain values."""


class Mirror:
    """Keeps a folder equal to the objects in moto's memory, and moto's memory small.

    Parameters
    ----------
    folder
        Where buckets lie; it is made if need be. Nobody else writes there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, dict[str, Path]] = {}  # bucket, key: its data
        self._buckets = threading.Lock()  # whoever wants one of the next too takes that first
        self._keys = [threading.Lock() for _ in range(_LOCKS)]
        folder.mkdir(parents=True, exist_ok=True)
        parts = folder.with_name(f"{folder.name}-parts")
        shutil.rmtree(parts, ignore_errors=True)
        adapt(parts)

    def load(self) -> None:
        """Give moto what the folder has; what cannot be read is warned of, skipped and left where it is."""
        for folder in sorted(self._folder.iterdir()):
            try:
                found = _read(folder / _BUCKET)
                backend = s3_backends[found["account"]][found["partition"]]
                bucket: FakeBucket = _new(FakeBucket, found["name"], found["account"], found["region"])
                _set(bucket, found, _BUCKET_FIELDS)
                bucket.creation_date = datetime.fromisoformat(found["created"])
                bucket.policy = found["policy"].encode() if found["policy"] else None
                _tag(backend, bucket.arn, found["tags"])
            except _UNREADABLE as error:
                if not _removed(folder):
                    _LOG.warning("skipped the bucket in %s: %s", folder, _why(error))
                continue
            backend.buckets[bucket.name] = bucket
            self._kept[bucket.name] = dict(_load_objects(folder, backend, bucket))

    def keep(self, method: str, path: str, query: str) -> None:
        """Bring to disk what a request has changed; call it before its answer goes out.

        Parameters
        ----------
        method, path, query
            Of the request, the path as it came: ``/bucket/key``, percent-encoded.

        Raises
        ------
        OSError
            When the folder cannot be written; what it held before is there still.
        PlatformError
            When the object was replaced so often that none of its versions could be had.
        """
        if not _changes(method, query):
            return
        name = bucket_name_from_url(path)
        if not name:
            return
        if key := parse_key_name(unquote(path)):
            self._keep_key(name, key)
        else:
            self._keep_bucket(name)

    def _keep_bucket(self, name: str) -> None:
        """The bucket as a whole."""
        self._keep_properties(name)
        bucket = _bucket(name)
        if bucket is None:
            self._drop_bucket(name)
            return
        gone = self._kept.get(name, {}).keys() - set(bucket.keys)
        changed = {key for key, value in bucket.keys.items() if not is_stored(value)}
        for key in gone | changed:
            self._keep_key(name, key)

    def _keep_properties(self, name: str) -> None:
        folder = self._place(name)
        with self._buckets:
            if (bucket := _bucket(name)) is None:
                return
            folder.mkdir(exist_ok=True)
            _write(folder / _BUCKET, _bucket_properties(bucket))
            _sync(self._folder)
            self._kept.setdefault(name, {})

    def _drop_bucket(self, name: str) -> None:
        folder = self._place(name)
        with ExitStack() as stack:
            for lock in (*self._keys, self._buckets):  # whoever keeps something of it comes to an end first
                stack.enter_context(lock)
            if _bucket(name) is None and self._kept.pop(name, None) is not None:
                (folder / _BUCKET).unlink(missing_ok=True)
                shutil.rmtree(folder)
                _sync(self._folder)

    def _keep_key(self, name: str, key_name: str) -> None:
        """One object as it is now, whoever changed it."""
        end = time.monotonic() + _PATIENCE
        with self._keys[hash((name, key_name)) % _LOCKS]:
            while (bucket := _bucket(name)) is not None:
                if name not in self._kept:
                    self._keep_properties(name)
                    continue
                key = bucket.keys.get(key_name)
                try:
                    if isinstance(key, FakeKey):
                        self._keep_object(bucket, key)
                    else:
                        self._drop_object(bucket, key_name)
                except ValueError as error:  # moto closes an object's buffer when another takes its place
                    if time.monotonic() > end:
                        raise PlatformError(f"s3://{name}/{key_name} is replaced faster than it is written") from error
                    time.sleep(0.01)
                else:
                    return

    def _keep_object(self, bucket: FakeBucket, key: FakeKey) -> None:
        folder, stem, kept = self._place(bucket.name), _stem(key.name), self._kept[bucket.name]
        before = kept.get(key.name)
        if is_stored(key):
            path = cast(Data, key._value_buffer).path
        else:
            path = folder / f"{stem}.{secrets.token_hex(8)}.data"
            with atomic(path) as out, key.lock:
                key._value_buffer.seek(0)
                shutil.copyfileobj(key._value_buffer, out, _PIECE)
        try:
            _write(folder / f"{stem}.json", _object_properties(key, path))
        except OSError:
            if not is_stored(key):
                path.unlink(missing_ok=True)
            raise
        _sync(folder)
        kept[key.name] = path
        _let_go(key, path)
        if before is not None and before not in _in_use(bucket, key.name):
            before.unlink(missing_ok=True)

    def _drop_object(self, bucket: FakeBucket, key_name: str) -> None:
        folder, before = self._place(bucket.name), self._kept[bucket.name].get(key_name)
        if before is None:
            return
        (folder / f"{_stem(key_name)}.json").unlink(missing_ok=True)
        _sync(folder)
        del self._kept[bucket.name][key_name]
        if before not in _in_use(bucket, key_name):
            before.unlink(missing_ok=True)

    def _place(self, bucket: str) -> Path:
        """The folder of a bucket; moto allows names that Amazon S3 does not."""
        return self._folder / (bucket if _SAFE_NAME.fullmatch(bucket) else f"_{_stem(bucket)}")


def _changes(method: str, query: str) -> bool:
    """Whether a request changes objects or buckets; parts of an upload are none until all are together."""
    fields = parse_qs(query, keep_blank_values=True)
    if method == "POST":
        return "uploads" not in fields
    return method in ("PUT", "DELETE") and "uploadId" not in fields


def _bucket(name: str) -> FakeBucket | None:
    where = s3_backends.bucket_accounts.get(name)
    return s3_backends[where[1]][where[0]].buckets.get(name) if where else None


def _in_use(bucket: FakeBucket, key_name: str) -> set[Path]:
    """The files that versions of an object are read from."""
    versions = bucket.keys.getlist(key_name) or ()
    return {cast(Data, version._value_buffer).path for version in versions if is_stored(version)}


def _let_go(key: FakeKey, path: Path) -> None:
    """Free the memory that moto uses for an object, now that it lies in a file."""
    if not is_stored(key):
        with key.lock:
            old = key._value_buffer
            key._value_buffer = cast(Any, Data(path))
        old.close()
    if key.multipart is not None:  # the parts that it was not made of
        key.multipart.dispose()
        key.multipart = None
    forget()


def _bucket_properties(bucket: FakeBucket) -> dict[str, Any]:
    backend = s3_backends[bucket.account_id][bucket.partition]
    return {
        "name": bucket.name,
        "account": bucket.account_id,
        "partition": bucket.partition,
        "region": bucket.region_name,
        "created": bucket.creation_date.isoformat(),
        "policy": bucket.policy.decode() if bucket.policy else None,
        "tags": backend.tagger.get_tag_dict_for_resource(bucket.arn),
        **{name: getattr(bucket, theirs) for name, theirs in _BUCKET_FIELDS.items()},
    }


def _object_properties(key: FakeKey, path: Path) -> dict[str, Any]:
    backend = s3_backends[key.account_id][key.partition]
    return {
        "key": key.name,
        "data": path.name,
        "size": key.size,
        "modified": key.last_modified.isoformat(),
        "metadata": dict(key.metadata),
        "tags": backend.tagger.get_tag_dict_for_resource(key.arn),
        **{name: getattr(key, theirs) for name, theirs in _OBJECT_FIELDS.items()},
    }


def _removed(folder: Path) -> bool:
    """Remove the folder of a bucket if a kill left it empty; say whether it was so."""
    with suppress(OSError):
        for file in folder.glob(".*.tmp"):
            file.unlink()
        folder.rmdir()
    return not folder.exists()


def _load_objects(folder: Path, backend: S3Backend, bucket: FakeBucket) -> Iterator[tuple[str, Path]]:
    """Give `bucket` the objects in `folder`, and remove what a kill has left there."""
    doubtful: set[str] = set()
    current: set[str] = set()
    for file in folder.glob("*.json"):
        if file.name == _BUCKET:
            continue
        try:
            found = _read(file)
            key = _key(file, found, backend, bucket)
        except _UNREADABLE as error:
            _LOG.warning("skipped the object in %s: %s", file, _why(error))
            doubtful.add(file.stem)
            continue
        current.add(found["data"])
        bucket.keys[key.name] = key
        yield key.name, folder / found["data"]
    for file in folder.iterdir():
        unfinished = file.name.startswith(".") and file.suffix == ".tmp"
        orphan = file.suffix == ".data" and file.name not in current and file.name.split(".")[0] not in doubtful
        if unfinished or orphan:
            with suppress(OSError):
                file.unlink()


def _key(file: Path, found: dict[str, Any], backend: S3Backend, bucket: FakeBucket) -> FakeKey:
    """The object that `file` tells of."""
    name, data = found["key"], file.with_name(found["data"])
    if file.stem != _stem(name) or not data.name.startswith(f"{file.stem}."):
        raise ValueError("it is not the file of the object that it names")
    if data.stat().st_size != found["size"]:
        raise ValueError(f"{data.name} has {data.stat().st_size} bytes, not {found['size']}")
    key: FakeKey = _new(FakeKey, name, b"", backend.account_id, backend.region_name, bucket_name=bucket.name)
    key._value_buffer.close()
    key._value_buffer = cast(Any, Data(data))
    key.contentsize = found["size"]
    key.last_modified = datetime.fromisoformat(found["modified"])
    key.set_metadata(found["metadata"])
    _set(key, found, _OBJECT_FIELDS)
    _tag(backend, key.arn, found["tags"])
    return key


_UNREADABLE: Final = (OSError, ValueError, TypeError, KeyError, AttributeError)
"""What reading raises where a file is missing, cut or not ours."""


def _why(error: Exception) -> str:
    return f"there is no {error} in it" if isinstance(error, KeyError) else str(error)


def _new(model: Any, *values: Any, **more: Any) -> Any:
    """One of moto's models, whose types do not say that it can be made."""
    return model(*values, **more)


def _set(model: FakeBucket | FakeKey, found: dict[str, Any], fields: dict[str, str]) -> None:
    for name, theirs in fields.items():
        setattr(model, theirs, found[name])


def _tag(backend: S3Backend, arn: str, tags: dict[str, str]) -> None:
    if tags:
        backend.tagger.tag_resource(arn, [{"Key": name, "Value": value} for name, value in tags.items()])


def _read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def _write(path: Path, properties: dict[str, Any]) -> None:
    with atomic(path) as file:
        file.write(json.dumps(properties).encode())


def _stem(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _sync(folder: Path) -> None:
    """Names in `folder` are on disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
