"""Streams as rows: appended under a lease, without gaps, read page by page."""

import pytest
from django.db import connection

from django_dbos.exceptions import NonExistentWorkflow, OwnershipLost, WorkflowCancelled
from django_dbos.hub import STREAM, Watch, hub
from django_dbos.models import StreamEntry, Workflow
from django_dbos.sysdb import streams, watching
from django_dbos.sysdb.journal import Lease
from tests.support import statements
from tests.sysdb.rows import committed, owned, rolled_back, together, workflow


def append(value: int, key: str = "key", step: int = 1, *, is_end: bool = False) -> None:
    streams.append(Lease("w", "writer", 1), step, key, str(value), "json", is_end=is_end)


def values(page: streams.Page | None) -> list[str]:
    assert page is not None
    return [value for value, _ in page.entries]


@rolled_back
def test_each_stream_counts_from_zero() -> None:
    owned("w", "writer")
    for number in range(3):
        append(number)
    append(7, "other")
    rows = StreamEntry.objects.order_by("key", "offset").values_list("key", "offset", "value", "is_end")
    assert list(rows) == [
        ("key", 0, "0", False),
        ("key", 1, "1", False),
        ("key", 2, "2", False),
        ("other", 0, "7", False),
    ]


@rolled_back
def test_an_entry_is_one_statement() -> None:
    owned("w", "writer")
    with statements() as sent:
        append(1)
    assert len(sent) == 1, sent


@rolled_back
def test_writing_wakes_the_readers() -> None:
    owned("w", "writer")
    with (
        hub.listen(watches=[Watch(STREAM, "w", "key", 0)]) as signal,
        hub.listen(watches=[Watch(STREAM, "x")]) as other,
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(connection, "on_commit", lambda call: call())
            append(1)
        assert signal.is_set()
        assert not other.is_set()


@rolled_back
@pytest.mark.parametrize(
    ("columns", "error"),
    [
        ({"epoch": 2}, OwnershipLost),
        ({"executor_id": "other"}, OwnershipLost),
        ({"status": "CANCELLED"}, WorkflowCancelled),
    ],
)
def test_who_lost_the_workflow_writes_nothing(columns: dict[str, object], error: type[BaseException]) -> None:
    owned("w", "writer")
    Workflow.objects.update(**columns)
    with pytest.raises(error):
        append(1)
    assert not StreamEntry.objects.exists()


@committed
def test_writers_at_the_same_time_take_offsets_of_their_own() -> None:
    owned("w", "writer")

    def write() -> None:
        for number in range(20):
            append(number)

    together(write, write, write, write)
    assert list(StreamEntry.objects.order_by("offset").values_list("offset", flat=True)) == list(range(80))


@rolled_back
def test_a_page_ends_where_the_stream_does() -> None:
    owned("w", "writer")
    assert streams.read("w", "key", 0) is None
    for number in range(3):
        append(number)
    assert streams.read("w", "key", 0, limit=2) == streams.Page([("0", "json"), ("1", "json")], is_last=False)
    assert values(streams.read("w", "key", 2)) == ["2"]
    assert streams.read("w", "key", 3) is None
    append(0, is_end=True)
    append(9)
    assert streams.read("w", "key", 2) == streams.Page([("2", "json")], is_last=True)
    assert streams.read("w", "key", 3) == streams.Page([], is_last=True)


@rolled_back
def test_what_is_behind_the_end_has_ended_too() -> None:
    owned("w", "writer")
    append(0, is_end=True)
    assert streams.read("w", "key", 5) == streams.Page([], is_last=True)
    assert streams.read("w", "other", 5) is None


@rolled_back
def test_a_finished_workflow_ends_its_streams() -> None:
    workflow("w", "SUCCESS")
    StreamEntry.objects.create(workflow_id="w", key="key", offset=0, value="1", step=1)
    assert streams.read("w", "key", 0, limit=1) == streams.Page([("1", "json")], is_last=False)
    assert streams.read("w", "key", 0) == streams.Page([("1", "json")], is_last=True)
    assert streams.read("w", "key", 1, limit=1) == streams.Page([], is_last=True)
    with pytest.raises(NonExistentWorkflow):
        streams.read("nobody", "key", 0)


@rolled_back
def test_one_look_finds_all_that_was_written() -> None:
    owned("w", "writer")
    append(0)
    append(1, "other")
    wanted = [Watch(STREAM, "w", "key", 0), Watch(STREAM, "w", "key", 1), Watch(STREAM, "w", "other", 0)]
    with statements() as sent:
        news = set(watching.news_among([*wanted, *(Watch(STREAM, f"x{n}", "key", 0) for n in range(300))]))
    assert news == {wanted[0], wanted[2]}
    assert len(sent) == 1, sent
