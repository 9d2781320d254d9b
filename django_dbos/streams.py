"""Streams: values that a workflow writes one after the other, for anybody to read while it runs and afterwards.

Entries are numbered from 0. A reader waits for the next one, and ends when the stream is closed or its workflow has
finished. What a body writes is written exactly once; what a step writes, again if the step runs again.
"""

from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from asgiref.sync import markcoroutinefunction

from . import context, serialization
from .bridge import Database, Operation, adrive, drive
from .clock import monotonic
from .context import Execution, Result, replayed
from .exceptions import StreamEnded, StreamTimeout
from .hub import STREAM, Watch
from .operations import committed
from .sysdb import streams
from .validation import seconds_of, short_text, whole_number
from .waiting import known, wait_for

WRITE_STREAM = "DBOS.writeStream"
CLOSE_STREAM = "DBOS.closeStream"
READ_STREAM = "DBOS.readStream"

# What is recorded of a read, and given by one: a value, or that there is none any more.
Found = list[Any]
_THE_END: Found = []


# ---- writing -------------------------------------------------------------------------------------------------


def write_stream(key: str, value: Any) -> None:
    """Add ``value`` to a stream of this workflow; from a body or from inside a step.

    What is written behind the end of a stream nobody reads.
    """
    drive(_write_operation(WRITE_STREAM, "write_stream()", key, value))


@markcoroutinefunction
def awrite_stream(key: str, value: Any) -> Coroutine[Any, Any, None]:
    """See write_stream()."""
    return adrive(_write_operation(WRITE_STREAM, "awrite_stream()", key, value))


def close_stream(key: str) -> None:
    """End a stream of this workflow: its readers end when they have read what is there."""
    drive(_write_operation(CLOSE_STREAM, "close_stream()", key, None, is_end=True))


@markcoroutinefunction
def aclose_stream(key: str) -> Coroutine[Any, Any, None]:
    """See close_stream()."""
    return adrive(_write_operation(CLOSE_STREAM, "aclose_stream()", key, None, is_end=True))


def _write_operation(name: str, caller: str, key: str, value: Any, *, is_end: bool = False) -> Operation[None]:
    short_text("A stream's key", key)
    inside = context.enclosing()
    if inside is not None:  # the step is recorded as a whole; this value may be written again with it
        execution, status = inside
        return _plain(_append(execution, status.step_id, key, value, is_end))
    body = context.required(caller)
    append = _append(body, number := body.next_number(), key, value, is_end)
    return committed(body, number, name, append)


def _append(execution: Execution, step: int, key: str, value: Any, is_end: bool) -> "partial[None]":
    text, serializer = serialization.dumps(value, what=f"stream {key!r}", serializer=execution.serializer)
    return partial(streams.append, execution.lease, step, key, text, serializer, is_end=is_end)


def _plain(append: "partial[None]") -> Operation[None]:
    yield Database(append)


# ---- reading -------------------------------------------------------------------------------------------------


def read_stream(
    workflow_id: str, key: str, *, offset: int = 0, timeout_seconds: float | timedelta | None = None
) -> Iterator[Any]:
    """The values of a workflow's stream from ``offset`` on, each as soon as it is written.

    It ends when the stream is closed, or its workflow has finished. Raises StreamTimeout if nothing new comes for
    ``timeout_seconds`` (None: it waits for ever), and NonExistentWorkflow. Read by a body, each value is a recorded
    step, and so is the end.
    """
    return _values(_Reader(workflow_id, key, offset, timeout_seconds))


def aread_stream(
    workflow_id: str, key: str, *, offset: int = 0, timeout_seconds: float | timedelta | None = None
) -> AsyncIterator[Any]:
    """See read_stream(); for ``async for``."""
    return _AsyncValues(_Reader(workflow_id, key, offset, timeout_seconds))


def read_stream_offset(
    workflow_id: str, key: str, offset: int, *, timeout_seconds: float | timedelta | None = None
) -> Any:
    """The one value of a workflow's stream at ``offset``, as soon as it is written.

    Raises StreamEnded if the stream ends before, StreamTimeout and NonExistentWorkflow. Read by a body it is a
    recorded step.
    """
    return drive(_read_one(_Reader(workflow_id, key, offset, timeout_seconds, limit=1)))


@markcoroutinefunction
def aread_stream_offset(
    workflow_id: str, key: str, offset: int, *, timeout_seconds: float | timedelta | None = None
) -> Coroutine[Any, Any, Any]:
    """See read_stream_offset()."""
    return adrive(_read_one(_Reader(workflow_id, key, offset, timeout_seconds, limit=1)))


class _Reader:
    """Where a reader stands in a stream, and what it has read ahead."""

    def __init__(
        self,
        workflow_id: str,
        key: str,
        offset: int,
        timeout_seconds: float | timedelta | None,
        *,
        limit: int = streams.PAGE,
    ) -> None:
        self.workflow_id = short_text("A workflow id", workflow_id)
        self.key = short_text("A stream's key", key)
        self.offset = whole_number("offset", offset, least=0)
        self._seconds = None if timeout_seconds is None else seconds_of("timeout_seconds", timeout_seconds)
        self._limit = limit
        self._ahead: deque[Result] = deque()
        self._is_last = False

    def next(self) -> Operation[Found]:
        """The next value, or the end; a recorded step where a body asks. Its number is drawn here."""
        execution = context.current()
        return self._next(None) if execution is None else self._recorded(execution, execution.next_number())

    def _recorded(self, execution: Execution, number: int) -> Operation[Found]:
        recorded = execution.recall(number, READ_STREAM)
        if recorded is not None:
            found: Found = yield from replayed(recorded)
            self.offset += len(found)
            return found
        yield from execution.begin()
        started = monotonic()
        try:
            result = Result(value=(yield from self._next(execution)))
        except Exception as error:
            result = Result(error=error)
        result = yield from execution.keep(result, number=number, name=READ_STREAM, started=started)
        found = result.unwrap()
        return found

    def _next(self, execution: Execution | None) -> Operation[Found]:
        if not self._ahead and not self._is_last:
            yield from self._read_ahead(execution)
        if not self._ahead:
            return _THE_END
        self.offset += 1
        return [self._ahead.popleft().unwrap()]

    def _read_ahead(self, execution: Execution | None) -> Operation[None]:
        deadline = None if self._seconds is None else monotonic() + self._seconds
        found = yield from wait_for(
            Watch(STREAM, self.workflow_id, self.key, self.offset),
            partial(streams.read, self.workflow_id, self.key, self.offset, self._limit),
            execution=execution,
            until=partial(known, deadline),
        )
        if found is None:
            raise StreamTimeout(
                f"Nothing was written to the stream {self.key!r} of workflow {self.workflow_id} at offset "
                f"{self.offset} within {self._seconds:g} s."
            )
        self._is_last = found.is_last
        if found.entries:
            self._ahead.extend((yield Database(partial(_decoded, found.entries))))


def _decoded(entries: list[tuple[str, str]]) -> list[Result]:
    results = []
    for entry in entries:
        try:
            results.append(Result(value=serialization.loads(*entry)))
        except Exception as error:  # one that cannot be read is raised in its turn
            results.append(Result(error=error))
    return results


def _read_one(reader: _Reader) -> Operation[Any]:
    return _or_ended(reader, reader.offset, reader.next())


def _or_ended(reader: _Reader, offset: int, reading: Operation[Found]) -> Operation[Any]:
    found = yield from reading
    if not found:
        raise StreamEnded(f"The stream {reader.key!r} of workflow {reader.workflow_id} ended before offset {offset}.")
    return found[0]


def _values(reader: _Reader) -> Iterator[Any]:
    while found := drive(reader.next()):
        yield found[0]


class _AsyncValues(AsyncIterator[Any]):
    """As an async generator would be; but its numbers are drawn when a value is asked for, not when that is awaited."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._is_over = False
        self._is_reading = False

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        """See _Reader.next()."""
        return self._read(None if self._is_over else self._reader.next())

    async def _read(self, reading: Operation[Found] | None) -> Any:
        if reading is None:
            raise StopAsyncIteration
        if self._is_reading:
            raise RuntimeError("A value of this stream is being read already: read one after the other.")
        self._is_reading = self._is_over = True  # an error is the end of an iterator
        try:
            found = await adrive(reading)
        finally:
            self._is_reading = False
        if not found:
            raise StopAsyncIteration
        self._is_over = False
        return found[0]

    async def aclose(self) -> None:
        """Read no more."""
        self._is_over = True
