"""What every benchmark needs: a stopwatch and a row of the table."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["ROUNDS", "Row", "best_of"]

ROUNDS: Final = "CLARY_BENCH_ROUNDS"
"""Variable with the most rounds that any measurement takes, for a quick look."""


@dataclass(frozen=True)
class Row:
    """One measurement and its bar.

    Parameters
    ----------
    what
        What was done.
    ours
        Our figure; None where it could not be measured here.
    unit
        Of the figures.
    rival
        Name of the peer, where there is one.
    theirs
        The peer's figure; None where there is no peer, or it is not installed.
    least_ratio
        How many times better than the peer we want to be; below 1 where a little worse will do.
    bar
        The figure that we want to reach ourselves.
    higher_is_better
        False where the figures are times or errors.
    plus
        What a time may be longer than its peer's, beyond the ratio.
    why
        What is missing, where a figure is.
    """

    what: str
    ours: float | None
    unit: str
    rival: str = ""
    theirs: float | None = None
    least_ratio: float | None = None
    bar: float | None = None
    higher_is_better: bool = True
    plus: float = 0.0
    why: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer we are."""
        if self.theirs is None or not self.ours:
            return None
        return self.ours / self.theirs if self.higher_is_better else self.theirs / self.ours

    @property
    def has_target(self) -> bool:
        """Whether there is anything to reach."""
        return self.least_ratio is not None or self.bar is not None or self.ours is None

    @property
    def met(self) -> bool | None:
        """Whether all bars are met; None where there are none, or one cannot be told."""
        met: list[bool | None] = []
        if self.least_ratio is not None:
            met.append(self._beaten(self.least_ratio))
        if self.bar is not None:
            met.append(None if self.ours is None else self._reaches(self.bar))
        return False if False in met else None if None in met or not met else True

    @property
    def verdict(self) -> str:
        """What is to be said of it."""
        if not self.has_target:
            return ""
        return {True: "met", False: "missed", None: "not measured"}[self.met]

    @property
    def collapsed(self) -> bool:
        """Whether the ratio is worse than half of what is wanted: no neighbour's load explains that."""
        if self.least_ratio is None or self.ratio is None or self.plus:
            return False
        return self.ratio < self.least_ratio / 2

    def cells(self) -> tuple[str, ...]:
        """The row as it is printed: what, our figure, the peer's, their ratio, what is wanted, the verdict."""
        ratio = "" if self.ratio is None else _times(self.ratio)
        ours = self.why if self.ours is None else f"{_number(self.ours)} {self.unit}".strip()
        return self.what, ours, self._peer(), ratio, self._target(), self.verdict

    def _beaten(self, least_ratio: float) -> bool | None:
        if self.theirs is None or self.ours is None:
            return None
        if self.plus:
            return self.ours <= self.theirs / least_ratio + self.plus
        return self.ratio is None or self.ratio >= least_ratio

    def _reaches(self, bar: float) -> bool:
        assert self.ours is not None
        return self.ours >= bar if self.higher_is_better else self.ours <= bar

    def _peer(self) -> str:
        if self.theirs is not None:
            return f"{_number(self.theirs)} {self.unit} ({self.rival})".replace("  ", " ")
        if self.ours is None:
            return self.rival
        return self.why or ("not measured" if self.least_ratio is not None else "")

    def _target(self) -> str:
        sign = "≥" if self.higher_is_better else "≤"
        targets = []
        if self.plus and self.least_ratio is not None:
            targets.append(f"≤ {1 / self.least_ratio:.3g} x theirs + {self.plus:g} {self.unit}")
        elif self.least_ratio is not None:
            targets.append(f"≥ {_times(self.least_ratio)}")
        if self.bar is not None:
            targets.append(f"{sign} {_number(self.bar)} {self.unit}".rstrip())
        return ", ".join(targets)


def _times(ratio: float) -> str:
    """A ratio, below 1 as a fraction."""
    return f"{_number(ratio)}x" if ratio >= 1 else f"1/{_number(1 / ratio)}x" if ratio else "0x"


def _number(value: float) -> str:
    """Four digits, and all that are before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def best_of(
    functions: Sequence[Callable[[], object]], rounds: int = 7, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """The least seconds that each function took.

    They take turns, so that a neighbour's load meets all of them; by default CPU time is measured, which it meets
    least. The variable `ROUNDS` can forbid so many rounds.
    """
    rounds = min(rounds, int(os.environ.get(ROUNDS, rounds)))
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for i, function in enumerate(functions):
            start = clock()
            function()
            best[i] = min(best[i], clock() - start)
    return best
