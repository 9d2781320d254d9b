"""The errors that workflows of this process ended with, as they were raised: who asks here gets the very object.

Only the last few are kept, for an error holds on to all that its traceback can see. Others come from the database.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from asgiref.sync import markcoroutinefunction

from .. import context
from ..bridge import is_async
from ..exceptions import RecordedError

#: How many are kept.
KEPT = 64

_errors: OrderedDict[str, Exception] = OrderedDict()
_lock = Lock()


def remembering(body: Callable[..., Any]) -> Callable[..., Any]:
    """A workflow's body, whose error is kept."""

    @functools.wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return body(*args, **kwargs)
        except Exception as error:
            _keep(error)
            raise

    @functools.wraps(body)
    async def arun(*args: Any, **kwargs: Any) -> Any:
        try:
            return await body(*args, **kwargs)
        except Exception as error:
            _keep(error)
            raise

    return markcoroutinefunction(arun) if is_async(body) else run


def _keep(error: Exception) -> None:
    workflow_id = context.workflow_id()
    if workflow_id is None:
        return
    with _lock:
        _errors[workflow_id] = error
        _errors.move_to_end(workflow_id)
        while len(_errors) > KEPT:
            _errors.popitem(last=False)


def as_raised(workflow_id: str, error: BaseException) -> BaseException:
    """An error that was recorded for a workflow, or the object that was raised, if it is the same kind of error."""
    with _lock:
        raised = _errors.get(workflow_id)
    if raised is None or not isinstance(error, RecordedError | type(raised)):
        return error
    return raised


def forget() -> None:
    """Keep none of them any longer."""
    with _lock:
        _errors.clear()
