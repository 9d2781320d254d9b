"""``@DBOS.workflow()`` and its like: the package's decorators, with the edge of the facade around the function."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from .. import schedules, steps, transactions, workflows
from ..bridge import is_async
from ..registry import TEMPORARY, Registry, WorkflowDefinition, innermost, step_registry, workflow_registry
from ..workflows import definition_of
from .edges import acrossing, crossing
from .lifecycle import life
from .raised import remembering

logger = logging.getLogger("django_dbos")

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """A decorator that stands bare or called."""

    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def __call__(
        self, isolation_level: str = ..., /, *, name: str | None = ..., **options: Any
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def workflow(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    serialization_type: Any = None,
    auto_upgrade: Any = None,
    **options: Any,
) -> Any:
    """A durable workflow; bare or called. ``serialization_type`` says nothing: all that is stored is JSON."""

    def decorate(body: Callable[..., Any]) -> Callable[..., Any]:
        known_as = name or body.__qualname__
        _replace(workflow_registry, known_as, body)
        ours = workflows.workflow(name=name, **options)(body)
        _remember_errors(definition_of(ours))
        call = life.only_when_launched(known_as, ours)
        return acrossing(call) if is_async(body) else crossing(call)

    return _bare_or_called(decorate, function)


def _remember_errors(definition: WorkflowDefinition) -> None:
    """What is claimed here runs a body whose error is kept as it was raised."""
    workflow_registry.register(replace(definition, function=remembering(definition.function)))


def step(function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """A checkpointed step; bare or called."""
    return _bare_or_called(partial(_step_like, steps.step, name, options), function)


def transaction(function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """A step whose ORM writes and whose checkpoint are one commit; bare or called."""
    if isinstance(function, str):  # transaction("READ COMMITTED")
        function, options = None, {**options, "isolation_level": function}
    return _bare_or_called(partial(_step_like, transactions.transaction, name, options), function)


def _step_like(decorator: Callable[..., Any], name: str | None, options: dict[str, Any], body: Any) -> Any:
    _replace(step_registry, name or body.__qualname__, body)
    ours = decorator(name=name, **options)(body)
    return acrossing(ours) if is_async(body) else crossing(ours)


def scheduled(cron: str, **options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Start a workflow at each tick of ``cron``, with the tick and the time it is started."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        life.on_forget(partial(schedules.forget_schedule, definition_of(function).name))
        return schedules.scheduled(cron, **options)(function)

    return decorate


def _bare_or_called(decorate: Callable[[Any], Any], function: Any) -> Any:
    def around(body: Any) -> Any:
        if isinstance(body, staticmethod | classmethod):
            return type(body)(decorate(body.__func__))
        return decorate(body)

    return around if function is None else around(function)


def _replace(registry: Registry[Any], name: str, body: Callable[..., Any]) -> None:
    """Let a name mean another function from now on, which is worth a warning, and nothing once all is forgotten."""
    known = registry.find(name)
    if known is not None and innermost(known.function) is not innermost(body):
        logger.warning("%r is registered again: the name now means the later function", name)
        registry.forget(name)
    life.on_forget(partial(registry.forget, name))
    if registry is step_registry:  # what it becomes when it is started alone
        if known is not None:
            workflow_registry.forget(TEMPORARY + name)
        life.on_forget(partial(workflow_registry.forget, TEMPORARY + name))
