"""Rows of the bench table: what was measured, against what, and what was promised."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `value` and `against` in `unit`; `limit`: of the ratio where there is something to compare with."""

    what: str
    value: float
    unit: str
    against: float | None = None
    peer: str = ""
    limit: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.against if self.against else None

    @property
    def kept(self) -> bool | None:
        """Within its budget; None if it has none."""
        if self.limit is None:
            return None
        return (self.ratio if self.ratio is not None else self.value) <= self.limit


HEADER = ("measured", "value", "against", "ratio", "budget", "", "note")


def render(rows: Iterable[Row]) -> str:
    lines = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    against = f"{_number(row.against)} {row.unit} {row.peer}" if row.against is not None else row.peer
    ratio = f"{row.ratio:.2f} ×" if row.ratio is not None else ""
    unit = "×" if row.ratio is not None else row.unit
    budget = f"≤ {_number(row.limit)} {unit}" if row.limit is not None else ""
    verdict = {True: "kept", False: "MISSED", None: ""}[row.kept]
    return row.what, f"{_number(row.value)} {row.unit}", against, ratio, budget, verdict, row.note


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(round(len(ordered) * share, 6)) - 1)]
