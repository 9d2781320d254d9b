"""The table of transitions, and that the database is never changed in a way that it does not allow."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from django_dbos.exceptions import UnfinishedWorkflow, WorkflowInterrupted
from django_dbos.models import Workflow
from django_dbos.states import ACTIVE, FINISHED, TRANSITIONS, WAITING, WorkflowStatus, allows, expected
from django_dbos.sysdb import control, executors, forks, journal, queues
from django_dbos.sysdb.forks import Course
from django_dbos.sysdb.journal import Ending, Lease
from tests.sysdb.rows import claimant, executor, rolled_back, workflow

STATUSES = list(WorkflowStatus)


def test_the_states_keep_the_fields_words() -> None:
    assert [status.value for status in WorkflowStatus] == [
        "DELAYED",
        "ENQUEUED",
        "PENDING",
        "SUCCESS",
        "ERROR",
        "CANCELLED",
        "MAX_RECOVERY_ATTEMPTS_EXCEEDED",
    ]


def test_a_workflow_is_active_or_finished_and_what_waits_is_active() -> None:
    assert set(STATUSES) == ACTIVE | FINISHED
    assert not ACTIVE & FINISHED
    assert WAITING < ACTIVE


def test_the_table_is_closed() -> None:
    for verb, (before, after) in TRANSITIONS.items():
        assert before, verb
        assert before <= set(STATUSES), verb
        assert after in STATUSES, verb


def test_every_state_can_be_left_and_every_state_can_be_reached() -> None:
    assert {status for before, _ in TRANSITIONS.values() for status in before} == set(STATUSES)
    assert {after for _, after in TRANSITIONS.values()} == set(STATUSES)


@pytest.mark.parametrize("final", [WorkflowStatus.SUCCESS, WorkflowStatus.ERROR])
def test_only_a_rewind_leads_away_from_a_result_or_an_error(final: str) -> None:
    assert [verb for verb in TRANSITIONS if allows(verb, final)] == ["rewind"]


def test_only_a_claim_leads_to_pending() -> None:
    assert [verb for verb, (_, after) in TRANSITIONS.items() if after == WorkflowStatus.PENDING] == ["claim"]


@pytest.mark.parametrize("verb", TRANSITIONS)
def test_expected_and_allows_say_the_same(verb: str) -> None:
    assert {status for status in STATUSES if allows(verb, status)} == expected(verb)
    assert {status for status in STATUSES if allows(verb, status.value)} == expected(verb), "as a column holds it"
    assert not allows(verb, "NO_SUCH_STATE")


def finish(status: WorkflowStatus) -> None:
    journal.inline.finish(Lease("w", "me", 3), Ending(status=status, output='"new"'))


#: How each verb of the table is done; "ripen" has nobody yet who does it.
VERBS: dict[str, Callable[[], object]] = {
    "claim": lambda: queues.claim(claimant("another"), {"q": 1}, 1),
    "release": lambda: executors.release("me"),
    "recover": lambda: executors.recover("me", 10),
    "succeed": lambda: finish(WorkflowStatus.SUCCESS),
    "fail": lambda: finish(WorkflowStatus.ERROR),
    "dead_letter": lambda: finish(WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED),
    "cancel": lambda: control.cancel("w"),
    "resume": lambda: control.resume("w"),
    "rewind": lambda: forks.rewind("w", 1, Course()),
    "delay": lambda: control.delay("w", seconds=3600),
}


def test_every_verb_that_exists_is_tried() -> None:
    assert set(TRANSITIONS) - set(VERBS) == {"ripen"}


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_changes_what_the_table_allows_and_nothing_else(
    verb: str, status: WorkflowStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "local", set())
    executor("me", silent_for=60)
    long_ago = Now() - timedelta(seconds=60)
    workflow("w", status, executor_id="me", epoch=3, attempts=2, queue_name="q", output='"old"', started_at=long_ago)
    before = Workflow.objects.values().get()
    try:
        VERBS[verb]()
    except (WorkflowInterrupted, UnfinishedWorkflow):
        assert not allows(verb, status)
    after = Workflow.objects.values().get()
    if allows(verb, status):
        assert after["status"] == TRANSITIONS[verb][1]
    else:
        assert after == before


@rolled_back
@pytest.mark.parametrize("status", STATUSES)
def test_handing_back_strays_or_one_claim_is_a_release(status: WorkflowStatus) -> None:
    hand_backs: list[Callable[[], int]] = [
        lambda: executors.release_strays("me", [], 10),
        lambda: executors.release("me", workflow_id="w", epoch=3),
    ]
    for hand_back in hand_backs:
        Workflow.objects.all().delete()
        long_ago = Now() - timedelta(seconds=60)
        workflow("w", status, executor_id="me", epoch=3, attempts=2, started_at=long_ago)
        before = Workflow.objects.values().get()
        assert hand_back() == int(allows("release", status))
        after = Workflow.objects.values().get()
        assert after["status"] == TRANSITIONS["release"][1] if allows("release", status) else after == before
