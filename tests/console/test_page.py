"""The page of a workflow: payloads, steps, relatives."""

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_dbos import step, workflow
from django_dbos.admin import cells, steps
from django_dbos.models import Workflow
from django_dbos.serialization import dumps

from .rows import LIST, act, add_step, failed_with, make, page, text_of

pytestmark = pytest.mark.django_db


@step
def admin_step(text: str) -> str:
    return text.upper()


@workflow
def admin_workflow(text: str) -> str:
    return admin_step(text)


def test_page_shows_payloads(viewer: Client) -> None:
    output, _name = dumps({"total": 12})
    row = make(output=output)
    html = text_of(viewer.get(page(row)))
    assert "&quot;name&quot;: &quot;pen&quot;" in html
    assert "&quot;total&quot;: 12" in html


def test_page_shows_an_error_with_its_traceback_folded(viewer: Client) -> None:
    row = make("ERROR", **failed_with(ValueError("card refused")))
    html = text_of(viewer.get(page(row)))
    assert "<summary>ValueError: card refused</summary>" in html
    assert "Traceback (most recent call last)" in html.split("<summary>ValueError")[1]


def test_a_long_traceback_keeps_its_end() -> None:
    text = failed_with(ValueError("x" * 10_000 + " the end"))["error"]
    shown = cells.failure(text, "json")
    assert "the end\n</pre>" in shown
    assert len(shown) < 2 * cells.PREVIEW


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "{{ request.user }}{% now 'Y' %}"])
def test_payloads_and_names_are_text(operator: Client, text: str) -> None:
    output, _name = dumps(text)
    row = make(id=f"id {text}", name=text, output=output, queue_name=text, executor_id=text, parent_id=text)
    error = failed_with(ValueError(text))
    add_step(row, 1, name=text, output=output, child_id=text, executor_id=text)
    add_step(row, 2, output=None, **error)
    escaped = text.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#x27;")
    address = reverse("admin:dbos_workflow_change", args=[admin.utils.quote(row.pk)])
    confirm = reverse("admin:dbos_workflow_fork", args=[admin.utils.quote(row.pk)])
    for response in (operator.get(LIST), operator.get(address), operator.post(confirm), act(operator, "fork", row)):
        html = text_of(response)
        assert escaped in html
        assert "<script>alert" not in html


@pytest.mark.parametrize("text", ["not json {", "", "\x7f\ud83d".encode("utf-8", "replace").decode(), '{"$type": 1}'])
def test_a_payload_that_cannot_be_read_is_shown_as_it_is(viewer: Client, text: str) -> None:
    row = make("ERROR", inputs=text, output=text, error=text, serializer="gone.module.Serializer")
    add_step(row, 1, output=text)
    add_step(row, 2, output=None, error=text)
    assert viewer.get(page(row)).status_code == 200


def test_a_big_payload_is_cut_in_the_database(viewer: Client) -> None:
    big, _name = dumps("x" * 3_000_000)
    row = make(output=big, inputs=big)
    add_step(row, 1, output=big)
    response = viewer.get(page(row))
    assert len(response.content) < 100_000
    assert len(response.context["original"].output_text) < 300_000


def test_steps_are_a_table(viewer: Client) -> None:
    child = make("PENDING", name="child_workflow")
    row = make("ERROR", id="with steps", **failed_with(ValueError("no")))
    add_step(row, 1, name="charge", output='"paid"', attempts=3, executor_id="host-7")
    add_step(row, 2, name="DBOS.start", child_id=child.pk)
    add_step(row, 3, name="ship", output=None, **failed_with(OSError("no ship")))
    html = text_of(viewer.get(f"{LIST}with%20steps/change/"))
    table = html.split('id="dbos-steps"')[1]
    assert table.index("charge") < table.index("DBOS.start") < table.index("ship")
    assert all(text in table for text in ("&quot;paid&quot;", "<td>3</td>", "host-7", "OSError: no ship"))
    assert page(child) in table
    assert "Fork from here" not in table  # a viewer


def test_steps_come_a_screen_at_a_time(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PER_PAGE", 2)
    row = make()
    for number in range(1, 6):
        add_step(row, number)
    assert "1 to 2 of 5" in text_of(viewer.get(page(row)))
    html = text_of(viewer.get(page(row) + "?steps=3"))
    assert "step_5" in html
    assert "step_4" not in html
    assert "step_5" in text_of(viewer.get(page(row) + "?steps=99"))


def test_page_costs_the_same_with_any_number_of_steps_and_relatives(operator: Client) -> None:
    def cost(row: Workflow, relatives: int) -> int:
        for number in range(1, relatives + 1):
            add_step(row, number, child_id=f"{row.pk}-{number}")
            make(parent=row)
            make(forked_from=row)
        with CaptureQueriesContext(connection) as queries:
            assert operator.get(page(row)).status_code == 200
        return len(queries)

    failed = make("ERROR", **failed_with(ValueError("no")))
    operator.get(page(failed))  # the first page of a process looks up its content type
    assert cost(make(parent=failed, forked_from=failed), 40) == cost(make(), 1)


def test_relatives_are_linked(viewer: Client) -> None:
    parent, origin = make(), make()
    row = make(parent=parent, forked_from=origin)
    child, fork = make("PENDING", parent=row), make("ENQUEUED", forked_from=row)
    html = text_of(viewer.get(page(row)))
    assert all(f'href="{page(relative)}"' in html for relative in (parent, origin, child, fork))


def test_a_parent_that_was_pruned_breaks_nothing(viewer: Client) -> None:
    assert viewer.get(page(make(parent_id="gone", forked_from_id="gone"))).status_code == 200


@pytest.mark.parametrize("object_id", ["never", "a%00b"])
def test_an_unknown_id_leads_back(operator: Client, object_id: str) -> None:
    assert operator.get(f"{LIST}{object_id}/change/").status_code == 302
    assert operator.post(f"{LIST}{object_id}/cancel/").status_code == 404


def test_a_workflow_that_really_ran(viewer: Client) -> None:
    admin_workflow("<b>")
    row = Workflow.objects.get(name="admin_workflow")
    html = text_of(viewer.get(page(row)))
    assert "admin_step" in html
    assert "&lt;B&gt;" in html
