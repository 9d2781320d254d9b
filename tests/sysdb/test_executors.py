"""Executors as rows: who is alive by the database's clock, and where the work of those goes who are not."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import override_settings

from django_dbos import hub as hub_module
from django_dbos.hub import WORK, hub
from django_dbos.models import Executor, Workflow
from django_dbos.runtime.heart import stop_heart
from django_dbos.states import ExecutorState, WorkflowStatus
from django_dbos.sysdb import executors, queues
from django_dbos.sysdb.executors import Registration
from tests.support import run_python
from tests.sysdb.rows import (
    claimant,
    committed,
    elsewhere,
    executor,
    holding,
    owned,
    postgresql,
    rolled_back,
    seconds_since,
    state_of,
    workflow,
)

TIMEOUT = 10.0


@pytest.fixture
def batches_of_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """recover() hands back two workflows at a time."""
    monkeypatch.setattr(executors, "BATCH", 2)
    executors._recover_sql.cache_clear()
    yield
    executors._recover_sql.cache_clear()


def statuses() -> dict[str, tuple[str, str]]:
    return {row.pk: (row.status, row.executor_id) for row in Workflow.objects.all()}


def columns(workflow_id: str) -> dict[str, object]:
    return dict(Workflow.objects.filter(pk=workflow_id).values().get())


# ---- registering and beating


@rolled_back
def test_registering_writes_down_who_and_where_it_is() -> None:
    executors.register(Registration(id="me", queues=("", "q"), application_version="v7"))
    row = Executor.objects.get()
    assert (row.pk, row.state, row.application_version, row.queues) == ("me", "running", "v7", ["", "q"])
    assert row.pid > 0
    assert row.host
    assert seconds_since(row.heartbeat_at) == pytest.approx(0, abs=1)
    assert "me" in executors.local


@rolled_back
def test_registering_again_says_that_it_is_alive_and_changes_nothing_else() -> None:
    executor("me", silent_for=3600, state=ExecutorState.LOST)
    started_at = Executor.objects.get().started_at
    executors.register(Registration(id="me", queues=("q",)))
    row = Executor.objects.get()
    assert (row.state, row.pid, row.started_at) == ("running", 1, started_at)
    assert seconds_since(row.heartbeat_at) == pytest.approx(0, abs=1)


@rolled_back
@pytest.mark.parametrize("state", list(ExecutorState))
def test_a_beat_says_where_the_executor_stands(state: ExecutorState) -> None:
    executor("me", silent_for=3600)
    executor("another", silent_for=3600)
    assert executors.beat("me", state)
    row = Executor.objects.get(pk="me")
    assert row.state == state
    assert seconds_since(row.heartbeat_at) == pytest.approx(0, abs=1)
    assert seconds_since(Executor.objects.get(pk="another").heartbeat_at) == pytest.approx(3600, abs=1)


@rolled_back
def test_a_beat_without_a_row_is_told_so() -> None:
    assert not executors.beat("nobody")
    assert not Executor.objects.exists()


@rolled_back
def test_who_is_late_is_told_with_how_long_it_has_been() -> None:
    executor("just now", silent_for=1)
    executor("late", silent_for=6)
    executor("draining", silent_for=20, state=ExecutorState.DRAINING)
    executor("stopped", silent_for=20, state=ExecutorState.STOPPED)
    executor("lost", silent_for=20, state=ExecutorState.LOST)
    late = dict(executors.late(5))
    assert late == {"late": pytest.approx(6, abs=1), "draining": pytest.approx(20, abs=1)}


@rolled_back
def test_a_beat_tells_in_the_same_breath_which_others_are_late() -> None:
    executor("me", silent_for=10)
    executor("late", silent_for=6)
    known, late = executors.beat_and_look("me", ExecutorState.DRAINING, 5)
    assert known
    assert dict(late) == {"late": pytest.approx(6, abs=1)}, "not the one that has just spoken"
    assert state_of("me") == ExecutorState.DRAINING
    known, late = executors.beat_and_look("nobody", ExecutorState.RUNNING, 5)
    assert not known
    assert len(late) == 1


@rolled_back
def test_an_id_says_where_an_executor_runs_and_never_comes_again() -> None:
    with override_settings(DBOS={"EXECUTOR_ID": "shop-3"}):
        names = {executors.new_id() for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("shop-3-") for name in names)


# ---- recovery


@rolled_back
def test_a_silent_executors_work_goes_back_to_its_queues_as_it_was() -> None:
    executor("silent", silent_for=TIMEOUT + 1)
    long_ago = Now() - timedelta(hours=1)
    owned("w", "silent", epoch=3, attempts=2, queue_name="q", priority=7, inputs="[1]", updated_at=long_ago)
    before = columns("w")
    with hub.listen(WORK):
        assert executors.recover("silent", TIMEOUT) == 1
    after = columns("w")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"status", "executor_id", "updated_at"}
    assert (after["status"], after["executor_id"]) == (WorkflowStatus.ENQUEUED, "")
    assert state_of("silent") == "lost"


@rolled_back
def test_the_next_claim_of_recovered_work_is_its_next_attempt() -> None:
    executor("silent", silent_for=TIMEOUT + 1)
    owned("w", "silent", queue_name="q")
    executors.recover("silent", TIMEOUT)
    (claimed,) = queues.claim(claimant(), {"q": 1}, 1)
    assert (claimed.epoch, claimed.attempts, claimed.may_have_steps) == (2, 2, True)


@rolled_back
def test_only_this_executors_unfinished_work_is_recovered() -> None:
    executor("silent", silent_for=TIMEOUT + 1)
    executor("also silent", silent_for=TIMEOUT + 1)
    owned("its own", "silent")
    owned("of another", "also silent")
    for status in WorkflowStatus:
        if status != WorkflowStatus.PENDING:
            workflow(status, status, executor_id="silent")
    before = statuses()
    assert executors.recover("silent", TIMEOUT) == 1
    assert statuses() == {**before, "its own": ("ENQUEUED", "")}


@rolled_back
def test_whether_it_is_still_silent_is_asked_again_when_its_work_is_taken() -> None:
    executor("me", silent_for=TIMEOUT - 2)
    owned("w", "me")
    assert executors.recover("me", TIMEOUT) == 0
    assert statuses() == {"w": ("PENDING", "me")}
    assert state_of("me") == "running"


@rolled_back
@pytest.mark.parametrize("state", ["stopped", "lost"])
def test_one_that_was_given_up_and_owns_work_again_is_late_and_its_work_is_recovered(state: str) -> None:
    executor("back", silent_for=TIMEOUT + 1, state=state)
    executor("gone for good", silent_for=TIMEOUT + 1, state=state)
    owned("w", "back")
    assert [executor_id for executor_id, _ in executors.late(TIMEOUT)] == ["back"]
    assert executors.recover("back", TIMEOUT) == 1
    assert statuses() == {"w": ("ENQUEUED", "")}
    assert state_of("back") == state


@rolled_back
def test_the_work_of_an_executor_without_a_row_is_not_taken_for_silent() -> None:
    owned("w", "no row")
    assert executors.recover("no row", TIMEOUT) == 0
    assert statuses() == {"w": ("PENDING", "no row")}


@rolled_back
@pytest.mark.usefixtures("batches_of_two")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_all_is_recovered_in_batches(count: int) -> None:
    executor("silent", silent_for=TIMEOUT + 1)
    for number in range(count):
        owned(f"w{number}", "silent")
    assert executors.recover("silent", TIMEOUT) == count
    assert Workflow.objects.enqueued().count() == count
    assert state_of("silent") == "lost"


@committed
@postgresql
def test_a_row_that_another_holds_is_left_for_the_next_sweep_and_its_owner_is_not_lost_before() -> None:
    executor("silent", silent_for=TIMEOUT + 1)
    owned("held", "silent")
    owned("free", "silent")
    with holding(lambda: Workflow.objects.select_for_update().get(pk="held")):
        assert executors.recover("silent", TIMEOUT) == 1
    assert statuses() == {"held": ("PENDING", "silent"), "free": ("ENQUEUED", "")}
    assert state_of("silent") == "running"
    assert executors.recover("silent", TIMEOUT) == 1
    assert state_of("silent") == "lost"


@committed
def test_two_sweepers_recover_each_workflow_once() -> None:
    executor("silent", silent_for=TIMEOUT + 1)
    for number in range(20):
        owned(f"w{number}", "silent")
    first = elsewhere(lambda: executors.recover("silent", TIMEOUT))
    assert (first, executors.recover("silent", TIMEOUT)) == (20, 0)


@committed
@pytest.mark.parametrize(
    "hand_back",
    [
        lambda: executors.recover("silent", TIMEOUT),
        lambda: executors.release("silent"),
        lambda: executors.release_strays("silent", [], 0),
    ],
    ids=["recover", "release", "release_strays"],
)
def test_what_is_handed_back_wakes_the_workers_and_nothing_wakes_nobody(hand_back: Callable[[], int]) -> None:
    executor("silent", silent_for=TIMEOUT + 1)
    with hub.listen(WORK) as woken:
        assert hand_back() == 0
        assert not woken.is_set()
    Executor.objects.update(state=ExecutorState.RUNNING)
    owned("w", "silent", started_at=Now() - timedelta(seconds=5))
    with hub.listen(WORK) as woken:
        assert hand_back() == 1
        assert woken.is_set()


# ---- release


@rolled_back
def test_a_release_hands_back_all_that_an_executor_owns_and_counts_no_attempt() -> None:
    owned("a", "me", epoch=1, queue_name="q", priority=3)
    owned("b", "me", epoch=4, attempts=2)
    owned("of another", "another")
    workflow("done", WorkflowStatus.SUCCESS, executor_id="me", attempts=1)
    assert executors.release("me") == 2
    rows = {row.pk: (row.status, row.executor_id, row.epoch, row.attempts) for row in Workflow.objects.all()}
    assert rows == {
        "a": ("ENQUEUED", "", 1, 0),
        "b": ("ENQUEUED", "", 4, 1),
        "of another": ("PENDING", "another", 1, 1),
        "done": ("SUCCESS", "me", 0, 1),
    }
    row = Workflow.objects.get(pk="a")
    assert (row.queue_name, row.priority) == ("q", 3)
    assert executors.release("me") == 0


@rolled_back
def test_handing_over_any_number_of_times_leads_to_no_dead_letter() -> None:
    workflow("w", queue_name="q")
    for epoch in range(1, 6):
        (claimed,) = queues.claim(claimant(), {"q": 1}, 1)
        assert (claimed.epoch, claimed.attempts) == (epoch, 1)
        executors.release("me")


@rolled_back
@pytest.mark.parametrize(
    ("executor_id", "workflow_id", "epoch", "count"),
    [("me", "w", 2, 1), ("me", "w", 1, 0), ("me", "w", 3, 0), ("me", "x", 2, 0), ("another", "w", 2, 0)],
)
def test_one_claim_is_released_under_its_own_epoch_only(
    executor_id: str, workflow_id: str, epoch: int, count: int
) -> None:
    owned("w", "me", epoch=2)
    owned("other work", "me", epoch=2)
    assert executors.release(executor_id, workflow_id=workflow_id, epoch=epoch) == count
    assert Workflow.objects.enqueued().count() == count
    assert Workflow.objects.get(pk="other work").status == WorkflowStatus.PENDING


# ---- strays


@rolled_back
def test_strays_are_what_is_ours_runs_nowhere_here_and_is_no_longer_young() -> None:
    old, young = Now() - timedelta(seconds=TIMEOUT + 1), Now() - timedelta(seconds=1)
    owned("stray", "me", started_at=old)
    owned("running", "me", started_at=old)
    owned("just starting", "me", started_at=young)
    owned("of another", "another", started_at=old)
    assert executors.release_strays("me", ["running", "not ours"], TIMEOUT) == 1
    assert {key for key, (status, _) in statuses().items() if status == "ENQUEUED"} == {"stray"}
    assert Workflow.objects.get(pk="stray").attempts == 0


@rolled_back
def test_without_anything_running_all_that_is_old_is_a_stray() -> None:
    owned("stray", "me", started_at=Now() - timedelta(seconds=TIMEOUT + 1))
    assert executors.release_strays("me", [], TIMEOUT) == 1


@rolled_back
def test_whether_more_is_owned_than_runs_is_seen() -> None:
    assert not executors.owns_more_than("me", [])
    owned("w", "me")
    owned("of another", "another")
    assert executors.owns_more_than("me", [])
    assert executors.owns_more_than("me", ["x"])
    assert not executors.owns_more_than("me", ["w"])


# ---- pruning


@rolled_back
def test_executors_that_ended_long_ago_are_deleted_unless_they_still_own_something() -> None:
    for state in ExecutorState:
        executor(f"{state} long ago", silent_for=1000, state=state)
        executor(f"{state} just now", silent_for=1, state=state)
    executor("owner", silent_for=1000, state=ExecutorState.LOST)
    executor("former owner", silent_for=1000, state=ExecutorState.LOST)
    owned("w", "owner")
    workflow("done", WorkflowStatus.SUCCESS, executor_id="former owner")
    assert executors.prune(500) == 3
    gone = {"stopped long ago", "lost long ago", "former owner"}
    everybody = {f"{state} {when}" for state in ExecutorState for when in ("long ago", "just now")} | {"owner"}
    assert set(Executor.objects.values_list("pk", flat=True)) == everybody - gone


# ---- this process's own executor


@committed
def test_a_process_registers_once_for_all_its_direct_calls() -> None:
    first = executors.own.ensure()
    assert executors.own.ensure() == first
    assert Executor.objects.get().pk == first.id
    assert first.id in executors.local


@pytest.fixture
def without_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing beats by itself."""
    monkeypatch.setattr(hub_module, "_heart", None)


@committed
@pytest.mark.usefixtures("without_heart")
def test_it_rests_only_after_it_has_not_been_used_for_a_while() -> None:
    registration = executors.own.ensure()
    assert not executors.own.rest(3600)
    assert state_of(registration.id) == "running"
    assert executors.own.rest(0)
    assert state_of(registration.id) == "stopped"
    assert executors.own.ensure() == registration
    assert state_of(registration.id) == "running"


@committed
@pytest.mark.usefixtures("without_heart")
def test_it_does_not_rest_while_it_may_own_what_it_knows_nothing_of() -> None:
    registration = executors.own.ensure()
    executors.suspects.add(registration.id)
    try:
        assert not executors.own.rest(0)
    finally:
        executors.suspects.discard(registration.id)
    assert executors.own.rest(0)


@rolled_back
def test_inside_a_test_cases_transaction_nothing_is_registered() -> None:
    stop_heart()
    registration = executors.own.ensure()
    assert registration.id
    assert not Executor.objects.exists()


FORK = """
import json, os, django
django.setup()
from django.db import connections
from django_dbos import Runtime, hub
from django_dbos.models import Executor
from django_dbos.sysdb import executors
from django_dbos.runtime.heart import stop_heart

def report():
    seen = {"own": executors.own.ensure().id, "local": sorted(executors.local)}
    stop_heart()  # no other thread of ours runs when the process is forked
    connections.close_all()
    return seen

def in_child(work):
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, json.dumps(work()).encode())
        os._exit(0)
    assert os.wait()[1] == 0
    return json.loads(os.read(read, 10000))

before, child, after = report(), in_child(report), report()
rows = sorted(Executor.objects.values_list("pk", flat=True))
with Runtime():
    runners = [hub.local_runner() is not None, in_child(lambda: hub.local_runner() is not None)]
print(json.dumps({"before": before, "child": child, "after": after, "rows": rows, "runners": runners}))
"""


@committed
def test_a_forked_child_becomes_another_executor_and_has_no_part_in_its_parents_runtime() -> None:
    done = run_python("-c", FORK)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["after"] == seen["before"]
    assert seen["before"]["local"] == [seen["before"]["own"]]
    assert seen["child"]["local"] == [seen["child"]["own"]]
    assert seen["rows"] == sorted([seen["before"]["own"], seen["child"]["own"]])
    assert seen["runners"] == [True, False], "what the child starts would run in threads that only its parent has"
