"""The event loop of async workflows in a test: it says when it has nothing to do."""

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Job = Callable[[], None]


#: Which body runs in this context.
body: ContextVar[str | None] = ContextVar("dbos_body", default=None)

# Seconds in which an open socket has to bring something, where all bodies wait for something else.
_QUIET = 0.2


class _Selector(selectors.DefaultSelector):
    """Notices when its loop is about to wait for nothing but a call from another thread."""

    def __init__(self, on_idle: Callable[[], None], waits_elsewhere: Callable[[], bool]) -> None:
        super().__init__()
        self._on_idle = on_idle
        self._waits_elsewhere = waits_elsewhere

    def select(self, timeout: float | None = None) -> Any:
        """See BaseSelector.select()."""
        if timeout is not None:  # there is a timer
            return super().select(timeout)
        # The one entry that is always there is what other threads wake the loop by.
        if len(self.get_map()) > 1:
            if not self._waits_elsewhere():
                return super().select()
            # A socket that a body is reading, or a connection that is kept open for later.
            ready = super().select(_QUIET)
            if ready:
                return ready
        self._on_idle()
        return super().select()


class Jobs(Executor):
    """Collects what coroutines want done on a thread, for others to do."""

    def __init__(self, on_job: Callable[[], None]) -> None:
        self._on_job = on_job
        self._waiting: list[Job] = []
        #: The bodies that want something done which is not done yet.
        self.unfinished: dict[Future[Any], str | None] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """See Executor.submit()."""
        future: Future[Any] = Future()

        def job() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.unfinished[future] = body.get()
        future.add_done_callback(self.unfinished.pop)
        self._waiting.append(job)
        self._on_job()
        return future

    def wait(self) -> bool:
        """Whether some wait to be taken."""
        return bool(self._waiting)

    def take(self) -> list[Job]:
        """What waits to be done, in its order."""
        jobs, self._waiting = self._waiting, []
        return jobs


class Loop(asyncio.SelectorEventLoop):
    """An event loop on a thread of its own, whose tasks' thread-sensitive calls are collected as jobs."""

    def __init__(self) -> None:
        super().__init__(_Selector(self._rest, self._waits_for_others))
        self.jobs = Jobs(self._tell)
        self.tasks: set[asyncio.Task[None]] = set()
        self._parked: dict[asyncio.Future[None], str | None] = {}
        self._errors: list[BaseException] = []
        self._foreign = 0
        self._resting: threading.Event | None = None
        self._thread = threading.Thread(target=self.run_forever, name="dbos-lanes", daemon=True)
        self._thread.start()

    def begin(self, coroutine: Coroutine[Any, Any, None], context: Context) -> None:
        """Run a coroutine as a task; called from another thread."""

        def create() -> None:
            task = self.create_task(coroutine)
            self.tasks.add(task)
            task.add_done_callback(self._over)

        self.call_soon_threadsafe(create, context=context)

    def settle(self) -> list[Job]:
        """Wait until every task is over, or waits for something in here, or wants a job done; the jobs."""
        resting = threading.Event()
        self.call_soon_threadsafe(self._listen, resting)
        resting.wait()
        return self.jobs.take()

    async def park(self, where: list[Any]) -> None:
        """Wait until somebody wakes the future that this adds to ``where``."""
        future = self.create_future()
        self._parked[future] = body.get()
        where.append(future)
        try:
            await future
        finally:
            del self._parked[future]

    def wake(self, future: "asyncio.Future[None]") -> None:
        """Let go on what is parked; called from another thread."""
        self.call_soon_threadsafe(_wake, future)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        """See AbstractEventLoop.run_in_executor(); while threads of others are at work the loop is not idle."""
        future = super().run_in_executor(executor, func, *args)
        if executor is not self.jobs:
            self._foreign += 1
            future.add_done_callback(self._done)
        return future

    def end(self) -> None:
        """Stop and close; called from another thread."""
        self.call_soon_threadsafe(self.stop)
        self._thread.join()
        self.run_until_complete(self.shutdown_asyncgens())
        self.run_until_complete(self.shutdown_default_executor())
        self.close()

    def raise_errors(self) -> None:
        """Raise what ended a task, if anything did."""
        if self._errors:
            raise self._errors.pop()

    def _over(self, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._errors.append(error)

    def _waits_for_others(self) -> bool:
        """Whether each body waits for something that does not come from outside."""
        waiting = {*self._parked.values(), *self.jobs.unfinished.values()}
        return len(waiting) >= len(self.tasks)

    def _listen(self, resting: threading.Event) -> None:
        self._resting = resting
        if self.jobs.wait():
            self._tell()

    def _done(self, future: Any) -> None:
        self._foreign -= 1

    def _rest(self) -> None:
        if not self._foreign:
            self._tell()

    def _tell(self) -> None:
        if self._resting is not None:
            self._resting.set()
            self._resting = None


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
