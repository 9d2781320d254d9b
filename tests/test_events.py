"""Events: what workflows show of themselves."""

import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_dbos import (
    Runtime,
    SetWorkflowID,
    aget_all_events,
    aget_event,
    aset_event,
    fork_workflow,
    get_all_events,
    get_event,
    recv,
    send,
    set_event,
    start_workflow,
    step,
    workflow,
)
from django_dbos.exceptions import InvalidOption, NotInWorkflow, SerializationError
from django_dbos.models import Event, EventHistory, Step
from tests.support import eventually
from tests.sysdb.rows import elsewhere
from tests.sysdb.rows import workflow as row

database = pytest.mark.django_db(transaction=True)


@workflow
def setter(values: list[Any]) -> str:
    for value in values:
        set_event("key", value)
    return "done"


@workflow
async def async_setter(values: list[Any]) -> str:
    for value in values:
        await aset_event("key", value)
    return "done"


@workflow
def patient_setter() -> None:
    set_event("ready", True)
    set_event("key", recv())


@workflow
def getter(workflow_id: str, timeout: float = 20) -> list[Any]:
    return [get_event(workflow_id, "key", timeout), get_all_events(workflow_id)]


@workflow
async def async_getter(workflow_id: str, timeout: float = 20) -> list[Any]:
    return [await aget_event(workflow_id, "key", timeout), await aget_all_events(workflow_id)]


@step
def setting_step(value: Any) -> None:
    set_event("key", value)


@workflow
def setter_in_steps() -> None:
    set_event("key", "body")
    setting_step("step")


@database
@pytest.mark.parametrize("function", [setter, async_setter])
def test_the_last_value_counts_and_all_are_kept(function: Any) -> None:
    with Runtime(), SetWorkflowID("w"):
        start_workflow(function, [1, None, {"a": (2,)}]).get_result(10)
    assert get_event("w", "key") == {"a": (2,)}
    assert get_all_events("w") == {"key": {"a": (2,)}}
    assert list(EventHistory.objects.order_by("step").values_list("step", "key")) == [
        (1, "key"),
        (2, "key"),
        (3, "key"),
    ]
    assert list(Step.objects.values_list("name", flat=True)) == ["DBOS.setEvent"] * 3


@database
def test_a_value_of_none_is_a_value() -> None:
    with SetWorkflowID("w"):
        setter([None])
    assert get_event("w", "key", 0) is None
    assert get_all_events("w") == {"key": None}


@database
def test_a_step_sets_under_its_own_number() -> None:
    with SetWorkflowID("w"):
        setter_in_steps()
    assert list(Step.objects.order_by("number").values_list("name", flat=True)) == ["DBOS.setEvent", "setting_step"]
    assert list(EventHistory.objects.order_by("step").values_list("step", flat=True)) == [1, 2]
    assert get_event("w", "key") == "step"


@database
def test_who_waits_gets_the_value_as_soon_as_it_is_set() -> None:
    with Runtime():
        handle = start_workflow(patient_setter)
        assert get_event(handle.workflow_id, "ready", 10) is True
        results: list[Any] = []
        waiter = threading.Thread(
            target=lambda: results.append(elsewhere(lambda: get_event(handle.workflow_id, "key", 10)))
        )
        waiter.start()
        send(handle.workflow_id, "now")
        waiter.join(10)
        assert results == ["now"]


@database
def test_an_event_of_a_workflow_that_does_not_exist_yet_can_be_awaited() -> None:
    results: list[Any] = []
    waiter = threading.Thread(target=lambda: results.append(elsewhere(lambda: get_event("w", "key", 10))))
    waiter.start()
    with SetWorkflowID("w"):
        setter(["at last"])
    waiter.join(10)
    assert results == ["at last"]


@database
def test_nothing_comes_of_waiting_too_long() -> None:
    row("w")
    assert get_event("w", "key", 0.01) is None
    assert async_to_sync(aget_event)("w", "key", 0) is None


@database
@pytest.mark.parametrize("function", [getter, async_getter])
def test_what_a_workflow_has_read_it_reads_again(function: Any) -> None:
    with SetWorkflowID("source"):
        setter(["old"])
    with Runtime():
        with SetWorkflowID("w"):
            assert start_workflow(function, "source").get_result(10) == ["old", {"key": "old"}]
        Event.objects.update(value='"new"')
        assert fork_workflow("w", 99).get_result(10) == ["old", {"key": "old"}]
        assert fork_workflow("w", 1).get_result(10) == ["new", {"key": "new"}]
    assert list(Step.objects.filter(workflow_id="w").order_by("number").values_list("number", "name")) == [
        (1, "DBOS.getEvent"),
        (3, "DBOS.getAllEvents"),
    ]


@database
@pytest.mark.parametrize("function", [getter, async_getter])
def test_a_waiting_workflow_records_when_its_wait_ends(function: Any) -> None:
    row("source")
    with Runtime(), SetWorkflowID("w"):
        assert start_workflow(function, "source", 0.01).get_result(10)[0] is None
    assert list(Step.objects.filter(workflow_id="w").order_by("number").values_list("name", flat=True))[:2] == [
        "DBOS.getEvent",
        "DBOS.sleep",
    ]


@database
def test_who_waits_for_an_event_holds_no_slot() -> None:
    with Runtime(concurrency=1):
        waiting = [start_workflow(getter, "source") for _ in range(3)]
        eventually(lambda: Step.objects.filter(name="DBOS.sleep").count() == 3)
        with SetWorkflowID("source"):
            start_workflow(setter, ["go"]).get_result(10)
        assert [handle.get_result(10)[0] for handle in waiting] == ["go"] * 3


@database
def test_bad_input_is_refused_at_once() -> None:
    with pytest.raises(NotInWorkflow, match="set_event"):
        set_event("key", 1)
    for wrong in ("", "k" * 256, None):
        with pytest.raises(InvalidOption):
            get_event("w", wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidOption):
            set_event(wrong, 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="seconds"):
        get_event("w", "key", -1)
    with pytest.raises(SerializationError, match="event 'key'"):
        set_event_of_something_odd()


@workflow
def set_event_of_something_odd() -> None:
    set_event("key", object())
