"""Transactions: steps whose ORM writes and whose checkpoint are one commit, and so happen exactly once."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, overload

from asgiref.sync import async_to_sync
from django.db import DatabaseError, InterfaceError
from django.db.transaction import atomic

from . import clock
from .attempts import Call
from .bridge import Database, Operation, is_async, on_this_thread
from .classes import outside_in
from .clock import monotonic
from .context import Execution, Result, StepStatus, in_step, read_back, replayed
from .exceptions import InvalidOption
from .registry import StepDefinition
from .steps import durable
from .sysdb import journal, vendor
from .sysdb.journal import Checkpoint, Recorded
from .sysdb.steps import elsewhere, find_elsewhere

P = ParamSpec("P")
R = TypeVar("R")

_ISOLATION_LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionOptions:
    """Where and how a transaction runs."""

    using: str | None = None
    isolation_level: str | None = None
    read_only: bool = False

    def __post_init__(self) -> None:
        if self.isolation_level is not None and self.isolation_level not in _ISOLATION_LEVELS:
            raise InvalidOption(
                f"isolation_level is one of {', '.join(_ISOLATION_LEVELS)}, not {self.isolation_level!r}."
            )

    @property
    def database(self) -> str:
        """The alias on which the body's writes go."""
        return self.using or vendor.alias()


class _RecordedBefore(Exception):
    """Rolls a transaction back because its step turns out to be recorded already."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded


class _Attempt:
    """One transaction step, from its first try to its commit."""

    def __init__(self, execution: Execution, number: int, name: str, call: Call, options: TransactionOptions) -> None:
        self.execution = execution
        self.number = number
        self.name = name
        self.call = call
        self.options = options
        self.is_elsewhere = options.database != vendor.alias()
        # Under read only nothing can be written beside the body, so its checkpoint follows as a step's does.
        self.commits_apart = options.read_only
        self.attempts = 0
        self.started = monotonic()
        self._output: str | None = None

    def run(self) -> Result:
        """Try until it commits, or fails for a reason of its own."""
        if self.is_elsewhere and (found := self._find_elsewhere()) is not None:
            return self._settle(read_back(found))
        for delay in clock.backoff(0.001, 1.5, 2.0):
            self.attempts += 1
            try:
                return self._commit()
            except _RecordedBefore as before:
                return self._settle(read_back(before.recorded))
            except (DatabaseError, InterfaceError) as error:
                if not self._will_pass(error):
                    return self._record_apart(Result(error=error))
                vendor.discard_connection(self.options.database)
                self.execution.lease.pause(delay)
                if (recorded := self._recorded_meanwhile()) is not None:
                    return self._settle(read_back(recorded))
            except Exception as error:
                return self._record_apart(Result(error=error))
        raise AssertionError("a back-off never ends")

    def _will_pass(self, error: Exception) -> bool:
        if self.options.read_only and vendor.is_refused_write(error):
            return False  # what the caller asked for, not a standby that will be promoted
        return vendor.is_conflict(error) or vendor.is_outage(error)

    def _commit(self) -> Result:
        with atomic(using=self.options.database, durable=True):
            vendor.begin(
                self.options.database,
                isolation_level=self.options.isolation_level,
                read_only=self.options.read_only,
            )
            result = self._run_body()
            if result.error is not None:  # what cannot be stored must not be committed either
                raise result.error
            if not self.commits_apart:
                self._checkpoint()
        return self._settle(result)

    def _run_body(self) -> Result:
        status = StepStatus(step_id=self.number, current_attempt=self.attempts, max_attempts=self.attempts)
        with in_step(status), on_this_thread():
            value = self.call()
        result, self._output, _ = self.execution.dump(Result(value=value), self.name)
        return result

    def _checkpoint(self) -> None:
        """Write the checkpoint inside the body's transaction; if it is refused the body is rolled back."""
        lease = self.execution.lease
        key = lease.key
        if self.is_elsewhere:
            written = journal.insert_checkpoint_elsewhere(self.options.database, lease.workflow_id, self._row())
        else:
            written = journal.insert_checkpoint(lease.workflow_id, key, self._row())
        if written:
            return
        earlier = self._find_elsewhere() if self.is_elsewhere else journal.explain(lease, self.number)
        if earlier is None:  # the lease was renewed between the two statements: once more, under the new one
            self._checkpoint()
            return
        raise _RecordedBefore(earlier)

    def _row(self) -> Checkpoint:
        return Checkpoint(
            number=self.number,
            name=self.name,
            output=self._output,
            serializer=self.execution.serializer,
            attempts=self.attempts,
            started=self.started,
            completed=monotonic(),
        )

    def _find_elsewhere(self) -> Recorded | None:
        return find_elsewhere(self.options.database, self.execution.workflow_id, self.number)

    def _recorded_meanwhile(self) -> Recorded | None:
        # A connection that broke at COMMIT leaves open whether it committed: the checkpoint knows.
        if self.is_elsewhere:
            return self._find_elsewhere()
        return vendor.patiently(
            lambda: journal.recorded(self.execution.workflow_id, self.number), pause=self.execution.lease.pause
        )

    def _settle(self, result: Result) -> Result:
        """The transaction is committed; what is left is to record it where its checkpoint did not commit with it."""
        return self._record_apart(result) if self.is_elsewhere or self.commits_apart else result

    def _record_apart(self, result: Result) -> Result:
        return self.execution.record(
            result, number=self.number, name=self.name, started=self.started, attempts=max(self.attempts, 1)
        )


def transaction_operation(
    execution: Execution, number: int, name: str, call: Call, options: TransactionOptions
) -> Operation[Any]:
    """The bracket around a transaction: as a step's, but the checkpoint commits with the body."""
    recorded = execution.recall(number, name)
    if recorded is not None:
        return (yield from replayed(recorded))
    yield from execution.begin()
    result = yield Database(_Attempt(execution, number, name, call, options).run)
    return result.unwrap()


def _in_atomic(options: TransactionOptions, call: Call) -> Operation[Any]:
    """A transaction outside a workflow: one commit, and nothing recorded."""

    def commit() -> Any:
        with atomic(using=options.database):
            return call()

    return (yield Database(commit))


@overload
def transaction(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def transaction(
    *, name: str | None = ..., using: str | None = ..., isolation_level: str | None = ..., read_only: bool = ...
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def transaction(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    using: str | None = None,
    isolation_level: str | None = None,
    read_only: bool = False,
) -> Any:
    """Make a function (sync or async) a transaction: it runs in ``atomic(using)``, and its checkpoint with it.

    Serialization failures and deadlocks are retried. On another database than the system's the checkpoint is kept
    there too (migrate ``django_dbos`` there), so that it is exactly once all the same. Outside a workflow it is a
    plain call in ``atomic()``.
    """
    options = TransactionOptions(using=using, isolation_level=isolation_level, read_only=read_only)
    if using is not None:
        elsewhere.add(using)

    def operation(execution: Execution, number: int, name: str, call: Call) -> Operation[Any]:
        return transaction_operation(execution, number, name, call, options)

    def decorate(body: Callable[P, R]) -> Callable[P, R]:
        definition = StepDefinition(name=name or body.__qualname__, function=body, is_async=is_async(body))
        # An async body runs on the thread that holds the transaction: its ORM calls have to come back to it.
        blocking = async_to_sync(body) if definition.is_async else body  # type: ignore[arg-type]
        return durable(definition, operation, body=blocking, plain=functools.partial(_in_atomic, options))

    return functools.partial(outside_in, decorate) if function is None else outside_in(decorate, function)
