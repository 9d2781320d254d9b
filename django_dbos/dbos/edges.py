"""The edge of the facade: on the way in arguments are translated, on the way out results and errors."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from asgiref.sync import markcoroutinefunction

from ..bridge import Database
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
            raise_translated(error)

    return crossed


def acrossing(
    call: Callable[..., Any], result: Translate = unchanged, *, asks_database: bool = False
) -> Callable[..., Any]:
    """See crossing(). The call itself is made at once, and what it gives is awaited: numbers are drawn in order."""

    @functools.wraps(call)
    def crossed(*args: Any, **kwargs: Any) -> Any:
        try:
            return _awaited(call(*args, **kwargs), result, asks_database)
        except BaseException as error:
            raise_translated(error)

    return markcoroutinefunction(crossed)


async def _awaited(awaitable: Awaitable[Any], result: Translate, asks_database: bool) -> Any:
    try:
        value = await awaitable
        if asks_database:
            return await Database(functools.partial(result, value)).aperform()
        return result(value)
    except BaseException as error:
        raise_translated(error)


def raise_translated(error: BaseException) -> NoReturn:
    """Raise an error as programs know it."""
    theirs = translated(error)
    if theirs is error:
        raise error
    raise theirs
