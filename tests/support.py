"""Waiting for conditions, and the real processes that the suite starts."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from django.db import connections
from django.test.utils import CaptureQueriesContext

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
READY = re.compile(r"^dbos_worker (\S+) ready$", re.MULTILINE)
INTERVAL = 0.01
#: How much of a worker's output is shown with a failure, in characters.
TAIL = 8000


def eventually(condition: Callable[[], T], timeout: float = 10.0, *, message: str = "") -> T:
    """
    Ask ``condition`` every 10 ms until its answer is true, and return that answer.

    An AssertionError inside it counts as "not yet"; other errors go through. After ``timeout`` seconds the test fails
    with the condition's source and its last answer. This is the one place of the suite that sleeps.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            answer = condition()
        except AssertionError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() >= deadline:
            raise AssertionError(
                f"{message or 'not true'} after {timeout:g} s\n  condition: {_source(condition)}\n  last: {last!r}"
            )
        time.sleep(INTERVAL)


def _source(condition: Callable[[], object]) -> str:
    """The text of ``condition``, for a message."""
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)


def process_environment(*, settings: str = "tests.settings", env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process that shares the databases of the running test, ``env`` on top."""
    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings,
        "DBOS_TEST_DATABASES": json.dumps(names),
        "PYTHONFAULTHANDLER": "1",
        "PYTHONUNBUFFERED": "1",
        **(env or {}),
    }


def run_python(
    *args: str, settings: str = "tests.settings", env: Mapping[str, str] | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run ``python *args`` in the environment of the test, to its end; returns both outputs and the exit code."""
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env=process_environment(settings=settings, env=env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def manage(
    *args: str, settings: str = "tests.settings", env: Mapping[str, str] | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run one management command in a process of its own, on the databases of the test."""
    return run_python("-m", "django", *args, settings=settings, env=env, timeout=timeout)


class WorkerProcess:
    """
    A real ``dbos_worker`` on the databases of the running test, which must commit (``transaction=True``).

    As a context manager it starts on entry and is gone on exit, whatever happened, children included; a failure inside
    carries the worker's output as a note.
    """

    def __init__(self, *args: str, settings: str = "tests.settings", env: Mapping[str, str] | None = None) -> None:
        self.args = args
        self.settings = settings
        self.env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.report())
        self.close()

    def start(self) -> Self:
        """Start the process; ``wait_ready()`` says when it works."""
        handle, path = tempfile.mkstemp(prefix="dbos-worker-", suffix=".log")
        self._log = Path(path)
        try:
            self._process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env=process_environment(settings=self.settings, env=self.env),
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(handle)
        return self

    def command(self) -> list[str]:
        """What is run."""
        return [sys.executable, "-m", "django", "dbos_worker", *self.args]

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The started process."""
        if self._process is None:
            raise RuntimeError("This worker was not started: use it as a context manager, or call start().")
        return self._process

    @property
    def pid(self) -> int:
        """The process id of the command (with ``--processes``: of the parent)."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    @property
    def output(self) -> str:
        """What the process wrote so far, standard output and error as they came."""
        return self._log.read_text(errors="replace") if self._log and self._log.exists() else ""

    @property
    def executor_ids(self) -> list[str]:
        """The executor ids it has announced so far, one for each process that is ready."""
        return READY.findall(self.output)

    @property
    def executor_id(self) -> str:
        """The first executor id it announced; waits for it."""
        return self.wait_ready()

    def wait_ready(self, timeout: float = 30.0, *, processes: int = 1) -> str:
        """Wait until ``processes`` executors are ready; returns the id of the first."""
        self._wait_for(lambda: len(self.executor_ids) >= processes, timeout, "worker not ready")
        return self.executor_ids[0]

    def wait_for_line(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """Wait until a line of the output matches ``pattern`` (``re.search``); returns the first match."""
        expression = re.compile(pattern, re.MULTILINE)
        self._wait_for(lambda: bool(expression.search(self.output)), timeout, f"no line {pattern!r}")
        found = expression.search(self.output)
        assert found is not None
        return found

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. With ``--processes`` the children are left to notice by themselves."""
        self.send(signal.SIGKILL)
        self.process.wait(10)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.send(signal.SIGTERM)

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, and wait for the end; returns the exit code."""
        self.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end; returns the exit code (negative: the signal that ended it)."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end within {timeout:g} s\n{self.report()}") from None

    def suspend(self) -> None:
        """SIGSTOP: it holds everything it has and does nothing, as after a long pause of a machine."""
        self.send(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self.send(signal.SIGCONT)

    def send(self, signum: int) -> None:
        """Send a signal to the process; to one that has ended already, nothing."""
        self.process.send_signal(signum)

    def close(self) -> None:
        """End whatever is left of it and its children, and delete its output. May be called again."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        if self._log is not None:
            self._log.unlink(missing_ok=True)

    def report(self) -> str:
        """The command, whether it runs, and the end of its output."""
        state = "not started" if self._process is None else f"pid {self.pid}, exit code {self.process.poll()}"
        output = self.output[-TAIL:].rstrip() or "(nothing)"
        return f"--- dbos_worker {' '.join(self.args)} ({state}) wrote:\n{output}\n---"

    def _wait_for(self, condition: Callable[[], bool], timeout: float, message: str) -> None:
        """Wait for ``condition``, but not for a process that has ended."""
        deadline = time.monotonic() + timeout
        with suppress(AssertionError):
            eventually(lambda: condition() or not self.alive, timeout)
        if not condition():
            how = f"after {timeout:g} s" if time.monotonic() >= deadline else "and never will be: it has ended"
            raise AssertionError(f"{message} {how}\n{self.report()}")


@contextmanager
def statements(using: str = "default") -> Iterator[list[str]]:
    """Every statement that this thread sends to a database inside the block, BEGIN and COMMIT included."""
    connection = connections[using]
    connection.ensure_connection()
    sent: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield sent
    sent += [query["sql"] for query in captured.captured_queries]
