"""``DBOS.launch()`` and ``DBOS.destroy()``: a worker inside this process, as many lives as one likes."""

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from asgiref.sync import SyncToAsync
from django.apps import apps
from django.db import connections

from .. import checks, context, hub
from ..clock import monotonic
from ..conf import Settings, conf
from ..runtime import Runtime
from ..runtime.ear import stop_ear
from ..runtime.heart import stop_heart
from ..sysdb import executors, vendor
from . import raised
from .config import settings_of
from .error import DBOSException, DBOSInitializationError

logger = logging.getLogger("django_dbos")
T = TypeVar("T")

#: Seconds that steps which run get to end when a life does; what is cut off goes on in the next one.
GRACE = 1.0
#: How many workflows of queues run at a time where nobody says it; what is started runs at once.
CONCURRENCY = 64
# How often destroy() looks whether workflows still run, in seconds.
_LOOK = 0.05


class Life:
    """Whether this process has launched, and what it was told before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None
        self._queues: list[str] | None = None
        self._forget: list[Callable[[], None]] = []
        #: Whether this program launches by itself, so that what it does before is a mistake of its order.
        self._is_ours = False
        #: How many lives have ended: who waited in one of them has nothing to wait for.
        self.ended = 0

    @property
    def executor_id(self) -> str | None:
        """The id of the worker that runs here; None before launch."""
        return None if self._runtime is None else self._runtime.executor_id

    def configure(self, config: Mapping[str, Any] | None) -> None:
        """Take over a configuration; it holds until the next destroy()."""
        conf.overrides = settings_of(config)
        self._is_ours = True

    def listen(self, queues: Sequence[Any]) -> None:
        """Serve these queues only."""
        if self._runtime is not None:
            raise DBOSException("listen_queues() has to be called before launch().")
        self._queues = [queue if isinstance(queue, str) else queue.name for queue in queues]

    def only_when_launched(self, name: str, call: Callable[..., T]) -> Callable[..., T]:
        """``call``, which raises DBOSException if this program launches by itself, and has not yet, or not again."""

        @functools.wraps(call)
        def checked(*args: Any, **kwargs: Any) -> T:
            if self._is_ours and self._runtime is None and not _runs_for_others():
                raise DBOSException(f"{name}() was called before DBOS.launch(), or after DBOS.destroy().")
            return call(*args, **kwargs)

        return checked

    def launch(self) -> None:
        """Start a worker in this process."""
        with self._lock:
            self._is_ours = True
            if self._runtime is not None:
                logger.warning("DBOS.launch() was called again: this process is launched already")
                return
            off_the_loop(self._start)

    def _start(self) -> None:
        missing = vendor.patiently(lambda: checks.missing_tables(conf.DATABASE), pause=time.sleep)
        if missing:
            raise DBOSInitializationError(missing)
        runtime = Runtime(queues=self._queues, concurrency=_concurrency(), shutdown_timeout=GRACE, is_embedded=True)
        runtime.start()
        self._runtime = runtime

    def destroy(self, *, forget: bool, patience: float) -> None:
        """Stop the worker after at most ``patience`` seconds for what runs, and with ``forget`` unlearn everything."""
        with self._lock:
            off_the_loop(lambda: self._stop(patience))
            _close_what_the_loop_used()
            self.ended += 1
            self._queues, conf.overrides = None, {}
            raised.forget()
            if forget:
                while self._forget:
                    self._forget.pop()()

    def _stop(self, patience: float) -> None:
        if self._runtime is not None:
            self._await_running(patience)
            runtime, self._runtime = self._runtime, None
            runtime.stop()
        stop_heart()
        executors.own.retire()
        stop_ear()
        vendor.discard_connection()

    def _await_running(self, patience: float) -> None:
        deadline, nobody = monotonic() + patience, threading.Event()
        while context.running_ids() and monotonic() < deadline:
            nobody.wait(_LOOK)

    def on_forget(self, undo: Callable[[], None]) -> None:
        """Remember how to unlearn something that was registered."""
        self._forget.append(undo)


def _concurrency() -> int:
    """How many workflows of queues run at a time; programs expect more than our default."""
    concurrency: int = conf.CONCURRENCY
    return max(concurrency, CONCURRENCY) if concurrency == Settings.CONCURRENCY else concurrency


def _runs_for_others() -> bool:
    """Whether this process is a worker that was started by other means."""
    return hub.local_runner() is not None or context.workflow_id() is not None


def empty_tables() -> None:
    """Delete every row of the package's tables, in one transaction."""
    with vendor.transaction():
        for model in apps.get_app_config("dbos").get_models():
            model._default_manager.using(vendor.alias()).all().delete()


def off_the_loop(call: Callable[[], T]) -> T:
    """``call()``, which talks to the database; on a thread of its own where this one runs an event loop."""
    if not hub.on_event_loop():
        return call()

    def on_its_own() -> T:
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1, thread_name_prefix="dbos-life") as thread:
        return thread.submit(on_its_own).result()


def _close_what_the_loop_used() -> None:
    """Close the connections of the thread on which code that awaits meets the database, if there is one."""
    executor = SyncToAsync.single_thread_executor
    if executor._threads:
        with contextlib.suppress(TimeoutError):  # it is busy, and will close them then
            executor.submit(connections.close_all).result(GRACE)


life = Life()
