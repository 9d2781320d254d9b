"""Where the running code is: in which workflow, at which step, and on whose behalf."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from weakref import WeakSet

from . import options, serialization
from .bridge import Database, Operation, Shared, Wait
from .clock import monotonic
from .conducting import about_to_record, reached
from .exceptions import DirectCallInTransaction, ExecutionAbandoned, ExecutorStopping, NotInWorkflow, UnexpectedStep
from .hub import Signal, current_task, local_runner, on_event_loop
from .sysdb import vendor
from .sysdb.journal import Checkpoint, Journal, Lease, Recorded, foreseen
from .sysdb.steps import History
from .sysdb.workflows import Claimed


class Parking(Protocol):
    """What an execution gives back while it waits."""

    def released(self) -> AbstractContextManager[Any]:
        """Hold neither a slot nor a connection for the length of the block."""


class NoParking:
    """For executions in their caller's own thread, whose slot and connections are not ours to give away."""

    def released(self) -> AbstractContextManager[Any]:
        """See Parking.released()."""
        return nullcontext()


@dataclass(frozen=True, slots=True)
class Result:
    """How an operation ended: with a value, or with an error."""

    value: Any = None
    error: BaseException | None = None

    def unwrap(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Execution:
    """A workflow whose body runs in this process."""

    def __init__(self, claimed: Claimed, *, journal: Journal, parking: Parking, history: History) -> None:
        self.workflow_id = claimed.id
        self.workflow_name = claimed.name
        self.serializer = claimed.serializer
        self.identity = claimed.identity
        self.has_deadline = claimed.has_deadline
        self.lease = Lease(claimed.id, claimed.executor_id, claimed.epoch)
        self.journal = journal
        self.parking = parking
        self._history = history
        #: What ends the workflow even if its body catches it.
        self.fatal: UnexpectedStep | ExecutionAbandoned | None = None
        #: Whether it was recovered too often to run once more.
        self.is_dead_letter = False
        #: The event loop on which the body runs, if it is async.
        self.loop = asyncio.get_running_loop() if on_event_loop() else None
        #: Whether the roles that its function requires have to be held by now, too.
        self.needs_roles = not claimed.is_checked
        self._lock = threading.Lock()
        self._last_number = 0
        # The body's own task, and others that took steps of it; none of these on a thread of a sync body.
        self._task = current_task()
        self._helpers: WeakSet[asyncio.Task[Any]] = WeakSet()

    def abandon(self) -> ExecutionAbandoned:
        """Write nothing more, as if this process had been killed; the error that ends the body."""
        self.fatal = ExecutionAbandoned(self.workflow_id)
        return self.fatal

    def next_number(self) -> int:
        """Draw the number of the next operation."""
        task = current_task()
        with self._lock:
            if task is not None and task is not self._task:
                self._helpers.add(task)
            self._last_number += 1
            return self._last_number

    def has_rivals(self) -> bool:
        """Whether the next number depends on which of several tasks comes first; as far as that can be known."""
        with self._lock:
            helpers = list(self._helpers)
        return current_task() is not self._task or any(not task.done() for task in helpers)

    def next_number_if(self, is_wanted: Callable[[int], bool]) -> int | None:
        """Draw the next number if ``is_wanted(number)``; None: it is left for the operation that follows."""
        with self._lock:
            number = self._last_number + 1
            if not is_wanted(number):
                return None
            self._last_number = number
            return number

    def name_recorded_at(self, number: int) -> str | None:
        """The name under which an operation is recorded at ``number``; None if none is."""
        recorded = self._history.get(number)
        return None if recorded is None else recorded.name

    def is_behind(self, number: int) -> bool:
        """Whether something is recorded at ``number`` or after it: an earlier execution has come past this point."""
        return any(later >= number for later in self._history)

    def recall(self, number: int, name: str) -> Recorded | None:
        """What is recorded at ``number``, if anything; another name there is an UnexpectedStep."""
        if self.fatal is not None:
            raise self.fatal
        recorded = self._history.get(number)
        if recorded is not None and recorded.name != name:
            self.fatal = UnexpectedStep(
                f"Step {number} of workflow {self.workflow_name!r} ({self.workflow_id}) was recorded as "
                f"{recorded.name!r}, but the code calls {name!r} there: the function has changed since, or does not "
                f"take the same steps each time. Fork the workflow from step {number} to run the new code from there."
            )
            raise self.fatal
        if recorded is None:
            reached(self, number, name)
        return recorded

    def look_up(self) -> None:
        """Raises what the execution has to stop for, if there is anything."""
        if self.lease.is_stopping:
            raise ExecutorStopping(self.workflow_id)
        if vendor.in_transaction():
            raise DirectCallInTransaction(
                "A step, child or result was asked for inside atomic(): its checkpoint would vanish with a rollback. "
                "Use @transaction for writes that must commit with a step, or leave the block first."
            )

    def wait(self, signal: Signal, seconds: float) -> Operation[bool]:
        """Wait for at most so many seconds, holding nothing; whether one has to look why it is over: see check()."""
        woken: bool = yield Wait(signal, seconds, self.parking.released())
        self.look_up()
        return woken or local_runner() is None  # without a runtime nobody here looks on our behalf

    def check(self) -> Operation[None]:
        """Raises what the execution has to stop for, by the database's word."""
        yield Shared(partial(self.journal.check, self.lease))

    def begin(self) -> Operation[None]:
        """What comes before every durable operation that is not recorded yet: look_up() and settle()."""
        self.look_up()
        yield from self.settle()

    def settle(self) -> Operation[None]:
        """The barrier before a durable operation: what was recorded is durable, or it raises why it is not."""
        if not self.journal.is_settled(self.lease):
            yield Database(partial(self.journal.barrier, self.lease))

    def keep(self, result: Result, **details: Any) -> Operation[Result]:
        """See record(); blocks nobody where the journal writes behind."""
        record = partial(self.record, result, **details)
        if self.journal.is_write_behind:
            return record()
        kept: Result = yield Database(record)
        return kept

    def record(
        self,
        result: Result,
        *,
        number: int,
        name: str,
        started: float,
        completed: float | None = None,
        **details: Any,
    ) -> Result:
        """Write how operation ``number`` ended; what counts from now on (a predecessor's record may have won)."""
        result, output, error = self.dump(result, name)
        checkpoint = Checkpoint(
            number=number,
            name=name,
            output=output,
            error=error,
            serializer=self.serializer,
            started=started,
            completed=monotonic() if completed is None else completed,
            **details,
        )
        earlier = self.journal.record(self.lease, checkpoint)
        return result if earlier is None else read_back(earlier)

    def dump(self, result: Result, name: str) -> tuple[Result, str | None, str | None]:
        """(result, output, error) as they are stored; a result that cannot be stored becomes its own error."""
        about_to_record(self, name)
        if result.error is None:
            try:
                output, _ = serialization.dumps(result.value, what=f"{name}()", serializer=self.serializer)
            except serialization.SerializationError as refusal:
                result = Result(error=refusal)
            else:
                return result, output, None
        error, _ = serialization.dump_error(result.error, serializer=self.serializer)  # type: ignore[arg-type]
        return result, None, error


def read_back(recorded: Recorded) -> Result:
    """The result of a recorded operation."""
    if recorded.error is not None:
        return Result(error=serialization.load_error(recorded.error, recorded.serializer))
    return Result(value=serialization.loads(recorded.output, recorded.serializer))


def replayed(recorded: Recorded) -> Operation[Any]:
    """What an operation gave when it was recorded: its value, or its error raised."""
    # A recorded model instance is read afresh from its table.
    result: Result = yield Database(partial(read_back, recorded))
    return result.unwrap()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatus:
    """Where a running step stands: its number, the attempt (from 1) and how many there may be."""

    step_id: int
    current_attempt: int
    max_attempts: int


_execution: ContextVar[Execution | None] = ContextVar("dbos_execution", default=None)
_step: ContextVar[StepStatus | None] = ContextVar("dbos_step", default=None)

#: Every execution of this process, by workflow id.
_running: dict[str, Execution] = {}
#: The workflows that this process's runtimes were given to run.
_here: set[str] = set()
_running_lock = threading.Lock()


def _forget_running() -> None:
    """A forked child runs none of its parent's, and one of those threads may have held the lock."""
    global _running_lock
    _running_lock = threading.Lock()
    _running.clear()
    _here.clear()


os.register_at_fork(after_in_child=_forget_running)


def current() -> Execution | None:
    """The execution whose body calls; None outside workflows and inside their steps."""
    return None if _step.get() is not None else _execution.get()


def enclosing() -> tuple[Execution, StepStatus] | None:
    """The execution inside whose step this is called, and that step; None elsewhere."""
    execution, status = _execution.get(), _step.get()
    return None if execution is None or status is None else (execution, status)


def required(operation: str) -> Execution:
    """The execution whose body calls; raises NotInWorkflow."""
    execution = current()
    if execution is None:
        raise NotInWorkflow(f"{operation} can only be called by the body of a workflow.")
    return execution


@contextmanager
def played(execution: Execution) -> Iterator[None]:
    """Run a block as the body of a workflow that this process does not own: nobody else here knows of it."""
    token, step_token = _execution.set(execution), _step.set(None)
    try:
        with options.as_body_of(execution.identity):
            yield
    finally:
        _step.reset(step_token)
        _execution.reset(token)


@contextmanager
def entered(execution: Execution) -> Iterator[None]:
    """Run a block as the body of a workflow."""
    with _running_lock:
        _running[execution.workflow_id] = execution
    try:
        with played(execution):
            yield
    finally:
        with _running_lock:
            if _running.get(execution.workflow_id) is execution:
                del _running[execution.workflow_id]


@contextmanager
def in_step(status: StepStatus) -> Iterator[None]:
    """Run a block as the body of a step: what it calls is part of the step."""
    token = _step.set(status)
    try:
        yield
    finally:
        _step.reset(token)


def adopt(claimed: Claimed) -> bool:
    """Let a body that already runs here go on under a newer claim of its workflow. False: it does not run here."""
    with _running_lock:
        execution = _running.get(claimed.id)
        claim = (claimed.id, claimed.epoch)
        if claim in foreseen:  # the body has found it out for itself, and may even have ended since
            foreseen.discard(claim)
            return True
        if execution is None:
            return False
        execution.lease.renew(claimed.executor_id, claimed.epoch)
        return True


def arrive(workflow_id: str) -> None:
    """Say that a workflow is about to run in this process; until leave()."""
    _here.add(workflow_id)


def leave(workflow_id: str) -> None:
    """Say that a workflow does not run in this process any more."""
    _here.discard(workflow_id)


def is_here(workflow_id: str) -> bool:
    """Whether a workflow runs in this process, or is about to: then its end is heard of without a look."""
    return workflow_id in _here


def running_of(executor_id: str | None) -> list[Execution]:
    """The executions of one executor in this process; None: of all."""
    with _running_lock:
        return [execution for execution in _running.values() if executor_id in (None, execution.lease.key[0])]


def loop_of(workflow_id: str | None) -> asyncio.AbstractEventLoop | None:
    """The event loop on which a workflow runs in this process, if it does."""
    with _running_lock:
        execution = _running.get(workflow_id or "")
    return None if execution is None else execution.loop


@contextmanager
def outside() -> Iterator[None]:
    """A block whose calls are no steps, whatever workflow's body it stands in."""
    token = _execution.set(None)
    try:
        yield
    finally:
        _execution.reset(token)


def running_ids() -> list[str]:
    """The workflows whose bodies run in this process."""
    with _running_lock:
        return list(_running)


def workflow_id() -> str | None:
    """The id of the workflow that calls, also from inside its steps; None outside workflows."""
    execution = _execution.get()
    return None if execution is None else execution.workflow_id


def step_id() -> int | None:
    """The number of the step that calls; None outside steps."""
    status = _step.get()
    return None if status is None else status.step_id


def step_status() -> StepStatus | None:
    """Where the step that calls stands; None outside steps."""
    return _step.get()


def authenticated_user() -> str | None:
    """On whose behalf this runs: what SetAuthentication said around the start of the workflow, or around this call."""
    return options.ambient().identity.user or None


def authenticated_roles() -> list[str]:
    """The roles of the authenticated user."""
    return list(options.ambient().identity.roles)


def assumed_role() -> str | None:
    """The role by which the authenticated user was let in, where a workflow asks for one."""
    return options.ambient().identity.assumed_role or None
