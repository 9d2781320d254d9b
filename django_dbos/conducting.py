"""The hooks by which a test conducts what happens and watches executions; elsewhere nobody is there. See testing."""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from .hub import Signal

if TYPE_CHECKING:
    from .context import Execution


class Conductor(Protocol):
    """Who decides what goes on when, where everything happens one at a time."""

    def wait(self, signal: Signal) -> None:
        """Instead of waiting for ``signal`` let others go on; the caller looks again then."""

    async def await_(self, signal: Signal) -> None:
        """See wait()."""

    def make_way(self) -> None:
        """Something was started, which may go first."""

    async def amake_way(self) -> None:
        """See make_way()."""


class Probe(Protocol):
    """Who watches executions, and ends one by raising ExecutionAbandoned."""

    def reaches(self, execution: "Execution", number: int, name: str) -> None:
        """An operation begins that is not recorded yet."""

    def records(self, execution: "Execution", name: str) -> None:
        """The result of an operation is there, and about to be written down."""


#: Who conducts what runs in this context; None: time does.
conductor: ContextVar[Conductor | None] = ContextVar("dbos_conductor", default=None)
#: Who watches the executions of this context.
probe: ContextVar[Probe | None] = ContextVar("dbos_probe", default=None)


def reached(execution: "Execution", number: int, name: str) -> None:
    """Tell who watches that an operation begins."""
    watching = probe.get()
    if watching is not None:
        watching.reaches(execution, number, name)


def about_to_record(execution: "Execution", name: str) -> None:
    """Tell who watches that an operation's result is about to be written down."""
    watching = probe.get()
    if watching is not None:
        watching.records(execution, name)
