"""Figures as tables: medians, and how many times as good ours is as another's."""

from collections.abc import Iterable, Sequence
from typing import Any

from .common import OURS, median

Results = dict[str, Any]
Line = dict[str, Any]


def collect(figures: Iterable[dict[str, Any]]) -> list[Line]:
    """The figures of all runs as lines: workload, what is measured, unit, and each contestant's values."""
    lines: dict[tuple[str, str], Line] = {}
    for figure in figures:
        key = (figure["workload"], figure["line"])
        head = {name: figure[name] for name in ("workload", "line", "unit", "less_is_better")}
        line = lines.setdefault(key, {**head, "values": {}})
        line["values"].setdefault(figure["who"], []).append(round(figure["value"], 4))
    return list(lines.values())


def ratio(line: Line, who: str) -> float | None:
    """How many times as good ours is as another's; None if one of them has no figure, or nothing to divide by."""
    values = {name: median(line["values"][name]) for name in (OURS, who) if name in line["values"]}
    if len(values) < 2 or not all(value > 0 for value in values.values()):
        return None
    return values[who] / values[OURS] if line["less_is_better"] else values[OURS] / values[who]


def contestants(lines: Iterable[Line]) -> list[str]:
    """Who has a figure in these lines, ours first."""
    names = dict.fromkeys(name for line in lines for name in line["values"])
    return [OURS, *(name for name in names if name != OURS)]


def cells(line: Line, names: Sequence[str]) -> list[str]:
    """A line of a table: what it is, and of each contestant the median and our ratio to it."""
    shown = [f"{line['line']}{', ' + line['unit'] if line['unit'] else ''}"]
    for name in names:
        values = line["values"].get(name)
        compared = ratio(line, name) if name != OURS else None
        suffix = f" ({number(compared)}x)" if compared is not None else ""
        shown.append(f"{number(median(values))}{suffix}" if values else "-")
    return shown


def number(value: float) -> str:
    """A number with as many digits as mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(results: Results, workload: str) -> str:
    """A workload's lines as a table for a terminal."""
    lines = [line for line in results["lines"] if line["workload"] == workload]
    names = contestants(lines)
    rows = [["", *names], *(cells(line, names) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names) + 1)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
