"""Recovery: one heartbeat and one sweep at a time, and whom it takes for dead."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models.functions import Now
from django.test import override_settings

from django_dbos import Queue, Runtime, retrieve_workflow, step, workflow
from django_dbos.models import Executor, Step, Workflow
from django_dbos.runtime.recovery import Recovery
from django_dbos.serialization import dump_call
from django_dbos.states import ExecutorState, WorkflowStatus
from django_dbos.sysdb import executors, vendor
from django_dbos.sysdb.executors import Registration
from tests.runtime.conftest import Time
from tests.support import eventually
from tests.sysdb.rows import committed, executor, owned, rolled_back, seconds_since, state_of

INTERVAL, TIMEOUT = 2.0, 10.0
QUEUE = Queue("recovered")

runs: list[str] = []


@step
def recovered_step(name: str) -> str:
    runs.append(name)
    return name


@workflow
def recovered_workflow() -> list[str]:
    return [recovered_step("first"), recovered_step("second")]


@pytest.fixture(autouse=True)
def settings_of_a_worker() -> Iterator[None]:
    """Intervals that no test comes near by accident."""
    runs.clear()
    with override_settings(DBOS={"HEARTBEAT_INTERVAL": INTERVAL, "HEARTBEAT_TIMEOUT": TIMEOUT, "POLL_INTERVAL": 0.05}):
        yield
    executors.suspects.discard("me")
    executors.local.discard("me")


@pytest.fixture
def recovery() -> Recovery:
    """One that is ticked by hand."""
    return Recovery(Registration(id="me"))


def silent(executor_id: str, silent_for: float = TIMEOUT + 1) -> None:
    """An executor that is silent, with one workflow of its own that has the same name."""
    executor(executor_id, silent_for=silent_for)
    owned(executor_id, executor_id)


def is_recovered(executor_id: str) -> bool:
    return Workflow.objects.get(pk=executor_id).status == WorkflowStatus.ENQUEUED


@rolled_back
def test_it_says_that_it_is_alive_and_registers_again_if_its_row_is_gone(recovery: Recovery) -> None:
    recovery.tick()
    assert state_of("me") == "running"
    recovery.state = ExecutorState.DRAINING
    Executor.objects.update(heartbeat_at=Now() - timedelta(minutes=5))
    recovery.tick()
    row = Executor.objects.get()
    assert row.state == "draining"
    assert seconds_since(row.heartbeat_at) == pytest.approx(0, abs=1)


@rolled_back
def test_the_work_of_a_silent_executor_is_taken_over_and_of_others_not(
    recovery: Recovery, caplog: pytest.LogCaptureFixture
) -> None:
    silent("silent")
    silent("late", silent_for=TIMEOUT - 3)
    silent("alive", silent_for=0)
    recovery.tick()
    assert [is_recovered(name) for name in ("silent", "late", "alive")] == [True, False, False]
    assert [record.getMessage() for record in caplog.records] == [
        "Executor silent has gone silent: 1 of its workflows go on elsewhere"
    ]


@rolled_back
def test_it_never_takes_itself_for_dead(recovery: Recovery) -> None:
    executor("me", silent_for=3600)
    owned("w", "me")
    recovery.tick()
    assert Workflow.objects.get().status == WorkflowStatus.PENDING
    assert state_of("me") == "running"


@rolled_back
def test_it_ticks_again_at_the_moment_when_the_next_executor_will_have_been_silent_for_too_long(
    recovery: Recovery,
) -> None:
    assert recovery.tick() == INTERVAL
    executor("late", silent_for=TIMEOUT - 0.5)
    executor("not so late", silent_for=TIMEOUT - 1.5)
    assert 0 < recovery.tick() <= 0.51  # SQLite counts in milliseconds


@committed
def test_an_executor_is_recovered_when_its_time_is_up_and_not_an_interval_later() -> None:
    silent("late", silent_for=TIMEOUT - 0.3)
    agent = Recovery(Registration(id="me"))
    agent.start()
    try:
        eventually(lambda: is_recovered("late"), timeout=INTERVAL - 0.5)
    finally:
        agent.stop()
        agent.join()


@rolled_back
def test_after_a_long_gap_of_its_own_it_judges_nobody_for_a_timeout(recovery: Recovery, passing_time: Time) -> None:
    recovery.tick()
    silent("silent")
    passing_time.advance(TIMEOUT + 1)  # as after SIGSTOP
    for _ in range(5):
        assert recovery.tick() == INTERVAL
        assert not is_recovered("silent")
        passing_time.advance(TIMEOUT / 5 - 0.1)
    passing_time.advance(1)
    recovery.tick()
    assert is_recovered("silent")


@rolled_back
def test_a_gap_shorter_than_the_timeout_changes_nothing(recovery: Recovery, passing_time: Time) -> None:
    recovery.tick()
    silent("silent")
    passing_time.advance(TIMEOUT - 1)
    recovery.tick()
    assert is_recovered("silent")


@rolled_back
def test_after_an_outage_it_judges_nobody_for_a_timeout(
    recovery: Recovery, passing_time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor, "_outage", vendor._Outage())
    recovery.tick()
    silent("silent")
    away = "unable to open database file" if connection.vendor == "sqlite" else "the connection is closed"
    recovery.recover_from(OperationalError(away))
    recovery.tick()
    assert not is_recovered("silent"), "nobody could say that he is alive while the database was away"
    passing_time.advance(TIMEOUT - 1)
    recovery.tick()
    assert not is_recovered("silent")
    passing_time.advance(1)
    recovery.tick()
    assert is_recovered("silent")


@rolled_back
def test_one_bad_executor_stops_neither_this_sweep_nor_the_next(
    recovery: Recovery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recover = executors.recover

    def refuse_the_bad(executor_id: str, timeout: float) -> int:
        if executor_id == "bad":
            raise ValueError("a bad row")
        return recover(executor_id, timeout)

    monkeypatch.setattr(executors, "recover", refuse_the_bad)
    for name in ("another", "bad", "one more"):
        silent(name)
    recovery.tick()
    assert [is_recovered(name) for name in ("another", "bad", "one more")] == [True, False, True]
    silent("later")
    recovery.tick()
    assert is_recovered("later")
    assert any("a bad row" in str(record.exc_info) for record in caplog.records)


# ---- strays


@rolled_back
def test_a_stray_of_its_own_is_handed_back_once_it_is_old_enough(
    recovery: Recovery, caplog: pytest.LogCaptureFixture
) -> None:
    owned("stray", "me", started_at=Now())
    recovery.tick()
    assert not is_recovered("stray"), "without a suspicion nobody looks"
    executors.suspects.add("me")
    recovery.tick()
    assert not is_recovered("stray"), "it may just be starting"
    assert "me" in executors.suspects
    Workflow.objects.update(started_at=Now() - timedelta(seconds=TIMEOUT + 1))
    recovery.tick()
    assert is_recovered("stray")
    assert "me" not in executors.suspects
    assert [record.getMessage() for record in caplog.records] == [
        "1 workflows that were claimed without our knowing are handed back"
    ]


@rolled_back
def test_a_suspicion_is_kept_when_it_could_not_be_looked_into(
    recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> int:
        raise OperationalError("away")

    monkeypatch.setattr(executors, "release_strays", fail)
    executors.suspects.add("me")
    with pytest.raises(OperationalError):
        recovery.tick()
    assert "me" in executors.suspects


# ---- pruning


@rolled_back
def test_now_and_then_executors_that_ended_long_ago_are_deleted(recovery: Recovery, passing_time: Time) -> None:
    executor("ended long ago", silent_for=90000, state=ExecutorState.STOPPED)
    executor("ended lately", silent_for=60, state=ExecutorState.STOPPED)
    recovery.tick()
    assert Executor.objects.count() == 3
    passing_time.advance(4000)
    recovery.tick()
    assert set(Executor.objects.values_list("pk", flat=True)) == {"me", "ended lately"}


# ---- the whole of it


@committed
def test_the_workflow_of_an_executor_that_died_goes_on_from_its_last_step(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "django_dbos")
    executor("dead", silent_for=TIMEOUT - 0.3)
    inputs, serializer = dump_call((), {})
    columns: dict[str, Any] = {
        "name": "recovered_workflow",
        "queue_name": "recovered",
        "inputs": inputs,
        "serializer": serializer,
    }
    owned("w", "dead", **columns)
    Step.objects.create(workflow_id="w", number=1, name="recovered_step", output='"first"', executor_id="dead")
    with Runtime():
        assert retrieve_workflow("w").get_result(timeout=10) == ["first", "second"]
    assert runs == ["second"]
    row = Workflow.objects.get(pk="w")
    assert (row.epoch, row.attempts, row.queue_name) == (2, 2, "recovered")
    assert state_of("dead") == "lost"
