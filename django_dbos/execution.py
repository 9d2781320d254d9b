"""The one place where a workflow's body runs, and how its end is written down."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from django.db import DatabaseError
from django.dispatch import Signal

from . import context, serialization, signals
from .arguments import validated
from .bridge import Body, Database, Operation
from .classes import receiver_of
from .context import Execution, Parking, Result
from .exceptions import ExecutionAbandoned, InvalidOption, MaxRecoveryAttemptsExceeded, WorkflowInterrupted
from .models import Workflow
from .options import acting_as
from .registry import WorkflowDefinition, workflow_registry
from .roles import identified
from .states import WorkflowStatus
from .sysdb import executors, vendor
from .sysdb.journal import Ending, Journal
from .sysdb.steps import History
from .sysdb.workflows import Claimed, write_assumed_role

logger = logging.getLogger("django_dbos")


def execute(
    claimed: Claimed,
    *,
    journal: Journal,
    parking: Parking,
    history: History,
    is_awaited: bool = False,
) -> Operation[Result | None]:
    """Run the body of a workflow that this process owns, and write down how it ended. The one place that does.

    With ``is_awaited`` the outcome is durable when the result is given, also where the journal writes behind.
    None: the execution stopped without an outcome of its own - cancelled, lost to another executor, or handed back
    because this executor stops.
    """
    execution = Execution(claimed, journal=journal, parking=parking, history=history)
    try:
        with context.entered(execution):
            result = yield from run_body(execution, claimed)
            result = yield from _finish(execution, result)
            if is_awaited or _has_audience(result):
                yield from execution.settle()
    except GeneratorExit:
        raise
    except ExecutionAbandoned as abandoned:
        abandoned.workflow_ids.append(claimed.id)
        raise
    except WorkflowInterrupted as interruption:
        logger.info("Workflow %s stops here: %s", claimed.id, type(interruption).__name__)
        yield Database(partial(_let_go, execution))
        return None
    except BaseException:
        # The caller's thread or task is being torn down: somebody else shall go on.
        yield Database(partial(_let_go, execution))
        raise
    if _has_audience(result):
        yield Database(partial(_announce, execution, result))
    return result


def _let_go(execution: Execution) -> None:
    """Hand back what is still ours. Zero rows: it is not, and there is nothing to hand back."""
    if isinstance(execution.fatal, ExecutionAbandoned):
        return
    with suppress(WorkflowInterrupted):
        execution.journal.barrier(execution.lease)  # what it has recorded goes with it
    executor_id, epoch = execution.lease.key
    try:
        executors.release(executor_id, workflow_id=execution.workflow_id, epoch=epoch)
    except BaseException:
        executors.suspects.add(executor_id)
        raise


def run_body(execution: Execution, claimed: Claimed) -> Operation[Result]:
    """Run the body with what was recorded of its inputs; what it returned or raised."""
    definition = workflow_registry.get(claimed.name)
    limit = definition.max_recovery_attempts
    if limit is not None and claimed.attempts > limit + 1:
        execution.is_dead_letter = True
        return Result(error=MaxRecoveryAttemptsExceeded(f"Started {claimed.attempts} times without finishing."))
    try:
        receiver = receiver_of(definition, claimed.class_name, claimed.instance_name)
        if receiver is not definition.receiver:
            definition = replace(definition, receiver=receiver)
    except InvalidOption as error:  # a row that nobody can run; what only this process cannot run is handed back
        return Result(error=error)
    try:
        args, kwargs = yield Database(partial(_load_inputs, execution, claimed))
        if execution.needs_roles:
            yield from _assume_role(execution, definition, args)
        if not claimed.is_checked:
            args, kwargs = validated(definition, args, kwargs)
        body = partial(definition.function, *definition.called_on(args), **kwargs)
        with acting_as(execution.identity):
            return Result(value=(yield Body(body)))
    except (Exception, SystemExit) as error:
        return Result(error=error)
    except asyncio.CancelledError as error:
        if _is_torn_down():
            raise
        return Result(error=error)


def _load_inputs(execution: Execution, claimed: Claimed) -> tuple[tuple[Any, ...], dict[str, Any]]:
    # Inputs may refer to rows, and so need the database; that it is away is no fault of theirs.
    return vendor.patiently(
        lambda: serialization.load_call(claimed.inputs, claimed.serializer), pause=execution.lease.pause
    )


def _assume_role(execution: Execution, definition: WorkflowDefinition, args: tuple[Any, ...]) -> Operation[None]:
    """Find out again whether the user may have this run; the role may be another one than at the start."""
    before = execution.identity
    identity = yield from identified(definition.function, definition.called_on(args), before, execution)
    if identity != before:
        execution.identity = identity
        write = partial(write_assumed_role, execution.lease, identity.assumed_role)
        yield Database(partial(vendor.patiently, write, pause=execution.lease.pause))


def _is_torn_down() -> bool:
    """Whether this very task is being cancelled, as against some other task that the body awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _finish(execution: Execution, result: Result) -> Operation[Result]:
    """Write down how the body ended; what counts as its result."""
    if isinstance(execution.fatal, ExecutionAbandoned):
        raise execution.fatal
    result, ending = _ending(execution, result if execution.fatal is None else Result(error=execution.fatal))
    context.leave(execution.workflow_id)  # who comes to wait from now on may come after the wake-up, and has to look
    if execution.journal.is_write_behind:
        execution.journal.finish(execution.lease, ending)
        return result
    try:
        yield Database(partial(execution.journal.finish, execution.lease, ending))
    except DatabaseError as refusal:  # the database is there, and does not take this outcome: say so instead
        result, ending = _ending(execution, Result(error=refusal))
        yield Database(partial(execution.journal.finish, execution.lease, ending))
    return result


def _ending(execution: Execution, result: Result) -> tuple[Result, Ending]:
    result, output, error = execution.dump(result, execution.workflow_name)
    status = WorkflowStatus.SUCCESS if result.error is None else WorkflowStatus.ERROR
    if execution.is_dead_letter:
        status = WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED
    return result, Ending(status=status, output=output, error=error, serializer=execution.serializer)


def _signal_for(result: Result) -> Signal:
    return signals.workflow_succeeded if result.error is None else signals.workflow_failed


def _has_audience(result: Result) -> bool:
    return _signal_for(result).has_listeners(Workflow)


def _announce(execution: Execution, result: Result) -> None:
    details = {} if result.error is None else {"error": result.error}
    identity = {"workflow_id": execution.workflow_id, "name": execution.workflow_name}
    for _, response in _signal_for(result).send_robust(Workflow, **identity, **details):
        if isinstance(response, Exception):
            logger.error("A receiver of a workflow's signal failed", exc_info=response)
