"""The dispatcher: what it claims, what it leaves, and that nothing is lost when a statement of it fails."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.db.models.functions import Now
from django.test import override_settings

from django_dbos import Queue, Runtime, workflow
from django_dbos.hub import hub, interruption_of, outcome_of
from django_dbos.models import Queue as QueueRow
from django_dbos.models import Step, Workflow
from django_dbos.runtime import dispatcher as dispatcher_module
from django_dbos.runtime.dispatcher import Dispatcher
from django_dbos.runtime.pool import Pool
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb import executors, journal, queues
from django_dbos.sysdb.steps import History
from django_dbos.sysdb.workflows import Claimed
from tests.runtime.conftest import Time
from tests.support import eventually, statements
from tests.sysdb.rows import committed, owned, rolled_back
from tests.sysdb.rows import workflow as row

NAME = "dispatched_workflow"
PLAIN = Queue("dispatched")
SHARED = Queue("dispatched within a limit", global_concurrency=5)


@workflow
def dispatched_workflow() -> str:
    return "done"


class Collecting(Pool):
    """Keeps what it is given instead of running it."""

    def __init__(self, concurrency: int) -> None:
        super().__init__(executor_id="me", concurrency=concurrency, journal=journal.inline)
        self.given: dict[str, History] = {}
        self.running: dict[str, int] = {}

    def submit(self, claimed: Claimed, history: History) -> None:
        """Keep it."""
        self.given[claimed.id] = history

    def running_in(self, queue_name: str) -> int:
        """What the test says."""
        return self.running.get(queue_name, 0)


@pytest.fixture(autouse=True)
def no_suspects() -> Iterator[None]:
    yield
    executors.suspects.discard("me")


def new(concurrency: int = 10, only_queues: list[str] | None = None) -> tuple[Dispatcher, Collecting]:
    pool = Collecting(concurrency)
    return Dispatcher(executor_id="me", pool=pool, only_queues=only_queues), pool


def waiting(count: int, queue: str, **columns: Any) -> list[str]:
    names = [f"{queue}-{number}" for number in range(count)]
    for name in names:
        row(name, queue_name=queue, **{"name": NAME, **columns})
    return names


@rolled_back
def test_it_claims_up_to_the_free_slots_and_gives_the_others_back() -> None:
    dispatcher, pool = new(4)
    names = waiting(6, "dispatched")
    dispatcher.tick()
    assert list(pool.given) == names[:4]
    assert pool.slots.free == 0
    dispatcher.tick()
    assert len(pool.given) == 4
    pool.slots.untake(4)
    dispatcher.tick()
    assert list(pool.given) == names
    assert pool.slots.free == 2


@rolled_back
def test_what_a_claim_brought_is_not_lost_when_a_later_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher, pool = new(10)
    plain, shared = waiting(3, "dispatched"), waiting(2, SHARED.name)
    queues.declare({PLAIN.name: PLAIN.limits, SHARED.name: SHARED.limits})
    claim_limited = queues.claim_limited

    def fail(*args: object, **kwargs: object) -> list[Claimed]:
        raise OperationalError("gone in the middle")

    monkeypatch.setattr(queues, "claim_limited", fail)
    with pytest.raises(OperationalError):
        dispatcher.tick()
    assert sorted(pool.given) == plain
    assert pool.slots.free == 7
    assert "me" in executors.suspects, "the failed claim may have been committed"
    monkeypatch.setattr(queues, "claim_limited", claim_limited)
    dispatcher.tick()
    assert sorted(pool.given) == sorted(plain + shared)
    assert pool.slots.free == 5


@rolled_back
def test_when_their_histories_cannot_be_read_the_claimed_are_strays_and_their_slots_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dispatcher, pool = new(10)
    waiting(2, "dispatched", epoch=1)

    def fail(workflow_ids: object) -> dict[str, History]:
        raise ValueError("unreadable")

    monkeypatch.setattr(dispatcher_module, "load_history", fail)
    with pytest.raises(ValueError, match="unreadable"):
        dispatcher.tick()
    assert pool.given == {}
    assert pool.slots.free == 10
    assert "me" in executors.suspects


@rolled_back
def test_histories_are_loaded_only_for_what_ran_before_and_in_one_query() -> None:
    dispatcher, pool = new(10)
    dispatcher.tick()
    waiting(3, "dispatched")
    with statements() as sent:
        dispatcher.tick()
    assert len([sql for sql in sent if "MIN(delay_until)" not in sql]) == 1, sent
    assert set(pool.given.values() and [len(history) for history in pool.given.values()]) == {0}
    for name in ("again", "and again"):
        row(name, name=NAME, epoch=1)
        Step.objects.create(workflow_id=name, number=1, name="step", output='"done"')
    row("forked", name=NAME, forked_from_id="original")
    with statements() as sent:
        dispatcher.tick()
    assert len([sql for sql in sent if "MIN(delay_until)" not in sql]) == 2, sent  # apart from what is due by the clock
    histories = {name: sorted(pool.given[name]) for name in ("again", "and again", "forked")}
    assert histories == {"again": [1], "and again": [1], "forked": []}


@rolled_back
def test_it_serves_the_queues_it_was_given_and_what_was_started() -> None:
    dispatcher, pool = new(only_queues=["dispatched"])
    started = waiting(1, "")
    mine = waiting(1, "dispatched")
    waiting(1, SHARED.name)
    assert dispatcher.queue_names() == ["", "dispatched"]
    dispatcher.tick()
    assert sorted(pool.given) == sorted(started + mine)


@rolled_back
def test_without_such_a_list_it_serves_every_queue_that_was_ever_declared() -> None:
    dispatcher, pool = new()
    QueueRow.objects.create(name="declared by another process")
    theirs = waiting(1, "declared by another process")
    waiting(1, "never declared")
    dispatcher.tick()
    assert list(pool.given) == theirs
    assert {"", PLAIN.name, SHARED.name, "declared by another process"} <= set(dispatcher.queue_names())


@rolled_back
def test_a_queues_own_limit_counts_what_this_process_runs_of_it() -> None:
    QueueRow.objects.create(name="dispatched", declared={"worker_concurrency": 3})
    dispatcher, pool = new()
    pool.running["dispatched"] = 2
    names = waiting(3, "dispatched")
    dispatcher.tick()
    assert list(pool.given) == names[:1]
    pool.running["dispatched"] = 5  # the limit was lowered meanwhile
    dispatcher.tick()
    assert list(pool.given) == names[:1]


@rolled_back
def test_the_limit_of_the_fleet_and_that_of_the_process_hold_together() -> None:
    QueueRow.objects.create(name=SHARED.name, declared={"global_concurrency": 4}, overrides={"worker_concurrency": 3})
    owned("elsewhere", "another", queue_name=SHARED.name)
    dispatcher, pool = new()
    names = waiting(6, SHARED.name)
    dispatcher.tick()
    assert list(pool.given) == names[:3]
    pool.running[SHARED.name] = 0  # three of four are running in the fleet, whatever this process thinks
    Workflow.objects.filter(pk="elsewhere").update(status=WorkflowStatus.SUCCESS)
    dispatcher.tick()
    assert list(pool.given) == names[:4]


@rolled_back
def test_limits_are_read_again_after_a_heartbeats_interval(passing_time: Time) -> None:
    with override_settings(DBOS={"HEARTBEAT_INTERVAL": 5.0}):
        dispatcher, pool = new()
        names = waiting(1, "dispatched")
        QueueRow.objects.create(name="dispatched", is_paused=True)
        dispatcher.tick()
        QueueRow.objects.update(is_paused=False)
        passing_time.advance(4)
        dispatcher.tick()
        assert pool.given == {}
        passing_time.advance(2)
        dispatcher.tick()
        assert list(pool.given) == names


@rolled_back
def test_a_busy_worker_asks_for_nothing() -> None:
    dispatcher, pool = new(1)
    waiting(2, "dispatched")
    dispatcher.tick()
    with statements() as sent:
        dispatcher.tick()
    assert sent == []
    assert pool.slots.free == 0


@rolled_back
def test_who_waits_here_for_a_workflow_is_woken_when_it_has_ended_elsewhere(passing_time: Time) -> None:
    with override_settings(DBOS={"POLL_INTERVAL": 1.0}):
        dispatcher, _ = new()
        for name in ("ended", "running"):
            owned(name, "another")
        with (
            hub.listen(outcome_of("ended")) as ended,
            hub.listen(interruption_of("ended")) as interrupted,
            hub.listen(outcome_of("running")) as running,
        ):
            dispatcher.tick()
            assert not ended.is_set()
            Workflow.objects.filter(pk="ended").update(status=WorkflowStatus.CANCELLED)
            dispatcher.tick()
            assert not ended.is_set(), "it looks once per poll"
            passing_time.advance(1.1)
            dispatcher.tick()
            assert (ended.is_set(), interrupted.is_set(), running.is_set()) == (True, True, False)


@committed
def test_a_runtime_goes_on_after_a_claim_that_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed: list[int] = []
    claim_limited = queues.claim_limited

    def fail_once(*args: Any, **kwargs: Any) -> list[Claimed]:
        if not failed:
            failed.append(1)
            raise ValueError("gone in the middle")
        return claim_limited(*args, **kwargs)

    monkeypatch.setattr(queues, "claim_limited", fail_once)
    handles = [PLAIN.enqueue(dispatched_workflow), SHARED.enqueue(dispatched_workflow)]
    with Runtime():
        assert [handle.get_result(timeout=10) for handle in handles] == ["done", "done"]
        eventually(lambda: not executors.suspects, message="the suspicion is looked into")
    assert failed
    assert {handle.get_status().attempts for handle in handles} == {1}
    assert any("gone in the middle" in str(record.exc_info) for record in caplog.records)


# ---- what the clock decides


@committed
def test_what_ripens_is_claimed_in_the_same_tick() -> None:
    row("ripe", WorkflowStatus.DELAYED, name=NAME, queue_name="dispatched", delay_until=Now() - timedelta(seconds=1))
    dispatcher, pool = new()
    dispatcher.tick()
    assert list(pool.given) == ["ripe"]


@committed
def test_a_tick_is_due_when_the_next_delay_is_over_and_looks_are_a_poll_interval_apart(passing_time: Time) -> None:
    dispatcher, _ = new()
    with override_settings(DBOS={"POLL_INTERVAL": 30.0}):
        dispatcher.tick()
        row("soon", WorkflowStatus.DELAYED, name=NAME, delay_until=Now() + timedelta(seconds=5))
        with statements() as sent:
            dispatcher.tick()
        assert not any("delay_until" in statement for statement in sent)
        passing_time.advance(31)
        assert dispatcher.tick() == pytest.approx(5, abs=1)


@committed
def test_overdue_workflows_are_cancelled_also_while_no_slot_is_free() -> None:
    owned("overdue", "another", name=NAME, deadline=Now() - timedelta(seconds=1))
    dispatcher, pool = new(concurrency=1)
    assert pool.slots.take_one()
    dispatcher.tick()
    assert Workflow.objects.get(pk="overdue").status == WorkflowStatus.CANCELLED
