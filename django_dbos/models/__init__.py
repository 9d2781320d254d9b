"""The system tables. QuerySets hold predicates; every write that must be exact lives in ``sysdb``.

    workflows   Workflow, Step
    mail        Message, Event, EventHistory, StreamEntry: what workflows say
    fleet       Queue, Schedule, Executor, ApplicationVersion, EventDispatchState: what runs them

Columns that hold text are empty rather than NULL where "nothing" is the usual case; payloads, times and
references are NULL. Hot tables have no database-level foreign keys: each would cost a row lock per checkpoint.
Defaults live in the database too, so that an INSERT names only what it sets.
"""

from .fleet import ApplicationVersion, EventDispatchState, Executor, Queue, Schedule
from .mail import Event, EventHistory, Message, StreamEntry
from .workflows import Step, Workflow

__all__ = [
    "ApplicationVersion",
    "Event",
    "EventDispatchState",
    "EventHistory",
    "Executor",
    "Message",
    "Queue",
    "Schedule",
    "Step",
    "StreamEntry",
    "Workflow",
]
