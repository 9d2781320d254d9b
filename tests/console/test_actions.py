"""Cancel, resume and fork from the list."""

import pytest
from django.test import Client

from django_dbos import cancel_workflow
from django_dbos.admin import operations
from django_dbos.exceptions import NonExistentWorkflow
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus

from .rows import LIST, VERBS, act, add_step, client_with, history, make, said, status_of, text_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("verb", VERBS)
def test_a_viewer_runs_no_action(viewer: Client, verb: str) -> None:
    row = make("PENDING")
    assert "1 workflow?" not in text_of(act(viewer, verb, row))
    act(viewer, verb, row, confirm="yes")
    assert (status_of(row), Workflow.objects.count(), history(row)) == ("PENDING", 1, [])


@pytest.mark.parametrize("verb", VERBS)
def test_an_action_needs_its_own_permission(verb: str) -> None:
    row = make("PENDING")
    others = [f"{other}_workflow" for other in VERBS if other != verb]
    act(client_with("view_workflow", *others), verb, row, confirm="yes")
    assert history(row) == []
    act(client_with("view_workflow", f"{verb}_workflow"), verb, row, confirm="yes")
    assert len(history(row)) == 1


def test_an_action_is_a_post(operator: Client) -> None:
    row = make("PENDING")
    operator.get(LIST, {"action": "cancel_workflows", "_selected_action": row.pk, "confirm": "yes"})
    assert status_of(row) == "PENDING"


def test_an_action_asks_first(operator: Client) -> None:
    rows = [make("PENDING"), make("ENQUEUED"), make("SUCCESS")]
    html = text_of(act(operator, "cancel", *rows))
    assert "Cancel 3 workflows?" in html
    assert "One that runs stops before its next step" in html
    assert "1 of them will be left as it is. What has finished cannot be cancelled." in html
    assert html.count('name="_selected_action"') == 3
    assert [status_of(row) for row in rows] == ["PENDING", "ENQUEUED", "SUCCESS"]


def test_cancel_many(operator: Client) -> None:
    rows = [make("PENDING"), make("ENQUEUED"), make("SUCCESS")]
    untouched = make("PENDING")
    response = act(operator, "cancel", *rows, confirm="yes", reason="outage")
    assert said(response) == "2 workflows were cancelled. 1 was left as it is. What has finished cannot be cancelled."
    assert [status_of(row) for row in rows] == ["CANCELLED", "CANCELLED", "SUCCESS"]
    assert status_of(untouched) == "PENDING"
    assert [history(row) for row in rows] == [
        ["Cancelled. Status before: PENDING. Reason: outage"],
        ["Cancelled. Status before: ENQUEUED. Reason: outage"],
        [],
    ]


@pytest.mark.parametrize("status", WorkflowStatus.values)
def test_resume_many_takes_all_but_the_settled(operator: Client, status: str) -> None:
    row = make(status)
    act(operator, "resume", row, confirm="yes")
    assert status_of(row) == (status if status in ("SUCCESS", "ERROR") else "ENQUEUED")


def test_fork_many(operator: Client) -> None:
    rows = [make("ERROR"), make("SUCCESS")]
    add_step(rows[0], 1)
    response = act(operator, "fork", *rows, confirm="yes")
    assert said(response) == "2 workflows were forked."
    forks = Workflow.objects.filter(forked_from__in=[row.pk for row in rows])
    assert forks.count() == 2
    assert not Step.objects.filter(workflow__in=forks).exists()
    assert all(len(history(row)) == 1 for row in rows)


def test_all_of_the_list_is_the_filter_run_again(operator: Client) -> None:
    rows = [make("ENQUEUED", queue_name="mail") for _ in range(60)]
    other = make("ENQUEUED", queue_name="other")
    query = "?queue_name=mail"
    html = text_of(act(operator, "fork", *rows[:50], query=query, across=True))
    assert "Fork 60 workflows?" in html
    assert "and 50 more" in html
    assert html.count('name="_selected_action"') == 1
    response = act(operator, "fork", rows[0], query=query, across=True, confirm="yes")
    assert said(response) == "60 workflows were forked."
    # The forks wait on no queue; forks that match the filter must not be forked in turn.
    assert Workflow.objects.filter(forked_from__isnull=False).count() == 60
    assert history(other) == []


def test_forks_that_match_the_filter_are_not_forked_in_turn(operator: Client) -> None:
    rows = [make("ENQUEUED") for _ in range(3)]
    act(operator, "fork", rows[0], query="?status__exact=ENQUEUED", across=True, confirm="yes")
    assert Workflow.objects.count() == 6


def test_too_many_are_refused(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "LIMIT", 2)
    rows = [make("PENDING") for _ in range(3)]
    for response in (act(operator, "cancel", *rows), act(operator, "cancel", *rows, confirm="yes")):
        assert "More than 2 workflows are selected" in said(response)
    assert {status_of(row) for row in rows} == {"PENDING"}


def test_one_that_is_gone_stops_no_other(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [make("PENDING"), make("PENDING")]

    def first_is_gone(workflow_id: str) -> bool:
        if workflow_id == rows[0].pk:
            raise NonExistentWorkflow
        return cancel_workflow(workflow_id)

    monkeypatch.setattr("django_dbos.admin.verbs.cancel_workflow", first_is_gone)
    response = act(operator, "cancel", *rows, confirm="yes")
    assert said(response) == "1 workflow was cancelled. 1 no longer exists."
