"""Cancel, resume and fork on the page of a workflow."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from django_dbos.admin import WorkflowAdmin
from django_dbos.models import Workflow

from .rows import (
    VERBS,
    add_step,
    client_with,
    history,
    make,
    page,
    said,
    status_of,
    text_of,
)

pytestmark = pytest.mark.django_db


def test_tools_are_absent_without_the_permission(viewer: Client) -> None:
    html = text_of(viewer.get(page(make("PENDING"))))
    assert "dbos-tool" not in html


@pytest.mark.parametrize("verb", VERBS)
def test_each_tool_needs_its_own_permission(verb: str) -> None:
    html = text_of(client_with("view_workflow", f"{verb}_workflow").get(page(make("PENDING"))))
    assert re.findall(r'<form method="post" id="dbos-(\w+)"', html) == [verb]


@pytest.mark.parametrize(
    ("status", "disabled"),
    [("PENDING", set()), ("SUCCESS", {"cancel", "resume"}), ("CANCELLED", {"cancel"}), ("ERROR", {"cancel", "resume"})],
)
def test_tools_that_the_state_forbids_say_why(operator: Client, status: str, disabled: set[str]) -> None:
    html = text_of(operator.get(page(make(status))))
    forms = re.findall(r'<form method="post" id="dbos-(\w+)".*?<button([^>]*)>', html, re.DOTALL)
    assert {verb for verb, attributes in forms if 'disabled title="What ' in attributes} == disabled
    assert len(forms) == 3


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_a_post_with_the_permission(viewer: Client, operator: Client, verb: str) -> None:
    row = make("PENDING")
    assert viewer.post(page(row, verb), {"confirm": "yes"}).status_code == 403
    blind = client_with(f"{verb}_workflow")
    assert blind.post(page(row, verb), {"confirm": "yes"}).status_code == 403
    assert Client().post(page(row, verb), {"confirm": "yes"}).status_code == 302
    assert operator.get(page(row, verb)).status_code == 405
    assert (status_of(row), Workflow.objects.count(), history(row)) == ("PENDING", 1, [])


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_needs_the_token(admin_user: User, verb: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    row = make("PENDING")
    assert client.post(page(row, verb), {"confirm": "yes"}).status_code == 403
    html = text_of(client.get(page(row)))
    assert html.count("csrfmiddlewaretoken") >= len(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_asks_first(operator: Client, verb: str) -> None:
    row = make("PENDING")
    html = text_of(operator.post(page(row, verb)))
    assert "1 workflow?" in html
    assert row.pk in html
    assert 'name="reason"' in html
    assert (status_of(row), Workflow.objects.count()) == ("PENDING", 1)


def test_cancel_one(operator: Client) -> None:
    row = make("PENDING")
    response = operator.post(page(row, "cancel"), {"confirm": "yes", "reason": "wrong price"})
    assert response.headers["Location"] == page(row)
    assert said(response) == "1 workflow was cancelled."
    assert status_of(row) == "CANCELLED"
    assert history(row) == ["Cancelled. Status before: PENDING. Reason: wrong price"]
    assert "wrong price" in text_of(operator.get(page(row, "history")))


def test_resume_one(operator: Client) -> None:
    row = make("CANCELLED")
    operator.post(page(row, "resume"), {"confirm": "yes"})
    assert status_of(row) == "ENQUEUED"
    assert history(row) == ["Resumed. Status before: CANCELLED."]


@pytest.mark.parametrize(("verb", "status"), [("cancel", "SUCCESS"), ("resume", "ERROR")])
def test_what_the_state_forbids_is_refused_at_the_deed(operator: Client, verb: str, status: str) -> None:
    row = make(status)
    response = operator.post(page(row, verb), {"confirm": "yes"})
    assert "1 was left as it is. What has" in said(response)
    assert (status_of(row), history(row)) == (status, [])


def test_fork_from_a_step(operator: Client) -> None:
    row = make("ERROR")
    for number in (1, 2, 3):
        add_step(row, number)
    html = text_of(operator.get(page(row)))
    assert 'form="dbos-fork" name="start_step" value="3"' in html
    asked = operator.post(page(row, "fork"), {"start_step": "3"})
    assert 'name="start_step" value="3"' in text_of(asked)
    response = operator.post(page(row, "fork"), {"confirm": "yes", "start_step": "3", "reason": "fixed"})
    fork = Workflow.objects.get(forked_from=row)
    assert response.headers["Location"] == page(fork)
    assert list(fork.steps.values_list("number", flat=True)) == [1, 2]
    assert history(row) == [f"Forked from step 3 as {fork.pk}. Status before: ERROR. Reason: fixed"]


@pytest.mark.parametrize("start_step", ["0", "-1", "3", "one", ""])
def test_fork_asks_again_for_a_step_that_makes_no_sense(operator: Client, start_step: str) -> None:
    row = make("ERROR")
    add_step(row, 1)
    response = operator.post(page(row, "fork"), {"confirm": "yes", "start_step": start_step})
    assert "errorlist" in text_of(response)
    assert Workflow.objects.count() == 1


def test_the_filters_of_the_list_survive_a_verb(operator: Client) -> None:
    row = make("PENDING")
    kept = "?_changelist_filters=status__exact%3DPENDING"
    assert f"{page(row, 'cancel')}{kept}" in text_of(operator.get(page(row) + kept))
    response = operator.post(page(row, "cancel") + kept, {"confirm": "yes"})
    assert response.headers["Location"] == page(row) + kept


def test_the_deed_and_its_trace_are_one_commit(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("the log is full")

    monkeypatch.setattr(WorkflowAdmin, "log_change", fail)
    row = make("PENDING")
    with pytest.raises(RuntimeError):
        operator.post(page(row, "cancel"), {"confirm": "yes"})
    assert status_of(row) == "PENDING"
