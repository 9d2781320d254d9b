"""Handles: what one holds of a workflow that runs somewhere; and waiting for one, for the first of several, for all."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Generic, TypeVar

from asgiref.sync import markcoroutinefunction

from . import context, serialization
from .bridge import Database, Operation, Shared, adrive, drive
from .clock import monotonic
from .context import Execution, Result, replayed
from .exceptions import AwaitedWorkflowCancelled, InvalidOption, MaxRecoveryAttemptsExceeded, ResultTimeout
from .hub import OUTCOME, Watch, hub, outcome_of
from .models import Workflow
from .states import WorkflowStatus
from .sysdb import outcomes, workflows
from .sysdb.journal import Ending
from .validation import seconds_of, short_text
from .waiting import known, patient, wait_for

R = TypeVar("R")

#: The name under which waiting for a workflow's result is recorded.
GET_RESULT = "DBOS.getResult"
WAIT_FIRST = "DBOS.waitFirst"
WAIT_ALL = "DBOS.waitAll"


class WorkflowHandle(Generic[R]):
    """A workflow, by its id: its result, now or when it is there, and its status."""

    __slots__ = ("workflow_id",)

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.workflow_id}>"

    def get_result(self, timeout: float | None = None) -> R:
        """The workflow's result, or its error raised, once it has finished.

        ``timeout``: seconds after which ResultTimeout is raised. Called by a workflow's body it is a recorded step.
        """
        result: R = drive(result_operation(self.workflow_id, timeout))
        return result

    @markcoroutinefunction
    def aget_result(self, timeout: float | None = None) -> Coroutine[Any, Any, R]:
        """See get_result()."""
        return adrive(result_operation(self.workflow_id, timeout))

    def get_status(self) -> Workflow:
        """The workflow's row as it is now."""
        return workflows.load(self.workflow_id)

    async def aget_status(self) -> Workflow:
        """See get_status()."""
        row: Workflow = await Database(self.get_status).aperform()
        return row


def result_operation(workflow_id: str, timeout: float | None) -> Operation[Any]:
    """Wait for a workflow; inside another one that is a step of its own."""
    execution = context.current()
    if execution is None:
        return _unrecorded(workflow_id, timeout)
    return recorded_result(execution, execution.next_number(), workflow_id, timeout)


def _unrecorded(workflow_id: str, timeout: float | None) -> Operation[Any]:
    result: Result = yield from await_result(workflow_id, timeout, None)
    return result.unwrap()


def recorded_result(execution: Execution, number: int, workflow_id: str, timeout: float | None) -> Operation[Any]:
    """Operation ``number`` of a workflow: wait for another one, and record what came of it."""
    recorded = execution.recall(number, GET_RESULT)
    if recorded is not None:
        return (yield from replayed(recorded))
    yield from execution.begin()
    started = monotonic()
    result = yield from await_result(workflow_id, timeout, execution)
    return (yield from record_result(execution, number, workflow_id, result, started))


def record_result(
    execution: Execution, number: int, workflow_id: str, result: Result, started: float
) -> Operation[Any]:
    """Record what came of another workflow as operation ``number``, and give it."""
    result = yield from execution.keep(result, number=number, name=GET_RESULT, started=started, child_id=workflow_id)
    return result.unwrap()


def await_result(workflow_id: str, timeout: float | None, execution: Execution | None) -> Operation[Result]:
    """Wait until a workflow has finished; what came of it, or a ResultTimeout."""
    outcome = yield from wait_for(
        Watch(OUTCOME, workflow_id),
        partial(outcomes.find_outcome, workflow_id),
        execution=execution,
        until=partial(known, _deadline(timeout)),
        takes_news=True,
    )
    if outcome is None:
        return Result(error=_timed_out(workflow_id, timeout))
    result: Result = yield Database(partial(unwrapped, workflow_id, outcome))
    return result


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else monotonic() + timeout


def _timed_out(workflow_id: str, timeout: float | None) -> ResultTimeout:
    return ResultTimeout(f"Workflow {workflow_id} did not finish within {timeout:g} s; it goes on.")


def unwrapped(workflow_id: str, outcome: Ending) -> Result:
    """What a waiter gets of a finished workflow."""
    match outcome.status:
        case WorkflowStatus.SUCCESS:
            return Result(value=serialization.loads(outcome.output, outcome.serializer))
        case WorkflowStatus.CANCELLED:
            return Result(error=AwaitedWorkflowCancelled(f"Workflow {workflow_id} has been cancelled."))
        case WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED:
            return Result(error=MaxRecoveryAttemptsExceeded(f"Workflow {workflow_id} was recovered too often."))
        case _:
            return Result(error=serialization.load_error(outcome.error or "", outcome.serializer))


def retrieve_workflow(workflow_id: str) -> WorkflowHandle[Any]:
    """A handle to an existing workflow; raises NonExistentWorkflow."""
    workflows.load(workflow_id)
    return WorkflowHandle(workflow_id)


async def aretrieve_workflow(workflow_id: str) -> WorkflowHandle[Any]:
    """See retrieve_workflow()."""
    handle: WorkflowHandle[Any] = await Database(partial(retrieve_workflow, workflow_id)).aperform()
    return handle


def get_result(workflow_id: str, timeout: float | None = None) -> Any:
    """The result of a workflow by its id: see WorkflowHandle.get_result()."""
    return drive(result_operation(short_text("A workflow id", workflow_id), timeout))


@markcoroutinefunction
def aget_result(workflow_id: str, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
    """See get_result()."""
    return adrive(result_operation(short_text("A workflow id", workflow_id), timeout))


# ---- several -------------------------------------------------------------------------------------------------


def wait_first(handles: Iterable[WorkflowHandle[R]], timeout: float | None = None) -> WorkflowHandle[R]:
    """The handle of the workflow that finishes first, however it ends; the earliest if some have finished already.

    ``timeout``: seconds after which ResultTimeout is raised. Called by a workflow's body it is a recorded step.
    """
    return drive(_first_operation(handles, timeout))


@markcoroutinefunction
def await_first(
    handles: Iterable[WorkflowHandle[R]], timeout: float | None = None
) -> Coroutine[Any, Any, WorkflowHandle[R]]:
    """See wait_first()."""
    return adrive(_first_operation(handles, timeout))


def wait_all(handles: Iterable[WorkflowHandle[R]], timeout: float | None = None) -> list[R]:
    """The results of some workflows, in the order of their handles, once all have finished.

    If some ended with errors, the first of these in that order is raised then. ``timeout``: seconds for all together,
    after which ResultTimeout is raised. Called by a workflow's body it is one recorded step.
    """
    return drive(_all_operation(handles, timeout))


@markcoroutinefunction
def await_all(handles: Iterable[WorkflowHandle[R]], timeout: float | None = None) -> Coroutine[Any, Any, list[R]]:
    """See wait_all()."""
    return adrive(_all_operation(handles, timeout))


def _ids(handles: Iterable[object]) -> list[str]:
    ids = []
    for handle in handles:
        if not isinstance(handle, WorkflowHandle):
            raise InvalidOption(f"Give handles, not {handle!r:.300}: retrieve_workflow() makes one of an id.")
        ids.append(handle.workflow_id)
    return ids


def _first_operation(handles: Iterable[WorkflowHandle[R]], timeout: float | None) -> Operation[WorkflowHandle[R]]:
    handles = list(handles)
    ids = list(dict.fromkeys(_ids(handles)))
    if not ids:
        raise InvalidOption("There is no first one of no workflows: give at least one handle.")
    seconds = None if timeout is None else seconds_of("timeout", timeout)
    return _first_handle(handles, _recorded_wait(WAIT_FIRST, partial(_await_first, ids, seconds)))


def _first_handle(handles: list[WorkflowHandle[R]], waiting: Operation[str]) -> Operation[WorkflowHandle[R]]:
    workflow_id = yield from waiting
    return next((handle for handle in handles if handle.workflow_id == workflow_id), WorkflowHandle(workflow_id))


def _all_operation(handles: Iterable[WorkflowHandle[Any]], timeout: float | None) -> Operation[list[Any]]:
    ids, seconds = _ids(handles), None if timeout is None else seconds_of("timeout", timeout)
    return _recorded_wait(WAIT_ALL, partial(_await_all, ids, seconds))


def _recorded_wait(name: str, wait: Callable[[Execution | None], Operation[Result]]) -> Operation[Any]:
    """Wait for several; inside a workflow that is one step, whose number is drawn here."""
    execution = context.current()
    if execution is None:
        return _waited(wait)
    return _recorded(execution, execution.next_number(), name, wait)


def _waited(wait: Callable[[Execution | None], Operation[Result]]) -> Operation[Any]:
    result = yield from wait(None)
    return result.unwrap()


def _recorded(
    execution: Execution, number: int, name: str, wait: Callable[[Execution | None], Operation[Result]]
) -> Operation[Any]:
    recorded = execution.recall(number, name)
    if recorded is not None:
        return (yield from replayed(recorded))
    yield from execution.begin()
    started = monotonic()
    result = yield from wait(execution)
    result = yield from execution.keep(result, number=number, name=name, started=started)
    return result.unwrap()


def _await_first(ids: Sequence[str], timeout: float | None, execution: Execution | None) -> Operation[Result]:
    first, *others = (Watch(OUTCOME, workflow_id) for workflow_id in ids)
    found = yield from wait_for(
        first,
        partial(outcomes.first_finished, ids),
        execution=execution,
        until=partial(known, _deadline(timeout)),
        also=others,
    )
    if found is None:
        return Result(error=ResultTimeout(f"None of {len(ids)} workflows finished within {timeout:g} s; they go on."))
    return Result(value=found)


def _await_all(ids: Sequence[str], timeout: float | None, execution: Execution | None) -> Operation[Result]:
    """Wait for one after the other, hearing of all meanwhile; what was not heard of is looked up for many at once."""
    deadline = _deadline(timeout)
    waiting = list(dict.fromkeys(ids))
    with ExitStack() as stack:
        heard = {workflow_id: stack.enter_context(hub.listen(outcome_of(workflow_id))) for workflow_id in waiting}
        endings = yield Shared(patient(execution, partial(outcomes.find_outcomes, waiting)))
        for place, workflow_id in enumerate(waiting):
            if workflow_id not in endings and heard[workflow_id].news is not None:
                endings[workflow_id] = heard[workflow_id].news
            if workflow_id in endings:
                continue
            ending = yield from wait_for(
                Watch(OUTCOME, workflow_id),
                partial(_find_among, waiting[place:], endings),
                execution=execution,
                until=partial(known, deadline),
                takes_news=True,
            )
            if ending is None:
                missing = len(waiting) - len(endings)
                return Result(
                    error=ResultTimeout(f"{missing} of {len(ids)} workflows did not finish within {timeout:g} s.")
                )
            endings[workflow_id] = ending
    result: Result = yield Database(partial(_all_unwrapped, ids, endings))
    return result


def _find_among(waiting: Sequence[str], endings: dict[str, Ending]) -> Ending | None:
    """How the first of ``waiting`` ended; one query finds it, and many that come after it, into ``endings``."""
    unknown = [workflow_id for workflow_id in waiting if workflow_id not in endings]
    endings.update(outcomes.find_outcomes(unknown[: outcomes.BATCH]))
    return endings.get(waiting[0])


def _all_unwrapped(ids: Sequence[str], endings: dict[str, Ending]) -> Result:
    results = {workflow_id: unwrapped(workflow_id, ending) for workflow_id, ending in endings.items()}
    failed = [results[workflow_id] for workflow_id in ids if results[workflow_id].error is not None]
    return failed[0] if failed else Result(value=[results[workflow_id].value for workflow_id in ids])
