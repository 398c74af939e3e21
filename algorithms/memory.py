"""How much memory there is left, for algorithms that know beforehand how much they need."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["available_memory"]


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: of the machine, or of its container where that has a limit.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are.
    """
    free = [_machine(root), *(limit for limit in _groups(root / "sys/fs/cgroup") if limit is not None)]
    return max(0, min(free))


def _machine(root: Path) -> int:
    """What the kernel says is available; all memory there is, where it says nothing."""
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups(folder: Path) -> tuple[int | None, int | None]:
    """What is left of the limit of a control group, version 2 and version 1; files in its cache can be dropped."""
    old = folder / "memory"
    return (
        _left(folder / "memory.max", folder / "memory.current", folder / "memory.stat", "inactive_file"),
        _left(old / "memory.limit_in_bytes", old / "memory.usage_in_bytes", old / "memory.stat", "total_inactive_file"),
    )


def _left(limit: Path, used: Path, statistics: Path, cached: str) -> int | None:
    """Limit less use; None where there is no limit, which version 2 calls ``max``."""
    try:
        left = int(limit.read_text()) - int(used.read_text())
    except (OSError, ValueError):
        return None
    with suppress(OSError, ValueError, IndexError):
        pairs = (line.split() for line in statistics.read_text().splitlines())
        left += sum(int(words[1]) for words in pairs if words[:1] == [cached])
    return left
