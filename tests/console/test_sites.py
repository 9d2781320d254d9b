"""The other pages, sites of one's own, and how things look anywhere."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import path
from django.utils import timezone

from django_dbos import models as records
from django_dbos.admin import ExecutorAdmin, QueueAdmin, ScheduleAdmin, WorkflowAdmin, cells
from django_dbos.models import Workflow

from .rows import LIST, act, add_step, client_with, history, ids_in, make, page, status_of, text_of

pytestmark = pytest.mark.django_db

ops_site = admin.AdminSite(name="ops")
ops_site.register(Workflow, WorkflowAdmin)
#: A project that has a site of its own beside the default one.
urlpatterns = [path("admin/", admin.site.urls), path("ops/", ops_site.urls)]


PAGES: list[tuple[str, Callable[[], Any]]] = [
    (
        "executor",
        lambda: records.Executor.objects.create(
            id="host-1-abc", host="<host>", pid=7, queues=["mail"], heartbeat_at=timezone.now() - timedelta(minutes=3)
        ),
    ),
    (
        "queue",
        lambda: records.Queue.objects.create(
            name="mail", declared={"worker_concurrency": 2, "x": "<x>"}, overrides={"worker_concurrency": 5}
        ),
    ),
    (
        "schedule",
        lambda: records.Schedule.objects.create(
            name="nightly", workflow_name="close_day", cron="0 3 * * *", mode="m", context='"<script>"'
        ),
    ),
]
EXPECTED = {
    "executor": ("3 min 0 s ago", "&lt;host&gt;", "mail"),
    "queue": ("worker_concurrency 5, x &lt;x&gt;",),
    "schedule": ("0 3 * * *", "close_day", "Active"),
}


@pytest.mark.parametrize(("noun", "create"), PAGES)
def test_other_pages_show_and_do_not_edit(noun: str, create: Callable[[], Any]) -> None:
    row = create()
    client = client_with(f"view_{noun}", f"change_{noun}", f"delete_{noun}", f"add_{noun}")
    address = f"/admin/dbos/{noun}/{admin.utils.quote(row.pk)}/"
    for response in (client.get(f"/admin/dbos/{noun}/"), client.get(f"{address}change/")):
        assert response.status_code == 200
        assert all(text in text_of(response) for text in EXPECTED[noun])
    assert client.post(f"{address}change/", {"name": "x"}).status_code == 403
    assert client.post(f"{address}delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"/admin/dbos/{noun}/add/").status_code == 403


@pytest.mark.parametrize("noun", ["workflow", "executor", "queue", "schedule"])
def test_a_page_needs_its_permission(noun: str) -> None:
    assert client_with().get(f"/admin/dbos/{noun}/").status_code == 403


@pytest.mark.urls("tests.console.test_sites")
def test_a_site_of_ones_own(operator: Client) -> None:
    row = make("PENDING")
    child = make("PENDING", parent=row)
    address = f"/ops/dbos/workflow/{row.pk}/"
    html = text_of(operator.get(f"{address}change/"))
    assert f'action="{address}cancel/"' in html
    assert f"/ops/dbos/workflow/{child.pk}/change/" in html
    for page_of_site in (html, text_of(operator.post(f"{address}cancel/"))):
        assert not re.findall(r'(?:href|action)="/admin/', page_of_site)
    response = operator.post(f"{address}cancel/", {"confirm": "yes"})
    assert response.headers["Location"] == f"{address}change/"
    assert operator.get("/ops/dbos/workflow/").status_code == 200


def test_the_default_site_has_all_of_them() -> None:
    registered = {type(each) for each in admin.site._registry.values()}
    assert {WorkflowAdmin, ExecutorAdmin, QueueAdmin, ScheduleAdmin} <= registered


def test_naive_times(viewer: Client, settings: Any) -> None:
    settings.USE_TZ = False
    row = make("PENDING", started_at=timezone.now())
    assert viewer.get(LIST).status_code == 200
    assert viewer.get(page(row)).status_code == 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 ms"),
        (0.25, "250 ms"),
        (0.9999, "999 ms"),
        (1.26, "1.2 s"),
        (59.99, "59.9 s"),
        (90, "1 min 30 s"),
        (3_700, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert cells.duration_text(timedelta(seconds=seconds)) == text


@pytest.mark.django_db(databases=["default", "other"])
def test_a_system_database_apart_from_the_log(operator: Client, settings: Any) -> None:
    settings.DBOS = {**settings.DBOS, "DATABASE": "other"}
    row = make("PENDING")
    add_step(row, 1)
    assert ids_in(operator.get(LIST)) == {row.pk}
    assert "step_1" in text_of(operator.get(page(row)))
    act(operator, "cancel", row, confirm="yes")
    operator.post(page(row, "fork"), {"confirm": "yes", "start_step": "2"})
    assert status_of(row) == "CANCELLED"
    assert len(history(row)) == 2
    assert not Workflow.objects.using("default").exists()
