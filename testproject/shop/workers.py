"""The worker processes as the pages show them, and the button that kills them."""

import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django_dbos.conf import conf
from django_dbos.models import Executor, Workflow
from django_dbos.states import ExecutorState

#: How many are shown, the newest first.
SHOWN = 4
COMMAND = "dbos_worker"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process: what its row says, and how long ago it last said that it is alive, in seconds."""

    executor: Executor
    silence: float
    running: int

    @property
    def name(self) -> str:
        """A short name for people."""
        return f"worker {self.executor.pid}"

    @property
    def is_alive(self) -> bool:
        """Whether it said so lately."""
        return self.state in (ExecutorState.RUNNING, ExecutorState.DRAINING)

    @property
    def state(self) -> str:
        """``running``, ``silent`` (nobody knows yet that it is dead), ``lost``, ``draining`` or ``stopped``."""
        late = self.executor.state == ExecutorState.RUNNING and self.silence > 2 * conf.HEARTBEAT_INTERVAL
        return "silent" if late else str(self.executor.state)


def latest_workers() -> list[Worker]:
    """The workers that started last."""
    return [_worker(executor) for executor in Executor.objects.order_by("-started_at")[:SHOWN]]


def _worker(executor: Executor) -> Worker:
    silence = (datetime.now(UTC) - executor.heartbeat_at).total_seconds()
    running = Workflow.objects.pending().owned_by(executor.id).count()
    return Worker(executor, silence=silence, running=running)


def kill_local_workers() -> list[int]:
    """SIGKILL, really, for every worker on this machine that is alive; their process ids."""
    killed = []
    for executor in Executor.objects.filter(state=ExecutorState.RUNNING, host=socket.gethostname()):
        # A row may have outlived its process, and the number be somebody else's by now.
        if _is_worker(executor.pid):
            with suppress(ProcessLookupError):
                os.kill(executor.pid, signal.SIGKILL)
                killed.append(executor.pid)
    return killed


def _is_worker(pid: int) -> bool:
    return COMMAND in command_of(pid)


def command_of(pid: int) -> str:
    """The command line of a process; empty if there is no such process."""
    entry = Path("/proc", str(pid), "cmdline")
    if entry.parent.parent.joinpath("self").exists():
        with suppress(OSError):
            return entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    found = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout
