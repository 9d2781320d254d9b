"""Patches: change a workflow's body while runs of the old one are on their way.

``if patch("two-cards"):`` takes the new way in runs that come to this point for the first time, and the old way in
those that were past it before the patch was deployed. Which it was is recorded as a step, so it never changes.
"""

from collections.abc import Coroutine
from typing import Any

from asgiref.sync import markcoroutinefunction

from . import context
from .bridge import Operation, adrive, drive
from .clock import monotonic
from .context import Execution, Result
from .exceptions import PatchNondeterminism
from .validation import short_text

# A marker is recorded under this and the patch's name.
_MARKER = "DBOS.patch-"


def patch(name: str) -> bool:
    """Whether this run takes the new way: True unless it came past this point before the patch was there.

    Only for the body of a workflow; raises NotInWorkflow elsewhere. A run that takes the new way records a step.
    """
    return drive(_patch(context.required("patch()"), name, adds=True))


@markcoroutinefunction
def apatch(name: str) -> Coroutine[Any, Any, bool]:
    """See patch()."""
    return adrive(_patch(context.required("apatch()"), name, adds=True))


def deprecate_patch(name: str) -> bool:
    """Always True: for when no run is left that takes the old way, and some are left that recorded the new one.

    It stands where ``patch(name)`` stood, until those have ended too. It records nothing.
    """
    return drive(_deprecated(_patch(context.required("deprecate_patch()"), name, adds=False)))


@markcoroutinefunction
def adeprecate_patch(name: str) -> Coroutine[Any, Any, bool]:
    """See deprecate_patch()."""
    return adrive(_deprecated(_patch(context.required("adeprecate_patch()"), name, adds=False)))


def _patch(execution: Execution, name: str, *, adds: bool) -> Operation[bool]:
    """Whether the marker is there; with ``adds`` it is made where nothing is recorded yet."""
    marker = short_text(f"{_MARKER}<name>", _MARKER + short_text("A patch's name", name))
    if execution.has_rivals():
        raise PatchNondeterminism()

    def is_wanted(number: int) -> bool:
        recorded = execution.name_recorded_at(number)
        # Nothing here, but something later: a step was interrupted while another went on. That is the old way, too.
        return recorded == marker if recorded is not None else adds and not execution.is_behind(number)

    number = execution.next_number_if(is_wanted)
    return _old_way() if number is None else _new_way(execution, number, marker)


def _deprecated(operation: Operation[bool]) -> Operation[bool]:
    yield from operation
    return True


def _old_way() -> Operation[bool]:
    yield from ()
    return False


def _new_way(execution: Execution, number: int, marker: str) -> Operation[bool]:
    if execution.recall(number, marker) is None:
        yield from execution.begin()
        yield from execution.keep(Result(value=True), number=number, name=marker, started=monotonic())
    return True
