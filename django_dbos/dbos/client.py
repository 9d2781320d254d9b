"""``DBOSClient``: what can be asked from outside, by a process that runs no workflows."""

from collections.abc import Callable
from typing import Any

from .. import context
from ..sysdb import vendor
from . import names, streams
from .config import warn_of_other_database
from .lifecycle import off_the_loop

# What belongs to the body of a workflow, or to functions that a client does not know.
_NOT_FOR_CLIENTS = frozenset(
    {
        *("start_workflow", "enqueue_workflow", "run_step", "sleep", "recv", "set_event", "write_stream"),
        *("close_stream", "patch", "deprecate_patch"),
    }
)


def _unguarded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    return call


class DBOSClient:
    """Enqueues by name, sends, asks and manages. It needs no launch, and its calls are never steps of a workflow.

    It talks to the project's database, whatever ``system_database_url`` says; a different one is worth a warning.
    """

    def __init__(self, system_database_url: str | None = None, **ignored: Any) -> None:
        warn_of_other_database(system_database_url)

    def check_connection(self) -> None:
        """Raises what the database raises if it cannot be reached."""
        off_the_loop(vendor.current_time)

    def destroy(self) -> None:
        """Close this thread's connection."""
        off_the_loop(vendor.discard_connection)

    def __getattr__(self, name: str) -> Any:
        plain = name.removesuffix("_async")
        if plain in names.TO_COME:
            raise AttributeError(f"DBOSClient.{name} is not there yet: see docs/dbos.md.")
        if plain.endswith("_in_transaction"):
            raise AttributeError(f"There is no DBOSClient.{name}: inside atomic() every call joins the transaction.")
        raise AttributeError(f"There is no DBOSClient.{name}.")


def _send(ours: Callable[..., Any]) -> Callable[..., Any]:
    """A client's send() takes the idempotency key as its fourth argument, too."""

    def send(
        destination_id: str, message: Any, topic: str | None = None, idempotency_key: str | None = None, **options: Any
    ) -> Any:
        return ours(destination_id, message, topic, idempotency_key=idempotency_key, **options)

    return send


_calls = {**names.functions(_unguarded, context.outside), **streams.reading(context.outside)}
for _name, _function in _calls.items():
    if _name.removesuffix("_async") not in _NOT_FOR_CLIENTS:
        _known = _name.replace("enqueue_workflow_with_options", "enqueue")
        _adapted = _send(_function) if _name in ("send", "send_async") else _function
        setattr(DBOSClient, _known, staticmethod(_adapted))
