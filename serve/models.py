"""The models of a multi-model server: which are loaded, who uses them, and the memory they give back.

A model has one of three states: it is being loaded, it answers, or it is leaving. Only one that answers is listed,
lent and unloaded; the name of the others is taken all the same. One that leaves waits for those who use it.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from ..algorithms.memory import available_memory
from ..algorithms.registry import ALGORITHMS, algorithm
from ..errors import ArtifactError, ClaryError
from .settings import MIB

__all__ = ["Models", "ModelsError", "Slot", "map_large_pieces", "memory_needed"]

T = TypeVar("T")

_PATIENCE: Final = 60.0
"""Seconds that a model may still be used for after it was told to leave; SageMaker waits no longer for an answer."""

_COPIES: Final = 5
"""How many times the size of its files a model takes while it is loaded, as measured for trees; arrays take less."""

_M_MMAP_THRESHOLD: Final = -3  # of glibc's malloc.h

_SPARE: Final = 64 * MIB
"""Bytes that are left for requests."""


class ModelsError(ClaryError):
    """Something about the models that the platform gets to know by its status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(eq=False, slots=True)
class Slot(Generic[T]):
    """A model's place.

    Parameters
    ----------
    number
        Grows with each model.
    name, url
        As the platform calls it, and where it found it.
    content
        What is loaded; None before and after.
    users
        How many use it now.
    leaving
        Whether it lends itself no more.
    """

    number: int
    name: str
    url: str
    content: T | None = None
    users: int = 0
    leaving: bool = False


class Models(Generic[T]):
    """Models by their names, for any number of threads.

    Parameters
    ----------
    load
        Makes a model of a folder.
    patience
        Seconds that `unload` waits for those who use a model.
    """

    def __init__(self, load: Callable[[Path], T], patience: float = _PATIENCE) -> None:
        self._load = load
        self._patience = patience
        self._slots: dict[str, Slot[T]] = {}
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._claimed = 0

    def load(self, name: str, url: str) -> None:
        """Load the model in the folder `url` and call it `name`.

        Raises
        ------
        ModelsError
            409 when the name is taken, 404 when there is no such folder, 507 when memory is not enough.
        ClaryError
            When it cannot be loaded.
        """
        with self._changed:
            if name in self._slots:
                raise ModelsError(409, f"Model {name} is already registered.")
            slot = self._slots[name] = Slot(next(self._numbers), name, url)
        try:
            slot.content = self._loaded(Path(url), url)
        finally:
            if slot.content is None:
                with self._changed:
                    del self._slots[name]

    def unload(self, name: str) -> None:
        """Forget a model as soon as nobody uses it; its memory is free when this returns.

        Raises
        ------
        ModelsError
            404 when there is none of that name, 503 when it is used for too long: it goes on to answer.
        """
        with self._changed:
            slot = self._answering(name)
            slot.leaving = True
            if not self._changed.wait_for(lambda: not slot.users, self._patience):
                slot.leaving = False
                raise ModelsError(503, f"Model {name} still answers requests: try again later")
            del self._slots[name]
        slot.content = None
        _give_memory_back()

    def borrow(self, name: str) -> Slot[T]:
        """A model that answers and stays until it is given back.

        Raises
        ------
        ModelsError
            404 when there is none of that name.
        """
        with self._changed:
            slot = self._answering(name)
            slot.users += 1
            return slot

    def give_back(self, slot: Slot[T]) -> None:
        """End a `borrow`."""
        with self._changed:
            slot.users -= 1
            self._changed.notify_all()

    def url(self, name: str) -> str:
        """Where a model was loaded from.

        Raises
        ------
        ModelsError
            404 when there is none of that name.
        """
        with self._changed:
            return self._answering(name).url

    def page(self, after: int, size: int) -> tuple[list[Slot[T]], int | None]:
        """Some of the models whose number is beyond `after`, and the last one's number if there are more."""
        with self._changed:
            found = [slot for slot in self._slots.values() if slot.number > after and _answers(slot)]
        return found[:size], found[size - 1].number if len(found) > size else None

    def _answering(self, name: str) -> Slot[T]:
        slot = self._slots.get(name)
        if slot is None or not _answers(slot):
            raise ModelsError(404, f"Model not found: {name}")
        return slot

    def _loaded(self, folder: Path, url: str) -> T:
        """The model in a folder, if there is memory for it."""
        try:
            if "\0" in url or not folder.is_dir():
                raise ModelsError(404, f"there is no folder {url}: url has to name the one the artifact is unpacked in")
            needed = memory_needed(folder)
        except OSError as error:
            raise ArtifactError(f"cannot read {url}: {error.strerror}") from error
        with self._changed:
            left = available_memory() - self._claimed - _SPARE  # others that are being loaded have their claims
            if needed > left:
                raise ModelsError(507, f"not enough memory to load {url}: {needed} bytes are needed, {left} are left")
            self._claimed += needed
        try:
            return self._load(folder)
        except MemoryError as error:
            raise ModelsError(507, f"not enough memory to load {url}") from error
        finally:
            with self._changed:
                self._claimed -= needed


def memory_needed(folder: Path) -> int:
    """Bytes that loading the artifact in a model directory may take for a moment."""
    found = (algorithm(name).find(folder) for name in ALGORITHMS)
    return _COPIES * max(sum(path.stat().st_size for path in paths) for paths in found)


def _answers(slot: Slot[T]) -> bool:
    return slot.content is not None and not slot.leaving


def map_large_pieces() -> None:
    """Let every large piece of memory be one that the system gets back when it is freed.

    The C library raises by itself the size from which on that is so, and then keeps up to 64 MiB for each thread.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, MIB)


def _give_memory_back() -> None:
    """Hand what is free to the system: the C library keeps it for later, which never comes."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc alone has it
        trim(0)
