"""Required roles, whose refusal is raised under the name that programs know."""

from collections.abc import Callable, Sequence
from typing import Any

from .. import roles
from ..bridge import is_async
from .edges import acrossing, crossing


def required_roles(names: Sequence[str]) -> Callable[[Any], Any]:
    """Let a function run only for who holds one of these roles."""

    def require(function: Any) -> Any:
        guarded = roles.required_roles(names)(function)
        if guarded is function or isinstance(guarded, staticmethod | classmethod):
            return guarded
        crossed = acrossing(guarded) if is_async(guarded) else crossing(guarded)
        crossed.__wrapped__ = guarded.__wrapped__  # type: ignore[attr-defined]  # so that a decorator above finds it
        return crossed

    return require
