"""The edge of the facade: on the way in arguments are translated, on the way out results and errors."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import markcoroutinefunction

from .error import translated

Translate = Callable[[Any], Any]


def unchanged(value: Any) -> Any:
    """The value."""
    return value


def crossing(call: Callable[..., Any], result: Translate = unchanged) -> Callable[..., Any]:
    """``call`` as programs know it: its result translated by ``result``, and its errors."""

    @functools.wraps(call)
    def crossed(*args: Any, **kwargs: Any) -> Any:
        try:
            return result(call(*args, **kwargs))
        except BaseException as error:
            _raise(error)

    return crossed


def acrossing(call: Callable[..., Any], result: Translate = unchanged) -> Callable[..., Any]:
    """See crossing(). The call itself is made at once, and what it gives is awaited: numbers are drawn in order."""

    @functools.wraps(call)
    def crossed(*args: Any, **kwargs: Any) -> Any:
        try:
            return _awaited(call(*args, **kwargs), result)
        except BaseException as error:
            _raise(error)

    return markcoroutinefunction(crossed)


async def _awaited(awaitable: Awaitable[Any], result: Translate) -> Any:
    try:
        return result(await awaitable)
    except BaseException as error:
        _raise(error)


def _raise(error: BaseException) -> None:
    theirs = translated(error)
    if theirs is error:
        raise error
    raise theirs
