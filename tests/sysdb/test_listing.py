"""Pages by key, whatever the times look like; and how the databases find them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from django_dbos.exceptions import NonExistentWorkflow
from django_dbos.models import Workflow
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb import listing, vendor
from django_dbos.sysdb.listing import Page
from tests.support import statements
from tests.sysdb.rows import postgresql, rolled_back, workflow

MOMENT = datetime(2026, 1, 1, 12, 0, 0, 123000, tzinfo=UTC)


def ids(filters: dict[str, Any] | None = None, **page: Any) -> list[str]:
    return listing.ids_of(filters or {}, Page(**page))


def walk(*, as_row: bool, limit: int, newest_first: bool) -> list[str]:
    """Every id, page by page."""
    found: list[str] = []
    after: Workflow | str | None = None
    while True:
        rows = listing.listed({}, Page(after=after, limit=limit, newest_first=newest_first))
        if not rows:
            return found
        found += [row.pk for row in rows]
        after = rows[-1] if as_row else rows[-1].pk


def created_by_the_database() -> None:
    """Rows of which some have one time."""
    sql = "INSERT INTO dbos_workflow (id, name, status, created_at) VALUES (%s, 'n', 'SUCCESS', {})"
    for number in range(3):
        vendor.execute(sql.format(vendor.dialect().now), (f"raw {number}",))
        workflow(f"now {number}", created_at=Now())
    Workflow.objects.exclude(pk="raw 0").update(created_at=Now())


def created_in_many_ways() -> None:
    """Rows of which some have one time, written by the database and by Django."""
    created_by_the_database()
    for name in "badc":
        workflow(name, created_at=MOMENT)
    workflow("whole second", created_at=MOMENT.replace(microsecond=0))
    workflow("later", created_at=MOMENT + timedelta(microseconds=1))


@rolled_back
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("as_row", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_by_key_give_every_row_once_and_in_order(limit: int, as_row: bool, newest_first: bool) -> None:
    created_in_many_ways()
    everything = ids(newest_first=newest_first)
    assert sorted(everything) == sorted(Workflow.objects.values_list("pk", flat=True))
    assert everything == list(reversed(ids(newest_first=not newest_first)))
    assert walk(as_row=as_row, limit=limit, newest_first=newest_first) == everything
    ties = [each for each in everything if each in "abcd"]
    assert ties == sorted(ties, reverse=newest_first)


@rolled_back
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_page_goes_on_after_a_row_that_has_been_deleted(newest_first: bool) -> None:
    created_by_the_database()
    everything = listing.listed({}, Page(newest_first=newest_first))
    for row in everything:
        Workflow.objects.filter(pk=row.pk).delete()
        following = [each.pk for each in everything[everything.index(row) + 1 :]]
        assert ids(after=row, newest_first=newest_first) == following


@rolled_back
def test_an_unknown_id_to_go_on_after_says_so() -> None:
    with pytest.raises(NonExistentWorkflow, match="'gone'"):
        ids(after="gone")


@rolled_back
def test_limits_and_offsets() -> None:
    for number in range(5):
        workflow(str(number))
    assert ids(limit=2) == ["0", "1"]
    assert ids(limit=2, offset=1) == ["1", "2"]
    assert ids(offset=3) == ["3", "4"]
    assert ids(limit=0) == []
    assert ids(after="1", limit=1, offset=1) == ["3"]


@rolled_back
def test_payloads_that_are_not_wanted_are_not_read() -> None:
    workflow("w", inputs="in", output="out", error="err")
    with statements() as sent:
        (row,) = listing.listed({}, Page(with_input=False, with_output=False))
    assert not any(f'"{column}"' in sent[0] for column in ("inputs", "output", "error"))
    assert row.get_deferred_fields() == {"inputs", "output", "error"}
    assert row.inputs == "in"


def many() -> None:
    """So many rows that a plan says something."""
    rows = [
        Workflow(
            id=f"w{number:05}",
            name=f"n{number % 50}",
            status=WorkflowStatus.SUCCESS if number % 100 else WorkflowStatus.ERROR,
            created_at=MOMENT + timedelta(seconds=number // 10),
        )
        for number in range(20_000)
    ]
    Workflow.objects.bulk_create(rows)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE dbos_workflow")


def plan_of(filters: dict[str, Any], **page: Any) -> str:
    with statements() as sent:
        assert listing.ids_of(filters, Page(**page))
    sql = sent[-1]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        return "\n".join(line for (line,) in cursor.fetchall())


@rolled_back
@postgresql
def test_a_page_far_away_is_found_by_its_key() -> None:
    many()
    for newest_first in (False, True):
        plan = plan_of({}, after="w15000", limit=20, newest_first=newest_first)
        assert "dbos_workflow_newest on" in plan, plan
        assert "Index Cond: (ROW(created_at, id)" in plan, plan
        assert "Sort" not in plan, plan
    named = plan_of({"name": ["n7"]}, after="w15000", limit=20)
    assert "dbos_workflow_newest_of_name" in named, named
    failed = plan_of({"status": ["ERROR"]}, limit=20, newest_first=True)
    assert "Seq Scan" not in failed, failed
    prefixed = plan_of({"workflow_id_prefix": "w0500"}, limit=20)
    assert "Index Cond: (((id)::text ~>=~ 'w0500'" in prefixed, prefixed


@rolled_back
def test_a_list_counts_nothing() -> None:
    workflow("w")
    with statements() as sent:
        listing.listed({}, Page(limit=10, offset=0))
    assert len(sent) == 1
    assert "COUNT" not in sent[0]
