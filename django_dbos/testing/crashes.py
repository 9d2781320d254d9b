"""Executions that die in the middle, as in a process that was killed, and what becomes of them."""

import os
import socket
from collections.abc import Iterable
from contextvars import Token
from datetime import timedelta
from types import TracebackType
from typing import Literal

from django.db.models.functions import Now

from .. import conducting
from ..bridge import Database
from ..conducting import Probe
from ..conf import conf
from ..context import Execution
from ..exceptions import ExecutionAbandoned, InvalidOption
from ..models import Executor, Workflow
from ..states import ExecutorState
from ..sysdb import executors

#: How long the executor of a crashed workflow has been silent.
_SILENT = timedelta(days=365)

When = Literal["before", "after"]


class crash_at:  # noqa: N801 - reads as a function
    """``with crash_at("charge"):`` - the first execution that reaches this step in the block dies there.

    As in a process that was killed its body is abandoned and nothing more is written: the workflow stays PENDING under
    an executor that is dead. If it was called directly the block ends there. ``step`` is a name or a number;
    ``workflow_name`` leaves other workflows alone. ``when``: ``"before"`` the step's body, or ``"after"`` it, before
    its checkpoint. That nobody came there is an AssertionError.
    """

    def __init__(self, step: str | int, workflow_name: str | None = None, *, when: When = "before") -> None:
        if when not in ("before", "after"):
            raise InvalidOption(f'when is "before" or "after" the step\'s body, not {when!r}.')
        self._step = step
        self._workflow_name = workflow_name
        self._when = when
        self._outer: Probe | None = None
        self._token: Token[Probe | None] | None = None
        self._due: tuple[Execution, str] | None = None
        self._crash: ExecutionAbandoned | None = None

    def __enter__(self) -> "crash_at":
        self._outer = conducting.probe.get()
        self._token = conducting.probe.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._token is not None:
            conducting.probe.reset(self._token)
        if error is not None and error is self._crash:
            bury(self._crash.workflow_ids)
            return True
        if error is None and self._crash is None:
            raise AssertionError(f"No workflow came to step {self._step!r} inside crash_at().")
        return False

    def reaches(self, execution: Execution, number: int, name: str) -> None:
        """See Probe.reaches()."""
        if self._outer is not None:
            self._outer.reaches(execution, number, name)
        if self._crash is None and self._due is None and self._is_meant(execution, number, name):
            if self._when == "before":
                self._strike(execution)
            self._due = (execution, name)

    def records(self, execution: Execution, name: str) -> None:
        """See Probe.records()."""
        if self._crash is None and self._due == (execution, name):
            self._strike(execution)
        if self._outer is not None:
            self._outer.records(execution, name)

    def _is_meant(self, execution: Execution, number: int, name: str) -> bool:
        return self._step in (number, name) and self._workflow_name in (None, execution.workflow_name)

    def _strike(self, execution: Execution) -> None:
        self._crash = execution.abandon()
        raise self._crash


def bury(workflow_ids: Iterable[str]) -> None:
    """Leave these workflows to an executor that died long ago."""
    dead = f"crashed-{executors.new_id()}"
    Executor.objects.create(
        id=dead,
        host=socket.gethostname(),
        pid=os.getpid(),
        state=ExecutorState.RUNNING,
        heartbeat_at=Now() - _SILENT,
    )
    Workflow.objects.pending().filter(pk__in=list(workflow_ids)).update(executor_id=dead)


def recover() -> int:
    """Do what every worker does by itself: put the workflows of dead executors back on their queues. How many."""
    timeout = conf.HEARTBEAT_TIMEOUT
    dead = [executor_id for executor_id, _ in executors.late(timeout)]
    return sum(executors.recover(executor_id, timeout) for executor_id in dead)


async def arecover() -> int:
    """See recover()."""
    return int(await Database(recover).aperform())
