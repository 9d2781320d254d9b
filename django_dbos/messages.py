"""Messages: each workflow has a mailbox. Anybody may send to it; the workflow receives, oldest first, by topic.

A message is received exactly once: it is taken out of the mailbox in one commit with the step that receives it.
"""

from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from asgiref.sync import markcoroutinefunction

from . import context, serialization
from .bridge import Operation, adrive, drive
from .clock import monotonic
from .conf import conf
from .context import Execution, Result, replayed
from .exceptions import InvalidOption
from .hub import MESSAGE, Watch
from .operations import committed_call
from .sysdb import messages
from .sysdb.messages import Letter
from .validation import seconds_of, short_text
from .waiting import recorded_deadline, wait_for

SEND = "DBOS.send"
SEND_BULK = "DBOS.sendBulk"
RECV = "DBOS.recv"


@dataclass(frozen=True, slots=True)
class SendMessage:
    """One message of :func:`send_bulk`."""

    destination_id: str
    message: Any
    topic: str | None = None
    idempotency_key: str | None = None


def send(
    destination_id: str,
    message: Any,
    topic: str | None = None,
    *,
    idempotency_key: str | None = None,
    send_to_forks: bool = False,
) -> None:
    """Send ``message`` to a workflow, which receives it by ``topic``. It joins the caller's transaction.

    With an ``idempotency_key`` the same message is sent to a destination once, however often this is called.
    ``send_to_forks``: also to all forks of the destination that exist now. From a workflow's body it happens exactly
    once; from a step, again if the step runs again. Raises NonExistentWorkflow.
    """
    drive(_send_operation(SEND, [SendMessage(destination_id, message, topic, idempotency_key)], send_to_forks))


@markcoroutinefunction
def asend(
    destination_id: str,
    message: Any,
    topic: str | None = None,
    *,
    idempotency_key: str | None = None,
    send_to_forks: bool = False,
) -> Coroutine[Any, Any, None]:
    """See send()."""
    one = SendMessage(destination_id, message, topic, idempotency_key)
    return adrive(_send_operation(SEND, [one], send_to_forks))


def send_bulk(messages: Sequence[SendMessage], *, send_to_forks: bool = False) -> None:
    """Send many messages in one commit: all or none. See send()."""
    drive(_send_operation(SEND_BULK, messages, send_to_forks))


@markcoroutinefunction
def asend_bulk(messages: Sequence[SendMessage], *, send_to_forks: bool = False) -> Coroutine[Any, Any, None]:
    """See send_bulk()."""
    return adrive(_send_operation(SEND_BULK, messages, send_to_forks))


def _send_operation(name: str, messages: Iterable[SendMessage], send_to_forks: bool) -> Operation[None]:
    letters = [_letter(message) for message in messages]
    _refuse_repeated_keys(letters)
    return committed_call(name, partial(_send, letters, send_to_forks))


def _send(letters: list[Letter], send_to_forks: bool) -> None:
    if send_to_forks:
        letters = [
            replace(letter, destination=destination)
            for letter in letters
            for destination in (letter.destination, *messages.forks_of(letter.destination))
        ]
    messages.send(letters)


def _letter(message: SendMessage) -> Letter:
    execution = context.current()
    payload, serializer = serialization.dumps(
        message.message, what="message", serializer=execution.serializer if execution else conf.SERIALIZER
    )
    return Letter(
        destination=short_text("A workflow id", message.destination_id),
        topic=_topic(message.topic),
        payload=payload,
        serializer=serializer,
        idempotency_key="" if message.idempotency_key is None else _key(message.idempotency_key),
    )


def _topic(topic: str | None) -> str:
    return "" if topic is None or topic == "" else short_text("A topic", topic)


def _key(key: str) -> str:
    return short_text("An idempotency key", key)


def _refuse_repeated_keys(letters: Iterable[Letter]) -> None:
    seen: set[tuple[str, str]] = set()
    for letter in letters:
        key = (letter.destination, letter.idempotency_key)
        if letter.idempotency_key and key in seen:
            raise InvalidOption(
                f"The idempotency key {letter.idempotency_key!r} is used twice for {letter.destination!r}: only one of "
                "the two messages would be sent. Give each its own."
            )
        seen.add(key)


def recv(topic: str | None = None, timeout_seconds: float | timedelta = 60) -> Any:
    """The oldest message of ``topic`` that this workflow has not received; None if none comes in ``timeout_seconds``.

    The time goes on to run while the workflow is down. It waits without a slot and without a connection, for months
    if need be. Only a workflow's body can receive.
    """
    return drive(_recv_operation(topic, timeout_seconds))


@markcoroutinefunction
def arecv(topic: str | None = None, timeout_seconds: float | timedelta = 60) -> Coroutine[Any, Any, Any]:
    """See recv()."""
    return adrive(_recv_operation(topic, timeout_seconds))


def _recv_operation(topic: str | None, timeout_seconds: float | timedelta) -> Operation[Any]:
    watch_topic, seconds = _topic(topic), seconds_of("timeout_seconds", timeout_seconds)
    execution = context.required("recv()")
    return _recv(execution, (execution.next_number(), execution.next_number()), watch_topic, seconds)


def _recv(execution: Execution, numbers: tuple[int, int], topic: str, seconds: float) -> Operation[Any]:
    """It draws two numbers: one for the message, one for the end of the wait."""
    number, deadline_number = numbers
    recorded = execution.recall(number, RECV)
    if recorded is not None:
        return (yield from replayed(recorded))
    yield from execution.begin()
    started = monotonic()

    message = yield from wait_for(
        Watch(MESSAGE, execution.workflow_id, topic),
        lambda: messages.consume(execution.lease, number, RECV, topic, started, monotonic()),
        execution=execution,
        until=partial(recorded_deadline, execution, deadline_number, seconds),
    )
    if message is not None:
        return (yield from replayed(message))
    result = yield from execution.keep(Result(), number=number, name=RECV, started=started)
    return result.unwrap()
