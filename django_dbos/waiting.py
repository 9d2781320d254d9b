"""Waiting: for a time, or for news of a workflow, without holding what others could use meanwhile.

Subscribe, look, wait to be woken but not for too long, look again. Who waits for long asks to be told: it marks the
workflow's row, and has this process listen to others. That is only a hint; without it the next look finds the same.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from . import context
from .bridge import Operation, Shared, Wait
from .clock import monotonic
from .conducting import conductor
from .conf import conf
from .context import Execution, Result
from .hub import MESSAGE, OUTCOME, Signal, Watch, hub, interruption_of, local_runner, start_ear
from .sysdb import outcomes, vendor

T = TypeVar("T")

#: The name under which the end of a wait is recorded.
SLEEP = "DBOS.sleep"
# Where nobody tells us, the first looks are close together.
_FIRST_LOOK = 0.005
# Where a runtime runs, it looks for all who wait here; nobody needs to look for himself so often.
_LOOKED_FOR = 60


def pause_until(execution: Execution, moment: float) -> Operation[None]:
    """Wait until ``moment`` (monotonic seconds); a shutdown or a cancellation ends the wait."""
    with hub.listen(interruption_of(execution.workflow_id)) as signal:
        while (remaining := moment - monotonic()) > 0:
            if (yield from execution.wait(signal, remaining)):
                yield from execution.check()


def recorded_deadline(execution: Execution, number: int, seconds: float) -> Operation[float]:
    """Record as operation ``number`` when a wait of so many seconds ends, before it begins; that moment.

    It is kept as the time at which the record is over, by the database's clock: after a recovery, on whatever
    machine, what is left of the wait is left of it.
    """
    recorded = execution.recall(number, SLEEP)
    if recorded is not None:
        return recorded.completed
    yield from execution.begin()
    now = monotonic()
    yield from execution.keep(Result(), number=number, name=SLEEP, started=now, completed=now + seconds)
    yield from execution.settle()
    return now + seconds


def known(deadline: float | None) -> Operation[float | None]:
    """A deadline that need not be asked for: see wait_for()."""
    yield from ()
    return deadline


def wait_for(
    watch: Watch,
    look: Callable[[], T | None],
    *,
    execution: Execution | None,
    until: Callable[[], Operation[float | None]],
    also: Sequence[Watch] = (),
    takes_news: bool = False,
) -> Operation[T | None]:
    """What ``look()`` finds, as soon as it finds something; None if the time is over.

    ``until()`` says when that is (monotonic seconds, None: never), and is asked once, when there is a reason to wait.
    ``also``: further reasons to look. ``takes_news``: what comes with the wake-up is what a look would find.
    """
    channels = [interruption_of(execution.workflow_id)] if execution else []
    watches, look = (watch, *also), patient(execution, look)
    with hub.listen(*channels, watches=watches) as signal:
        waiter = _Waiter(watches, signal, execution)
        found: T | None = None if waiter.will_hear else (yield Shared(look))
        deadline = (yield from until()) if found is None else None
        while found is None and (deadline is None or monotonic() < deadline):
            woken = yield from waiter.wait(deadline)
            found = (signal.news if takes_news else None) or (yield Shared(look))
            if found is None and woken and execution is not None:
                yield from execution.check()
        if found is None and waiter.will_hear:  # no time to hear anything
            found = yield Shared(look)
        return found


class _Waiter:
    """How long to wait before the next look, and when to ask to be told."""

    def __init__(self, watches: Sequence[Watch], signal: Signal, execution: Execution | None) -> None:
        self._watches = watches
        self._signal = signal
        self._execution = execution
        self._pause = _FIRST_LOOK
        # Who sends a message tells at once; where a runtime runs that is heard, and there is nothing to ask for.
        self._looks = 1 if watches[0].kind == MESSAGE and local_runner() is not None else 0
        #: Whether what is waited for happens in this process, which makes a look superfluous.
        self.will_hear = all(watch.kind == OUTCOME and context.is_here(watch.workflow_id) for watch in watches)

    def wait(self, deadline: float | None) -> Operation[bool]:
        """Wait once; whether something woke us, or might have without our hearing of it."""
        if self._looks == 1 and self._has_to_ask():
            yield Shared(self._ask)
            self._looks += 1
            return False  # what came before we had asked is found by the look that follows
        seconds = self._next_pause()
        if deadline is not None:
            seconds = min(seconds, max(deadline - monotonic(), 0))
        self._looks += 1
        if self._execution is None:
            woken: bool = yield Wait(self._signal, seconds)
            return woken
        return (yield from self._execution.wait(self._signal, seconds))

    def _next_pause(self) -> float:
        if (self._looks or self.will_hear) and local_runner() is not None:
            return float(conf.POLL_INTERVAL) * _LOOKED_FOR
        if self._looks and hub.is_hearing:
            return float(conf.POLL_INTERVAL)
        pause, self._pause = self._pause, min(self._pause * 2, conf.POLL_INTERVAL)
        return pause

    def _has_to_ask(self) -> bool:
        # Who sends a message tells anyway, and where a runtime runs, it listens.
        if conductor.get() is not None:
            return False  # nobody is told anything by a transaction that is never committed
        return not self.will_hear and (self._watches[0].kind != MESSAGE or local_runner() is None)

    def _ask(self) -> None:
        start_ear()
        awaited = [watch.workflow_id for watch in self._watches if watch.kind != MESSAGE]
        if awaited:
            patient(self._execution, partial(outcomes.ask_to_be_told, awaited))()


def patient(execution: Execution | None, call: Callable[[], T]) -> Callable[[], T]:
    """``call``, which waits for the database while it is away if a workflow makes it."""
    return call if execution is None else partial(vendor.patiently, call, pause=execution.lease.pause)
