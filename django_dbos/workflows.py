"""Workflows: functions whose every step is recorded, so that whatever dies, they go on from the last one.

``f(7)`` runs here and now, ``start_workflow(f, 7)`` in the background. Both begin with a row.
"""

import functools
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast, overload

from asgiref.sync import markcoroutinefunction

from . import context, serialization
from .bridge import Database, Operation, Shared, adrive, drive, is_async
from .clock import monotonic
from .conf import conf
from .context import Execution, NoParking, Result
from .exceptions import (
    ConflictingWorkflow,
    DirectCallInTransaction,
    InvalidOption,
)
from .execution import execute
from .handles import WorkflowHandle, await_result, record_result, recorded_result
from .hub import LocalRunner, local_runner
from .ids import uuid7
from .registry import WorkflowDefinition, workflow_registry
from .sysdb import executors, journal, vendor, workflows
from .sysdb.journal import Checkpoint
from .sysdb.workflows import Claimed, Submission, claimed_by_submission

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger("django_dbos")

_ATTRIBUTE = "dbos_workflow"


@overload
def workflow(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def workflow(
    *, name: str | None = ..., max_recovery_attempts: int | None = ..., serializer: str | None = ...
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def workflow(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    max_recovery_attempts: int | None = 100,
    serializer: str | None = None,
) -> Any:
    """Make a function (sync or async) a workflow. Its body must take the same steps whenever it runs again.

    A workflow that was recovered ``max_recovery_attempts`` times (None: no limit) without finishing is set aside
    as MAX_RECOVERY_ATTEMPTS_EXCEEDED, to be looked at and resumed. ``serializer`` overrides the project's.
    """
    if max_recovery_attempts is not None and max_recovery_attempts < 0:
        raise InvalidOption(f"max_recovery_attempts cannot be negative: {max_recovery_attempts}.")
    if serializer is not None:
        serialization.get_serializer(serializer)

    def decorate(body: Callable[P, R]) -> Callable[P, R]:
        definition = WorkflowDefinition(
            name=name or body.__qualname__,
            function=body,
            is_async=is_async(body),
            max_recovery_attempts=max_recovery_attempts,
            serializer=serializer,
        )
        return _callable(definition)

    return decorate if function is None else decorate(function)


def _callable(definition: WorkflowDefinition) -> Callable[..., Any]:
    workflow_registry.register(definition)

    @functools.wraps(definition.function)
    def call(*args: Any, **kwargs: Any) -> Any:
        operation = _call_operation(Start(definition=definition, args=args, kwargs=kwargs))
        return adrive(operation) if definition.is_async else drive(operation)

    setattr(call, _ATTRIBUTE, definition)
    if definition.is_async:
        markcoroutinefunction(call)
    return call


def definition_of(function: Callable[..., Any]) -> WorkflowDefinition:
    """The definition behind a decorated function; raises InvalidOption for any other callable."""
    definition = getattr(function, _ATTRIBUTE, None)
    if definition is None:
        raise InvalidOption(f"{function!r} is not a workflow: decorate it with @workflow.")
    return cast(WorkflowDefinition, definition)


# ---- starting ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is asked for when a workflow is started; without a queue it may run in this process at once."""

    definition: WorkflowDefinition
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    queue_name: str | None = None
    priority: int = 0

    def submission(self, workflow_id: str, parent_id: str | None) -> Submission:
        """The row to insert; what cannot be stored raises SerializationError here, before anything is written."""
        inputs, serializer = serialization.dump_call(self.args, self.kwargs, serializer=self.definition.serializer)
        return Submission(
            id=workflow_id,
            name=self.definition.name,
            inputs=inputs,
            serializer=serializer,
            queue_name=self.queue_name or "",
            priority=self.priority,
            parent_id=parent_id,
            application_version=conf.APPLICATION_VERSION or "",
            application_name=conf.APPLICATION_NAME,
        )


@overload
def start_workflow(
    function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
) -> WorkflowHandle[R]: ...


@overload
def start_workflow(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...


def start_workflow(function: Callable[..., Any], *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
    """Start a workflow in the background and return a handle to it.

    It joins the caller's transaction: inside ``atomic()`` it appears on commit and vanishes on rollback. It runs in
    this process if a worker here has a free slot, else in whichever worker comes first.
    """
    return drive(start_operation(Start(definition=definition_of(function), args=args, kwargs=kwargs)))


@overload
async def astart_workflow(
    function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
) -> WorkflowHandle[R]: ...


@overload
async def astart_workflow(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...


async def astart_workflow(function: Callable[..., Any], *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
    """See start_workflow()."""
    return await adrive(start_operation(Start(definition=definition_of(function), args=args, kwargs=kwargs)))


def start_operation(start: Start) -> Operation[WorkflowHandle[Any]]:
    """Insert a workflow, as a child and a recorded step if a workflow's body asks for it."""
    parent, chosen_id = context.current(), context.take_next_id()
    if parent is None:
        submission = start.submission(chosen_id or uuid7(), None)
        yield Database(partial(_submit_in_background, start, submission))
        return WorkflowHandle(submission.id)
    child_id = yield from _start_child(parent, parent.next_number(), chosen_id, start, _submit_child_in_background)
    return WorkflowHandle(child_id)


def _submit_in_background(start: Start, submission: Submission) -> None:
    runner = _runner_for(start)
    executor_id = runner.reserve() if runner else None
    if runner is None or executor_id is None:
        _submit_or_attach(submission)
        return
    submission = replace(submission, executor_id=executor_id)
    _run_if(runner, lambda: _submit_or_attach(submission), submission)


def _runner_for(start: Start) -> LocalRunner | None:
    """This process's own runtime, where a start means running at once: on no queue, and not inside atomic()."""
    return None if start.queue_name is not None or vendor.in_transaction() else local_runner()


def _run_if(runner: LocalRunner, submit: Callable[[], bool], submission: Submission) -> None:
    """Submit, and hand what is new to the slot that was reserved for it."""
    try:
        is_new = submit()
    except BaseException:
        # The row may have been committed all the same: the runner looks for claims that it knows nothing of.
        executors.suspects.add(submission.executor_id)
        runner.unreserve()
        raise
    if is_new:
        runner.run(claimed_by_submission(submission))
    else:
        runner.unreserve()


def _submit_or_attach(submission: Submission) -> bool:
    is_new = workflows.submit(submission)
    if not is_new:
        workflows.attach(submission.id, submission.name)
    return is_new


def _start_child(
    parent: Execution,
    number: int,
    chosen_id: str | None,
    start: Start,
    submit: Callable[[Execution, Checkpoint, Submission], str],
) -> Operation[str]:
    """Step ``number`` of a workflow: start a child, whose row and step are one commit. The child's id."""
    recorded = parent.recall(number, start.definition.name)
    if recorded is not None:
        return recorded.child_id
    parent.look_up()
    yield from parent.settle()
    submission = start.submission(chosen_id or f"{parent.workflow_id}-{number}", parent.workflow_id)
    now = monotonic()
    checkpoint = Checkpoint(
        number=number,
        name=start.definition.name,
        serializer=parent.serializer,
        child_id=submission.id,
        started=now,
        completed=now,
    )
    child_id: str = yield Shared(partial(submit, parent, checkpoint, submission))
    return child_id


def _submit_child_in_background(parent: Execution, checkpoint: Checkpoint, child: Submission) -> str:
    earlier = _submit_child(parent, checkpoint, child)
    return child.id if earlier is None else earlier


def _submit_child(parent: Execution, checkpoint: Checkpoint, child: Submission) -> str | None:
    """Insert child and step; the id of another child if a predecessor had started one at this number."""
    earlier = vendor.patiently(
        lambda: workflows.submit_child(parent.lease, checkpoint, child), pause=parent.lease.pause
    )
    return None if earlier is None else earlier.child_id


# ---- calling -------------------------------------------------------------------------------------------------


def _call_operation(start: Start) -> Operation[Any]:
    """``f(7)``: run the workflow here, on the caller's own thread or loop, and give its result."""
    # Numbers and ids are drawn here, at the call: under asyncio.gather() that is the order of the arguments.
    parent, chosen_id = context.current(), context.take_next_id()
    if parent is not None:
        return _call_child(parent, (parent.next_number(), parent.next_number()), chosen_id, start)
    if vendor.in_transaction():
        name = start.definition.name
        raise DirectCallInTransaction(
            f"{name}() was called inside atomic(): its checkpoints would vanish with a rollback. "
            f"Use start_workflow({name}, ...), which joins the transaction, or call it after the block."
        )
    return _call_here(start.submission(chosen_id or uuid7(), None))


def _call_here(submission: Submission) -> Operation[Any]:
    """Run the workflow on the caller's thread or loop; if its id was taken, wait for the one that has it."""
    claimed: Claimed | None = yield Database(partial(_claim_here, submission))
    result: Result | None = None
    if claimed is not None:
        result = yield from execute(claimed, journal=journal.inline, parking=NoParking(), history={})
    if result is None:  # another executor runs it, or has finished it
        result = yield from await_result(submission.id, None, None)
    return result.unwrap()


def _claim_here(submission: Submission) -> Claimed | None:
    """Submit a workflow as this process's own; None if the id was taken, and its execution is to be awaited."""
    submission = replace(submission, executor_id=executors.own.ensure().id)
    try:
        is_new = _submit_or_attach(submission)
    except ConflictingWorkflow:
        raise
    except BaseException:
        executors.suspects.add(submission.executor_id)
        raise
    executors.own.ensure()  # the heart may have stopped while the INSERT waited for a lock
    return claimed_by_submission(submission) if is_new else None


def _call_child(parent: Execution, numbers: tuple[int, int], chosen_id: str | None, start: Start) -> Operation[Any]:
    """A child that is called draws two numbers: one for its start and one for its result."""
    number, result_number = numbers
    claims: list[Claimed] = []
    child_id = yield from _start_child(parent, number, chosen_id, start, partial(_claim_child, claims))
    if not claims:
        return (yield from recorded_result(parent, result_number, child_id, None))
    started = monotonic()
    result = yield from execute(claims[0], journal=parent.journal, parking=parent.parking, history={}, is_awaited=True)
    if result is None:
        return (yield from recorded_result(parent, result_number, child_id, None))
    return (yield from record_result(parent, result_number, child_id, result, started))


def _claim_child(claims: list[Claimed], parent: Execution, checkpoint: Checkpoint, child: Submission) -> str:
    """Start a child that is its parent's executor's own from the beginning."""
    executor_id = parent.lease.key[0]
    child = replace(child, executor_id=executor_id)
    earlier = _submit_child(parent, checkpoint, child)
    if earlier is not None:
        # If it was this very statement, committed on a connection that broke, nobody runs the child yet.
        executors.suspects.add(executor_id)
        return earlier
    claims.append(claimed_by_submission(child))
    return child.id
