"""Which objects of S3 a channel means, in which order, and where each lies in the channel's folder."""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from ..errors import ChannelError
from .objects import Cancelled, Location, RefusedError, TooLargeError, keys, leads_out, opened

__all__ = ["Content", "Item", "Location", "finding"]

_REFERENCE: Final = "-ref"  # an attribute with this suffix names an object instead of being the data
_MAX_MANIFEST: Final = 64 << 20  # bytes
_LONGEST_NAME: Final = 255  # bytes of a file's name on every usual file system
_FORM: Final = '[{"prefix": "s3://bucket/folder/"}, "name", …]'


@dataclass(frozen=True, slots=True)
class Item:
    """What is shuffled and dealt to hosts as one: an object, or a line of an augmented manifest.

    Parameters
    ----------
    parts
        What it puts into a stream: objects, and bytes as they are.
    line
        The line of the manifest.
    """

    parts: tuple[Location | bytes, ...]
    line: bytes = b""

    @property
    def objects(self) -> tuple[Location, ...]:
        """Those of its parts that are in S3."""
        return tuple(part for part in self.parts if isinstance(part, Location))


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a channel.

    Parameters
    ----------
    prefix
        Of all keys, as the user wrote it.
    items
        In order.
    places
        Object → its path in the channel's folder, not yet known to be inside.
    manifest
        Name of the augmented manifest in the channel's folder; empty where there is none.
    """

    prefix: str = ""
    items: Sequence[Item] = ()
    places: Mapping[Location, str] = field(default_factory=dict)
    manifest: str = ""

    @classmethod
    def find(cls, s3: Any, source: Mapping[str, Any], cancelled: Cancelled) -> Content:
        """What an S3DataSource means; once `cancelled`, maybe not all of it.

        Raises
        ------
        ChannelError
            When there is nothing, or a manifest is wrong.
        PlatformError
            When S3 does not answer.
        """
        at, kind = Location.of(source["S3Uri"]), source["S3DataType"]
        with finding(s3):
            if kind == "S3Prefix":
                found = cls.of_keys(at, keys(s3, at, cancelled))
                if not found.items and not cancelled():
                    raise _absent(s3, at)
                return found
            try:
                with opened(s3, at, _MAX_MANIFEST) as stream:
                    text = stream.read()
            except TooLargeError as error:
                raise ChannelError(f"the manifest {error}: split it") from error
        if kind == "ManifestFile":
            return cls.of_manifest(at, text)
        return cls.of_lines(at, text, source["AttributeNames"])

    @classmethod
    def of_keys(cls, at: Location, keys: Iterable[str]) -> Content:
        """All objects whose keys begin alike.

        Examples
        --------
        >>> Content.of_keys(Location("b", "data/train"), ["data/train.csv", "data/train/x/y.csv"]).places
        {Location(bucket='b', key='data/train.csv'): 'train.csv', Location(bucket='b', key='data/train/x/y.csv'): 'x/y.csv'}
        """  # noqa: E501
        places = {Location(at.bucket, key): _remainder(at.key, key) for key in keys}
        return cls(at.key, [Item((location,)) for location in places], places)

    @classmethod
    def of_manifest(cls, at: Location, text: bytes) -> Content:
        """The objects that a ManifestFile lists.

        Raises
        ------
        ChannelError
            When it is none, or lists nothing.
        """
        prefix, names = _listed(at, text)
        listed = [(Location(prefix.bucket, prefix.key + name), name) for name in names]
        inside = "" if prefix.key.endswith("/") else "/"  # that of a folder without its final slash
        places = {location: name.removeprefix(inside) for location, name in listed}
        return cls(prefix.key, [Item((location,)) for location, _ in listed], places)

    @classmethod
    def of_lines(cls, at: Location, text: bytes, attributes: Sequence[str]) -> Content:
        """The lines of an augmented manifest, of each the attributes in the order given.

        Raises
        ------
        ChannelError
            When a line is no JSON object, lacks an attribute, or one that should name an object does not.
        """
        lines = enumerate(text.splitlines(keepends=False), 1)
        items = [_item(line, attributes, f"line {number} of {at}") for number, line in lines if line.strip()]
        if not items:
            raise ChannelError(f'{at} has no lines: write JSON objects, as {{"source-ref": "s3://…", "label": 1}}')
        objects = list(dict.fromkeys(location for item in items for location in item.objects))
        common = os.path.commonprefix([location.key for location in objects])  # noqa: RUF071, keys are no paths
        folder = common[: common.rfind("/") + 1]
        places = {location: location.key[len(folder) :] for location in objects}
        return cls(at.key, items, places, PurePosixPath(at.key).name)

    def check_places(self) -> None:
        """Refuse what cannot lie in one folder, or would lead out of it.

        Raises
        ------
        ChannelError
            When a key is such, or two want the same place.
        """
        taken = {PurePosixPath(self.manifest): "the manifest"} if self.manifest else {}
        for location, place in self.places.items():
            path = PurePosixPath(place)
            if leads_out(place):
                raise ChannelError(
                    f"{location} would lie at {place!r}, outside the channel's folder: rename the object"
                )
            if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
                raise ChannelError(f"{location} has a name over {_LONGEST_NAME} bytes between slashes: shorten it")
            if path in taken:
                raise ChannelError(f"{location} and {taken[path]} would both be the file {path}: rename one")
            taken[path] = str(location)
        for path, location_text in taken.items():
            for folder in path.parents:
                if folder in taken:
                    both = f"{taken[folder]} is the file {folder}, and {location_text} needs a folder of that name"
                    raise ChannelError(f"{both}: rename one, or use Pipe mode")


@contextmanager
def finding(s3: Any) -> Iterator[None]:
    """Say of what S3 refuses in the block that there are no such objects, in words that clients know."""
    try:
        yield
    except RefusedError as error:
        raise _absent(s3, error.at, f" ({error.reason})") from error


def _absent(s3: Any, at: Location, reason: str = "") -> ChannelError:
    return ChannelError(
        f'No S3 objects found under S3 URL "{at}" given in input data source. Please ensure that the bucket exists in '
        f"the selected region ({s3.meta.region_name}), that objects exist under that S3 prefix, and that the role has "
        f'"s3:ListBucket" permissions on bucket "{at.bucket}".{reason}'
    )


def _location(uri: Any) -> Location | None:
    """What JSON names, if it is in S3."""
    try:
        return Location.of(uri) if isinstance(uri, str) else None
    except ChannelError:
        return None


def _remainder(prefix: str, key: str) -> str:
    rest = key[len(prefix) :]
    if prefix.endswith("/") or rest.startswith("/"):
        return rest.removeprefix("" if prefix.endswith("/") else "/")
    return key[prefix.rfind("/") + 1 :]  # the prefix ends within a name


def _listed(at: Location, text: bytes) -> tuple[Location, list[str]]:
    """Prefix and names of a ManifestFile."""
    listed = _parsed(text, f"{at} is no manifest", _FORM)
    if not (isinstance(listed, list) and listed):
        raise ChannelError(f"{at} is no manifest: it has to be a JSON list; write {_FORM}")
    first, *names = listed
    if not isinstance(first, dict):
        raise ChannelError(f"{at} does not begin with its prefix: write {_FORM}")
    prefix = _location(first.get("prefix"))
    if prefix is None:
        raise ChannelError(f"{at}: the prefix has to be a URI of S3, got {first.get('prefix')!r}; write {_FORM}")
    if not names:
        raise ChannelError(f"{at} lists nothing but its prefix: write {_FORM}")
    for name in names:
        if not (isinstance(name, str) and name):
            raise ChannelError(f"{at} lists {json.dumps(name)[:80]}, which is no name: write {_FORM}")
        if name.startswith("s3://"):
            raise ChannelError(f"{at} lists {name}, but names are relative to the prefix: write {_FORM}")
        _encoded(name, f"{at}: a name")
    return prefix, names


def _item(line: bytes, attributes: Sequence[str], where: str) -> Item:
    found = _parsed(line, f"{where} is no JSON", 'one object, as {"source-ref": "s3://…", "label": 1}')
    if not isinstance(found, dict):
        raise ChannelError(f"{where} is no JSON object but {json.dumps(found)[:80]}")
    missing = [name for name in attributes if name not in found]
    if missing:
        has = ", ".join(found) or "none"
        raise ChannelError(f"{where} has no attribute {missing[0]}, which AttributeNames lists; it has {has}")
    return Item(tuple(_part(name, found[name], where) for name in attributes), line)


def _part(name: str, value: Any, where: str) -> Location | bytes:
    if name.endswith(_REFERENCE):
        location = _location(value)
        if location is None or not location.key:
            got = json.dumps(value)[:80]
            raise ChannelError(f"{where}: {name} has to name an object, as s3://bucket/key, got {got}")
        _encoded(location.key, f"{where}: {name}")
        return location
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _encoded(text, f"{where}: {name}")


def _encoded(text: str, what: str) -> bytes:
    """As UTF-8; JSON can spell half of a character that needs two."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ChannelError(f"{what} is no valid text: {error}") from error


def _parsed(text: bytes, wrong: str, form: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ChannelError(f"{wrong}: {error}; write {form}") from error
