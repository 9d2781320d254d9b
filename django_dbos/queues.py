"""Queues: where workflows wait for a worker, and the limits under which workers take them."""

import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from asgiref.sync import markcoroutinefunction

from .bridge import adrive, drive
from .exceptions import DuplicateRegistration
from .handles import WorkflowHandle
from .options import EnqueueOptions, ambient
from .starting import Start, start_of, start_operation
from .validation import short_text, whole_number
from .workflows import definition_of

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
        return drive(start_operation(_start_on(self, function, args, kwargs)))

    @overload
    async def aenqueue(
        self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    async def aenqueue(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...

    @markcoroutinefunction
    def aenqueue(
        self, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandle[Any]]:
        """See enqueue()."""
        return adrive(start_operation(_start_on(self, function, args, kwargs)))


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


def forget_queue(name: str) -> None:
    """Unlearn a queue, if this process knows it; what is on it waits for others."""
    with _lock:
        _declared.pop(name, None)


def declared_queues() -> dict[str, Queue]:
    """Every queue that this process knows, by name."""
    with _lock:
        return dict(_declared)


# ---- enqueueing ----------------------------------------------------------------------------------------------


def _start_on(queue: Queue | str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Start:
    name = name_of(queue)
    return start_of(definition_of(function), args, kwargs, queue_name=name, is_queue_known=name in declared_queues())


def name_of(queue: Queue | str) -> str:
    """The name of a queue that was given as itself or by its name."""
    return queue.name if isinstance(queue, Queue) else short_text("A queue's name", queue)


@overload
def enqueue_workflow(
    queue: Queue | str, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
) -> WorkflowHandle[R]: ...


@overload
def enqueue_workflow(
    queue: Queue | str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> WorkflowHandle[R]: ...


def enqueue_workflow(
    queue: Queue | str, function: Callable[..., Any], *args: Any, **kwargs: Any
) -> WorkflowHandle[Any]:
    """Put a workflow on a queue, given as itself or by its name; see Queue.enqueue(). Raises UnknownQueue."""
    return drive(start_operation(_start_on(queue, function, args, kwargs)))


@overload
async def aenqueue_workflow(
    queue: Queue | str, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
) -> WorkflowHandle[R]: ...


@overload
async def aenqueue_workflow(
    queue: Queue | str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> WorkflowHandle[R]: ...


@markcoroutinefunction
def aenqueue_workflow(
    queue: Queue | str, function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Coroutine[Any, Any, WorkflowHandle[Any]]:
    """See enqueue_workflow()."""
    return adrive(start_operation(_start_on(queue, function, args, kwargs)))


def _start_by_name(options: EnqueueOptions, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Start:
    return Start(
        name=options.workflow_name,
        serializer=options.serializer,
        class_name=options.class_name,
        instance_name=options.instance_name,
        args=args,
        kwargs=kwargs,
        queue_name=options.queue_name,
        options=options.over(ambient()),
    )


def enqueue_workflow_with_options(options: EnqueueOptions, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
    """Put a workflow on a queue by name: this process need not know the function, nor serve the queue."""
    return drive(start_operation(_start_by_name(options, args, kwargs)))


@markcoroutinefunction
def aenqueue_workflow_with_options(
    options: EnqueueOptions, *args: Any, **kwargs: Any
) -> Coroutine[Any, Any, WorkflowHandle[Any]]:
    """See enqueue_workflow_with_options()."""
    return adrive(start_operation(_start_by_name(options, args, kwargs)))
