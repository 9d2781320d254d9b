"""The crew: threads that make short calls to the database for others."""

import threading
from typing import Any

import pytest

from django_dbos import Runtime, SetWorkflowID, get_event, recv, send, set_event, sleep, start_workflow, workflow
from django_dbos.models import Step
from django_dbos.runtime import crew as crew_module
from django_dbos.runtime.crew import Crew
from tests.runtime.conftest import Opened, threads
from tests.support import eventually
from tests.sysdb.rows import committed, postgresql


@workflow
def talkative() -> str:
    set_event("ready", True)
    sleep(0.05)
    set_event("answer", recv())
    return threading.current_thread().name


def interrupt() -> None:
    raise KeyboardInterrupt


def test_results_and_errors_come_back() -> None:
    crew = Crew(2)
    try:
        assert crew.submit(lambda a, b: a + b, 1, b=2).result(10) == 3
        with pytest.raises(KeyboardInterrupt):
            crew.submit(interrupt).result(10)
    finally:
        crew.shutdown()
    assert not threads("dbos-crew")


def test_there_are_never_more_threads_than_it_has_places() -> None:
    crew, gate, seen = Crew(2), threading.Event(), set()

    def work() -> None:
        seen.add(threading.current_thread())
        gate.wait(10)

    futures = [crew.submit(work) for _ in range(10)]
    eventually(lambda: len(seen) == 2)
    gate.set()
    for future in futures:
        future.result(10)
    crew.shutdown()
    assert len(seen) == 2


def test_threads_without_work_go_and_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "_IDLE", 0.01)
    crew = Crew(2)
    for _ in range(3):
        assert crew.submit(lambda: 1).result(10) == 1
        eventually(lambda: not threads("dbos-crew"))
    crew.shutdown()


@committed
@postgresql
def test_a_workflow_that_only_talks_opens_no_connection_of_its_own(opened: Opened) -> None:
    with Runtime():
        with SetWorkflowID("w"):
            handle: Any = start_workflow(talkative)
        assert get_event("w", "ready", 10) is True
        send("w", 42)
        assert handle.get_result(10).startswith("dbos-worker")
        assert get_event("w", "answer") == 42
        assert not opened.by("dbos-worker")
        assert opened.by("dbos-crew")
    assert not opened.still_open("dbos-")
    assert not threads("dbos-")
    assert Step.objects.filter(workflow_id="w").count() == 4
