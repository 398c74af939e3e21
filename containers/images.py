"""The container images on this machine, under our names and under AWS's.

Everything goes through the ``docker`` command, as a person would type it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from .. import __version__
from ..algorithms.registry import ALGORITHMS
from ..algorithms.registry import algorithm as find
from ..errors import PlatformError, UsageError, UserError
from .files import size_text
from .registries import REGIONS, uri, versions
from .screen import Progress, bar, smart, table

__all__ = ["Image", "list_images", "local_images", "tag_aws"]

_LIMIT: Final = 60  # seconds for one docker command; none of them pulls or builds
_AT_ONCE: Final = 4
_TITLE: Final = "org.opencontainers.image.title"
_ECR: Final = re.compile(r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.")


@dataclass(frozen=True, slots=True)
class Image:
    """An image of ours.

    Parameters
    ----------
    id
        What the engine calls it.
    algorithm
        What it trains, or ``all``.
    tags
        Its names, ``repository:tag``.
    size
        In bytes, with everything below it.
    created
        Date and time, UTC.
    """

    id: str
    algorithm: str
    tags: tuple[str, ...]
    size: int
    created: str


class _Wish(NamedTuple):
    """A name that a local image is to have."""

    algorithm: str
    version: str
    image: str
    target: str


def list_images() -> None:
    """Show the local images of clary: a table on a terminal, one tab-separated line a tag elsewhere."""
    images = sorted(local_images(), key=lambda image: image.algorithm)
    if not images:
        print(f"clary: there are no images here: {_how_to_build()}", file=sys.stderr)
    elif sys.stdout.isatty():
        print(table([("image", "tags", "size", "created (UTC)"), *(row for image in images for row in _rows(image))]))
    else:
        for image in images:
            for tag in image.tags:
                print(tag, image.id, image.size, image.created, sep="\t")


def tag_aws(*, region: str | None, algorithm: str | None) -> None:
    """Give local images the names that AWS's images have, which the SageMaker SDK then finds here.

    Parameters
    ----------
    region
        One region, or ``all``; by default that of the environment, and all where it says none.
    algorithm
        Only this one; by default all of which there is an image.

    Raises
    ------
    UserError
        When there is no image to give a name to.
    """
    regions = _regions(region)
    wanted = [find(algorithm).name] if algorithm else list(ALGORITHMS)
    images = local_images()
    names = {tag: image.id for image in images for tag in image.tags}
    sources = {name: source for name in wanted if (source := _source(name, names))}
    missing = ", ".join(name for name in wanted if name not in sources)
    if not sources:
        raise UserError(f"there is no local image of {missing}: {_how_to_build()}")
    foreign = set(_docker("image", "ls", "--format={{.Repository}}:{{.Tag}}").split()) - set(names)
    wishes = list(_wishes(sources, regions))
    taken = [wish.target for wish in wishes if wish.target in foreign]
    wishes = [wish for wish in wishes if wish.target not in foreign]
    _tag([wish for wish in wishes if names.get(wish.target) != names[wish.image]])
    if sys.stdout.isatty():
        print(table([("algorithm", "version", "image", "is found as"), *_summary(wishes)]))
    else:
        for wish in wishes:
            print(wish.target)
    if taken:
        told = f"{', '.join(taken)}: an image that is not ours has this name and keeps it"
        print(f"clary: {told}; docker rmi would free it", file=sys.stderr)
    if missing:
        print(f"clary: there is no local image of {missing}: {_how_to_build()}", file=sys.stderr)


def local_images() -> list[Image]:
    """The images of ours that have a name.

    Raises
    ------
    PlatformError
        When there is no engine to ask.
    """
    found = _docker("image", "ls", "--quiet", "--no-trunc", "--filter=dangling=false", f"--filter=label={_TITLE}")
    ids = list(dict.fromkeys(found.split()))
    if not ids:
        return []
    images = []
    for entry in json.loads(_docker("image", "inspect", *ids)):
        ours, _, algorithm = entry["Config"]["Labels"][_TITLE].partition(" ")
        if ours == "clary" and algorithm:
            created = entry["Created"][:16].replace("T", " ")
            images.append(Image(entry["Id"], algorithm, tuple(entry["RepoTags"]), entry["Size"], created))
    return images


def _docker(*words: str) -> str:
    """What a docker command prints."""
    try:
        done = subprocess.run(  # noqa: S603
            ["docker", *words],  # noqa: S607  # the user's own docker
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
    except FileNotFoundError as error:
        raise PlatformError("the command docker is not here: see  clary doctor") from error
    except subprocess.TimeoutExpired as error:
        raise PlatformError(f"docker {words[0]} did not end within {_LIMIT} s: see  clary doctor") from error
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise PlatformError(f"docker {' '.join(words[:2])} failed: {said} (see  clary doctor)")
    return done.stdout


def _regions(name: str | None) -> Sequence[str]:
    """The regions that are meant."""
    name = name or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "all"
    if name == "all":
        return REGIONS
    if name not in REGIONS:
        raise UsageError(f"AWS has no image of these algorithms in {name!r}: choose from {', '.join(REGIONS)}, or all")
    return [name]


def _source(algorithm: str, names: dict[str, str]) -> str | None:
    """The local image of an algorithm that is to be used: that of `make images`, else that of `make image`."""
    choices = (f"clary/{algorithm}:{__version__}", f"clary/{algorithm}:latest", f"clary-{algorithm}:latest")
    return next((name for name in choices if name in names), None)


def _wishes(sources: dict[str, str], regions: Sequence[str]) -> Iterator[_Wish]:
    """Every name of AWS's for these images."""
    for algorithm, image in sources.items():
        for version in versions(algorithm):
            for region in regions:
                if target := uri(algorithm, region, version):
                    yield _Wish(algorithm, version, image, target)


def _tag(wishes: Sequence[_Wish]) -> None:
    """Give the names, several at once: all regions together have hundreds."""
    progress = Progress(lambda text: print(text, end="", flush=True))
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        for done, _ in enumerate(pool.map(lambda wish: _docker("tag", wish.image, wish.target), wishes)):
            if smart(sys.stdout.isatty()):
                progress.draw(partial(str, f"tag {bar(done / len(wishes))}"))
    finally:
        progress.clear()
        pool.shutdown(cancel_futures=True)


def _summary(wishes: Sequence[_Wish]) -> Iterator[tuple[str, str, str, str]]:
    """One row a version, whatever the number of regions."""
    first: dict[tuple[str, str], _Wish] = {}
    count: dict[tuple[str, str], int] = {}
    for wish in wishes:
        key = (wish.algorithm, wish.version)
        first.setdefault(key, wish)
        count[key] = count.get(key, 0) + 1
    for key, wish in first.items():
        more = f" and in {count[key] - 1} more regions" if count[key] > 1 else ""
        yield *key, wish.image, wish.target + more


def _rows(image: Image) -> Iterator[tuple[str, str, str, str]]:
    """One row a repository; AWS's, of which there may be one for each region, are one."""
    tags: dict[str, list[str]] = {}
    regions = set()
    for name in image.tags:
        repository, _, tag = name.rpartition(":")
        if found := _ECR.match(repository):
            regions.add(found["region"])
        else:
            tags.setdefault(repository, []).append(tag)
    size = size_text(image.size)
    for repository, names in tags.items():
        yield repository, " ".join(names), size, image.created
    if regions:
        where = next(iter(regions)) if len(regions) == 1 else f"{len(regions)} regions"
        yield f"{image.algorithm} of AWS", where, size, image.created


def _how_to_build() -> str:
    return "run  make images  in clary's source tree"
