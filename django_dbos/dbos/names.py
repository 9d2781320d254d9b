"""The table of names: what programs call a function, what we call it, and what is translated on the way."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import django_dbos

from ..bridge import home_loop
from . import status
from .edges import Translate, acrossing, crossing, unchanged
from .handles import async_handle, handle
from .options import enqueue_options

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

# What programs may say, and what has no meaning here.
_WITHOUT_MEANING = ("serialization_type", "polling_interval_sec", "shard_key", "application_name")


def as_they_are(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The arguments: those of a workflow are its own."""
    return args, kwargs


def _plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    return args, {name: value for name, value in kwargs.items() if name not in _WITHOUT_MEANING}


def _renamed(**words: str) -> Callable[..., Arguments]:
    def rename(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        args, kwargs = _plain(args, kwargs)
        return args, {words.get(name, name): value for name, value in kwargs.items()}

    return rename


@dataclass(frozen=True, slots=True)
class Name:
    """One row. ``ours`` is the sync function's public name; its async twin begins with "a"."""

    theirs: str
    ours: str = ""
    arguments: Callable[..., Arguments] = _plain
    result: Translate = unchanged
    #: Its translation for code that awaits, if that is another one.
    async_result: Translate | None = None
    #: Whether the translation of the result asks the database.
    asks_database: bool = False
    #: Whether what it starts belongs to the event loop that starts it.
    starts: bool = False

    def functions(self, guard: Callable[[str, Any], Any], around: "Around") -> Iterator[tuple[str, Any]]:
        """(name, function) of the call and its twin, as far as the package has them."""
        ours = self.ours or self.theirs
        if ours in django_dbos._EXPORTS:
            call = self._call(getattr(django_dbos, ours), around)
            yield self.theirs, crossing(guard(self.theirs, call), self.result)
        if f"a{ours}" in django_dbos._EXPORTS:
            twin = self._call(getattr(django_dbos, f"a{ours}"), around)
            if self.starts:
                twin = _at_home(twin)
            name, result = f"{self.theirs}_async", self.async_result or self.result
            yield name, acrossing(guard(name, twin), result, asks_database=self.asks_database)

    def _call(self, ours: Callable[..., Any], around: "Around") -> Callable[..., Any]:
        @functools.wraps(ours)
        def call(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = self.arguments(args, kwargs)
            with around():
                return ours(*args, **kwargs)

        return call


Around = Callable[[], AbstractContextManager[None]]
#: Nothing around a call.
nothing_around: Around = nullcontext


def _at_home(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(call)
    def started(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        return _await_at_home(call(*args, **kwargs))

    return started


async def _await_at_home(starting: Awaitable[Any]) -> Any:
    token = home_loop.set(asyncio.get_running_loop())
    try:
        return await starting
    finally:
        home_loop.reset(token)


# ---- the few that need more than other words -----------------------------------------------------------------


def _fork(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    args, kwargs = _renamed(queue_partition_key="partition_key")(args, kwargs)
    if len(args) > 1:
        kwargs, args = {"start_step": args[1], **kwargs}, args[:1]
    return args, {**kwargs, "start_step": max(kwargs.get("start_step") or 1, 1)}


def _delay(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    args, kwargs = _plain(args, kwargs)
    until = kwargs.pop("delay_until_epoch_ms", None)
    if until is not None:
        kwargs["delay_until"] = datetime.fromtimestamp(until / 1000, UTC)
    return args, kwargs


def _filters(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    own = kwargs.get("application_name")
    args, kwargs = _renamed(app_version="application_version")(args, kwargs)
    if own is not None:
        kwargs["application_name"] = own
    if kwargs.get("offset", 0) is None:
        del kwargs["offset"]
    return args, kwargs


def _queued_filters(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    args, kwargs = _filters(args, kwargs)
    kwargs.pop("load_output", None)
    return args, kwargs


def _page(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    return _plain(args, {name: value for name, value in kwargs.items() if value is not None})


def _by_name(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    options, *rest = args
    return (enqueue_options(options), *rest), kwargs


def _nothing(_: Any) -> None:
    return None


def _each(translate: Translate) -> Translate:
    return lambda values: [translate(value) for value in values]


def _version(row: Any) -> Any:
    return None if row is None else status.version_info(row)


def _handle(theirs: str, ours: str = "", arguments: Callable[..., Arguments] = _plain, *, starts: bool = False) -> Name:
    return Name(theirs, ours, arguments, handle, async_handle, starts=starts)


def _handles(theirs: str) -> Name:
    return Name(theirs, result=_each(handle), async_result=_each(async_handle))


def _rows(theirs: str, arguments: Callable[..., Arguments], translate: Translate) -> Name:
    return Name(theirs, arguments=arguments, result=translate, asks_database=True)


TABLE = (
    _handle("start_workflow", arguments=as_they_are, starts=True),
    _handle("enqueue_workflow", arguments=as_they_are),
    _handle("enqueue_workflow_with_options", arguments=_by_name),
    Name("run_step", arguments=as_they_are),
    # a workflow by its id
    _handle("retrieve_workflow"),
    Name("wait_first"),
    _rows("get_workflow_status", _plain, status.status),
    # management
    Name("cancel_workflow", result=_nothing),
    Name("cancel_workflows", result=_nothing),
    Name("delete_workflow", result=_nothing),
    Name("delete_workflows", result=_nothing),
    _handle("resume_workflow"),
    _handles("resume_workflows"),
    _handle("fork_workflow", arguments=_fork),
    _handle("rewind_workflow", arguments=_fork),
    Name("set_workflow_delay", arguments=_delay, result=_nothing),
    Name("update_workflow_attributes"),
    _rows("list_workflows", _filters, status.statuses),
    _rows("list_queued_workflows", _queued_filters, status.statuses),
    _rows("list_workflow_steps", _page, status.step_infos),
    # inside a workflow, and from anywhere
    Name("sleep"),
    Name("send"),
    Name("send_bulk"),
    Name("recv"),
    Name("set_event"),
    Name("get_event"),
    Name("get_all_events"),
    Name("write_stream"),
    Name("close_stream"),
    Name("read_stream_offset", arguments=_page),
    # versions
    Name("patch"),
    Name("deprecate_patch"),
    Name("list_application_versions", result=_each(_version)),
    Name("get_latest_application_version", result=_version),
    Name("set_latest_application_version"),
)

#: What programs may call and we do not have yet.
TO_COME = frozenset(
    {
        *("create_schedule", "list_schedules", "get_schedule", "delete_schedule", "pause_schedule"),
        *("resume_schedule", "apply_schedules", "backfill_schedule", "trigger_schedule"),
        *("register_queue", "retrieve_queue", "list_queues", "delete_queue"),
        *("kafka_consumer", "span", "tracer"),
    }
)


def functions(guard: Callable[[str, Any], Any], around: Around = nothing_around) -> dict[str, Callable[..., Any]]:
    """Every function of the table, by its name; ``guard(name, call)`` may refuse a call."""
    return dict(pair for row in TABLE for pair in row.functions(guard, around))
