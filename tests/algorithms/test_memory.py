"""How much memory is left, read from a made-up ``proc`` and ``sys``."""

import os
from pathlib import Path

import pytest

from clary.algorithms.memory import available_memory

GIGABYTE = 1 << 30
V2 = ("memory.max", "memory.current", "memory.stat", "inactive_file")
V1 = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file")


def write(root: Path, name: str, text: str) -> None:
    """Write a file of the made-up system."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 8 GiB available, without control groups."""
    kilobytes = 8 << 20
    write(tmp_path, "proc/meminfo", f"MemTotal: 16777216 kB\nMemFree: 1024 kB\nMemAvailable:    {kilobytes} kB\n")
    return tmp_path


def group(root: Path, names: tuple[str, str, str, str], limit: object, used: object, cached: object = 0) -> None:
    """Put the process into a control group."""
    for name, text in zip(names[:2], (limit, used), strict=True):
        write(root, f"sys/fs/cgroup/{name}", f"{text}\n")
    statistics = f"anon 1\nfile 2\nactive_file 3\n{names[3]} {cached}\npgfault 4\n"
    write(root, f"sys/fs/cgroup/{names[2]}", statistics)


def test_machine(root: Path) -> None:
    """Without a control group it is what the kernel says is available."""
    assert available_memory(root) == 8 * GIGABYTE


@pytest.mark.parametrize("names", [V2, V1], ids=["v2", "v1"])
def test_control_group(root: Path, names: tuple[str, str, str, str]) -> None:
    """In a container it is the limit less the use, files in the cache not counted, in both versions."""
    group(root, names, 4 * GIGABYTE, 3 * GIGABYTE, GIGABYTE // 2)
    assert available_memory(root) == 3 * GIGABYTE // 2


@pytest.mark.parametrize("names", [V2, V1], ids=["v2", "v1"])
def test_larger_limit(root: Path, names: tuple[str, str, str, str]) -> None:
    """A limit beyond what the machine has left changes nothing; version 1 says so a huge number for none."""
    group(root, names, 9223372036854771712, GIGABYTE)
    assert available_memory(root) == 8 * GIGABYTE


def test_no_limit(root: Path) -> None:
    """A group of version 2 whose limit is ``max`` has none."""
    group(root, V2, "max", GIGABYTE)
    assert available_memory(root) == 8 * GIGABYTE


@pytest.mark.parametrize("names", [V2, V1], ids=["v2", "v1"])
def test_used_up(root: Path, names: tuple[str, str, str, str]) -> None:
    """A group above its limit has nothing left, and not less."""
    group(root, names, GIGABYTE, 2 * GIGABYTE)
    assert available_memory(root) == 0


@pytest.mark.parametrize("names", [V2, V1], ids=["v2", "v1"])
@pytest.mark.parametrize("broken", range(3))
@pytest.mark.parametrize("text", [None, "", "many"])
def test_broken_groups(root: Path, names: tuple[str, str, str, str], broken: int, text: str | None) -> None:
    """A file that is missing or odd is no error: the limit is then not known, or the cache not counted."""
    group(root, names, 4 * GIGABYTE, 3 * GIGABYTE, GIGABYTE)
    path = root / "sys/fs/cgroup" / names[broken]
    path.unlink()
    if text is not None:
        path.write_text(text)
    known = broken == 2
    assert available_memory(root) == (GIGABYTE if known else 8 * GIGABYTE)


@pytest.mark.parametrize("text", [None, "", "MemTotal: 5 kB\n", "MemAvailable:\n", "MemAvailable: much\n"])
def test_broken_machine(tmp_path: Path, text: str | None) -> None:
    """Where the kernel does not say what is available it is all memory there is."""
    if text is not None:
        write(tmp_path, "proc/meminfo", text)
    assert available_memory(tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_this_machine() -> None:
    """On this machine some memory is left, and no more than there is."""
    assert 0 < available_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
