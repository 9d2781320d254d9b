"""``make demo``: the run without a person, the run for a person, and the shop's own tests, each as a user has it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

import psutil
import pytest
from django.db import connections

from testproject.database import POSTGRESQL_SCHEMES
from tests.support import ROOT, eventually

#: Longer than the demo gives itself.
TIMEOUT = 150


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the demo's processes see: a database of their own on the server of the suite, or a temporary file."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DBOS_", "DJANGO_"))}
    url = env.get("DATABASE_URL", "")
    if urlsplit(url).scheme not in POSTGRESQL_SCHEMES:
        yield {**env, "DATABASE_URL": f"sqlite:///{tmp_path / 'demo.sqlite3'}"}
        return
    with new_postgresql_database(f"demo_{os.getpid()}") as name:
        yield {**env, "DATABASE_URL": urlunsplit(urlsplit(url)._replace(path=f"/{name}"))}


@contextmanager
def new_postgresql_database(name: str) -> Iterator[str]:
    """An empty database beside the one of the suite."""
    with connections["default"]._nodb_cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}"')
    try:
        yield name
    finally:
        with connections["default"]._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def demo(env: Mapping[str, str], output: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The demo as a process, with all that it started gone in the end."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "testproject.demo", *arguments],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        family = descendants(process.pid)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.kill()
        process.wait()


def descendants(pid: int) -> list[psutil.Process]:
    """The processes that a process has started, and theirs."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def answers(url: str) -> bool:
    """Whether a page is there."""
    try:
        with urlopen(url, timeout=5):  # noqa: S310 - our own site
            return True
    except URLError:
        return False


def unused_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_once(environment: dict[str, str], tmp_path: Path) -> None:
    """Orders, SIGKILL half way, another worker: exit code 0, and every claim in the report."""
    output = tmp_path / "output"
    with demo(environment, output, "--once", "--port", str(unused_port())) as process:
        code = process.wait(TIMEOUT)
    text = output.read_text()
    assert code == 0, text
    assert "Worker A is killed (SIGKILL)" in text
    assert "WRONG" not in text
    assert "OK: everything finished, and every transaction happened once." in text
    assert re.search(r"^orders finished +8 of 8$", text, re.MULTILINE), text
    summary = re.search(r"^transactions +(\d+) commits of (\d+) recorded", text, re.MULTILINE)
    assert summary is not None, text
    assert summary[1] == summary[2]
    repeated = re.search(r"^steps repeated +(\d+), (\d+) were running", text, re.MULTILINE)
    assert repeated is not None, text
    assert 1 <= int(repeated[1]) <= int(repeated[2])
    assert re.search(r"(?:charge|pick|pack|hand_over) +2 runs +A, B +B$", text, re.MULTILINE), text


def test_a_killed_worker_is_replaced_and_nothing_is_left_behind(environment: dict[str, str], tmp_path: Path) -> None:
    """The demo for a person: the site answers, a dead worker gets a successor, SIGTERM ends all of it with 0."""
    output, port = tmp_path / "output", unused_port()
    ready = re.compile(r"^dbos_worker \S+-(\d+)-\w+ ready$", re.MULTILINE)
    with demo(environment, output, "--port", str(port)) as process:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/") and ready.search(output.read_text()), 60)
        family = descendants(process.pid)
        os.kill(int(ready.findall(output.read_text())[0]), signal.SIGKILL)
        eventually(lambda: len(ready.findall(output.read_text())) == 2, 30)
        family += descendants(process.pid)
        process.terminate()
        assert process.wait(60) == 0, output.read_text()
    assert "died (SIGKILL); another one starts" in output.read_text()
    assert "login admin, password admin" in output.read_text()
    assert [member for member in family if member.is_running()] == []


@pytest.mark.parametrize(
    "url", ["sqlite:////no/such/directory/demo.sqlite3", "sqlite:///:memory:", "mysql://localhost/demo"]
)
def test_a_database_that_cannot_be_used_is_one_line(environment: dict[str, str], tmp_path: Path, url: str) -> None:
    """No half-started demo."""
    output = tmp_path / "output"
    with demo({**environment, "DATABASE_URL": url}, output, "--once") as process:
        assert process.wait(60) == 1
    assert output.read_text().startswith("The demo failed: ")
    assert output.read_text().count("\n") == 1


def test_the_shop(environment: dict[str, str]) -> None:
    """The shop's own tests, under its own settings."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", "test", "testproject"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
