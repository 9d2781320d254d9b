"""Queues: where workflows wait for a worker, and the limits under which workers take them."""

import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from . import context
from .bridge import adrive, drive
from .exceptions import DuplicateRegistration
from .handles import WorkflowHandle
from .validation import short_text, whole_number
from .workflows import Start, definition_of, start_operation

P = ParamSpec("P")
R = TypeVar("R")

_declared: dict[str, "Queue"] = {}
_lock = threading.Lock()


class Queue:
    """A named queue. Declaring it makes this process's workers serve it; its limits are written down when they start.

    ``worker_concurrency`` bounds how many of its workflows one process runs, ``global_concurrency`` how many run in
    all. Declaring the same queue again is fine if its limits are the same.
    """

    def __init__(
        self, name: str, *, worker_concurrency: int | None = None, global_concurrency: int | None = None
    ) -> None:
        self.name = short_text("A queue's name", name)
        self.worker_concurrency = _limit("worker_concurrency", worker_concurrency)
        self.global_concurrency = _limit("global_concurrency", global_concurrency)
        _declare(self)

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    @property
    def limits(self) -> dict[str, Any]:
        """The limits that are set, by name."""
        limits = {"worker_concurrency": self.worker_concurrency, "global_concurrency": self.global_concurrency}
        return {name: value for name, value in limits.items() if value is not None}

    @overload
    def enqueue(
        self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    def enqueue(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...

    def enqueue(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Put a workflow on this queue and return a handle to it; it joins the caller's transaction."""
        return drive(start_operation(self._start(function, args, kwargs)))

    @overload
    async def aenqueue(
        self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    async def aenqueue(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...

    async def aenqueue(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """See enqueue()."""
        return await adrive(start_operation(self._start(function, args, kwargs)))

    def _start(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Start:
        return Start(
            definition=definition_of(function),
            args=args,
            kwargs=kwargs,
            queue_name=self.name,
            priority=context.enqueue_options().priority,
        )


def _limit(name: str, value: int | None) -> int | None:
    return None if value is None else whole_number(name, value, least=1)


def _declare(queue: Queue) -> None:
    with _lock:
        known = _declared.setdefault(queue.name, queue)
    if known.limits != queue.limits:
        raise DuplicateRegistration(
            f"The queue {queue.name!r} is declared twice, with {known.limits} and with {queue.limits}: "
            "declare it once and import it."
        )


def declared_queues() -> dict[str, Queue]:
    """Every queue that this process knows, by name."""
    with _lock:
        return dict(_declared)
