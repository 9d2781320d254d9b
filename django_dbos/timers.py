"""Time inside a workflow: sleep as long as it takes, and read the clock so that a replay reads the same."""

import uuid
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import markcoroutinefunction

from . import context
from .bridge import Operation, Wait, adrive, drive
from .context import Execution
from .hub import Signal
from .operations import recorded_call
from .sysdb import vendor
from .validation import seconds_of
from .waiting import pause_until, recorded_deadline


def sleep(seconds: float | timedelta) -> None:
    """Sleep; the workflow's process may die meanwhile, and the rest of the time is slept elsewhere.

    The end of it is recorded first. Meanwhile the workflow holds neither a slot nor a connection.
    """
    drive(_sleep_operation(seconds))


@markcoroutinefunction
def asleep(seconds: float | timedelta) -> Coroutine[Any, Any, None]:
    """See sleep()."""
    return adrive(_sleep_operation(seconds))


def _sleep_operation(seconds: float | timedelta) -> Operation[None]:
    duration = seconds_of("seconds", seconds)
    if context.enclosing() is not None:  # part of the step, which is recorded as a whole
        return _plain_sleep(duration)
    execution = context.required("sleep()")
    return _durable_sleep(execution, execution.next_number(), duration)


def _durable_sleep(execution: Execution, number: int, seconds: float) -> Operation[None]:
    deadline = yield from recorded_deadline(execution, number, seconds)
    yield from pause_until(execution, deadline)


def _plain_sleep(seconds: float) -> Operation[None]:
    yield Wait(Signal(), seconds)


def now() -> datetime:
    """The time now by the database's clock, in UTC; a workflow's body gets the same one whenever it runs again."""
    return drive(recorded_call("DBOS.now", vendor.current_time))


@markcoroutinefunction
def anow() -> Coroutine[Any, Any, datetime]:
    """See now()."""
    return adrive(recorded_call("DBOS.now", vendor.current_time))


def random_uuid() -> str:
    """A new random UUID (version 4); a workflow's body gets the same one whenever it runs again."""
    return drive(recorded_call("DBOS.randomUUID", _uuid4))


@markcoroutinefunction
def arandom_uuid() -> Coroutine[Any, Any, str]:
    """See random_uuid()."""
    return adrive(recorded_call("DBOS.randomUUID", _uuid4))


def _uuid4() -> str:
    return str(uuid.uuid4())
