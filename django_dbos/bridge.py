"""The only place where sync and async differ.

A durable operation is written once, as a generator that yields what has to happen next - :class:`Database` (a
short blocking call), :class:`Body` (the user's function), :class:`Wait` - and receives the result. :func:`drive`
does each on the calling thread; :func:`adrive` on the running event loop, with blocking calls moved to a thread.
"""

import asyncio
import inspect
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from asgiref.sync import iscoroutinefunction, sync_to_async

from .conducting import conductor
from .exceptions import BlockingCall
from .hub import Signal, on_event_loop
from .sysdb import vendor

T = TypeVar("T")

#: The loop to which an async workflow belongs that is started here; None: to none.
home_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("dbos_home_loop", default=None)

#: The runtime's threads for calls to the database; None: where no runtime is, Django's own thread for this context.
database_threads: ContextVar[Executor | None] = ContextVar("dbos_database_threads", default=None)


class Effect(Protocol):
    """One thing that an operation needs done."""

    def perform(self) -> Any:
        """Do it on this thread."""

    async def aperform(self) -> Any:
        """See perform()."""


Operation = Generator[Effect, Any, T]


@contextmanager
def on_this_thread() -> Iterator[None]:
    """What an async body does inside the block that a blocking call made for it comes back to that call's thread."""
    token = database_threads.set(None)
    try:
        yield
    finally:
        database_threads.reset(token)


@dataclass(frozen=True, slots=True)
class Database:
    """A blocking call that talks to a database."""

    call: Callable[[], Any]

    def perform(self) -> Any:
        """See Effect.perform()."""
        return self.call()

    async def aperform(self) -> Any:
        """See Effect.perform()."""
        threads = database_threads.get()
        if threads is None:
            return await sync_to_async(self.call, thread_sensitive=True)()
        return await sync_to_async(self.call, thread_sensitive=False, executor=cast(ThreadPoolExecutor, threads))()


@dataclass(frozen=True, slots=True)
class Shared(Database):
    """A short call to the system database that has nothing to do with the caller's thread, nor runs user's code.

    A thread without an open connection has one of the runtime's threads make it.
    """

    def perform(self) -> Any:
        """See Effect.perform()."""
        threads = database_threads.get()
        if threads is None or vendor.is_connected():
            return self.call()
        there = copy_context()
        there.run(database_threads.set, None)  # or what it calls might wait for a thread in its turn
        return threads.submit(there.run, self.call).result()


@dataclass(frozen=True, slots=True)
class Body:
    """A call of the user's function, sync or async."""

    call: Callable[[], Any]

    def perform(self) -> Any:
        """See Effect.perform()."""
        return self.call()

    async def aperform(self) -> Any:
        """See Effect.perform()."""
        result = self.call()
        return await result if inspect.isawaitable(result) else result


#: A wait that is over within this many seconds is not worth a new database connection.
GRACE = 0.02


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a signal, at most so many seconds, without holding what others could use meanwhile.

    ``parked`` gives the slot away while it is entered, and yields what closes the connections, if there are any.
    """

    signal: Signal
    seconds: float
    parked: AbstractContextManager[Callable[[], Any] | None] = field(default_factory=nullcontext)

    def perform(self) -> bool:
        """See Effect.perform(); whether the signal came."""
        conducting = conductor.get()
        if conducting is not None:
            conducting.wait(self.signal)
            return True
        with self.parked as close_connections:
            if self.signal.wait(min(self.seconds, GRACE)):
                return True
            if close_connections is not None:
                close_connections()
            return self.signal.wait(max(self.seconds - GRACE, 0))

    async def aperform(self) -> bool:
        """See Effect.perform()."""
        conducting = conductor.get()
        if conducting is not None:
            await conducting.await_(self.signal)
            return True
        with self.parked as close_connections:
            if close_connections is None:
                return await self.signal.await_(self.seconds)
            if await self.signal.await_(min(self.seconds, GRACE)):
                return True
            await close_connections()
            return await self.signal.await_(max(self.seconds - GRACE, 0))


@dataclass(frozen=True, slots=True)
class MakeWay:
    """Where somebody conducts, let what was just started go first; elsewhere nothing."""

    def perform(self) -> None:
        """See Effect.perform()."""
        conducting = conductor.get()
        if conducting is not None:
            conducting.make_way()

    async def aperform(self) -> None:
        """See Effect.perform()."""
        conducting = conductor.get()
        if conducting is not None:
            await conducting.amake_way()


def drive(operation: Operation[T]) -> T:
    """Carry out an operation on this thread."""
    if on_event_loop():
        operation.close()
        raise BlockingCall()
    try:
        effect = next(operation)
        while True:
            try:
                result = effect.perform()
            except BaseException as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(result)
    except StopIteration as stop:
        return cast(T, stop.value)


async def adrive(operation: Operation[T]) -> T:
    """See drive()."""
    try:
        effect = next(operation)
        while True:
            try:
                result = await effect.aperform()
            except BaseException as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(result)
    except StopIteration as stop:
        return cast(T, stop.value)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` gives a coroutine; asked once, at registration."""
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
