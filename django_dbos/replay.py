"""Replays: run recorded workflows against today's code, to see whether it still takes the steps that it took then.

Every step, child, message and wait is stubbed by its record; nothing is written, and nobody is told anything.
"""

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from asgiref.sync import async_to_sync, markcoroutinefunction

from . import context, serialization
from .bridge import Operation, adrive, drive
from .context import Execution, NoParking, Result
from .exceptions import UnexpectedStep, UnknownWorkflow
from .execution import run_body
from .hub import Signal
from .models import Workflow
from .operations import recorded_call
from .registry import workflow_registry
from .states import WorkflowStatus
from .sysdb import journal
from .sysdb.journal import Recorded
from .sysdb.replay import Recording, WriteRefused, reading_only, recorded_ids, recording

_ENDED = (WorkflowStatus.SUCCESS, WorkflowStatus.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where today's code first does something else than what is recorded."""

    #: The number of the step; None: all steps are the same, and the outcome is another one.
    number: int | None
    #: What is recorded there; None: nothing is, the record ends before it.
    recorded: str | None
    #: What the code does there; None: it has ended before it.
    called: str | None
    #: All this as a sentence.
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came of replaying one workflow."""

    workflow_id: str
    name: str
    #: How many steps are recorded.
    steps: int
    #: Whether there is a function of that name to replay it with.
    is_known: bool
    divergence: Divergence | None

    @property
    def agrees(self) -> bool:
        """Whether the code does what is recorded, as far as the record goes."""
        return self.divergence is None


def replay_workflow(workflow_id: str) -> Replay:
    """Run a recorded workflow against today's code and compare; nothing is written. Raises NonExistentWorkflow.

    One that has not finished is replayed up to where its record ends.
    """
    return drive(recorded_call("DBOS.replayWorkflow", partial(_replay, workflow_id)))


@markcoroutinefunction
def areplay_workflow(workflow_id: str) -> Coroutine[Any, Any, Replay]:
    """See replay_workflow()."""
    return adrive(recorded_call("DBOS.replayWorkflow", partial(_replay, workflow_id)))


def replays(*, name: str | None = None, since: datetime | None = None, limit: int | None = None) -> Iterator[Replay]:
    """Replay all that has begun, the newest first: of one function, made since then, at most so many."""
    for workflow_id in recorded_ids(name=name, since=since, limit=limit):
        yield _replay(workflow_id)


def _replay(workflow_id: str) -> Replay:
    recorded = recording(workflow_id)
    try:
        definition, is_known = workflow_registry.get(recorded.row.name), True
        with reading_only():
            play = async_to_sync(adrive) if definition.is_async else drive
            divergence = play(_played(recorded))
    except UnknownWorkflow as error:  # the function, or the class or instance whose method it is
        divergence, is_known = (None if recorded.row.is_finished else _unknown(error)), False
    return Replay(
        workflow_id=workflow_id,
        name=recorded.row.name,
        steps=len(recorded.history),
        is_known=is_known,
        divergence=divergence,
    )


def _unknown(error: UnknownWorkflow) -> Divergence:
    message = f"It has not finished, and nobody here can go on with it: {error}"
    return Divergence(number=None, recorded=None, called=None, message=message)


class _Over(BaseException):
    """The replay ends here; the body must not catch this."""


class _Player(Execution):
    """An execution that has what is recorded, and ends where it is asked for more."""

    def __init__(self, recorded: Recording, *, is_complete: bool) -> None:
        # No write gets as far as the journal, see below; if one did the connection would refuse it.
        super().__init__(recorded.claimed, journal=journal.inline, parking=NoParking(), history=recorded.history)
        self.needs_roles = False  # who asked for it held them; who holds them today is not the code's business
        self._is_complete = is_complete
        self.is_over = False
        self.divergence: Divergence | None = None

    def end(self, divergence: Divergence | None = None) -> NoReturn:
        """End the replay; the first divergence counts."""
        if not self.is_over:
            self.is_over, self.divergence = True, divergence
        raise _Over

    def recall(self, number: int, name: str) -> Recorded:
        """What is recorded at ``number``; anything else ends the replay."""
        if self.is_over:
            self.end()
        recorded = self._history.get(number)
        if recorded is None:
            # A gap in the record is a step that was interrupted: whether it would be taken again is not known.
            is_extra = self._is_complete and not super().is_behind(number)
            self.end(_extra(number, name) if is_extra else None)
        if recorded.name != name:
            self.end(_another(number, recorded.name, name))
        return recorded

    def is_behind(self, number: int) -> bool:
        """See Execution.is_behind(); who has ended has been past every point."""
        return self._is_complete or super().is_behind(number)

    def missing(self) -> Recorded | None:
        """The first recorded step after the last one that the body took."""
        rest = [number for number in self._history if number > self._last_number]
        return self._history[min(rest)] if rest else None

    def look_up(self) -> NoReturn:
        """Something is to be done that is not recorded."""
        self.end()

    def wait(self, signal: Signal, seconds: float) -> NoReturn:
        """The record ends with something that was waited for."""
        self.end()

    def check(self) -> NoReturn:
        """See wait()."""
        self.end()

    def settle(self) -> NoReturn:
        """See look_up()."""
        self.end()

    def keep(self, result: Result, **details: Any) -> NoReturn:
        """See look_up()."""
        self.end()

    def record(self, result: Result, **details: Any) -> NoReturn:
        """See look_up()."""
        self.end()


def _played(recorded: Recording) -> Operation[Divergence | None]:
    """Run the body on its record; the first divergence."""
    player = _Player(recorded, is_complete=_is_complete(recorded.row))
    try:
        with context.played(player):
            result = yield from run_body(player, recorded.claimed)
    except WriteRefused as refusal:
        return player.divergence or _write(str(refusal))
    except _Over:
        return player.divergence
    if player.is_over:  # the body caught even that
        return player.divergence
    return _at_the_end(player, recorded.row, result)


def _is_complete(row: Workflow) -> bool:
    """Whether the record goes on to the body's own end; what was cancelled, say, ends anywhere."""
    if row.status not in _ENDED:
        return False
    # A run that has met an UnexpectedStep stopped there: what is recorded is what an older body did.
    return row.error is None or not isinstance(serialization.load_error(row.error, row.serializer), UnexpectedStep)


def _at_the_end(player: _Player, row: Workflow, result: Result) -> Divergence | None:
    is_complete = _is_complete(row)
    missing = player.missing()
    if missing is not None:
        return _missing(missing, result)
    return _another_outcome(row, result) if is_complete and not _is_outcome(row, result, player) else None


def _is_outcome(row: Workflow, result: Result, player: Execution) -> bool:
    """Whether a body ended as it is recorded: the same text, or equal values, or errors that say the same."""
    result, output, error = player.dump(result, row.name)
    if row.error is not None and error is not None:
        return _said(serialization.load_error(row.error, row.serializer)) == _said(
            serialization.load_error(error, row.serializer)
        )
    if row.error is not None or error is not None:
        return False
    return output == row.output or bool(result.value == serialization.loads(row.output, row.serializer))


def _said(error: BaseException) -> tuple[str, str]:
    kind = getattr(error, "type_name", "") or f"{type(error).__module__}.{type(error).__qualname__}"
    return kind, str(error)


def _another(number: int, recorded: str, called: str) -> Divergence:
    message = f"Step {number} is recorded as {recorded!r}, the code calls {called!r} there."
    return Divergence(number=number, recorded=recorded, called=called, message=message)


def _extra(number: int, called: str) -> Divergence:
    message = f"The record ends before step {number}, the code calls {called!r} there."
    return Divergence(number=number, recorded=None, called=called, message=message)


def _missing(missing: Recorded, result: Result) -> Divergence:
    how = "returns" if result.error is None else f"raises {_short(result.error)}"
    message = f"Step {missing.number} is recorded as {missing.name!r}, the code {how} before it."
    return Divergence(number=missing.number, recorded=missing.name, called=None, message=message)


def _write(statement: str) -> Divergence:
    message = f"It writes outside its recorded steps, which a replay must not do: {statement}"
    return Divergence(number=None, recorded=None, called=statement, message=message)


def _another_outcome(row: Workflow, result: Result) -> Divergence:
    error = None if row.error is None else serialization.load_error(row.error, row.serializer)
    recorded = _outcome(error, serialization.preview(row.output, row.serializer, 200))
    called = _outcome(result.error, _short(result.value))
    message = f"It is recorded that the workflow {recorded}, the code {called}."
    return Divergence(number=None, recorded=recorded, called=called, message=message)


def _outcome(error: BaseException | None, value: str) -> str:
    return f"returns {value}" if error is None else f"raises {_short(error)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"
