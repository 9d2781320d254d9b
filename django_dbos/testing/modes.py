"""How workflows run in a test: all that can when it asks for it, or each at once where it is started."""

import functools
from collections.abc import Callable
from contextlib import ContextDecorator, ExitStack
from contextvars import ContextVar, Token
from typing import Any, Self, TypeVar, cast

from asgiref.sync import iscoroutinefunction, sync_to_async

from .. import conducting, context
from ..bridge import Database
from ..conducting import Conductor, Probe
from ..context import Execution, NoParking
from ..exceptions import WouldWaitForever
from ..hub import Signal
from ..models import Workflow
from ..sysdb import vendor
from .stage import Stage, executor_id

F = TypeVar("F", bound=Callable[..., Any])


def run_until_idle() -> int:
    """Run every waiting workflow, and what they start, until nothing can go on; how many ended.

    It happens on the calling thread's connections, so it works inside the transaction of a TestCase. What waits - for
    a message, for a moment, for a workflow that does not end - is PENDING afterwards, and goes on from its last
    finished step with the next call. Pauses between the attempts of a step are left out.
    """
    audience = conducting.conductor.get()
    return Stage(is_inline=isinstance(audience, _Audience) and audience.is_inline).run()


async def arun_until_idle() -> int:
    """See run_until_idle()."""
    return int(await Database(run_until_idle).aperform())


class _Audience:
    """Conducts what the test's own thread waits for: it is run meanwhile. Counts what is recorded on its watch."""

    def __init__(self, *, is_inline: bool, outer: Probe | None) -> None:
        self.is_inline = is_inline
        self._outer = outer
        self._recorded = 0
        self._waited: dict[Signal, int] = {}

    # ---- conducting.Conductor

    def wait(self, signal: Signal) -> None:
        """See Conductor.wait()."""
        if self._waited.get(signal) == self._recorded:
            raise self._stuck()
        run_until_idle()
        self._waited[signal] = self._recorded

    async def await_(self, signal: Signal) -> None:
        """See Conductor.await_()."""
        await sync_to_async(self.wait)(signal)

    def make_way(self) -> None:
        """See Conductor.make_way()."""
        self._recorded += 1
        if not self.is_inline:
            return
        if vendor.in_transaction():
            vendor.connection().on_commit(self.make_way)
        else:
            run_until_idle()

    async def amake_way(self) -> None:
        """See Conductor.amake_way()."""
        await sync_to_async(self.make_way)()

    def _stuck(self) -> WouldWaitForever:
        # Bodies that were called directly are ended here, and left to the next run.
        direct = [execution for execution in context.running_of(None) if isinstance(execution.parking, NoParking)]
        ids = [execution.workflow_id for execution in direct]
        Workflow.objects.pending().filter(pk__in=ids).update(executor_id=executor_id())
        for execution in direct:
            execution.abandon()
        return WouldWaitForever(
            "Nothing is left to run that would end this wait. Bring about what it waits for - a message, the clock - "
            "before it is waited for; a workflow that has to wait is started with start_workflow(), not called."
        )

    # ---- conducting.Probe

    def reaches(self, execution: Execution, number: int, name: str) -> None:
        """See Probe.reaches()."""
        if self._outer is not None:
            self._outer.reaches(execution, number, name)

    def records(self, execution: Execution, name: str) -> None:
        """See Probe.records()."""
        self._recorded += 1
        if self._outer is not None:
            self._outer.records(execution, name)


class _Mode(ContextDecorator):
    """A way of running workflows, for a block, or for a test function that is sync or async."""

    _is_inline: bool

    def __init__(self) -> None:
        self._exits: list[ExitStack] = []

    def __enter__(self) -> Self:
        audience = _Audience(is_inline=self._is_inline, outer=conducting.probe.get())
        with ExitStack() as stack:
            _set(stack, conducting.conductor, audience)
            _set(stack, conducting.probe, audience)
            self._exits.append(stack.pop_all())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exits.pop().close()

    def __call__(self, function: F) -> F:
        """Let a function run in this mode."""
        if not iscoroutinefunction(function):
            return super().__call__(function)

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return await function(*args, **kwargs)

        return cast(F, call)


def _set(stack: ExitStack, variable: ContextVar[Any], value: Conductor | Probe) -> None:
    token: Token[Any] = variable.set(value)
    stack.callback(variable.reset, token)


class conducted(_Mode):  # noqa: N801 - reads as a function
    """``with conducted():`` - who waits on this thread lets run what can run, instead of blocking the test.

    If nothing is left to run that would end the wait, it raises WouldWaitForever. Fixture and mixin are in it.
    """

    _is_inline = False


class inline(_Mode):  # noqa: N801 - reads as a function
    """``with inline():`` - starting or enqueueing a workflow runs it at once, in place; also a decorator.

    Inside atomic() it runs after the commit. What the workflow starts runs at once too. See also conducted().
    """

    _is_inline = True
