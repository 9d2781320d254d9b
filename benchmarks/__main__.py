"""
The runner: ``python -m benchmarks [names] [--reps 3] [--json FILE]``.

Each run of a workload is a process of its own; the contestants take turns, so that a slow minute of the machine is a
slow minute for all of them. Shown are medians, and how many times as good ours is.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .common import CELERY, DBOS, PYTHONS, ROOT, Bench, say
from .report import collect, table

WORKLOADS = ("steps", "transactions", "starts", "enqueues", "drain", "latency", "wakeups", "idle", "big_table")
#: What a peer needs to be asked at all.
NEEDS = {DBOS: "import dbos", CELERY: "import celery, redis"}
REMEDIES = {DBOS: "pip install dbos", CELERY: "pip install 'celery[redis]'"}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; without DATABASE_URL everything is done on a server that is gone afterwards."""
    words = [*(argv or ()), *sys.argv[1:]]
    options = parser().parse_args(words)
    if options.once:
        once(options)
    elif not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        from tests.postgres import main as with_server

        sys.exit(with_server(["--", sys.executable, "-m", "benchmarks", *words]))
    else:
        run(options)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"workloads (default: all): {', '.join(WORKLOADS)}")
    parser.add_argument("--reps", type=int, default=3, help="how often each is run (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the usual size, 0.1 for a quick look")
    parser.add_argument("--rows", type=int, default=200_000, help="finished rows of big_table (default: 200000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    return parser


# ---- one run of one workload, in a process of its own


def once(options: argparse.Namespace) -> None:
    """Measure, and write each figure as a line of JSON."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django
    from django.apps import apps
    from django.db import connection

    django.setup()
    tables = [model._meta.db_table for model in apps.get_models() if model._meta.app_label in ("dbos", "benchmarks")]
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(tables)}")
    (name,) = options.names
    bench = Bench(workload=name, scale=options.scale, rows=options.rows)
    import_module(f"benchmarks.{name}").measure(bench)
    bench.write()


# ---- all of them


def run(options: argparse.Namespace) -> None:
    """Run the workloads in turn, and show what came out."""
    from . import postgresql

    names = options.names or list(WORKLOADS)
    unknown = sorted(set(names) - set(WORKLOADS))
    if unknown:
        sys.exit(f"There is no workload {unknown[0]!r}: {', '.join(WORKLOADS)}.")
    server = os.environ["DATABASE_URL"]
    mine = f"benchmarks_{os.getpid()}"
    with postgresql.new_databases(server, mine, f"{mine}_dbos") as (ours, dbos):
        environment = {
            **os.environ,
            **find_peers(),
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "BENCHMARKS_SERVER_URL": server,
            "BENCHMARKS_DATABASE_URL": ours,
            "BENCHMARKS_DBOS_URL": dbos,
        }
        _manage(environment, "migrate", "--run-syncdb", "--verbosity=0")
        lines = [line for name in names for line in _repeat(name, options, environment)]
    results = {"machine": describe(server, environment), "scale": options.scale, "lines": collect(lines)}
    for name in names:
        say(f"\n{name}\n{table(results, name)}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def find_peers() -> dict[str, str]:
    """The Python of each peer that is installed; of one that is not it is said once how it would be."""
    found = {}
    for who, variable in PYTHONS.items():
        python = os.environ.get(variable, sys.executable)
        is_there = bool(python) and subprocess.run([python, "-c", NEEDS[who]], capture_output=True).returncode == 0
        found[variable] = python if is_there else ""
        if python and not is_there:
            sys.stderr.write(f"{who} is not measured: {REMEDIES[who]}, or set {variable} to a Python that has it.\n")
    return found


def _manage(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, check=True)


def _repeat(name: str, options: argparse.Namespace, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The figures of every run of a workload."""
    sizes = ("--scale", str(options.scale), "--rows", str(options.rows))
    for rep in range(options.reps):
        sys.stderr.write(f"{name} {rep + 1}/{options.reps}\n")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "--once", name, *sizes],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        yield from (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))


def describe(server: str, environment: dict[str, str]) -> dict[str, Any]:
    """What the figures were measured on, and with."""
    from . import postgresql

    packages = {name: _version(sys.executable, name) for name in ("django-dbos", "django", "psycopg")}
    packages |= {name: _version(environment[PYTHONS[who]], name) for who, name in ((DBOS, "dbos"), (CELERY, "celery"))}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "pgbench": bool(shutil.which("pgbench")),
        "postgresql": postgresql.describe(server),
        "packages": {name: found for name, found in packages.items() if found},
    }


def _version(python: str, package: str) -> str:
    if not python:
        return ""
    if python == sys.executable:
        try:
            return version(package)
        except PackageNotFoundError:
            return ""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
