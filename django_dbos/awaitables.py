"""Waiting for several awaitables at a time, so that a replay finds the same ones done."""

import asyncio
import itertools
from collections.abc import Awaitable, Coroutine, Iterable
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import markcoroutinefunction

from . import context
from .bridge import Body, Operation, adrive
from .clock import monotonic
from .context import Execution, Result, replayed
from .exceptions import InvalidOption, WorkflowInterrupted

Future = asyncio.Future[Any]
Futures = set[Future]

ASYNCIO_WAIT = "DBOS.asyncioWait"
_RETURN_WHEN = (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED)

# In which order awaitables came here first. What is pending is given back as a set, and comes again as one.
_places: WeakKeyDictionary[Future, int] = WeakKeyDictionary()
_next_place = itertools.count()


@markcoroutinefunction
def asyncio_wait(
    fs: Iterable[Awaitable[Any]], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
) -> Coroutine[Any, Any, tuple[Futures, Futures]]:
    """``asyncio.wait()`` for the body of a workflow: which awaitables were done is recorded. (done, pending).

    A workflow that runs again gets the same ones, whichever are done sooner this time. Give the awaitables in an order
    that is always the same: a list, or the pending ones of a former call. Elsewhere it is ``asyncio.wait()``.
    """
    if return_when not in _RETURN_WHEN:
        raise InvalidOption(f"return_when is one of {', '.join(_RETURN_WHEN)}, not {return_when!r:.300}.")
    execution = context.current()
    futures = _in_order(fs, is_recorded=execution is not None)
    wait = partial(asyncio.wait, timeout=timeout, return_when=return_when)
    if execution is None:
        return wait(futures)
    return adrive(_recorded(execution, execution.next_number(), futures, partial(wait, futures)))


def _in_order(fs: Iterable[Awaitable[Any]], *, is_recorded: bool) -> list[Future]:
    given = list(dict.fromkeys(fs))
    if not given:
        raise InvalidOption("There is nothing to wait for: give at least one awaitable.")
    if is_recorded and isinstance(fs, AbstractSet):
        if any(awaitable not in _places for awaitable in given):
            raise InvalidOption("A set has no order that a replay could repeat: give a list of awaitables.")
        given.sort(key=lambda awaitable: _places[awaitable])  # type: ignore[index]
    futures: list[Future] = [asyncio.ensure_future(awaitable) for awaitable in given]
    for future in futures:
        _places.setdefault(future, next(_next_place))
    return futures


def _recorded(
    execution: Execution, number: int, futures: list[Future], wait: "partial[Any]"
) -> Operation[tuple[Futures, Futures]]:
    recorded = execution.recall(number, ASYNCIO_WAIT)
    if recorded is not None:
        places = yield from replayed(recorded)
    else:
        yield from execution.begin()
        started = monotonic()
        done, _ = yield Body(wait)
        execution.look_up()
        _refuse_interrupted(done)
        result = Result(value=[place for place, future in enumerate(futures) if future in done])
        result = yield from execution.keep(result, number=number, name=ASYNCIO_WAIT, started=started)
        places = result.unwrap()
    finished = {futures[place] for place in places}
    unfinished = [future for future in finished if not future.done()]
    if unfinished:  # they were done when this was recorded, and will be again
        yield Body(partial(asyncio.wait, unfinished))
    return finished, set(futures) - finished


def _refuse_interrupted(done: Futures) -> None:
    """One that was interrupted is not done: it goes on where the workflow goes on."""
    for future in done:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, WorkflowInterrupted):
            raise error
