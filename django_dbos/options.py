"""What can be said for the starts in a block: an id, a timeout, options of enqueues, attributes, an identity.

All of it belongs to the task or thread that says it. In nested blocks the inner one wins, option by option. A
workflow's body begins with none of its caller's options; its own identity is restored.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, Literal, Protocol, Self

from .exceptions import InvalidOption, InvalidWorkflowID
from .sysdb.workflows import NOBODY, Identity
from .validation import one_of, seconds_of, short_text, whole_number

#: What becomes of a start whose id exists (None and "return-existing": it attaches).
ReusePolicy = Literal["return-existing", "reject"]
#: What becomes of an enqueue whose deduplication id is held by an active workflow of the queue.
DuplicationPolicy = Literal["reject", "return-existing"]
Delay = float | timedelta | datetime

_POLICIES: Final = ("reject", "return-existing")


class Unsaid(Enum):
    """Where None is something that one can say."""

    UNSAID = "unsaid"


UNSAID: Final = Unsaid.UNSAID


@dataclass(frozen=True, slots=True)
class ChosenID:
    """The id for the next start, and whether it has to be new."""

    id: str
    must_be_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambient:
    """All that holds for a start made here. None: nothing was said."""

    outer: "Ambient | None" = None
    #: Shared by the blocks inside the one that said it: the first start in any of them uses it up.
    ids: list[ChosenID] = field(default_factory=list)
    #: None: it was said that there is none, not even the parent's deadline.
    timeout: float | Unsaid | None = UNSAID
    attributes: Mapping[str, Any] = field(default_factory=dict)
    identity: Identity = NOBODY
    deduplication_id: str | None = None
    duplication_policy: DuplicationPolicy | None = None
    priority: int | None = None
    partition_key: str | None = None
    #: Seconds by the database's clock, or a moment.
    delay: float | datetime | None = None
    application_version: str | None = None

    def take_id(self) -> ChosenID | None:
        """The id for this start; it is used up by that."""
        return self.ids.pop() if self.ids else None

    def refuse_for_direct_start(self, name: str) -> None:
        """Raises InvalidOption if something was said here that only an enqueue can do."""
        if self is _NOTHING:
            return
        said = [option for option, attribute in _ENQUEUE_ONLY.items() if getattr(self, attribute) is not None]
        if said:
            raise InvalidOption(
                f"{', '.join(said)} can be said for enqueues only, and {name!r} was started without a queue: "
                f"enqueue it (Queue.enqueue, enqueue_workflow), or start it outside the SetEnqueueOptions block."
            )


#: What SetEnqueueOptions calls it -> what we call it.
_ENQUEUE_ONLY: Final = {
    "deduplication_id": "deduplication_id",
    "duplication_policy": "duplication_policy",
    "priority": "priority",
    "partition_key": "partition_key",
    "delay_seconds": "delay",
    "application_version": "application_version",
}

_NOTHING: Final = Ambient()
_ambient: ContextVar[Ambient] = ContextVar("dbos_options", default=_NOTHING)


def ambient() -> Ambient:
    """What holds for a start made here."""
    return _ambient.get()


def take_next_id() -> str | None:
    """The id that SetWorkflowID set for the next start; it is used up by that."""
    chosen = ambient().take_id()
    return None if chosen is None else chosen.id


@contextmanager
def as_body_of(identity: Identity) -> Iterator[None]:
    """A block without the options of its caller, on behalf of ``identity``."""
    token = _ambient.set(Ambient(identity=identity))
    try:
        yield
    finally:
        _ambient.reset(token)


@contextmanager
def acting_as(identity: Identity) -> Iterator[None]:
    """A block on behalf of ``identity``."""
    if _ambient.get().identity is identity:
        yield
        return
    token = _ambient.set(replace(_ambient.get(), identity=identity))
    try:
        yield
    finally:
        _ambient.reset(token)


class _Block:
    """A context manager that changes what holds inside it. It keeps nothing: one may be entered many times."""

    def changed(self, before: Ambient) -> Ambient:
        """What holds inside, where ``before`` held outside."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        before = _ambient.get()
        _ambient.set(replace(self.changed(before), outer=before))
        return self

    def __exit__(self, *exc_info: object) -> None:
        _ambient.set(_ambient.get().outer or _NOTHING)


class SetWorkflowID(_Block):
    """``with SetWorkflowID("order-17"):`` - the next workflow that is started in the block has this id.

    If the id exists, the start attaches to that workflow; with ``reuse_policy="reject"`` it raises WorkflowIDInUse.
    """

    def __init__(self, workflow_id: str, *, reuse_policy: ReusePolicy | None = None) -> None:
        policy = one_of("reuse_policy", reuse_policy, (None, *_POLICIES))
        self._chosen = ChosenID(short_text("A workflow id", workflow_id, InvalidWorkflowID), policy == "reject")

    def changed(self, before: Ambient) -> Ambient:
        """See _Block.changed()."""
        return replace(before, ids=[self._chosen])


class SetWorkflowTimeout(_Block):
    """``with SetWorkflowTimeout(30):`` - what is started in the block is cancelled 30 seconds after it began to run.

    None: no timeout, and a child started in the block does not inherit its parent's deadline either.
    """

    def __init__(self, timeout_seconds: float | timedelta | None) -> None:
        self._timeout = None if timeout_seconds is None else _timeout(timeout_seconds)

    def changed(self, before: Ambient) -> Ambient:
        """See _Block.changed()."""
        return replace(before, timeout=self._timeout)


def _timeout(value: object) -> float:
    timeout = seconds_of("A workflow's timeout", value)
    if timeout <= 0:
        raise InvalidOption("A workflow's timeout is above 0 seconds; None is no timeout.")
    return timeout


class SetEnqueueOptions(_Block):
    """``with SetEnqueueOptions(priority=5):`` - for every enqueue in the block. 0 is the most urgent priority.

    ``delay_seconds`` may also be a timedelta, or the aware datetime before which it does not start.
    """

    def __init__(
        self,
        *,
        deduplication_id: str | None = None,
        duplication_policy: DuplicationPolicy | None = None,
        priority: int | None = None,
        partition_key: str | None = None,
        delay_seconds: Delay | None = None,
        application_version: str | None = None,
    ) -> None:
        self._said: dict[str, Any] = {}
        self._say("deduplication_id", deduplication_id, short_text)
        self._say("duplication_policy", duplication_policy, lambda name, value: one_of(name, value, _POLICIES))
        self._say("priority", priority, lambda name, value: whole_number(name, value, least=0))
        self._say("partition_key", partition_key, short_text)
        self._say("delay", delay_seconds, _delay)
        self._say("application_version", application_version, short_text)

    def _say(self, name: str, value: Any, checked: Any) -> None:
        if value is not None:
            self._said[name] = checked(name, value)

    def changed(self, before: Ambient) -> Ambient:
        """See _Block.changed()."""
        return replace(before, **self._said)


def _delay(name: str, value: object) -> float | datetime:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidOption(f"delay_seconds, as a moment, is an aware datetime, not {value!r}.")
        return value
    return seconds_of("delay_seconds", value)


class SetWorkflowAttributes(_Block):
    """``with SetWorkflowAttributes({"customer": 17}):`` - what is started in the block carries these, to be found by.

    They are JSON. Nested blocks add up; None drops what was said outside. Children do not inherit them.
    """

    def __init__(self, attributes: Mapping[str, Any] | None) -> None:
        if attributes is not None:
            attributes_text(attributes)
        self._attributes = attributes

    def changed(self, before: Ambient) -> Ambient:
        """See _Block.changed()."""
        return replace(before, attributes={} if self._attributes is None else {**before.attributes, **self._attributes})


# PostgreSQL's jsonb takes any text but this character.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def attributes_text(attributes: object) -> str:
    """Attributes as JSON; InvalidOption if they cannot be."""
    try:
        if not isinstance(attributes, Mapping) or not all(isinstance(key, str) for key in attributes):
            raise TypeError("it has to be a dict whose keys are texts")
        text = json.dumps(dict(attributes), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOption(f"A workflow's attributes are a dict that JSON can hold: {error}.") from error
    if _NUL.search(text):
        raise InvalidOption("A workflow's attributes cannot hold the character NUL.")
    return text


class Named(Protocol):
    """One of Django's users."""

    def get_username(self) -> str:
        """The name by which it logs in; empty for who has not."""


class SetAuthentication(_Block):
    """``with SetAuthentication("ada", ["editor"]):`` - on whose behalf what is started in the block runs.

    It is written down with the workflow, restored wherever its body runs, and inherited by its children. Of one of
    Django's users (``request.user``) it is the name; of an anonymous one, nobody's.
    """

    def __init__(self, user: str | Named | None, roles: Sequence[str] | None = None) -> None:
        if user is not None and not isinstance(user, str) and hasattr(user, "get_username"):
            user = user.get_username() or None
        if isinstance(roles, str):
            raise InvalidOption(f"roles is a list of texts, not the text {roles!r}.")
        self._identity = Identity(
            user="" if user is None else short_text("A user", user),
            roles=tuple(short_text("A role", role) for role in roles or ()),
        )

    def changed(self, before: Ambient) -> Ambient:
        """See _Block.changed()."""
        return replace(before, identity=self._identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueOptions:
    """An enqueue by name: of a function that this process need not know, on a queue that another one may serve.

    What is None here is taken from the block around; attributes of both are put together.
    """

    workflow_name: str
    queue_name: str
    workflow_id: str | None = None
    reuse_policy: ReusePolicy | None = None
    timeout_seconds: float | timedelta | None = None
    deduplication_id: str | None = None
    duplication_policy: DuplicationPolicy | None = None
    priority: int | None = None
    partition_key: str | None = None
    delay_seconds: Delay | None = None
    #: None: any version may run it, for who enqueues by name need not be of the version that runs it.
    application_version: str | None = None
    attributes: Mapping[str, Any] | None = None
    authenticated_user: str | None = None
    authenticated_roles: Sequence[str] | None = None
    class_name: str = ""
    instance_name: str = ""
    serializer: str | None = None

    def __post_init__(self) -> None:
        short_text("A workflow's name", self.workflow_name)
        short_text("A queue's name", self.queue_name)
        if self.reuse_policy is not None and self.workflow_id is None:
            raise InvalidOption("reuse_policy says what to do if workflow_id exists: give that, too.")
        self._blocks()

    def over(self, before: Ambient) -> Ambient:
        """What holds for this enqueue, where ``before`` holds around it."""
        said = before
        for block in self._blocks():
            said = block.changed(said)
        return replace(said, application_version=said.application_version or "")

    def _blocks(self) -> Iterator[_Block]:
        blocks: list[_Block] = [
            SetEnqueueOptions(
                deduplication_id=self.deduplication_id,
                duplication_policy=self.duplication_policy,
                priority=self.priority,
                partition_key=self.partition_key,
                delay_seconds=self.delay_seconds,
                application_version=self.application_version,
            )
        ]
        if self.workflow_id is not None:
            blocks.append(SetWorkflowID(self.workflow_id, reuse_policy=self.reuse_policy))
        if self.timeout_seconds is not None:
            blocks.append(SetWorkflowTimeout(self.timeout_seconds))
        if self.attributes is not None:
            blocks.append(SetWorkflowAttributes(self.attributes))
        if self.authenticated_user is not None or self.authenticated_roles is not None:
            blocks.append(SetAuthentication(self.authenticated_user, self.authenticated_roles))
        return iter(blocks)
