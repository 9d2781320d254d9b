"""The table of names: what programs call a function, what we call it, and what becomes of its result."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import django_dbos

from .edges import Translate, acrossing, crossing, unchanged
from .handles import async_handle, handle
from .lifecycle import life


@dataclass(frozen=True, slots=True)
class Name:
    """One row: ``ours`` is the sync function's public name, its async twin begins with "a"."""

    theirs: str
    ours: str = ""
    result: Translate = unchanged
    #: Its translation for code that awaits, if that is another one.
    async_result: Translate | None = None

    def functions(self) -> Iterator[tuple[str, Callable[..., Any]]]:
        """(name, function) of the call and its twin, as far as the package has them."""
        ours = self.ours or self.theirs
        if ours in django_dbos._EXPORTS:
            call = life.only_when_launched(f"DBOS.{self.theirs}", getattr(django_dbos, ours))
            yield self.theirs, crossing(call, self.result)
        if f"a{ours}" in django_dbos._EXPORTS:
            twin = life.only_when_launched(f"DBOS.{self.theirs}_async", getattr(django_dbos, f"a{ours}"))
            yield f"{self.theirs}_async", acrossing(twin, self.async_result or self.result)


def _handles(theirs: str) -> Name:
    return Name(theirs, result=handle, async_result=async_handle)


TABLE = (
    _handles("start_workflow"),
    _handles("enqueue_workflow"),
    _handles("retrieve_workflow"),
    _handles("resume_workflow"),
    _handles("fork_workflow"),
    Name("cancel_workflow", result=lambda _: None),
    Name("sleep"),
    Name("send"),
    Name("send_bulk"),
    Name("recv"),
    Name("set_event"),
    Name("get_event"),
    Name("get_all_events"),
)

#: What programs may call and we do not have yet.
TO_COME = frozenset(
    {
        *("create_schedule", "list_schedules", "get_schedule", "delete_schedule", "pause_schedule"),
        *("resume_schedule", "apply_schedules", "backfill_schedule", "trigger_schedule"),
        *("register_queue", "retrieve_queue", "list_queues", "delete_queue"),
        *("kafka_consumer",),
    }
)
