"""Steps: functions whose result is recorded, so that a finished one never runs again.

A step runs at least once: again only if the process died between the end of its body and its checkpoint.
Outside a workflow, or inside another step, a step is a plain call.
"""

import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast, overload

from asgiref.sync import markcoroutinefunction

from . import context
from .bridge import Body, Operation, adrive, drive, is_async
from .clock import monotonic
from .context import Execution, Result, StepStatus, in_step, replayed
from .exceptions import InvalidOption, MaxStepRetriesExceeded
from .registry import StepDefinition, step_registry
from .waiting import pause_until

P = ParamSpec("P")
R = TypeVar("R")
Call = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a failing step is tried, and how long between. Seconds; interval x rate^attempt, capped."""

    max_attempts: int = 1
    interval_seconds: float = 1.0
    backoff_rate: float = 2.0
    max_interval_seconds: float = 3600.0
    jitter: float = 0.0
    should_retry: Callable[[BaseException], bool | Awaitable[bool]] | None = None

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise InvalidOption(f"max_attempts counts the first attempt too: at least 1, not {self.max_attempts}.")
        if self.interval_seconds < 0 or self.max_interval_seconds < 0 or self.backoff_rate < 1:
            raise InvalidOption("Intervals cannot be negative, and backoff_rate cannot be below 1.")
        if not 0 <= self.jitter <= 1:
            raise InvalidOption(f"jitter is a fraction of the interval, from 0 to 1, not {self.jitter}.")

    def delay(self, failed_attempts: int) -> float:
        """Seconds to wait after so many failed attempts (at least one)."""
        delay = min(self.interval_seconds * self.backoff_rate ** (failed_attempts - 1), self.max_interval_seconds)
        return delay * (1 + random.uniform(-self.jitter, self.jitter))  # noqa: S311 - spreads load


def attempt(execution: Execution, number: int, call: Call, policy: RetryPolicy) -> Operation[tuple[Result, int]]:
    """Run a step's body as often as its policy allows; how it ended, and after how many attempts."""
    errors: list[BaseException] = []
    for count in range(1, policy.max_attempts + 1):
        status = StepStatus(step_id=number, current_attempt=count, max_attempts=policy.max_attempts)
        try:
            with in_step(status):
                value = yield Body(call)
        except Exception as error:
            errors.append(error)
            if policy.max_attempts == 1 or not (yield from _may_retry(policy, error)):
                return Result(error=error), count
            if count < policy.max_attempts:
                # Without a slot or a connection.
                yield from pause_until(execution, monotonic() + policy.delay(count))
        else:
            return Result(value=value), count
    return Result(error=_exhausted(errors)), policy.max_attempts


def _may_retry(policy: RetryPolicy, error: Exception) -> Operation[bool]:
    if policy.should_retry is None:
        return True
    return bool((yield Body(partial(policy.should_retry, error))))


def _exhausted(errors: list[BaseException]) -> BaseException:
    attempts = "\n".join(f"  attempt {n}: {type(e).__name__}: {e}" for n, e in enumerate(errors, 1))
    exhausted = MaxStepRetriesExceeded(f"The step failed in each of its {len(errors)} attempts:\n{attempts}", errors)
    exhausted.__cause__ = errors[-1]
    return exhausted


def step_operation(execution: Execution, number: int, name: str, call: Call, policy: RetryPolicy) -> Operation[Any]:
    """The bracket around every step: find what is recorded, else attempt the body, then record how it ended."""
    recorded = execution.recall(number, name)
    if recorded is not None:
        return (yield from replayed(recorded))
    execution.look_up()
    yield from execution.settle()
    started = monotonic()
    result, attempts = yield from attempt(execution, number, call, policy)
    result = yield from execution.keep(result, number=number, name=name, started=started, attempts=attempts)
    return result.unwrap()


@overload
def step(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def step(
    *,
    name: str | None = ...,
    retries_allowed: bool = ...,
    max_attempts: int = ...,
    interval_seconds: float = ...,
    backoff_rate: float = ...,
    max_interval_seconds: float = ...,
    jitter: float = ...,
    should_retry: Callable[[BaseException], bool | Awaitable[bool]] | None = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def step(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    retries_allowed: bool = False,
    max_attempts: int = 3,
    interval_seconds: float = 1.0,
    backoff_rate: float = 2.0,
    max_interval_seconds: float = 3600.0,
    jitter: float = 0.0,
    should_retry: Callable[[BaseException], bool | Awaitable[bool]] | None = None,
) -> Any:
    """Make a function (sync or async) a step.

    With ``retries_allowed`` a failure is retried, ``max_attempts`` times in all, after ``interval_seconds`` that
    grow by ``backoff_rate`` up to ``max_interval_seconds``, give or take the fraction ``jitter``;
    ``should_retry(error)`` may say no. When all attempts failed, MaxStepRetriesExceeded carries their errors.
    """
    policy = RetryPolicy(
        max_attempts=max_attempts if retries_allowed else 1,
        interval_seconds=interval_seconds,
        backoff_rate=backoff_rate,
        max_interval_seconds=max_interval_seconds,
        jitter=jitter,
        should_retry=should_retry,
    )

    def operation(execution: Execution, number: int, name: str, call: Call) -> Operation[Any]:
        return step_operation(execution, number, name, call, policy)

    def decorate(body: Callable[P, R]) -> Callable[P, R]:
        definition = StepDefinition(name=name or body.__qualname__, function=body, is_async=is_async(body))
        if should_retry is not None and is_async(should_retry) and not definition.is_async:
            raise InvalidOption(f"should_retry of the sync step {definition.name} is async: make it a plain function.")
        return durable(definition, operation)

    return decorate if function is None else decorate(function)


def durable(
    definition: StepDefinition,
    operation: Callable[[Execution, int, str, Call], Operation[Any]],
    *,
    body: Callable[..., Any] | None = None,
    plain: Callable[[Call], Operation[Any]] | None = None,
) -> Callable[P, R]:
    """Wrap a function so that its calls in a workflow become ``operation``; sync or async is decided here, once.

    ``body`` stands in for the function inside the operation; ``plain`` is what a call elsewhere becomes.
    """
    step_registry.register(definition)
    function, body = definition.function, body or definition.function
    carry_out = adrive if definition.is_async else drive

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        execution = context.current()
        if execution is None:
            return function(*args, **kwargs) if plain is None else carry_out(plain(partial(body, *args, **kwargs)))
        # The number is drawn here, at the call: under asyncio.gather() that is the order of the arguments.
        number = execution.next_number()
        return carry_out(operation(execution, number, definition.name, partial(body, *args, **kwargs)))

    if definition.is_async:
        markcoroutinefunction(call)
    return cast(Callable[P, R], call)
