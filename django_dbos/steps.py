"""Steps: functions whose result is recorded, so that a finished one never runs again.

A step runs at least once: again only if the process died between the end of its body and its checkpoint.
Outside a workflow, or inside another step, a step is a plain call.
"""

import functools
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from inspect import isawaitable
from typing import Any, ParamSpec, TypeVar, cast, overload

from asgiref.sync import markcoroutinefunction, sync_to_async

from . import context
from .attempts import Call, Judge, StepOptions, StepPolicy, step_operation
from .bridge import Body, Operation, adrive, drive, is_async
from .classes import outside_in
from .context import Execution
from .exceptions import InvalidOption, NotInWorkflow, ReservationUsed
from .registry import (
    TEMPORARY,
    StepDefinition,
    WorkflowDefinition,
    attach_definition,
    step_registry,
    workflow_registry,
)
from .roles import aguarded_call, guarded_call, permitted, required_by
from .validation import short_text

P = ParamSpec("P")
R = TypeVar("R")


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
    should_retry: Judge | None = ...,
    timeout_seconds: float | None = ...,
    preemptible: bool = ...,
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
    should_retry: Judge | None = None,
    timeout_seconds: float | None = None,
    preemptible: bool = False,
) -> Any:
    """Make a function (sync or async) a step.

    With ``retries_allowed`` a failure is retried, ``max_attempts`` times in all, after ``interval_seconds`` that
    grow by ``backoff_rate`` up to ``max_interval_seconds``, give or take the fraction ``jitter``;
    ``should_retry(error)`` may say no. When all attempts failed, MaxStepRetriesExceeded carries their errors.

    Async steps only: an attempt fails with StepTimeout after ``timeout_seconds``; a ``preemptible`` one is cancelled
    when its workflow is, and nothing is recorded.
    """
    policy = StepPolicy(
        max_attempts=max_attempts if retries_allowed else 1,
        interval_seconds=interval_seconds,
        backoff_rate=backoff_rate,
        max_interval_seconds=max_interval_seconds,
        jitter=jitter,
        should_retry=should_retry,
        timeout_seconds=timeout_seconds,
        preemptible=preemptible,
    )

    def operation(execution: Execution, number: int, name: str, call: Call) -> Operation[Any]:
        return step_operation(execution, number, name, call, policy)

    def decorate(body: Callable[P, R]) -> Callable[P, R]:
        definition = StepDefinition(name=name or body.__qualname__, function=body, is_async=is_async(body))
        policy.check(definition.name, body)
        return durable(definition, operation)

    return partial(outside_in, decorate) if function is None else outside_in(decorate, function)


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
    carry_out, guard = (adrive, aguarded_call) if definition.is_async else (drive, guarded_call)

    def plain_call(*args: P.args, **kwargs: P.kwargs) -> Any:
        return function(*args, **kwargs) if plain is None else carry_out(plain(partial(body, *args, **kwargs)))

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        execution = context.current()
        if execution is None:
            if not required_by(function, args):
                return plain_call(*args, **kwargs)
            return guard(function, args, partial(plain_call, *args, **kwargs))
        # The number is drawn here, at the call: under asyncio.gather() that is the order of the arguments.
        number, name = execution.next_number(), definition.name
        step = operation(execution, number, name, partial(body, *args, **kwargs))
        return carry_out(permitted(step, execution, number, name, function, args))

    if definition.is_async:
        markcoroutinefunction(call)
    _let_start(call, definition)
    return cast(Callable[P, R], call)


def _let_start(call: Callable[..., Any], definition: StepDefinition) -> None:
    """Make the workflow that a step becomes when it is started alone: here, so that every worker knows it."""
    temporary = WorkflowDefinition(name=TEMPORARY + definition.name, function=call, is_async=definition.is_async)
    workflow_registry.register(temporary)
    attach_definition(call, temporary)


# ---- made a step where it is called --------------------------------------------------------------------------


def run_step(options: StepOptions | None, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call any function as a step: ``run_step({"name": "fetch"}, requests.get, url)``. ``None``: no options.

    Outside a workflow, or inside a step, it is a plain call.
    """
    operation = _inline(context.current(), None, options, function, _blocking(function, *args, **kwargs))
    result: R = function(*args, **kwargs) if operation is None else drive(operation)
    return result


@overload
def arun_step(
    options: StepOptions | None, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Any, Any, R]: ...


@overload
def arun_step(
    options: StepOptions | None, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Any, Any, R]: ...


def arun_step(options: StepOptions | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """See run_step(). A function that is not async runs on a thread."""
    call = _awaitable(function, *args, **kwargs)
    return adrive(_inline(context.current(), None, options, function, call) or _plain(call))


markcoroutinefunction(arun_step)


class StepReservation:
    """A step's number, drawn before it is known what will run there. Used once, by the workflow that drew it."""

    def __init__(self, execution: Execution) -> None:
        self.step_id = execution.next_number()
        self._execution = execution
        self._lock = threading.Lock()
        self._is_used = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.step_id} of {self._execution.workflow_id}>"

    def run(self, options: StepOptions | None, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function as the step of this number; see run_step()."""
        call = _blocking(function, *args, **kwargs)
        result: R = drive(self._operation(options, function, call))
        return result

    @overload
    def arun(
        self,
        options: StepOptions | None,
        function: Callable[P, Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def arun(
        self, options: StepOptions | None, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...

    def arun(self, options: StepOptions | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """See run()."""
        return adrive(self._operation(options, function, _awaitable(function, *args, **kwargs)))

    def _operation(self, options: StepOptions | None, function: Callable[..., Any], call: Call) -> Operation[Any]:
        if context.current() is not self._execution:
            raise NotInWorkflow(
                f"Step {self.step_id} was reserved by workflow {self._execution.workflow_id}: run it from that "
                "workflow's body, outside its steps; in a thread of your own, through contextvars.copy_context().run()."
            )
        operation = _inline(self._execution, self.step_id, options, function, call)
        with self._lock:
            if self._is_used:
                raise ReservationUsed(f"Step {self.step_id} was run before: reserve one for each step.")
            self._is_used = True
        assert operation is not None  # noqa: S101 - there is an execution
        return operation


def reserve_step() -> StepReservation:
    """Draw the next step's number now; ``.run()`` or ``.arun()`` says later what the step is.

    So what is run from other threads or tasks, in whatever order, has the same numbers each time.
    """
    return StepReservation(context.required("reserve_step()"))


def _inline(
    execution: Execution | None,
    number: int | None,
    options: StepOptions | None,
    function: Callable[..., Any],
    call: Call,
) -> Operation[Any] | None:
    """The operation of a step that is made where it is called; None: it is a plain call there."""
    name, policy = _settings(options or {}, function)
    if execution is None:
        return None
    return step_operation(execution, execution.next_number() if number is None else number, name, call, policy)


def _settings(options: StepOptions, function: Callable[..., Any]) -> tuple[str, StepPolicy]:
    """The name and the policy that such options ask for; raises InvalidOption."""
    unknown = set(options) - StepOptions.__optional_keys__
    if unknown:
        known = ", ".join(sorted(StepOptions.__optional_keys__))
        raise InvalidOption(f"There is no step option {sorted(unknown)[0]!r}; there are {known}.")
    given: dict[str, Any] = {"max_attempts": 3, **options}
    name = short_text("A step's name", given.pop("name", None) or _name_of(function))
    if not given.pop("retries_allowed", False):
        given["max_attempts"] = 1
    policy = StepPolicy(**given)
    policy.check(name, function)
    return name, policy


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _blocking(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    if is_async(function):
        raise InvalidOption(f"{_name_of(function)} is async: await its twin, arun_step() or arun().")
    return partial(function, *args, **kwargs)


def _awaitable(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    return partial(function if is_async(function) else partial(_in_thread, function), *args, **kwargs)


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    result = await sync_to_async(function)(*args, **kwargs)
    return await result if isawaitable(result) else result


def _plain(call: Call) -> Operation[Any]:
    return (yield Body(call))
