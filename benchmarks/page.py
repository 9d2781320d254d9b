"""
``python -m benchmarks.page [FILE]`` writes what was measured into the documentation.

It takes FILE (of ``python -m benchmarks --json FILE``) over as docs/benchmarks.json, or what is there if none is given,
and rewrites the part of docs/benchmarks.md between two markers, and the plot.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .common import OURS, POSTGRESQL, ROOT, median, say
from .plot import TIMES, plot
from .report import Line, Results, cells, contestants, number, ratio

DOCS = ROOT / "docs"
FIGURES, PAGE, PLOT = DOCS / "benchmarks.json", DOCS / "benchmarks.md", DOCS / "images" / "benchmarks.svg"
BEGIN, END = "<!-- figures: written by `python -m benchmarks.page` -->", "<!-- end of figures -->"
#: In the plot and in the list of what is slower: below this a difference is one of the machine's moods.
CLOSE = 0.95

TITLES = {
    "steps": "Steps of one workflow",
    "transactions": "Transactions through the ORM",
    "starts": "Start and result",
    "enqueues": "Enqueue",
    "drain": "Working off a backlog",
    "latency": "From enqueue to start",
    "wakeups": "Wake-ups across processes",
    "idle": "An idle worker",
    "big_table": "A big table",
}


def main(argv: Sequence[str]) -> None:
    """The command line."""
    if argv:
        shutil.copyfile(argv[0], FIGURES)
    if not FIGURES.exists():
        sys.exit("Nothing was measured yet: python -m benchmarks --json FILE, then python -m benchmarks.page FILE.")
    results = json.loads(FIGURES.read_text())
    PLOT.write_text(plot(results))
    PAGE.write_text(replaced(PAGE.read_text(), "\n".join(generated(results))))
    say(f"written: {', '.join(str(path.relative_to(ROOT)) for path in (PAGE, PLOT))}")


def replaced(page: str, text: str) -> str:
    """The page with ``text`` between its markers."""
    pattern = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    if not pattern.search(page):
        sys.exit(f"{PAGE} has lost its markers: {BEGIN} and {END}")
    return pattern.sub(lambda _: f"\n{text}\n\n", page)


def generated(results: Results) -> Iterator[str]:
    """The lines of the generated part: on what, the plot, the tables, and where others are better."""
    yield f"{machine(results)}\n"
    yield f"![How many times as good django-dbos is as the others]({PLOT.relative_to(DOCS)})\n"
    for workload in dict.fromkeys(line["workload"] for line in results["lines"]):
        yield f"### {TITLES[workload]}\n"
        yield from markdown([line for line in results["lines"] if line["workload"] == workload])
    yield "### Where others are better\n"
    yield from behind(results["lines"])


def machine(results: Results) -> str:
    """What the figures were measured on, in a sentence or two."""
    about = results["machine"]
    server = about["postgresql"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    size = "" if results["scale"] == 1 else f" Only a quick look: {results['scale']:g} of the usual size."
    return (
        f"On {about['date']}: {about['cores']} cores, {about['system']}, Python {about['python']}, {packages}; "
        f"PostgreSQL {server['server_version']} on the same machine with `fsync={server['fsync']}`, "
        f"`synchronous_commit={server['synchronous_commit']}`.{size}"
    )


def markdown(lines: Sequence[Line]) -> Iterator[str]:
    """One workload's table."""
    names = contestants(lines)
    yield f"| | {' | '.join(names)} |"
    yield f"| --- |{' ---: |' * len(names)}"
    for line in lines:
        yield f"| {' | '.join(cell.replace('x)', TIMES + ')') for cell in cells(line, names))} |"
    yield ""


def behind(lines: Sequence[Line]) -> Iterator[str]:
    """One item for each line in which somebody else is better; the bare database is no competitor, but the measure."""
    found = False
    for line in lines:
        for name in (name for name in contestants([line]) if name not in (OURS, POSTGRESQL)):
            compared = ratio(line, name)
            if compared is not None and compared < CLOSE:
                found = True
                ours, other = (number(median(line["values"][who])) for who in (OURS, name))
                what = f"{TITLES[line['workload']]}, {line['line']}{', ' + line['unit'] if line['unit'] else ''}"
                yield f"* {what}: {name} {other}, django-dbos {ours}."
    if not found:
        yield "Nowhere in these figures."


if __name__ == "__main__":
    main([str(Path(word)) for word in sys.argv[1:]])
