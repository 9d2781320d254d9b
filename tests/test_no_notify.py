"""A wake-up is only a hint: with every one of them deleted all still works, a poll later."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import override_settings

from django_dbos import (
    Queue,
    Runtime,
    SetWorkflowID,
    aretrieve_workflow,
    cancel_workflow,
    resume_workflow,
    retrieve_workflow,
    start_workflow,
    workflow,
)
from django_dbos.exceptions import AwaitedWorkflowCancelled
from django_dbos.hub import WORK, Hub, Watch, hub
from django_dbos.models import Workflow
from django_dbos.runtime import dispatcher, pool
from django_dbos.runtime.listener import Listener
from django_dbos.sysdb import vendor
from django_dbos.sysdb import workflows as rows
from tests.support import eventually
from tests.sysdb.rows import elsewhere, owned

pytestmark = pytest.mark.django_db(transaction=True)

UNHEARD = Queue("unheard")
LIMITED = Queue("unheard and limited", global_concurrency=1)


@workflow
def unheard(value: Any) -> Any:
    return value


@workflow
def unheard_parent(count: int) -> list[Any]:
    handles = [UNHEARD.enqueue(unheard, number) for number in range(count)]
    return [unheard("called"), *(handle.get_result() for handle in handles)]


@workflow
async def unheard_async_parent(other: str) -> Any:
    return await (await aretrieve_workflow(other)).aget_result()


@workflow
def unheard_waiting(other: str) -> Any:
    return retrieve_workflow(other).get_result()


def finish_other() -> None:
    """As if a worker elsewhere had just come to the end of it."""
    Workflow.objects.filter(pk="other").update(status="SUCCESS", output='"done"')


@contextmanager
def in_background(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Something that waits while the block runs, and what it gave afterwards."""
    results: list[Any] = []
    waiter = threading.Thread(target=lambda: results.append(elsewhere(work)))
    waiter.start()
    try:
        yield results
    finally:
        waiter.join(10)


class Deliveries:
    """The hub as the dispatcher and the pool know it: what a poll has found, and a stop, still reach who waits here."""

    is_hearing = False

    def __init__(self, deliver: Callable[[Hub, str], None]) -> None:
        self._deliver = deliver

    def wake(self, channel: str) -> None:
        """Deliver it, unless it is the hint that there is work."""
        if channel != WORK:
            self._deliver(hub, channel)

    def awaited(self) -> set[str]:
        """See Hub.awaited()."""
        return hub.awaited()

    def watched(self) -> set[Watch]:
        """See Hub.watched()."""
        return hub.watched()


@pytest.fixture(autouse=True)
def deaf_and_dumb(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody hints at anything, neither in this process nor through the database."""
    submit_sql, deliveries = rows._submit_sql, Deliveries(Hub.wake)
    monkeypatch.setattr(dispatcher, "hub", deliveries)
    monkeypatch.setattr(pool, "hub", deliveries)
    monkeypatch.setattr(Hub, "wake", lambda self, channel, news=None: None)
    monkeypatch.setattr(Hub, "wake_everyone", lambda self: None)
    monkeypatch.setattr(vendor, "notify", lambda *channels: None)
    monkeypatch.setattr(rows, "_submit_sql", lambda columns, values, returning: submit_sql(columns, values, "id"))
    monkeypatch.setattr(Listener, "is_possible", staticmethod(lambda: False))
    with override_settings(DBOS={"POLL_INTERVAL": 0.05, "HEARTBEAT_INTERVAL": 0.2, "HEARTBEAT_TIMEOUT": 1.0}):
        yield


def test_what_was_started_or_enqueued_before_and_after_the_worker_runs() -> None:
    before = [start_workflow(unheard, 1), UNHEARD.enqueue(unheard, 2), LIMITED.enqueue(unheard, 3)]
    with Runtime():
        after = [start_workflow(unheard, 4), UNHEARD.enqueue(unheard, 5), LIMITED.enqueue(unheard, 6)]
        assert [handle.get_result(timeout=10) for handle in before + after] == [1, 2, 3, 4, 5, 6]


def test_what_another_process_enqueues_runs() -> None:
    with Runtime():
        handle = elsewhere(lambda: UNHEARD.enqueue(unheard, 1))
        assert handle.get_result(timeout=10) == 1


@pytest.mark.parametrize("concurrency", [1, 4])
def test_parents_get_the_results_of_their_children(concurrency: int) -> None:
    with Runtime(concurrency=concurrency):
        assert start_workflow(unheard_parent, 3).get_result(timeout=10) == ["called", 0, 1, 2]


def test_another_thread_gets_the_result() -> None:
    with Runtime():
        handle = start_workflow(unheard_parent, 1)
        assert elsewhere(lambda: handle.get_result(timeout=10)) == ["called", 0]


def test_without_a_runtime_here_a_result_that_comes_from_elsewhere_is_found() -> None:
    owned("other", "another")
    with in_background(lambda: retrieve_workflow("other").get_result(timeout=10)) as result:
        eventually(lambda: "other" in hub.awaited())
        finish_other()
    assert result == ["done"]


def test_without_a_runtime_here_a_direct_call_that_waits_ends_when_it_is_cancelled_elsewhere() -> None:
    owned("other", "another")

    def call() -> str:
        with SetWorkflowID("w"), pytest.raises(AwaitedWorkflowCancelled):
            unheard_waiting("other")
        return "ended"

    with in_background(call) as result:
        eventually(lambda: {"w", "other"} <= hub.awaited())
        cancel_workflow("w")
    assert result == ["ended"]


@pytest.mark.parametrize("function", [unheard_waiting, unheard_async_parent], ids=["sync", "async"])
def test_a_workflow_that_waits_for_another_goes_on_when_that_has_ended_elsewhere(function: Any) -> None:
    owned("other", "another")
    with Runtime(queues=[]):
        handle = start_workflow(function, "other")
        eventually(lambda: {handle.workflow_id, "other"} <= hub.awaited())
        finish_other()
        assert handle.get_result(timeout=10) == "done"


@pytest.mark.parametrize("function", [unheard_waiting, unheard_async_parent], ids=["sync", "async"])
def test_a_waiting_workflow_that_is_cancelled_ends_and_resumed_goes_on(function: Any) -> None:
    owned("other", "another")
    with Runtime(queues=[]) as runtime:
        handle = start_workflow(function, "other")
        eventually(lambda: {handle.workflow_id, "other"} <= hub.awaited())
        cancel_workflow(handle.workflow_id)
        eventually(lambda: runtime._pool.running_in("") == 0, message="the body still waits")
        with pytest.raises(AwaitedWorkflowCancelled):
            handle.get_result(timeout=10)
        resume_workflow(handle.workflow_id)
        finish_other()
        assert handle.get_result(timeout=10) == "done"


def test_a_runtime_that_stops_while_a_workflow_waits_hands_it_back() -> None:
    owned("other", "another")
    with Runtime(queues=[]):
        handle = start_workflow(unheard_waiting, "other")
        eventually(lambda: {handle.workflow_id, "other"} <= hub.awaited())
    row = handle.get_status()
    assert (row.status, row.executor_id, row.attempts) == ("ENQUEUED", "", 0)
