"""Figures: their statistics, the printed rows, and the content of the file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def summary(values: Sequence[float]) -> dict[str, float]:
    """Minimum, median, 90th and 99th percentile, in the unit of the values."""
    ordered = sorted(values)
    return {"count": len(ordered), "min": ordered[0], "median": statistics.median(ordered),
            **{f"p{each}": ordered[round(each / 100 * (len(ordered) - 1))] for each in (90, 99)}}


@dataclass
class Row:
    """One figure of ours beside its baseline. `met` is None if there is no target."""

    figure: str
    unit: str
    baseline: float | None
    ours: float | None
    target: str = ""
    met: bool | None = None
    digits: int = 2
    note: str = ""

    def cells(self) -> list[str]:
        ratio = difference = ""
        if self.baseline and self.ours is not None:
            ratio = f"{self.ours / self.baseline:.2f}"
            difference = self._number(self.ours - self.baseline, sign=True)
        met = {True: "yes", False: "NO", None: ""}[self.met]
        return [self.figure, self._number(self.baseline), self._number(self.ours), self.unit, ratio, difference,
                self.target, met, self.note]

    def _number(self, value: float | None, sign: bool = False) -> str:
        return "" if value is None else f"{value:{'+' if sign else ''},.{self.digits}f}"


HEAD = ["figure", "baseline", "ours", "unit", "ratio", "difference", "target", "met", ""]
_RIGHT = {1, 2, 4, 5}


@dataclass
class Section:
    """The results of one section: rows for the table, everything else in `raw` for the file."""

    title: str
    rows: list[Row] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"title": self.title, "rows": [vars(row) for row in self.rows], "raw": self.raw}


def print_table(sections: list[Section]) -> None:
    """Prints all sections with the same column widths."""
    cells = [row.cells() for section in sections for row in section.rows]
    widths = [max(len(row[column]) for row in [HEAD, *cells]) for column in range(len(HEAD))]

    def line(row: list[str]) -> str:
        return "  ".join(text.rjust(width) if column in _RIGHT else text.ljust(width)
                         for column, (text, width) in enumerate(zip(row, widths))).rstrip()

    print(line(HEAD))
    for section in sections:
        print(f"\n{section.title}")
        for row in section.rows:
            print(line(row.cells()))
