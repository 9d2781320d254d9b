"""Reading streams: what is iterated over raises the errors that programs know."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .. import streams
from .edges import raise_translated
from .names import Around, nothing_around

Options = dict[str, Any]


def reading(around: Around = nothing_around) -> dict[str, Callable[..., Any]]:
    """``read_stream`` and its twin, with a block ``around`` each read."""

    def read_stream(workflow_id: str, key: str, *, offset: int = 0, **options: Any) -> Iterator[Any]:
        with around():
            values = streams.read_stream(workflow_id, key, offset=offset, timeout_seconds=_timeout(options))
        return _values(values, around)

    def read_stream_async(workflow_id: str, key: str, *, offset: int = 0, **options: Any) -> AsyncIterator[Any]:
        with around():
            values = streams.aread_stream(workflow_id, key, offset=offset, timeout_seconds=_timeout(options))
        return _avalues(values, around)

    return {"read_stream": read_stream, "read_stream_async": read_stream_async}


def _timeout(options: Options) -> float | None:
    timeout: float | None = options.get("timeout_seconds")
    return timeout


_END = object()


def _values(values: Iterator[Any], around: Around) -> Iterator[Any]:
    while True:
        try:
            with around():
                value = next(values, _END)
        except BaseException as error:
            raise_translated(error)
        if value is _END:
            return
        yield value


async def _avalues(values: AsyncIterator[Any], around: Around) -> AsyncIterator[Any]:
    while True:
        try:
            with around():
                reading = values.__anext__()
            value = await reading
        except StopAsyncIteration:
            return
        except BaseException as error:
            raise_translated(error)
        yield value
