"""Workflows: functions whose every step is recorded, so that whatever dies, they go on from the last one.

``f(7)`` runs here and now, ``start_workflow(f, 7)`` in the background. Both begin with a row.
"""

import functools
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, ParamSpec, TypeVar, overload

from asgiref.sync import markcoroutinefunction

from . import context, serialization
from .arguments import ValidateArgs, validator_for
from .bridge import Database, Operation, adrive, drive, is_async
from .classes import outside_in
from .clock import monotonic
from .context import Execution, NoParking, Result
from .exceptions import DBOSError, DirectCallInTransaction, InvalidOption
from .execution import execute
from .handles import WorkflowHandle, await_result, record_result, recorded_result
from .options import ChosenID
from .registry import WorkflowDefinition, attach_definition, attached_definition, workflow_registry
from .starting import Start, place_child, prepared, start_child, start_of, start_operation
from .sysdb import executors, journal, vendor, workflows
from .sysdb.journal import Checkpoint, Recorded
from .sysdb.workflows import Claimed, Submission, claimed_by_submission

P = ParamSpec("P")
R = TypeVar("R")


@overload
def workflow(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def workflow(
    *,
    name: str | None = ...,
    max_recovery_attempts: int | None = ...,
    serializer: str | None = ...,
    validate_args: ValidateArgs | None = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def workflow(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    max_recovery_attempts: int | None = 100,
    serializer: str | None = None,
    validate_args: ValidateArgs | None = None,
) -> Any:
    """Make a function (sync or async) a workflow. Its body must take the same steps whenever it runs again.

    A workflow that was recovered ``max_recovery_attempts`` times (None: no limit) without finishing is set aside
    as MAX_RECOVERY_ATTEMPTS_EXCEEDED, to be looked at and resumed. ``serializer`` overrides the project's.

    ``validate_args`` checks and converts arguments, at the call and again before a claimed body gets them: True for
    pydantic's validation by type hints, or a function ``(args, kwargs) -> (args, kwargs)`` that raises.
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
            validate_args=validator_for(validate_args, body),
        )
        return _callable(definition)

    return partial(outside_in, decorate) if function is None else outside_in(decorate, function)


def _callable(definition: WorkflowDefinition) -> Callable[..., Any]:
    workflow_registry.register(definition)

    @functools.wraps(definition.function)
    def call(*args: Any, **kwargs: Any) -> Any:
        operation = _operation_of(definition, args, partial(_call, definition, args, kwargs))
        return adrive(operation) if definition.is_async else drive(operation)

    attach_definition(call, definition)
    # As a view it commits what it records: ATOMIC_REQUESTS is not for it.
    setattr(call, "_non_atomic_requests", _AllDatabases())  # noqa: B010 - Django's own name
    if definition.is_async:
        markcoroutinefunction(call)
    return call


class _AllDatabases(set[str]):
    """The alias of every database, whatever they are."""

    def __contains__(self, alias: object) -> bool:
        return True


Adapter = Callable[[WorkflowDefinition, tuple[Any, ...], Callable[[], Operation[Any]]], Operation[Any] | None]

_adapters: list[Adapter] = []


def adapt_calls(adapter: Adapter) -> None:
    """Let a door make something of its own of direct calls: ``adapter(definition, args, call)``, None for others."""
    if adapter not in _adapters:
        _adapters.append(adapter)


def _operation_of(
    definition: WorkflowDefinition, args: tuple[Any, ...], call: Callable[[], Operation[Any]]
) -> Operation[Any]:
    for adapter in _adapters:
        operation = adapter(definition, args, call)
        if operation is not None:
            return operation
    return call()


def definition_of(function: Callable[..., Any]) -> WorkflowDefinition:
    """The definition behind a decorated function or method; raises InvalidOption for any other callable."""
    definition = attached_definition(function)
    if definition is None:
        raise InvalidOption(f"{function!r} is not a workflow: decorate it with @workflow.")
    receiver = getattr(function, "__self__", None)
    return definition if receiver is None else replace(definition, receiver=receiver)


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
    return drive(start_operation(start_of(definition_of(function), args, kwargs)))


@overload
async def astart_workflow(
    function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
) -> WorkflowHandle[R]: ...


@overload
async def astart_workflow(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...


@markcoroutinefunction
def astart_workflow(
    function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Coroutine[Any, Any, WorkflowHandle[Any]]:
    """See start_workflow()."""
    return adrive(start_operation(start_of(definition_of(function), args, kwargs)))


# ---- calling -------------------------------------------------------------------------------------------------


def _call(definition: WorkflowDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Operation[Any]:
    return _call_operation(start_of(definition, args, kwargs))


def _call_operation(start: Start) -> Operation[Any]:
    """``f(7)``: run the workflow here, on the caller's own thread or loop, and give its result."""
    # Numbers and ids are drawn here, at the call: under asyncio.gather() that is the order of the arguments.
    parent, chosen = context.current(), start.options.take_id()
    if parent is not None:
        return _call_child(parent, (parent.next_number(), parent.next_number()), chosen, start)
    if vendor.in_transaction():
        name = start.name
        raise DirectCallInTransaction(
            f"{name}() was called inside atomic(): its checkpoints would vanish with a rollback. "
            f"Use start_workflow({name}, ...), which joins the transaction, or call it after the block."
        )
    return _call_here(start, chosen)


def _call_here(start: Start, chosen: ChosenID | None) -> Operation[Any]:
    """Run the workflow on the caller's thread or loop; if its id was taken, wait for the one that has it."""
    submission = (yield from prepared(start)).submission(chosen)
    claimed: Claimed | None = yield Database(partial(_claim_here, submission))
    result: Result | None = None
    if claimed is not None:
        result = yield from execute(claimed, journal=journal.inline, parking=NoParking(), history={})
    if result is None:  # another executor runs it, or has finished it
        result = yield from await_result(submission.id, None, None)
    return result.unwrap()


def _claim_here(submission: Submission) -> Claimed | None:
    """Submit a workflow as this process's own; None if the id was taken, and its execution is to be awaited."""
    submission = replace(submission, executor_id=executors.own.ensure(submission.application_version).id)
    try:
        _, is_new = workflows.place(submission)
    except DBOSError:
        raise
    except BaseException:
        executors.suspects.add(submission.executor_id)
        raise
    executors.own.ensure()  # the heart may have stopped while the INSERT waited for a lock
    return claimed_by_submission(submission) if is_new else None


def _call_child(parent: Execution, numbers: tuple[int, int], chosen: ChosenID | None, start: Start) -> Operation[Any]:
    """A child that is called draws two numbers: one for its start and one for its result."""
    number, result_number = numbers
    claims: list[Claimed] = []
    child_id = yield from start_child(parent, number, chosen, start, partial(_claim_child, claims))
    if not claims:
        return (yield from recorded_result(parent, result_number, child_id, None))
    started = monotonic()
    result = yield from execute(claims[0], journal=parent.journal, parking=parent.parking, history={}, is_awaited=True)
    if result is None:
        return (yield from recorded_result(parent, result_number, child_id, None))
    return (yield from record_result(parent, result_number, child_id, result, started))


def _claim_child(claims: list[Claimed], parent: Execution, checkpoint: Checkpoint, child: Submission) -> str | Recorded:
    """Start a child that is its parent's executor's own from the beginning."""
    executor_id = parent.lease.key[0]
    child = replace(child, executor_id=executor_id)
    placed = place_child(parent, checkpoint, child)
    if isinstance(placed, Recorded):
        # If it was this very statement, committed on a connection that broke, nobody runs the child yet.
        executors.suspects.add(executor_id)
        return placed
    child_id, is_new = placed
    if is_new:
        claims.append(claimed_by_submission(child))
    return child_id
