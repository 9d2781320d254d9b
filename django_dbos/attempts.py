"""How the body of a step is tried: how often, for how long, and what may cut it short."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypedDict

from .bridge import Body, Database, Effect, Operation, is_async
from .clock import monotonic
from .conducting import conductor
from .context import Execution, Result, StepStatus, in_step, replayed
from .exceptions import (
    ExecutorStopping,
    InvalidOption,
    MaxStepRetriesExceeded,
    StepTimeout,
    WorkflowInterrupted,
)
from .hub import Signal, hub, interruption_of
from .waiting import pause_until

logger = logging.getLogger("django_dbos")

Call = Callable[[], Any]
Judge = Callable[[BaseException], bool | Awaitable[bool]]

#: Seconds between two looks at the row of a workflow whose preemptible step runs.
_LOOK_INTERVAL = 1.0


class StepOptions(TypedDict, total=False):
    """The options of ``step()``, for a callable that is made a step where it is called."""

    name: str
    retries_allowed: bool
    max_attempts: int
    interval_seconds: float
    backoff_rate: float
    max_interval_seconds: float
    jitter: float
    should_retry: Judge | None
    timeout_seconds: float | None
    preemptible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPolicy:
    """How often a failing step is tried, how long between, and how long an attempt may take. In seconds.

    The pause is interval x rate^attempt, capped.
    """

    max_attempts: int = 1
    interval_seconds: float = 1.0
    backoff_rate: float = 2.0
    max_interval_seconds: float = 3600.0
    jitter: float = 0.0
    should_retry: Judge | None = None
    timeout_seconds: float | None = None
    preemptible: bool = False

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise InvalidOption(f"max_attempts counts the first attempt too: at least 1, not {self.max_attempts}.")
        if self.interval_seconds < 0 or self.max_interval_seconds < 0 or self.backoff_rate < 1:
            raise InvalidOption("Intervals cannot be negative, and backoff_rate cannot be below 1.")
        if not 0 <= self.jitter <= 1:
            raise InvalidOption(f"jitter is a fraction of the interval, from 0 to 1, not {self.jitter}.")
        if self.timeout_seconds is not None and not self.timeout_seconds > 0:
            raise InvalidOption(f"timeout_seconds is a time: more than 0, not {self.timeout_seconds}.")

    def delay(self, failed_attempts: int) -> float:
        """Seconds to wait after so many failed attempts (at least one)."""
        delay = min(self.interval_seconds * self.backoff_rate ** (failed_attempts - 1), self.max_interval_seconds)
        return delay * (1 + random.uniform(-self.jitter, self.jitter))  # noqa: S311 - spreads load

    def check(self, name: str, function: Callable[..., Any]) -> None:
        """Raises InvalidOption for what only an async step can do, if this one is not."""
        if is_async(function):
            return
        if self.timeout_seconds is not None or self.preemptible:
            raise InvalidOption(
                f"timeout_seconds and preemptible are for async steps: the sync step {name} runs on a thread, and "
                "Python cannot interrupt a thread. Make it async, or give a timeout to what it calls."
            )
        if self.should_retry is not None and is_async(self.should_retry):
            raise InvalidOption(f"should_retry of the sync step {name} is async: make it a plain function.")

    def body(self, execution: Execution, call: Call) -> Effect:
        """One attempt at a step's body."""
        if self.timeout_seconds is None and not self.preemptible:
            return Body(call)
        return _BoundedBody(call, self.timeout_seconds, execution if self.preemptible else None)


@dataclass(frozen=True, slots=True)
class _BoundedBody:
    """A call of an async function that a timeout cuts short, or the end of its workflow (if that is given)."""

    call: Call
    timeout_seconds: float | None
    execution: Execution | None

    def perform(self) -> Any:
        """See Effect.perform()."""
        raise NotImplementedError("refused at the decorator: StepPolicy.check()")

    async def aperform(self) -> Any:
        """See Effect.perform()."""
        if self.execution is None:
            return await self._within_time()
        async with _Preemption(self.execution):  # outside: a cancellation outranks a timeout
            return await self._within_time()

    async def _within_time(self) -> Any:
        try:
            async with asyncio.timeout(self.timeout_seconds) as limit:
                return await self.call()
        except TimeoutError as error:
            if not limit.expired():  # the body's own
                raise
            raise StepTimeout(f"The step did not finish within {self.timeout_seconds:g} s.") from error


class _Preemption:
    """Cancels the task that runs a block as soon as the workflow is no longer to run; nothing is recorded then."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._interruption: WorkflowInterrupted | None = None
        self._is_over = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that is awaited runs in a task
        self._task = task
        self._cancelling = task.cancelling()
        self._watcher = asyncio.create_task(self._watch())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True  # what the watcher finds from now on comes too late
        self._watcher.cancel()
        await asyncio.wait({self._watcher})
        # If somebody else cancels this task as well, its CancelledError goes through: the task is torn down.
        if self._interruption is not None and self._task.uncancel() <= self._cancelling:
            raise self._interruption from error

    async def _watch(self) -> None:
        with hub.listen(interruption_of(self._execution.workflow_id)) as signal:
            while not self._is_over:
                await self._next_look(signal)
                interruption = await self._look()
                if interruption is not None and not self._is_over:
                    self._interruption = interruption
                    self._task.cancel()
                    return

    async def _next_look(self, signal: Signal) -> None:
        """Wait for a hint, or until it is time to look without one."""
        until = monotonic() + _LOOK_INTERVAL
        while not self._is_over and (remaining := until - monotonic()) > 0:
            woken = await signal.await_(remaining)
            if woken and not self._execution.lease.is_stopping:  # an executor that stops lets its steps end
                return

    async def _look(self) -> WorkflowInterrupted | None:
        """Why the workflow has to stop, if it has to."""
        execution = self._execution
        try:
            await Database(partial(execution.journal.check, execution.lease)).aperform()
        except ExecutorStopping:  # the database is away, and we are about to leave: the step may still end
            return None
        except WorkflowInterrupted as interruption:
            return interruption
        except Exception:
            logger.exception("Cannot see whether workflow %s was cancelled", execution.workflow_id)
        return None


def attempt(execution: Execution, number: int, call: Call, policy: StepPolicy) -> Operation[tuple[Result, int]]:
    """Run a step's body as often as its policy allows; how it ended, and after how many attempts."""
    errors: list[BaseException] = []
    for count in range(1, policy.max_attempts + 1):
        status = StepStatus(step_id=number, current_attempt=count, max_attempts=policy.max_attempts)
        try:
            with in_step(status):
                value = yield policy.body(execution, call)
        except Exception as error:
            errors.append(error)
            if policy.max_attempts == 1 or not (yield from _may_retry(policy, error)):
                return Result(error=error), count
            if count < policy.max_attempts and conductor.get() is None:  # a test does not wait for the next attempt
                # Without a slot or a connection.
                yield from pause_until(execution, monotonic() + policy.delay(count))
        else:
            return Result(value=value), count
    return Result(error=_exhausted(errors)), policy.max_attempts


def _may_retry(policy: StepPolicy, error: Exception) -> Operation[bool]:
    if policy.should_retry is None:
        return True
    return bool((yield Body(partial(policy.should_retry, error))))


def _exhausted(errors: list[BaseException]) -> BaseException:
    attempts = "\n".join(f"  attempt {n}: {type(e).__name__}: {e}" for n, e in enumerate(errors, 1))
    exhausted = MaxStepRetriesExceeded(f"The step failed in each of its {len(errors)} attempts:\n{attempts}", errors)
    exhausted.__cause__ = errors[-1]
    return exhausted


def step_operation(execution: Execution, number: int, name: str, call: Call, policy: StepPolicy) -> Operation[Any]:
    """The bracket around every step: find what is recorded, else attempt the body, then record how it ended."""
    recorded = execution.recall(number, name)
    if recorded is not None:
        return (yield from replayed(recorded))
    yield from execution.begin()
    started = monotonic()
    result, attempts = yield from attempt(execution, number, call, policy)
    result = yield from execution.keep(result, number=number, name=name, started=started, attempts=attempts)
    return result.unwrap()
