"""Many enqueues at a time."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

from asgiref.sync import markcoroutinefunction

from . import context, serialization
from .arguments import validated
from .bridge import MakeWay, Operation, adrive, drive
from .context import Execution
from .exceptions import InvalidOption, InvalidWorkflowID
from .handles import WorkflowHandle
from .ids import uuid7s
from .operations import committed_call
from .queues import Queue, declared_queues, name_of
from .roles import assumed, required_by
from .serialization import Call
from .starting import Start, start_of
from .sysdb.bulk import Batch, place_many
from .sysdb.workflows import Identity
from .validation import short_text
from .workflows import definition_of

R = TypeVar("R")

#: The name under which a workflow's body records it.
ENQUEUE_MANY = "DBOS.enqueueMany"


class Enqueued(NamedTuple, Generic[R]):
    """What became of one of many enqueues.

    "new"; "attached": its id existed; "deduplicated": another workflow, this one, holds its deduplication id.
    """

    workflow_id: str
    outcome: Literal["new", "attached", "deduplicated"]

    @property
    def handle(self) -> WorkflowHandle[R]:
        """A handle to the workflow."""
        return WorkflowHandle(self.workflow_id)


Calls = Iterable[tuple[Any, ...]]


@overload
def enqueue_many(
    queue: Queue | str,
    function: Callable[..., Coroutine[Any, Any, R]],
    calls: Calls,
    *,
    workflow_ids: Sequence[str | None] | None = ...,
    deduplication_ids: Sequence[str | None] | None = ...,
) -> list[Enqueued[R]]: ...


@overload
def enqueue_many(
    queue: Queue | str,
    function: Callable[..., R],
    calls: Calls,
    *,
    workflow_ids: Sequence[str | None] | None = ...,
    deduplication_ids: Sequence[str | None] | None = ...,
) -> list[Enqueued[R]]: ...


def enqueue_many(
    queue: Queue | str,
    function: Callable[..., Any],
    calls: Calls,
    *,
    workflow_ids: Sequence[str | None] | None = None,
    deduplication_ids: Sequence[str | None] | None = None,
) -> list[Enqueued[Any]]:
    """Enqueue one workflow for each of ``calls``, all or none of them; what became of each, in the same order.

    A call is a tuple of arguments, or a pair ``((args...), {kwargs})``. It joins the caller's transaction. Called by a
    workflow's body it is one recorded step, committed with the rows.
    """
    return drive(_operation(queue, function, calls, workflow_ids, deduplication_ids))


@overload
async def aenqueue_many(
    queue: Queue | str,
    function: Callable[..., Coroutine[Any, Any, R]],
    calls: Calls,
    *,
    workflow_ids: Sequence[str | None] | None = ...,
    deduplication_ids: Sequence[str | None] | None = ...,
) -> list[Enqueued[R]]: ...


@overload
async def aenqueue_many(
    queue: Queue | str,
    function: Callable[..., R],
    calls: Calls,
    *,
    workflow_ids: Sequence[str | None] | None = ...,
    deduplication_ids: Sequence[str | None] | None = ...,
) -> list[Enqueued[R]]: ...


@markcoroutinefunction
def aenqueue_many(
    queue: Queue | str,
    function: Callable[..., Any],
    calls: Calls,
    *,
    workflow_ids: Sequence[str | None] | None = None,
    deduplication_ids: Sequence[str | None] | None = None,
) -> Coroutine[Any, Any, list[Enqueued[Any]]]:
    """See enqueue_many()."""
    return adrive(_operation(queue, function, calls, workflow_ids, deduplication_ids))


def _operation(
    queue: Queue | str,
    function: Callable[..., Any],
    calls: Calls,
    workflow_ids: Sequence[str | None] | None,
    deduplication_ids: Sequence[str | None] | None,
) -> Operation[list[Enqueued[Any]]]:
    name = name_of(queue)
    start = start_of(definition_of(function), (), {}, queue_name=name, is_queue_known=name in declared_queues())
    if start.options.deduplication_id is not None:
        raise InvalidOption("One deduplication_id for all would let one of them in: use deduplication_ids=[...].")
    pairs = [_pair(number, call) for number, call in enumerate(calls)]
    _check("workflow_ids", workflow_ids, len(pairs), InvalidWorkflowID)
    _check("deduplication_ids", deduplication_ids, len(pairs))
    parent = context.current()

    def write() -> dict[str, list[Any]]:
        return _place(start, parent, pairs, workflow_ids, deduplication_ids)

    return _results(committed_call(ENQUEUE_MANY, write))


def _pair(number: int, call: object) -> Call:
    if not isinstance(call, tuple):
        raise InvalidOption(
            f"calls[{number}] is a tuple of arguments, or a pair ((args...), {{kwargs}}), not {call!r:.300}."
        )
    if len(call) == 2 and isinstance(call[0], tuple) and isinstance(call[1], dict):
        return call
    return call, {}


def _check(name: str, texts: object, count: int, error: type[InvalidOption] = InvalidOption) -> None:
    if texts is None:
        return
    if not isinstance(texts, Sequence) or isinstance(texts, str) or len(texts) != count:
        raise InvalidOption(f"{name} is a list with one text, or None, for each of the {count} calls.")
    for number, text in enumerate(texts):
        if text is not None:
            short_text(f"{name}[{number}]", text, error)


def _place(
    start: Start,
    parent: Execution | None,
    pairs: list[Call],
    workflow_ids: Sequence[str | None] | None,
    deduplication_ids: Sequence[str | None] | None,
) -> dict[str, list[Any]]:
    start.check_queue()
    start = _in_its_role(start, pairs)
    accepted = [_accepted(start, pair) for pair in pairs]
    inputs, serializer = serialization.dump_calls(accepted, serializer=start.serializer)
    ids = uuid7s(len(pairs))
    placed = place_many(
        Batch(
            template=replace(start.template(parent), serializer=serializer),
            ids=ids if workflow_ids is None else [chosen or new for chosen, new in zip(workflow_ids, ids, strict=True)],
            inputs=inputs,
            deduplication_ids=None if deduplication_ids is None else [text or "" for text in deduplication_ids],
            are_chosen=workflow_ids is not None,
        )
    )
    return {"ids": placed.ids, "attached": placed.attached, "deduplicated": placed.deduplicated}


def _in_its_role(start: Start, pairs: list[Call]) -> Start:
    """The start in the role of its first call; raises NotAuthorized if one of the calls may not be made."""
    if start.definition is None:
        return start
    function, identities = start.definition.function, dict[tuple[str, ...], Identity]()
    for args, _ in pairs:
        called = start.definition.called_on((*start.args, *args))
        required = required_by(function, called)
        if required not in identities:
            identities[required] = assumed(function, called, start.options.identity)
    identity = next(iter(identities.values()), start.options.identity)
    return replace(start, options=replace(start.options, identity=identity))


def _accepted(start: Start, pair: Call) -> Call:
    """A call as the function may get it."""
    args, kwargs = (*start.args, *pair[0]), pair[1]
    return (args, kwargs) if start.definition is None else validated(start.definition, args, kwargs)


def _results(operation: Operation[dict[str, list[Any]]]) -> Operation[list[Enqueued[Any]]]:
    placed = yield from operation
    yield MakeWay()
    results: list[Enqueued[Any]] = [Enqueued(workflow_id, "new") for workflow_id in placed["ids"]]
    for outcome in ("attached", "deduplicated"):
        for place in placed[outcome]:
            results[place] = Enqueued(placed["ids"][place], outcome)
    return results
