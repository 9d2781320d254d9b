"""``Queue``: one queue, with the words that programs use for its limits."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import queues
from ..exceptions import InvalidOption
from .calls import CALLS
from .lifecycle import life

logger = logging.getLogger("django_dbos")

# What a queue cannot do yet.
_TO_COME = (
    *("limiter", "partition_queue", "partition_concurrency", "partition_worker_concurrency"),
    "partition_limiter",
)


class Queue(queues.Queue):
    """A named queue, served by this process from now on. ``concurrency`` is ``global_concurrency``.

    Priorities always count here, and a queue is looked at when there is news: ``priority_enabled`` and
    ``polling_interval_sec`` change nothing.
    """

    def __init__(
        self,
        name: str,
        concurrency: int | None = None,
        limiter: Any = None,
        *,
        worker_concurrency: int | None = None,
        global_concurrency: int | None = None,
        polling_interval_sec: float = 1.0,
        priority_enabled: bool = False,
        **to_come: Any,
    ) -> None:
        _refuse_what_is_to_come({"limiter": limiter, **to_come})
        if concurrency is not None and global_concurrency is not None:
            raise InvalidOption("concurrency is global_concurrency: give one of them.")
        total = concurrency if global_concurrency is None else global_concurrency
        if total is not None and worker_concurrency is not None and worker_concurrency > total:
            raise InvalidOption("worker_concurrency cannot be above what runs in all: concurrency.")
        self.polling_interval_sec = polling_interval_sec
        self.priority_enabled = priority_enabled
        if name in queues.declared_queues():
            logger.warning("The queue %r is declared again: the later declaration counts", name)
            queues.forget_queue(name)
        super().__init__(name, worker_concurrency=worker_concurrency, global_concurrency=total)
        life.on_forget(partial(queues.forget_queue, name))

    @property
    def concurrency(self) -> int | None:
        """How many of its workflows run in all."""
        return self.global_concurrency

    def enqueue(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Put a workflow on this queue; a handle."""
        return CALLS["enqueue_workflow"](self, function, *args, **kwargs)

    def enqueue_async(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See enqueue()."""
        return CALLS["enqueue_workflow_async"](self, function, *args, **kwargs)


def _refuse_what_is_to_come(given: dict[str, Any]) -> None:
    unknown = sorted(given.keys() - set(_TO_COME))
    if unknown:
        raise TypeError(f"A queue has no option {', '.join(unknown)}.")
    said = [name for name, value in given.items() if value]
    if said:
        raise InvalidOption(f"{', '.join(said)} of a queue is not there yet: see docs/dbos.md.")
