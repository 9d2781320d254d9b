"""``make bench``: the smallest workload from end to end, and what is made of its figures."""

import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest
from django.db import connection

from benchmarks import page, report
from benchmarks.__main__ import WORKLOADS
from benchmarks.common import percentile
from benchmarks.plot import plot
from benchmarks.postgresql import sibling
from tests.support import ROOT, run_python

POSTGRESQL = pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL is what is measured")
NO_PEERS = {"BENCHMARKS_DBOS_PYTHON": "", "BENCHMARKS_CELERY_PYTHON": ""}


def line(what: str, *, less: bool = False, **values: list[float]) -> dict[str, Any]:
    named = {{"ours": "django-dbos"}.get(name, name): figures for name, figures in values.items()}
    return {"workload": "drain", "line": what, "unit": "1/s", "less_is_better": less, "values": named}


@pytest.fixture
def results() -> dict[str, Any]:
    server = {"server_version": "15.1", "fsync": "on", "synchronous_commit": "on"}
    machine = {"date": "2000-01-01", "cores": 2, "system": "Linux", "python": "3.11", "packages": {"django": "5.2"}}
    lines = [
        line("more", ours=[100, 300, 200], PostgreSQL=[400], DBOS=[50]),
        line("less", less=True, ours=[5], Celery=[2]),
        line("nothing", less=True, ours=[0], Celery=[2]),
    ]
    return {"machine": {**machine, "postgresql": server}, "scale": 1, "lines": lines}


@POSTGRESQL
def test_a_workload_runs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    server = sibling(os.environ["DATABASE_URL"], "postgres")
    before = databases_of_benchmarks()
    words = ("transactions", "--reps", "2", "--scale", "0.002", "--json", str(file))
    done = run_python("-m", "benchmarks", *words, env={**NO_PEERS, "DATABASE_URL": server})
    assert done.returncode == 0, done.stderr
    assert re.search(r"^one row each, transactions/s +[\d.,]+ +[\d.,]+ \([\d.,]+x\)", done.stdout, re.MULTILINE)
    (measured,) = json.loads(file.read_text())["lines"]
    assert {who: len(values) for who, values in measured["values"].items()} == {"PostgreSQL": 2, "django-dbos": 2}
    assert not [name for name in databases_of_benchmarks() - before if is_left_behind(name)]


def databases_of_benchmarks() -> set[str]:
    """The databases that runs have made on this server, ours and those of others."""
    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'benchmarks\\_%%'")
        return {name for (name,) in cursor.fetchall()}


def is_left_behind(database: str) -> bool:
    """Whether the process that made a database has ended."""
    return not psutil.pid_exists(int(re.findall(r"\d+", database)[0]))


@POSTGRESQL
def test_an_unknown_workload_is_named(tmp_path: Path) -> None:
    server = sibling(os.environ["DATABASE_URL"], "postgres")
    done = run_python("-m", "benchmarks", "stpes", env={**NO_PEERS, "DATABASE_URL": server})
    assert done.returncode == 1
    assert "'stpes'" in done.stderr


def test_every_workload_is_a_program_with_a_title_and_a_row_on_the_page() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/benchmarks.md").read_text(), re.MULTILINE)
    assert tuple(rows) == WORKLOADS
    assert tuple(page.TITLES) == WORKLOADS
    assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in WORKLOADS)


def test_a_ratio_says_how_many_times_as_good_ours_is(results: dict[str, Any]) -> None:
    more, less, nothing = results["lines"]
    assert report.ratio(more, "DBOS") == 4
    assert report.ratio(more, "PostgreSQL") == 0.5
    assert report.ratio(less, "Celery") == 0.4
    assert report.ratio(nothing, "Celery") is None
    assert report.ratio(more, "Celery") is None


def test_percentiles_lie_between_the_values() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([1, 2], 0.95) == pytest.approx(1.95)
    assert percentile([1], 0.95) == 1


def test_the_page_shows_medians_and_ratios_and_where_others_are_better(results: dict[str, Any]) -> None:
    text = "\n".join(page.generated(results))
    assert "| more, 1/s | 200 | 400 (0.50×) | 50.0 (4.00×) | - |" in text  # noqa: RUF001
    assert "* Working off a backlog, less, 1/s: Celery 2.00, django-dbos 5.00." in text
    assert text.count("\n* ") == 1


def test_only_what_is_between_the_markers_is_rewritten() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text()
    once = page.replaced(text, "new")
    assert page.replaced(once, "new") == once
    assert once.startswith(text[: text.index(page.BEGIN)])
    assert once.endswith(text[text.index(page.END) :])


def test_the_plot_has_a_bar_for_each_ratio(results: dict[str, Any]) -> None:
    drawing = ElementTree.fromstring(plot(results))  # noqa: S314 - our own
    bars = [part for part in drawing if part.tag.endswith("rect") and part.get("height") != "10"]
    assert len(bars) == 3
    assert all(float(bar.get("width", 0)) > 0 for bar in bars)
