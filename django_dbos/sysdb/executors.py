"""Executors as rows: who is alive, by the database's own clock, and what becomes of the work of those who are not."""

import os
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from django.db.models import Q
from django.db.models.functions import Now

from ..clock import monotonic
from ..conf import conf
from ..hub import WORK, start_heart
from ..ids import uuid7
from ..models import Executor, Workflow
from ..states import ExecutorState, WorkflowStatus
from . import vendor
from .vendor import Dialect, dialect

#: How many workflows one statement hands back.
BATCH = 1000

#: The executors of this process.
local: set[str] = set()

#: Executors that may own workflows they know nothing of: a statement failed and nobody knows whether it committed.
suspects: set[str] = set()


def new_id() -> str:
    """An id for one process start: where it runs, and something that never comes again."""
    return f"{conf.EXECUTOR_ID or socket.gethostname()}-{os.getpid()}-{uuid7()[-12:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What an executor says of itself when it starts."""

    id: str
    queues: tuple[str, ...] = ()
    application_version: str = ""


def register(registration: Registration) -> None:
    """Write down that an executor has started; registering it again only says that it is alive."""
    row = Executor(
        id=registration.id,
        host=socket.gethostname(),
        pid=os.getpid(),
        application_version=registration.application_version,
        queues=list(registration.queues),
        state=ExecutorState.RUNNING,
    )
    local.add(registration.id)
    Executor.objects.bulk_create([row], ignore_conflicts=True)
    beat(registration.id)


@cache
def _beat_sql(dialect: Dialect) -> str:
    return f"UPDATE dbos_executor SET heartbeat_at = {dialect.now}, state = %s WHERE id = %s"  # noqa: S608


def beat(executor_id: str, state: ExecutorState = ExecutorState.RUNNING) -> bool:
    """Say that an executor is alive. False: its row is gone and it has to register again."""
    return vendor.execute(_beat_sql(dialect()), (state.value, executor_id)) == 1


_SILENT = "heartbeat_at < {long_ago}"
_SAID_TO_LIVE = "state IN ('running', 'draining')"


@cache
def _late_sql(dialect: Dialect) -> str:
    # One that was given up may have come back, claimed something, and died before it could say that it lives.
    return f"""
        SELECT id, {dialect.age.format("heartbeat_at")} FROM dbos_executor
        WHERE {_SILENT.format(long_ago=dialect.ago)}
        AND ({_SAID_TO_LIVE} OR id IN (SELECT executor_id FROM dbos_workflow WHERE status = 'PENDING'))
    """  # noqa: S608


def late(quiet: float) -> list[tuple[str, float]]:
    """Executors that should be alive, or own work, and have not spoken for ``quiet`` seconds; and for how long."""
    return [(executor_id, float(age)) for executor_id, age in vendor.fetch(_late_sql(dialect()), (quiet,))]


@cache
def _beat_and_late_sql(dialect: Dialect) -> str:
    return f"""
        WITH beat AS ({_beat_sql(dialect)} RETURNING id)
        SELECT NULL, COUNT(*)::float8 FROM beat UNION ALL SELECT * FROM ({_late_sql(dialect)}) late WHERE id <> %s
    """  # noqa: S608


def beat_and_look(executor_id: str, state: ExecutorState, quiet: float) -> tuple[bool, list[tuple[str, float]]]:
    """beat(), and late() of the others; in one statement where the database can."""
    if not dialect().groups:
        return beat(executor_id, state), [found for found in late(quiet) if found[0] != executor_id]
    (_, beaten), *others = vendor.fetch(_beat_and_late_sql(dialect()), (state.value, executor_id, quiet, executor_id))
    return beaten == 1, [(other, float(age)) for other, age in others]


@cache
def _recover_sql(dialect: Dialect) -> str:
    # That the executor is still silent is asked in the statement that takes its work away, not before it.
    batch = f"""
        SELECT id FROM dbos_workflow
        WHERE status = 'PENDING' AND executor_id = %s AND EXISTS (
            SELECT 1 FROM dbos_executor e
            WHERE e.id = dbos_workflow.executor_id AND {_SILENT.format(long_ago=dialect.ago)})
        LIMIT {BATCH} {dialect.skip_locked}"""  # noqa: S608
    return f"""
        UPDATE dbos_workflow SET status = 'ENQUEUED', executor_id = '', updated_at = {dialect.now}
        WHERE status || '' = 'PENDING' AND id {dialect.among.format(batch)}
    """  # noqa: S608


def recover(executor_id: str, timeout: float) -> int:
    """Put a silent executor's workflows back on their queues, in batches; how many there were.

    Zero: it had none, it spoke up after all, or another worker recovers them at this moment.
    """
    total = 0
    while True:
        moved = vendor.execute(_recover_sql(dialect()), (executor_id, timeout))
        total += moved
        if moved < BATCH:
            break
    if not Workflow.objects.pending().owned_by(executor_id).exists():
        _mark_lost(executor_id, timeout)
    if total:
        wake_workers()
    return total


@cache
def _mark_lost_sql(dialect: Dialect) -> str:
    silent = f"{_SAID_TO_LIVE} AND {_SILENT.format(long_ago=dialect.ago)}"
    return f"UPDATE dbos_executor SET state = 'lost' WHERE id = %s AND {silent}"  # noqa: S608


def _mark_lost(executor_id: str, timeout: float) -> None:
    # Zero rows: it has come back to life, and says so itself.
    vendor.execute(_mark_lost_sql(dialect()), (executor_id, timeout))


@cache
def _release_sql(dialect: Dialect) -> str:
    # A graceful hand-over is no failed attempt: it does not count towards the dead letter.
    return f"""
        UPDATE dbos_workflow
        SET status = 'ENQUEUED', executor_id = '', attempts = attempts - 1, updated_at = {dialect.now}
        WHERE status = 'PENDING' AND executor_id = %s
    """  # noqa: S608


def release(executor_id: str, *, workflow_id: str | None = None, epoch: int | None = None) -> int:
    """Hand an executor's unfinished workflows (or just one claim of one) back to the queues; how many there were."""
    sql, parameters = _release_sql(dialect()), [executor_id]
    if workflow_id is not None:
        sql, parameters = f"{sql} AND id = %s AND epoch = %s", [executor_id, workflow_id, str(epoch)]
    released = vendor.execute(sql, parameters)
    if released:
        wake_workers()
    return released


def surrender(executor_ids: Iterable[str], *, own_word: str) -> list[str]:
    """Put all that some executors own back on its queue, on demand, be they alive or not; the workflows' ids.

    An executor is named by its id, or by what it begins with (EXECUTOR_ID); ``own_word`` names those of this process.
    Whoever still runs one of them finds at its next write that it was taken away; if the claim comes back to the
    same process, the body that runs there goes on under it.
    """
    with vendor.transaction():
        found = Workflow.objects.select_for_update().pending().filter(_named(executor_ids, own_word))
        ids = list(found.order_by("created_at", "id").values_list("pk", flat=True))
        Workflow.objects.filter(pk__in=ids).update(status=WorkflowStatus.ENQUEUED, executor_id="", updated_at=Now())
        wake_workers()
    return ids


def _named(executor_ids: Iterable[str], own_word: str) -> Q:
    wanted = Q(pk__in=[])
    for name in executor_ids:
        if name == own_word:
            wanted |= Q(executor_id__in=sorted(local))
        wanted |= Q(executor_id=name) | Q(executor_id__startswith=f"{name}-")
    return wanted


def release_strays(executor_id: str, running: Iterable[str], quiet: float) -> int:
    """Hand back what is ours by the database's word, but runs nowhere here: its claim was lost on the way to us."""
    sql = f"{_release_sql(dialect())} AND started_at < {dialect().ago}"
    known = list(running)
    sql += f" AND id NOT IN ({', '.join(['%s'] * len(known))})" if known else ""
    released = vendor.execute(sql, [executor_id, quiet, *known])
    if released:
        wake_workers()
    return released


def owns_more_than(executor_id: str, running: Iterable[str]) -> bool:
    """Whether an executor owns workflows by the database's word that are not among ``running``."""
    return Workflow.objects.pending().owned_by(executor_id).exclude(pk__in=list(running)).exists()


@cache
def _prune_sql(dialect: Dialect) -> str:
    return f"""
        DELETE FROM dbos_executor
        WHERE state IN ('stopped', 'lost') AND heartbeat_at < {dialect.ago} AND NOT EXISTS (
            SELECT 1 FROM dbos_workflow w WHERE w.status = 'PENDING' AND w.executor_id = dbos_executor.id)
    """  # noqa: S608


def prune(retention: float) -> int:
    """Delete executors that ended more than ``retention`` seconds ago and own nothing; how many there were."""
    return vendor.execute(_prune_sql(dialect()), (retention,))


def wake_workers() -> None:
    """Tell every worker, once the current transaction commits, that there is work."""
    vendor.notify(WORK)
    vendor.wake_on_commit(WORK)


class _Own:
    """The executor that this process is for the workflows it runs in its callers' threads.

    It exists from the first direct call on, in whatever process that is; a forked child becomes another one.
    """

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        local.clear()
        self._lock = threading.Lock()
        self._used_at = 0.0
        self._is_alive = False
        self._registration: Registration | None = None

    def ensure(self, application_version: str = "") -> Registration:
        """This process's executor, registered and beating; the version is what it says when it begins."""
        with self._lock:
            self._used_at = monotonic()
            registration = self._registration or Registration(id=new_id(), application_version=application_version)
            if not self._is_alive and not vendor.in_test_transaction():
                register(registration)
                self._registration, self._is_alive = registration, True
                start_heart(registration)
            return registration

    def rest(self, unused_for: float) -> bool:
        """Stop being alive, unless there was a call within so many seconds; whether that is so."""
        with self._lock:
            if monotonic() - self._used_at < unused_for or self._used_by_suspicion():
                return False
            if self._is_alive and self._registration is not None:
                beat(self._registration.id, ExecutorState.STOPPED)
            self._is_alive = False
            return True

    def retire(self) -> None:
        """Stop being alive for good: the next direct call makes this process another executor."""
        if self.rest(0):
            with self._lock:
                self._registration = None

    def _used_by_suspicion(self) -> bool:
        return self._registration is not None and self._registration.id in suspects


#: This process's own executor.
own = _Own()
