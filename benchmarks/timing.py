"""What every benchmark needs: a stopwatch and a row of the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Row", "best_of"]


@dataclass(frozen=True)
class Row:
    """One measurement and its bar.

    Parameters
    ----------
    what
        What was done.
    ours
        Our figure.
    unit
        Of the figures.
    rival
        Name of the peer, where there is one.
    theirs
        The peer's figure.
    least_ratio
        How many times better than the peer we want to be; below 1 where a little worse will do.
    bar
        The figure that we want to reach ourselves.
    higher_is_better
        False where the figures are times or errors.
    """

    what: str
    ours: float
    unit: str
    rival: str = ""
    theirs: float | None = None
    least_ratio: float | None = None
    bar: float | None = None
    higher_is_better: bool = True

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer we are."""
        if self.theirs is None:
            return None
        return self.ours / self.theirs if self.higher_is_better else self.theirs / self.ours

    @property
    def met(self) -> bool | None:
        """Whether all bars are met; None where there are none."""
        met = []
        if self.least_ratio is not None and self.ratio is not None:
            met.append(self.ratio >= self.least_ratio)
        if self.bar is not None:
            met.append(self.ours >= self.bar if self.higher_is_better else self.ours <= self.bar)
        return all(met) if met else None

    def cells(self) -> tuple[str, ...]:
        """The row as it is printed."""
        theirs = "" if self.theirs is None else f"{self.theirs:.3g} {self.unit} ({self.rival})"
        ratio = "" if self.ratio is None else f"{self.ratio:.3g}x"
        sign = "≥" if self.higher_is_better else "≤"
        bars = [f"≥ {self.least_ratio:g}x"] if self.least_ratio is not None else []
        bars += [f"{sign} {self.bar:g} {self.unit}"] if self.bar is not None else []
        verdict = {True: "met", False: "missed", None: ""}[self.met]
        return self.what, f"{self.ours:.3g} {self.unit}", theirs, ratio, ", ".join(bars), verdict


def best_of(
    functions: Sequence[Callable[[], object]], rounds: int = 7, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """The least seconds that each function took.

    They take turns, so that a neighbour's load meets all of them; by default CPU time is measured, which it meets
    least.
    """
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for i, function in enumerate(functions):
            start = clock()
            function()
            best[i] = min(best[i], clock() - start)
    return best
