"""Events: what a workflow shows of itself while it runs, by key; the last value counts, and all are kept.

Anybody may read them, and wait for one. A value that the workflow's body sets is set exactly once, in one commit
with its step.
"""

from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

from asgiref.sync import markcoroutinefunction

from . import context, serialization
from .bridge import Database, Operation, adrive, drive
from .clock import monotonic
from .context import Execution, replayed
from .hub import EVENT, Watch
from .operations import committed, recorded_call
from .sysdb import events, vendor
from .validation import seconds_of, short_text
from .waiting import known, recorded_deadline, wait_for

SET_EVENT = "DBOS.setEvent"
GET_EVENT = "DBOS.getEvent"
GET_ALL_EVENTS = "DBOS.getAllEvents"


def set_event(key: str, value: Any) -> None:
    """Set ``key`` of this workflow to ``value``, for anybody to read; from a body or from inside a step."""
    drive(_set_operation(key, value))


@markcoroutinefunction
def aset_event(key: str, value: Any) -> Coroutine[Any, Any, None]:
    """See set_event()."""
    return adrive(_set_operation(key, value))


def _set_operation(key: str, value: Any) -> Operation[None]:
    short_text("An event's key", key)
    inside = context.enclosing()
    if inside is not None:  # the step is recorded as a whole; this value may be set again with it
        execution, status = inside
        return _set_in_step(_write(execution, status.step_id, key, value))
    body = context.required("set_event()")
    number = body.next_number()
    return committed(body, number, SET_EVENT, _write(body, number, key, value))


def _write(execution: Execution, step: int, key: str, value: Any) -> "partial[None]":
    text, serializer = serialization.dumps(value, what=f"event {key!r}", serializer=execution.serializer)
    return partial(events.set_event, execution.lease, step, key, text, serializer)


def _set_in_step(write: "partial[None]") -> Operation[None]:
    def commit() -> None:
        with vendor.transaction():
            write()

    yield Database(commit)


def get_event(workflow_id: str, key: str, timeout_seconds: float | timedelta = 60) -> Any:
    """The value of a workflow's ``key``, as soon as it is set; None after ``timeout_seconds``.

    Called by a workflow's body it is a recorded step, and the time goes on to run while the workflow is down.
    """
    return drive(_get_operation(workflow_id, key, timeout_seconds))


@markcoroutinefunction
def aget_event(workflow_id: str, key: str, timeout_seconds: float | timedelta = 60) -> Coroutine[Any, Any, Any]:
    """See get_event()."""
    return adrive(_get_operation(workflow_id, key, timeout_seconds))


def _get_operation(workflow_id: str, key: str, timeout_seconds: float | timedelta) -> Operation[Any]:
    watch = Watch(EVENT, short_text("A workflow id", workflow_id), short_text("An event's key", key))
    seconds = seconds_of("timeout_seconds", timeout_seconds)
    execution = context.current()
    if execution is None:
        return _get_unrecorded(watch, seconds)
    return _get_recorded(execution, (execution.next_number(), execution.next_number()), watch, seconds)


def _get_unrecorded(watch: Watch, seconds: float) -> Operation[Any]:
    look = partial(events.find_event, watch.workflow_id, watch.key)
    found = yield from wait_for(watch, look, execution=None, until=partial(known, monotonic() + seconds))
    return (yield Database(partial(_decoded, found)))


def _get_recorded(execution: Execution, numbers: tuple[int, int], watch: Watch, seconds: float) -> Operation[Any]:
    """It draws two numbers: one for the value, one for the end of the wait."""
    number, deadline_number = numbers
    recorded = execution.recall(number, GET_EVENT)
    if recorded is not None:
        return (yield from replayed(recorded))
    yield from execution.begin()
    started = monotonic()
    found = yield from wait_for(
        watch,
        partial(events.find_event, watch.workflow_id, watch.key),
        execution=execution,
        until=partial(recorded_deadline, execution, deadline_number, seconds),
    )
    result = yield Database(partial(_result, found))
    result = yield from execution.keep(result, number=number, name=GET_EVENT, started=started)
    return result.unwrap()


def _result(found: tuple[str, str] | None) -> context.Result:
    return context.Result(value=_decoded(found))


def _decoded(found: tuple[str, str] | None) -> Any:
    return None if found is None else serialization.loads(*found)


def get_all_events(workflow_id: str) -> dict[str, Any]:
    """Every key that a workflow has set so far, with its value."""
    return drive(_all_operation(workflow_id))


@markcoroutinefunction
def aget_all_events(workflow_id: str) -> Coroutine[Any, Any, dict[str, Any]]:
    """See get_all_events()."""
    return adrive(_all_operation(workflow_id))


def _all_operation(workflow_id: str) -> Operation[dict[str, Any]]:
    short_text("A workflow id", workflow_id)
    return recorded_call(GET_ALL_EVENTS, partial(_all_decoded, workflow_id))


def _all_decoded(workflow_id: str) -> dict[str, Any]:
    return {key: _decoded(found) for key, found in events.all_events(workflow_id).items()}
