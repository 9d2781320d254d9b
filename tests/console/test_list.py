"""The list: what it shows and costs, its filters and its search."""

from datetime import timedelta

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_dbos import Queue, workflow
from django_dbos import models as records
from django_dbos.admin import base
from django_dbos.models import Workflow
from django_dbos.states import WorkflowStatus

from .rows import LIST, act, failed_with, ids_in, make, page, status_of, text_of

pytestmark = pytest.mark.django_db

DECLARED = Queue("admin-declared")


@workflow
def admin_listed_workflow() -> None:
    return None


def test_list_shows_what_matters(viewer: Client) -> None:
    row = make("PENDING", queue_name="mail", partition_key="eu", executor_id="host-1", attempts=3)
    html = text_of(viewer.get(LIST))
    assert '<span class="dbos-pill dbos-pending">Pending</span>' in html
    assert f'<code title="{row.pk}">{row.pk[:6]}…{row.pk[-6:]}</code>' in html
    assert all(text in html for text in ("admin_workflow", "mail / eu", "host-1", "1 min 30 s"))


@pytest.mark.parametrize("status", WorkflowStatus.values)
def test_list_and_page_show_every_status(viewer: Client, status: str) -> None:
    row = make(status)
    pill = f"dbos-{status.lower()}"
    assert pill in text_of(viewer.get(LIST))
    assert pill in text_of(viewer.get(page(row)))


def test_list_costs_the_same_at_five_and_at_sixty_rows(operator: Client) -> None:
    parent = make()
    for _ in range(4):
        make("ERROR", parent=parent, forked_from=parent, **failed_with(ValueError("no")))
    operator.get(LIST)
    with CaptureQueriesContext(connection) as few:
        assert len(ids_in(operator.get(LIST))) == 5
    for _ in range(55):
        make("ERROR", parent=parent, forked_from=parent)
    with CaptureQueriesContext(connection) as many:
        assert len(ids_in(operator.get(LIST))) == 50
    assert len(many) == len(few)
    mine = [query["sql"] for query in many.captured_queries if "dbos_workflow" in query["sql"]]
    assert len(mine) == 2, mine  # one count, one page
    assert sum("COUNT(" in sql for sql in mine) == 1
    assert not any('"inputs"' in sql or '"output"' in sql or '"error"' in sql for sql in mine)
    assert not any("DISTINCT" in query["sql"] for query in many.captured_queries)


def test_a_range_adds_no_second_count(viewer: Client) -> None:
    make()
    with CaptureQueriesContext(connection) as queries:
        viewer.get(f"{LIST}?created_at__range__gte_0=2020-01-01&created_at__range__gte_1=00:00:00")
    assert sum("COUNT(" in query["sql"] for query in queries.captured_queries if "dbos_workflow" in query["sql"]) == 1


def test_count_stops_at_a_bound(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "COUNTED", 3)
    monkeypatch.setattr("django_dbos.admin.workflows.COUNTED", 3)
    for _ in range(3):
        make()
    assert "dbos-capped" not in text_of(viewer.get(LIST))
    for _ in range(4):
        make()
    response = viewer.get(LIST)
    assert response.context["cl"].result_count == 4
    assert "There are more than 3 workflows here." in text_of(response)


def test_filters_offer_what_the_code_knows(viewer: Client) -> None:
    make(name="gone_from_the_code", queue_name="gone-too")
    records.Queue.objects.create(name="admin-written-down")
    html = text_of(viewer.get(LIST))
    assert "?name=admin_listed_workflow" in html
    assert "?queue_name=admin-declared" in html
    assert "?queue_name=admin-written-down" in html
    assert "name=gone" not in html


def test_filters(viewer: Client) -> None:
    waiting, done = make("ENQUEUED", queue_name="mail"), make("SUCCESS", name="other_name")
    assert ids_in(viewer.get(f"{LIST}?status__exact=ENQUEUED")) == {waiting.pk}
    assert ids_in(viewer.get(f"{LIST}?queue_name=mail")) == {waiting.pk}
    assert ids_in(viewer.get(f"{LIST}?name=other_name")) == {done.pk}
    assert ids_in(viewer.get(f"{LIST}?name=never")) == set()


def test_name_filter_counts_in_a_process_that_knows_no_workflow(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, _other = make(name="one"), make(name="two")
    monkeypatch.setattr("django_dbos.admin.filters.workflow_registry.names", list)
    assert ids_in(viewer.get(f"{LIST}?name=one")) == {wanted.pk}


@pytest.mark.parametrize("column", ["created_at", "completed_at"])
@pytest.mark.parametrize("times", [("00:00:00", "23:59:59"), ("", "")])
def test_date_ranges(viewer: Client, column: str, times: tuple[str, str]) -> None:
    moment = timezone.now().replace(year=2024, month=5, day=6, hour=12)
    wanted = make("SUCCESS", **{column: moment})
    make("SUCCESS", **{column: moment - timedelta(days=2)})
    make("SUCCESS", **{column: moment + timedelta(days=2)})
    query = {
        f"{column}__range__gte_0": "2024-05-06",
        f"{column}__range__gte_1": times[0],
        f"{column}__range__lte_0": "2024-05-06",
        f"{column}__range__lte_1": times[1],
    }
    assert ids_in(viewer.get(LIST, query)) == {wanted.pk}


def test_a_range_that_cannot_be_read_finds_nothing(operator: Client) -> None:
    row = make("PENDING")
    query = "?created_at__range__gte_0=yesterday"
    response = operator.get(LIST + query)
    assert ids_in(response) == set()
    assert "Enter a valid date" in text_of(response)
    act(operator, "cancel", row, query=query, across=True, confirm="yes")
    assert status_of(row) == "PENDING"


def test_list_without_the_app_of_the_range_filter(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = apps.is_installed
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "rangefilter" and installed(name))
    row = make()
    assert ids_in(viewer.get(LIST)) == {row.pk}


def test_search_finds_an_id_or_its_begin_only(viewer: Client) -> None:
    row, spaced = make(id="order 7-abc", name="needle"), make(id="order 8")
    assert ids_in(viewer.get(LIST, {"q": "order 7-abc"})) == {row.pk}
    assert ids_in(viewer.get(LIST, {"q": " order "})) == {row.pk, spaced.pk}
    assert ids_in(viewer.get(LIST, {"q": "abc"})) == set()
    assert ids_in(viewer.get(LIST, {"q": "needle"})) == set()


def test_nothing_is_added_edited_or_deleted(admin_client: Client) -> None:
    row = make()
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(page(row), {"name": "changed"}).status_code == 403
    assert admin_client.post(page(row, "delete"), {"post": "yes"}).status_code == 403
    admin_client.post(LIST, {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert Workflow.objects.get(pk=row.pk).name == row.name
