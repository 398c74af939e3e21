"""What a multi-model server knows of its models: who uses them, and when they leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.errors import ArtifactError
from clary.serve.models import Models, ModelsError, memory_needed

SOON = 20.0


@pytest.fixture
def aside() -> Iterator[Callable[..., Future[Any]]]:
    """A function that runs another one in a thread."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def status(call: Callable[..., object], *words: Any) -> int:
    """The status with which a call is refused."""
    with pytest.raises(ModelsError) as caught:
        call(*words)
    return caught.value.status


class Slow:
    """Loads folders' names, when it is let."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()

    def __call__(self, folder: Path) -> str:
        """Wait, then load."""
        self.begun.set()
        assert self.let.wait(SOON)
        return folder.name


def test_a_model_that_is_being_loaded(aside: Any, tmp_path: Path) -> None:
    """It is not there yet, its name is taken, and other names are free."""
    slow = Slow()
    models = Models(slow)
    loading = aside(models.load, "a", str(tmp_path))
    assert slow.begun.wait(SOON)
    assert [status(call, "a") for call in (models.borrow, models.unload, models.url)] == [404, 404, 404]
    assert models.page(0, 10) == ([], None)
    assert status(models.load, "a", str(tmp_path)) == 409
    slow.let.set()
    loading.result(SOON)
    assert models.borrow("a").content == tmp_path.name
    models.load("b", str(tmp_path))
    assert [slot.name for slot in models.page(0, 10)[0]] == ["a", "b"]


def test_a_model_leaves_when_nobody_uses_it(aside: Any, tmp_path: Path) -> None:
    """Who has it keeps it, nobody gets it any more, and its name is free only when it is gone."""
    models = Models(lambda folder: folder.name)
    models.load("a", str(tmp_path))
    first, second = models.borrow("a"), models.borrow("a")
    leaving = aside(models.unload, "a")
    while models.page(0, 1)[0]:
        assert not leaving.done()
    assert (status(models.borrow, "a"), status(models.unload, "a"), status(models.load, "a", str(tmp_path))) == (
        404,
        404,
        409,
    )
    models.give_back(first)
    assert second.content == tmp_path.name
    assert not leaving.done()
    models.give_back(second)
    leaving.result(SOON)
    assert second.content is None
    models.load("a", str(tmp_path))


def test_a_model_that_is_used_for_too_long(tmp_path: Path) -> None:
    """It stays, and answers."""
    models = Models(lambda folder: folder.name, patience=0.1)
    models.load("a", str(tmp_path))
    slot = models.borrow("a")
    assert status(models.unload, "a") == 503
    models.give_back(models.borrow("a"))
    models.give_back(slot)
    models.unload("a")


def test_memory_that_is_not_enough(tmp_path: Path) -> None:
    """Memory that the system refuses is 507, and the name is free again."""
    models = Models(lambda _folder: np.zeros(1 << 60, np.uint8))
    assert status(models.load, "a", str(tmp_path)) == status(models.load, "a", str(tmp_path)) == 507


def test_memory_is_asked_for_before_loading(tmp_path: Path) -> None:
    """A file larger than the memory is never opened."""
    with (tmp_path / "model_algo-1").open("wb") as stream:
        stream.truncate(1 << 42)
    assert memory_needed(tmp_path) == 5 << 42
    assert status(Models(lambda _folder: pytest.fail("it was opened")).load, "a", str(tmp_path)) == 507


def test_what_is_being_loaded_counts(aside: Any, tmp_path: Path) -> None:
    """Two models that fit one by one are not loaded at once where they do not fit together."""
    from clary.algorithms.memory import available_memory

    with (tmp_path / "model_algo-1").open("wb") as stream:
        stream.truncate(available_memory() // 8)
    slow = Slow()
    models = Models(slow)
    loading = aside(models.load, "a", str(tmp_path))
    assert slow.begun.wait(SOON)
    assert status(models.load, "b", str(tmp_path)) == 507
    slow.let.set()
    loading.result(SOON)
    models.load("b", str(tmp_path))


def test_a_failed_load_leaves_nothing(tmp_path: Path) -> None:
    """The name of a model that could not be loaded is free."""

    def load(folder: Path) -> str:
        if not (folder / "good").exists():
            raise ArtifactError("bad")
        return "good"

    models = Models(load)
    with pytest.raises(ArtifactError):
        models.load("a", str(tmp_path))
    (tmp_path / "good").touch()
    models.load("a", str(tmp_path))


@pytest.mark.parametrize("url", ["/nowhere", "no\0where", "", "relative"])
def test_folders_that_are_none(url: str) -> None:
    """A place without a model is 404."""
    assert status(Models(Path.iterdir).load, "a", url or "/nowhere") == 404


def test_a_name_that_is_too_long_for_a_folder() -> None:
    """What the system says is passed on."""
    with pytest.raises(ArtifactError, match="File name too long"):
        Models(Path.iterdir).load("a", "/" + "x" * 300)


def test_pages(tmp_path: Path) -> None:
    """A page goes on where the last one ended, whatever has left in between."""
    models = Models(lambda folder: folder.name)
    for i in range(7):
        models.load(str(i), str(tmp_path))
    first, more = models.page(0, 3)
    assert more is not None
    assert more == first[-1].number
    models.unload("2")
    models.unload("3")
    second, last = models.page(more, 3)
    assert ([slot.name for slot in first], [slot.name for slot in second], last) == (list("012"), list("456"), None)
