"""The two processes of the demo, site and worker, and their certain end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

MANAGE = Path(__file__).resolve().parent.parent.parent / "manage.py"
HOST = "127.0.0.1"
INTERVAL = 0.1
#: Seconds that a process gets to start, and to end after SIGTERM.
TO_START, TO_END = 30.0, 10.0


class DemoFailed(Exception):
    """The demo could not do its work; the message says why."""


def say(text: str = "") -> None:
    """Write a line to the terminal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def wait_for(condition: Callable[[], object], timeout: float, message: str) -> None:
    """Ask until the answer is true. Raises DemoFailed after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise DemoFailed(f"{message} after {timeout:g} s")
        time.sleep(INTERVAL)


def free_port(first: int) -> int:
    """The first port from ``first`` on on which nobody listens."""
    for port in range(first, first + 100):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise DemoFailed(f"there is no free port from {first} to {first + 99}")


class Child:
    """A management command in a process and a session of its own: Ctrl-C reaches it only through us."""

    def __init__(self, *command: str, log: Path | None = None) -> None:
        self.command = command
        self.log = log
        with open(log, "ab") if log else open(os.devnull, "rb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(MANAGE), *command],
                stdin=subprocess.DEVNULL,
                stdout=output if log else None,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self._process.poll()
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what has not ended in time."""
        try:
            self._process.terminate()
            self._process.wait(TO_END)
        except subprocess.TimeoutExpired:
            say(f"{self.command[0]} did not end within {TO_END:g} s: killing it")
        finally:
            self.kill()


class Processes:
    """Every process that the demo started; as a context manager it leaves none behind."""

    def __init__(self, directory: Path, port: int) -> None:
        self.address = f"http://{HOST}:{port}/"
        self._log = directory / "site.log"
        self._port = port
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):  # asked twice is asked once; Ctrl-C twice ends it now
            signal.signal(number, signal.SIG_IGN)
        try:
            for child in reversed(self._children):
                if child.alive:
                    child.stop()
        finally:
            for child in self._children:
                child.kill()

    def start_site(self) -> Child:
        """The site; returns when it answers. What it writes is kept aside: a line for each request is too much."""
        site = self._start("runserver", f"{HOST}:{self._port}", "--noreload", log=self._log)
        wait_for(lambda: not site.alive or self._answers(), TO_START, "the site does not answer")
        if not site.alive:
            raise DemoFailed(f"the site did not start:\n{self._log.read_text(errors='replace')[-3000:]}")
        return site

    def start_worker(self) -> Child:
        """A worker; it writes to our own output that it is ready."""
        return self._start("dbos_worker")

    def _start(self, *command: str, log: Path | None = None) -> Child:
        child = Child(*command, log=log)
        self._children.append(child)
        return child

    def _answers(self) -> bool:
        try:
            with urlopen(self.address, timeout=5):  # noqa: S310 - our own site
                return True
        except (URLError, OSError):
            return False
