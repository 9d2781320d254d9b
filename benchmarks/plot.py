"""The plot of the ratios: bars on a logarithmic scale, as an SVG that is legible on light and on dark pages."""

import math
from collections.abc import Callable, Iterator
from html import escape

from .report import Line, Results, contestants, number, ratio

#: Whom the bars compare with; the rest (the same table empty, other settings) stands in the tables only.
SHOWN = {"PostgreSQL": "postgresql", "DBOS": "dbos", "Celery": "celery"}
WIDTH, LABELS, RIGHT, BAR, GAP, TOP = 860, 300, 60, 10, 10, 56
STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #24292f }
    .axis { stroke: #d0d7de } .one { stroke: #57606a }
    .postgresql { fill: #8c959f } .dbos { fill: #0969da } .celery { fill: #1a7f37 }
    @media (prefers-color-scheme: dark) {
        text { fill: #e6edf3 }
        .axis { stroke: #30363d } .one { stroke: #8d96a0 }
        .postgresql { fill: #6e7681 } .dbos { fill: #4493f8 } .celery { fill: #3fb950 }
    }
"""

TIMES = "\N{MULTIPLICATION SIGN}"
Bar = tuple[str, float]
Scale = Callable[[float], float]


def plot(results: Results) -> str:
    """The whole drawing."""
    groups = [(line, bars) for line in results["lines"] if (bars := list(_bars(line)))]
    ratios = [value for _, bars in groups for _, value in bars] or [1.0]
    least = math.floor(math.log10(min(*ratios, 0.5)))
    most = math.ceil(math.log10(max(*ratios, 2.0)))

    def x(value: float) -> float:
        return LABELS + (math.log10(value) - least) / (most - least) * (WIDTH - LABELS - RIGHT)

    height = TOP + sum(len(bars) * BAR + GAP for _, bars in groups) + GAP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">']
    parts += ["<title>How many times as good django-dbos is as the others</title>", f"<style>{STYLE}</style>"]
    parts += list(_legend())
    for power in range(least, most + 1):
        kind = "one" if power == 0 else "axis"
        place = x(10**power)
        parts.append(f'<line class="{kind}" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP - 8}" y2="{height - GAP}"/>')
        parts.append(f'<text x="{place:.1f}" y="{TOP - 14}" text-anchor="middle">{10.0**power:g}{TIMES}</text>')
    top = TOP
    for line, bars in groups:
        parts += list(_group(line, bars, top, x(1.0), x))
        top += len(bars) * BAR + GAP
    return "\n".join([*parts, "</svg>\n"])


def _bars(line: Line) -> Iterator[Bar]:
    """Whom a line can be compared with, and how many times as good ours is."""
    for name in contestants([line])[1:]:
        value = ratio(line, name)
        if name in SHOWN and value is not None:
            yield name, value


def _legend() -> Iterator[str]:
    left = LABELS
    yield '<text x="4" y="16">django-dbos is so many times as good as</text>'
    for name, kind in SHOWN.items():
        yield f'<rect class="{kind}" x="{left}" y="7" width="10" height="10"/>'
        yield f'<text x="{left + 16}" y="16">{escape(name)}</text>'
        left += 110


def _group(line: Line, bars: list[Bar], top: float, one: float, x: Scale) -> Iterator[str]:
    label = f"{line['workload'].replace('_', ' ')}: {line['line']}"
    middle = top + len(bars) * BAR / 2 + 4
    yield f'<text x="{LABELS - 8}" y="{middle:.1f}" text-anchor="end">{escape(label)}</text>'
    for number_of_bar, (name, value) in enumerate(bars):
        place = x(value)
        left, width = min(one, place), max(abs(place - one), 1)
        y = top + number_of_bar * BAR
        yield f'<rect class="{SHOWN[name]}" x="{left:.1f}" y="{y}" width="{width:.1f}" height="{BAR - 1}"/>'
        yield f'<text x="{max(place, one) + 4:.1f}" y="{y + 9}">{number(value)}{TIMES}</text>'
