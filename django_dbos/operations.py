"""Durable operations of our own: what a workflow's body asks of the package is a recorded step like any other.

The number is drawn when the operation is made, that is at the call: under ``asyncio.gather()`` that is the order
of the arguments. Inside a step, and outside workflows, the same call is made and nothing is recorded.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from . import context
from .bridge import Database, Operation, Shared
from .clock import monotonic
from .context import Execution, Result, read_back, replayed
from .sysdb import journal, vendor
from .sysdb.journal import Checkpoint, Recorded

T = TypeVar("T")


def recorded_call(name: str, call: Callable[[], T]) -> Operation[T]:
    """``call()``, a short blocking call; from a workflow's body its result is recorded as step ``name``.

    It happens at least once: again if the process dies before the result is recorded.
    """
    execution = context.current()
    if execution is None:
        return _plain(call)
    return _recorded(execution, execution.next_number(), name, call)


def _plain(call: Callable[[], T]) -> Operation[T]:
    result: T = yield Database(call)
    return result


def _recorded(execution: Execution, number: int, name: str, call: Callable[[], Any]) -> Operation[Any]:
    recorded = execution.recall(number, name)
    if recorded is not None:
        return (yield from replayed(recorded))
    yield from execution.begin()
    started = monotonic()
    try:
        result = Result(value=(yield Shared(call)))
    except Exception as error:
        result = Result(error=error)
    result = yield from execution.keep(result, number=number, name=name, started=started)
    return result.unwrap()


def committed_call(name: str, write: Callable[[], T]) -> Operation[T]:
    """``write()``, some writes to the system database; from a workflow's body they are one commit with step ``name``.

    So they happen exactly once. Elsewhere they join the caller's transaction, or make one of their own.
    """
    execution = context.current()
    if execution is None:
        return _plain(partial(_in_transaction, write))
    return committed(execution, execution.next_number(), name, write)


def _in_transaction(write: Callable[[], T]) -> T:
    with vendor.transaction():
        return write()


def committed(execution: Execution, number: int, name: str, write: Callable[[], Any]) -> Operation[Any]:
    """Operation ``number`` of a workflow: ``write()``, in one commit with its checkpoint."""
    recorded = execution.recall(number, name)
    if recorded is not None:
        return (yield from replayed(recorded))
    yield from execution.begin()
    started = monotonic()
    try:
        result: Result = yield Shared(partial(commit_with_checkpoint, execution, number, name, write, started))
    except Exception as error:  # it was rolled back: what is recorded is that it failed
        result = yield from execution.keep(Result(error=error), number=number, name=name, started=started)
    return result.unwrap()


class _Refused(Exception):
    """Rolls a transaction back because its checkpoint was refused."""


def commit_with_checkpoint(
    execution: Execution, number: int, name: str, write: Callable[[], Any], started: float
) -> Result:
    """``write()`` and the checkpoint of its result in one commit; a predecessor's record, if that came first.

    Raises WorkflowCancelled or OwnershipLost if the workflow is no longer ours, and what ``write`` raises.
    """

    def attempt() -> Result | Recorded | None:
        with vendor.transaction():
            result, output, _ = execution.dump(Result(value=write()), name)
            if result.error is not None:  # what cannot be stored must not be committed either
                raise result.error
            checkpoint = Checkpoint(
                number=number,
                name=name,
                output=output,
                serializer=execution.serializer,
                started=started,
                completed=monotonic(),
            )
            if not journal.insert_checkpoint(execution.workflow_id, execution.lease.key, checkpoint):
                raise _Refused
            return result

    def attempt_or_explain() -> Result | Recorded | None:
        try:
            return attempt()
        except _Refused:
            return journal.explain(execution.lease, number)

    while True:
        outcome = vendor.patiently(attempt_or_explain, pause=execution.lease.pause)
        if isinstance(outcome, Recorded):
            return read_back(outcome)
        if outcome is not None:
            return outcome
