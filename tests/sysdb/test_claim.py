"""The claim: who takes which rows, in which order, and that nobody takes what another has."""

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from django_dbos.models import Queue, Step, Workflow
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb import queues
from django_dbos.sysdb.steps import load_history
from django_dbos.sysdb.workflows import Claimed
from tests.sysdb.rows import (
    NAME,
    claimant,
    committed,
    elsewhere,
    holding,
    owned,
    postgresql,
    rolled_back,
    seconds_since,
    together,
    workflow,
)


def waiting(*workflow_ids: str, queue: str = "q", **columns: Any) -> None:
    """Rows that wait on a queue, each younger than the one before."""
    now = Now()
    for age, workflow_id in enumerate(reversed(workflow_ids)):
        created_at = now - timedelta(seconds=age)
        workflow(workflow_id, **{"queue_name": queue, "created_at": created_at, **columns})


def ids(claimed: list[Claimed]) -> list[str]:
    return [row.id for row in claimed]


def enqueue_many(count: int, queue: str = "q") -> None:
    Workflow.objects.bulk_create(
        Workflow(id=f"{queue}-{number:04}", name=NAME, status=WorkflowStatus.ENQUEUED, queue_name=queue)
        for number in range(count)
    )


# ---- what a claim does to a row


@rolled_back
def test_a_claim_makes_a_row_its_executors_own_and_brings_what_it_takes_to_run_it() -> None:
    workflow("w", queue_name="q", inputs="[1]", serializer="their.Serializer", parent_id="p", epoch=2, attempts=1)
    (claimed,) = queues.claim(claimant("me"), {"q": 5}, 5)
    assert claimed == Claimed(
        id="w",
        name=NAME,
        inputs="[1]",
        serializer="their.Serializer",
        executor_id="me",
        epoch=3,
        attempts=2,
        queue_name="q",
        parent_id="p",
        may_have_steps=True,
    )
    row = Workflow.objects.get()
    assert (row.status, row.executor_id, row.epoch, row.attempts) == (WorkflowStatus.PENDING, "me", 3, 2)
    assert seconds_since(row.started_at) == pytest.approx(0, abs=1)


@rolled_back
def test_only_a_row_that_ran_before_or_was_forked_can_have_steps() -> None:
    workflow("fresh", queue_name="q")
    workflow("again", queue_name="q", epoch=1)
    workflow("forked", queue_name="q", forked_from_id="original")
    claimed = queues.claim(claimant(), {"q": 9}, 9)
    assert {row.id: row.may_have_steps for row in claimed} == {"fresh": False, "again": True, "forked": True}


@rolled_back
def test_a_history_is_what_was_recorded_for_each_workflow_by_number() -> None:
    for workflow_id, number in [("a", 1), ("a", 2), ("b", 1), ("not asked for", 1)]:
        Step.objects.create(workflow_id=workflow_id, number=number, name=f"{workflow_id}{number}")
    histories = load_history(["a", "b", "c"])
    assert {key: [step.name for step in history.values()] for key, history in histories.items()} == {
        "a": ["a1", "a2"],
        "b": ["b1"],
    }
    assert histories["c"] == {}


# ---- which rows, in which order


@rolled_back
def test_the_most_urgent_come_first_and_among_those_the_oldest() -> None:
    waiting("old", "young", priority=5)
    waiting("urgent and old", "urgent and young", priority=0)
    waiting("late", priority=9)
    claimed = queues.claim(claimant(), {"q": 9}, 9)
    assert ids(claimed) == ["urgent and old", "urgent and young", "old", "young", "late"]


@rolled_back
def test_of_more_rows_than_there_is_room_for_the_most_urgent_are_taken() -> None:
    waiting("a", "b", "c", priority=1)
    waiting("urgent", priority=0)
    assert ids(queues.claim(claimant(), {"q": 9}, 2)) == ["urgent", "a"]
    assert ids(queues.claim(claimant(), {"q": 9}, 2)) == ["b", "c"]
    assert queues.claim(claimant(), {"q": 9}, 2) == []


@rolled_back
def test_each_queue_has_its_own_quota() -> None:
    for queue in ("one", "two", "none", "not asked for"):
        waiting(*(f"{queue}-{number}" for number in range(4)), queue=queue)
    claimed = queues.claim(claimant(), {"one": 1, "two": 3, "none": 0}, 10)
    assert Counter(row.queue_name for row in claimed) == {"one": 1, "two": 3}


@rolled_back
def test_queues_take_turns_so_that_a_backlog_on_one_starves_no_other() -> None:
    waiting(*(f"long-{number}" for number in range(20)), queue="long")
    waiting("short-0", "short-1", queue="short")
    waiting("lone-0", queue="lone", priority=9)
    claimed = queues.claim(claimant(), {"long": 20, "short": 20, "lone": 20}, 6)
    assert sorted(ids(claimed)) == ["lone-0", "long-0", "long-1", "long-2", "short-0", "short-1"]


@rolled_back
def test_names_that_the_claimant_does_not_know_stay() -> None:
    waiting("known", name="known")
    waiting("unknown", name="unknown")
    assert ids(queues.claim(claimant("me", "known", "another"), {"q": 9}, 9)) == ["known"]
    assert Workflow.objects.get(pk="unknown").status == WorkflowStatus.ENQUEUED


@rolled_back
def test_a_claimant_that_knows_nothing_takes_nothing() -> None:
    waiting("w")
    nobody = queues.Claimant(executor_id="me", names=[], application_version="")
    assert queues.claim(nobody, {"q": 9}, 9) == []


@rolled_back
@pytest.mark.parametrize(("version", "taken"), [("v1", ["any", "v1"]), ("", ["any"])], ids=["pinned", "unpinned"])
def test_rows_of_other_versions_stay(version: str, taken: list[str]) -> None:
    for pinned_to in ("v1", "v2", ""):
        waiting(pinned_to or "any", application_version=pinned_to)
    assert sorted(ids(queues.claim(claimant(version=version), {"q": 9}, 9))) == taken


@rolled_back
@pytest.mark.parametrize("status", [status for status in WorkflowStatus if status != WorkflowStatus.ENQUEUED])
def test_only_what_is_enqueued_is_claimed(status: str) -> None:
    workflow("w", status, queue_name="q")
    before = Workflow.objects.values().get()
    assert queues.claim(claimant(), {"q": 9}, 9) == []
    assert Workflow.objects.values().get() == before


@rolled_back
@pytest.mark.parametrize(("quotas", "free"), [({}, 5), ({"q": 5}, 0), ({"q": 0}, 5), ({"q": -1}, 5), ({"q": 5}, -1)])
def test_without_room_nothing_is_asked(quotas: dict[str, int], free: int) -> None:
    waiting("w")
    assert queues.claim(claimant(), quotas, free) == []


# ---- several claimants


@committed
def test_four_claimants_never_share_a_row_and_take_them_all() -> None:
    enqueue_many(150, "one")
    enqueue_many(50, "two")

    def claim_all(executor_id: str) -> list[str]:
        taken: list[str] = []
        # Nothing: all is taken, or the others hold what is left at this moment.
        while Workflow.objects.enqueued().exists():
            taken += ids(queues.claim(claimant(executor_id), {"one": 5, "two": 5}, 7))
        return taken

    takes = together(*(lambda name=name: claim_all(name) for name in ("a", "b", "c", "d")))
    assert len([workflow_id for taken in takes for workflow_id in taken]) == 200
    assert len({workflow_id for taken in takes for workflow_id in taken}) == 200
    assert set(Workflow.objects.values_list("status", "epoch", "attempts")) == {(WorkflowStatus.PENDING, 1, 1)}
    owners = Counter(Workflow.objects.values_list("executor_id", flat=True))
    assert owners == {name: len(taken) for name, taken in zip("abcd", takes, strict=True) if taken}


@committed
@postgresql
def test_a_row_that_another_transaction_holds_is_passed_over() -> None:
    waiting("held", "free")
    with holding(lambda: Workflow.objects.select_for_update().get(pk="held")):
        assert ids(queues.claim(claimant(), {"q": 9}, 9)) == ["free"]
    assert ids(queues.claim(claimant(), {"q": 9}, 9)) == ["held"]


# ---- limits that the fleet shares


@rolled_back
def test_a_limited_claim_leaves_room_for_what_runs_anywhere() -> None:
    Queue.objects.create(name="q")
    owned("running", "another", queue_name="q")
    owned("of another queue", "another", queue_name="r")
    waiting("a", "b", "c")
    assert ids(queues.claim_limited(claimant(), "q", global_concurrency=3, quota=9)) == ["a", "b"]
    assert queues.claim_limited(claimant(), "q", global_concurrency=3, quota=9) == []
    Workflow.objects.filter(pk="running").update(status=WorkflowStatus.SUCCESS)
    assert ids(queues.claim_limited(claimant(), "q", global_concurrency=3, quota=9)) == ["c"]


@rolled_back
def test_a_limited_claim_takes_no_more_than_its_quota() -> None:
    Queue.objects.create(name="q")
    waiting("a", "b", "c")
    assert ids(queues.claim_limited(claimant(), "q", global_concurrency=9, quota=2)) == ["a", "b"]


@rolled_back
@pytest.mark.parametrize("row", ["paused", "none"])
def test_a_limited_claim_takes_nothing_from_a_queue_that_is_paused_or_was_never_declared(row: str) -> None:
    if row == "paused":
        Queue.objects.create(name="q", is_paused=True)
    waiting("w")
    assert queues.claim_limited(claimant(), "q", global_concurrency=9, quota=9) == []


@rolled_back
def test_a_limit_below_what_runs_already_takes_nothing() -> None:
    Queue.objects.create(name="q")
    for number in range(3):
        owned(f"running-{number}", "another", queue_name="q")
    waiting("w")
    assert queues.claim_limited(claimant(), "q", global_concurrency=1, quota=9) == []


@committed
@postgresql
def test_a_limited_claim_does_not_wait_for_another_that_is_under_way() -> None:
    Queue.objects.create(name="q")
    waiting("w")
    with holding(lambda: Queue.objects.select_for_update().get(pk="q")):
        assert queues.claim_limited(claimant(), "q", global_concurrency=9, quota=9) == []
    assert ids(queues.claim_limited(claimant(), "q", global_concurrency=9, quota=9)) == ["w"]


@committed
def test_four_limited_claimants_never_exceed_the_limit_together() -> None:
    limit, total = 3, 40
    Queue.objects.create(name="q")
    enqueue_many(total)
    most: list[int] = []
    lock = threading.Lock()

    def claim_and_finish(executor_id: str) -> int:
        done = 0
        while Workflow.objects.active().exists():
            claimed = queues.claim_limited(claimant(executor_id), "q", global_concurrency=limit, quota=limit)
            running = Workflow.objects.pending().count()
            with lock:
                most.append(running)
            done += Workflow.objects.filter(pk__in=ids(claimed)).update(status=WorkflowStatus.SUCCESS)
        return done

    done = together(*(lambda name=name: claim_and_finish(name) for name in "abcd"), timeout=30)
    assert sum(done) == total
    assert 1 <= max(most) <= limit


@rolled_back
def test_the_queues_on_which_something_waits_are_found() -> None:
    waiting("a", "b", queue="one")
    waiting("c", queue="two")
    owned("running", queue_name="three")
    assert sorted(queues.with_waiting_work(["one", "two", "three", "four"])) == ["one", "two"]
    assert queues.with_waiting_work(["four"]) == []
    assert queues.with_waiting_work([]) == []


# ---- declared limits


@rolled_back
def test_declaring_again_replaces_what_the_code_said_and_keeps_what_an_operator_did() -> None:
    queues.declare({})
    queues.declare({"q": {"worker_concurrency": 2, "global_concurrency": 8}, "r": {}})
    Queue.objects.filter(name="q").update(overrides={"worker_concurrency": 1}, is_paused=True)
    queues.declare({"q": {"worker_concurrency": 3}})
    assert queues.limits() == {"q": {"worker_concurrency": 1, "paused": True}, "r": {"paused": False}}
    assert Queue.objects.get(name="q").declared == {"worker_concurrency": 3}


@committed
def test_a_claim_is_seen_by_others_at_once() -> None:
    waiting("w")
    queues.claim(claimant(), {"q": 1}, 1)
    assert not connection.in_atomic_block
    assert elsewhere(lambda: Workflow.objects.get().executor_id) == "me"


@rolled_back
def test_what_belongs_to_a_class_or_instance_that_nobody_here_knows_is_left() -> None:
    owners = {"none": ("", ""), "class": ("Shop", ""), "instance": ("Shop", "main"), "other": ("Shop", "annex")}
    for workflow_id, (class_name, instance_name) in {**owners, "strange": ("Office", "")}.items():
        workflow(workflow_id, queue_name="q", class_name=class_name, instance_name=instance_name)
    (plain,) = queues.claim(replace(claimant(), receivers=()), {"q": 9}, 9)
    assert plain.id == "none"
    claimed = queues.claim(claimant(), {"q": 9}, 9)
    found = {row.id: (row.class_name, row.instance_name) for row in claimed}
    assert found == {name: owners[name] for name in ("class", "instance")}
    assert set(Workflow.objects.enqueued().values_list("pk", flat=True)) == {"other", "strange"}
