"""Cancel, resume, delete, and what else is done to workflows from outside."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_dbos import (
    Runtime,
    SetWorkflowID,
    acancel_workflow,
    acancel_workflows,
    adelete_workflow,
    adelete_workflows,
    aresume_workflow,
    aresume_workflows,
    aset_workflow_delay,
    aset_workflow_priority,
    aupdate_workflow_attributes,
    cancel_workflow,
    cancel_workflows,
    delete_workflow,
    delete_workflows,
    resume_workflow,
    resume_workflows,
    retrieve_workflow,
    set_workflow_delay,
    set_workflow_priority,
    start_workflow,
    step,
    update_workflow_attributes,
    workflow,
    workflow_id,
)
from django_dbos.context import running_ids
from django_dbos.exceptions import (
    AwaitedWorkflowCancelled,
    InvalidOption,
    InvalidWorkflowID,
    NonExistentWorkflow,
    UnfinishedWorkflow,
)
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from tests.support import eventually

database = pytest.mark.django_db(transaction=True)
#: Deleting looks on every database where transactions of the suite may have left something.
everywhere = pytest.mark.django_db(transaction=True, databases=["default", "other"])

runs: list[str] = []
gate = threading.Event()


@pytest.fixture(autouse=True)
def fresh() -> None:
    runs.clear()
    gate.clear()


@step
def remembered(name: str) -> str:
    runs.append(name)
    return name


@step
def held() -> str:
    runs.append("held")
    gate.wait(10)
    return "held"


@workflow
def three_steps() -> list[str]:
    return [remembered("one"), held(), remembered("three")]


@database
def test_a_waiting_workflow_that_is_cancelled_never_runs() -> None:
    handle = start_workflow(three_steps)
    assert cancel_workflow(handle.workflow_id) is True
    with Runtime(), pytest.raises(AwaitedWorkflowCancelled):
        handle.get_result(timeout=10)
    assert runs == []
    assert handle.get_status().completed_at is not None


@database
def test_a_running_workflow_ends_at_its_next_step_and_never_turns_to_success() -> None:
    with Runtime():
        handle = start_workflow(three_steps)
        eventually(lambda: "held" in runs)
        cancel_workflow(handle.workflow_id)
        gate.set()
        eventually(lambda: not Workflow.objects.pending().exists())
    assert runs == ["one", "held"]
    assert handle.get_status().status == WorkflowStatus.CANCELLED
    assert Step.objects.count() == 1


@database
def test_a_cancellation_is_not_swallowed_by_except_exception() -> None:
    @workflow
    def stubborn() -> str:
        try:
            held()
            remembered("not reached")
        except Exception:
            return "swallowed"
        return "went on"

    with Runtime():
        handle = start_workflow(stubborn)
        eventually(lambda: "held" in runs)
        cancel_workflow(handle.workflow_id)
        gate.set()
        with pytest.raises(AwaitedWorkflowCancelled):
            handle.get_result(timeout=10)
    assert runs == ["held"]


@database
def test_a_finished_workflow_cannot_be_cancelled() -> None:
    gate.set()
    with SetWorkflowID("w"):
        three_steps()
    assert cancel_workflow("w") is False
    assert Workflow.objects.get().status == WorkflowStatus.SUCCESS


@database
def test_a_resumed_workflow_goes_on_from_its_last_finished_step() -> None:
    with Runtime():
        handle = start_workflow(three_steps)
        eventually(lambda: "held" in runs)
        cancel_workflow(handle.workflow_id)
        gate.set()
        eventually(lambda: not running_ids())
        assert resume_workflow(handle.workflow_id).get_result(timeout=10) == ["one", "held", "three"]
    assert runs == ["one", "held", "held", "three"]
    row = handle.get_status()
    assert (row.status, row.attempts) == (WorkflowStatus.SUCCESS, 1)


@database
def test_resuming_a_finished_workflow_changes_nothing() -> None:
    gate.set()
    with SetWorkflowID("w"):
        three_steps()
    assert resume_workflow("w").get_result() == ["one", "held", "three"]
    assert Workflow.objects.get().status == WorkflowStatus.SUCCESS


@database
def test_resuming_a_running_workflow_does_not_start_a_second_body_beside_it() -> None:
    with Runtime():
        handle = start_workflow(three_steps)
        eventually(lambda: "held" in runs)
        resume_workflow(handle.workflow_id)
        eventually(lambda: handle.get_status().epoch == 2)
        gate.set()
        assert handle.get_result(timeout=10) == ["one", "held", "three"]
    assert runs == ["one", "held", "three"]


#: Each verb, called with the id of a workflow.
VERBS: dict[str, Callable[[str], object]] = {
    "cancel_workflow": cancel_workflow,
    "cancel_workflows": lambda each: cancel_workflows(["w", each]),
    "cancel_workflows with children": lambda each: cancel_workflows(["w", each], cancel_children=True),
    "resume_workflow": resume_workflow,
    "resume_workflows": lambda each: resume_workflows(["w", each]),
    "delete_workflow": delete_workflow,
    "delete_workflows": lambda each: delete_workflows(["w", each]),
    "set_workflow_delay": lambda each: set_workflow_delay(each, delay_seconds=1),
    "set_workflow_priority": lambda each: set_workflow_priority(each, 1),
    "update_workflow_attributes": lambda each: update_workflow_attributes(each, {}),
}


@database
@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_id_raises_and_nothing_changes(verb: str) -> None:
    Workflow.objects.create(id="w", name="of nobody", status="CANCELLED" if "delete" in verb else "ENQUEUED")
    before = list(Workflow.objects.values())
    with pytest.raises(NonExistentWorkflow, match="'nobody'"):
        VERBS[verb]("nobody")
    assert list(Workflow.objects.values()) == before


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("workflow_id", ["", None, 5, "x" * 256, "a\x00b"])
def test_what_can_be_no_id_is_refused_at_once(verb: str, workflow_id: Any) -> None:
    with pytest.raises(InvalidWorkflowID):
        VERBS[verb](workflow_id)


@pytest.mark.parametrize("verb", [cancel_workflows, resume_workflows, delete_workflows])
def test_one_id_is_no_list_of_ids(verb: Any) -> None:
    with pytest.raises(InvalidOption, match=r"\['order-1'\]"):
        verb("order-1")


# ---- many, and children ---------------------------------------------------------------------------------------


@step
def started_children(parent_id: str) -> None:
    runs.append(parent_id)


@workflow
def parent_of_many(depth: int) -> list[Any]:
    handles = [start_workflow(parent_of_many, depth - 1) for _ in range(2)] if depth else []
    started_children(f"depth {depth}")
    if not depth:
        gate.wait(10)
    return [handle.get_result() for handle in handles]


@database
def test_a_tree_is_cancelled_with_its_root() -> None:
    with Runtime(concurrency=8):
        handle = start_workflow(parent_of_many, 2)
        eventually(lambda: runs.count("depth 0") == 4)
        assert cancel_workflow(handle.workflow_id, cancel_children=True) is True
        gate.set()
        eventually(lambda: not running_ids())
    assert list(Workflow.objects.values_list("status", flat=True)) == [WorkflowStatus.CANCELLED] * 7


@database
def test_children_go_on_unless_they_are_asked_for() -> None:
    Workflow.objects.create(id="root", name="of nobody", status="ENQUEUED")
    Workflow.objects.create(id="child", name="of nobody", status="ENQUEUED", parent_id="root")
    assert cancel_workflow("root") is True
    assert Workflow.objects.get(pk="child").status == WorkflowStatus.ENQUEUED
    assert cancel_workflow("root") is False
    assert cancel_workflow("root", cancel_children=True) is True
    assert cancel_workflow("root", cancel_children=True) is False


@database
def test_many_are_cancelled_and_go_on_again() -> None:
    gate.set()
    ids = [start_workflow(three_steps).workflow_id for _ in range(3)]
    assert cancel_workflows(ids[:2]) == 2
    assert cancel_workflows(ids) == 1
    with Runtime():
        handles = resume_workflows(ids)
        assert [handle.get_result(timeout=20) for handle in handles] == [["one", "held", "three"]] * 3
    assert [handle.workflow_id for handle in handles] == ids


@database
def test_a_resumed_workflow_may_go_to_another_queue() -> None:
    handle = start_workflow(three_steps)
    cancel_workflow(handle.workflow_id)
    resume_workflow(handle.workflow_id, queue_name="elsewhere")
    assert handle.get_status().queue_name == "elsewhere"
    with pytest.raises(InvalidOption, match="queue"):
        resume_workflow(handle.workflow_id, queue_name="")


# ---- delete ---------------------------------------------------------------------------------------------------


@everywhere
def test_a_deleted_id_is_free_again() -> None:
    gate.set()
    with SetWorkflowID("w"):
        three_steps()
    assert delete_workflow("w") == 1
    assert not Step.objects.exists()
    runs.clear()
    with SetWorkflowID("w"):
        three_steps()
    assert runs == ["one", "held", "three"]


@everywhere
def test_a_running_workflow_is_not_deleted() -> None:
    with Runtime():
        handle = start_workflow(three_steps)
        eventually(lambda: "held" in runs)
        with pytest.raises(UnfinishedWorkflow, match="Cancel"):
            delete_workflow(handle.workflow_id)
        cancel_workflow(handle.workflow_id)
        assert delete_workflow(handle.workflow_id, delete_children=True) == 1
        gate.set()  # its body stops at the next step, for which there is no workflow any more
        eventually(lambda: not running_ids())
    assert runs == ["one", "held"]
    assert not Step.objects.exists()


# ---- what waits, and what is said -----------------------------------------------------------------------------


@database
def test_what_waits_can_be_made_more_urgent_or_put_off() -> None:
    handle = start_workflow(three_steps)
    assert set_workflow_priority(handle.workflow_id, 7) is True
    moment = datetime(2100, 1, 1, tzinfo=UTC)
    assert set_workflow_delay(handle.workflow_id, delay_until=moment) is True
    row = handle.get_status()
    assert (row.priority, row.status, row.delay_until) == (7, WorkflowStatus.DELAYED, moment)
    assert set_workflow_delay(handle.workflow_id, delay_seconds=timedelta(hours=1)) is True
    delay_until = handle.get_status().delay_until
    assert delay_until is not None
    assert delay_until < moment
    cancel_workflow(handle.workflow_id)
    assert set_workflow_priority(handle.workflow_id, 7) is False
    assert set_workflow_delay(handle.workflow_id, delay_seconds=0) is False


@database
def test_what_was_put_off_runs_when_it_is_due() -> None:
    gate.set()
    handle = start_workflow(three_steps)
    set_workflow_delay(handle.workflow_id, delay_seconds=3600)
    with Runtime():
        set_workflow_delay(handle.workflow_id, delay_seconds=0)
        assert handle.get_result(timeout=20) == ["one", "held", "three"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"delay_seconds": 1, "delay_until": datetime(2100, 1, 1, tzinfo=UTC)},
        {"delay_seconds": -1},
        {"delay_seconds": float("inf")},
        {"delay_seconds": "1"},
        {"delay_until": datetime(2100, 1, 1)},
        {"delay_until": "2100-01-01"},
    ],
)
def test_a_bad_delay_is_refused_at_once(options: Any) -> None:
    with pytest.raises(InvalidOption, match="delay_"):
        set_workflow_delay("w", **options)


@pytest.mark.parametrize("priority", [-1, "1", 2**31, True, None])
def test_a_bad_priority_is_refused_at_once(priority: Any) -> None:
    with pytest.raises(InvalidOption, match="priority"):
        set_workflow_priority("w", priority)


@database
def test_attributes_are_replaced_merged_and_cleared() -> None:
    handle = start_workflow(three_steps)

    def attributes() -> Any:
        return handle.get_status().attributes

    update_workflow_attributes(handle.workflow_id, {"a": 1, "b": {"c": "\\u0000 is no NUL"}})
    update_workflow_attributes(handle.workflow_id, {"a": None, "d": [1.5, True]}, merge=True)
    assert attributes() == {"a": None, "b": {"c": "\\u0000 is no NUL"}, "d": [1.5, True]}
    update_workflow_attributes(handle.workflow_id, {"e": "é"})
    assert attributes() == {"e": "é"}
    update_workflow_attributes(handle.workflow_id, None)
    assert attributes() == {}


@pytest.mark.parametrize(
    "attributes",
    [[1], "a", {1: 2}, {"a": object()}, {"a": float("nan")}, {"a": "\x00"}, {"a": {"b": ["\ud800"]}}, {"\x00": 1}],
)
def test_attributes_that_no_database_can_hold_are_refused_at_once(attributes: Any) -> None:
    with pytest.raises(InvalidOption, match="attributes"):
        update_workflow_attributes("w", attributes)
    with pytest.raises(InvalidOption, match="merge"):
        update_workflow_attributes("w", None, merge=True)


# ---- in a workflow's body -------------------------------------------------------------------------------------

operations: list[int] = []


@workflow
def operates() -> list[Any]:
    results = [
        cancel_workflow("a"),
        cancel_workflows(["a", "b"]),
        cancel_workflows(["c"], cancel_children=True),
        len(resume_workflows(["a", "b"])),
        resume_workflow("c").workflow_id,
        set_workflow_priority("a", 2),
        set_workflow_delay("b", delay_seconds=3600),
        delete_workflow("d"),
        delete_workflows(["e"]),
    ]
    update_workflow_attributes("a", {"seen": True}, merge=True)
    operations.append(1)
    if len(operations) == 1:
        raise KeyboardInterrupt  # as if the process had died here
    return results


@everywhere
def test_in_a_body_each_verb_is_a_step_and_happens_once() -> None:
    operations.clear()
    for name in "abc":
        Workflow.objects.create(id=name, name="of nobody", status="PENDING", queue_name="nowhere")
    for name in "de":
        Workflow.objects.create(id=name, name="of nobody", status="SUCCESS")
    with SetWorkflowID("operator"), pytest.raises(KeyboardInterrupt):
        operates()
    before = list(Workflow.objects.exclude(pk="operator").order_by("pk").values())
    with Runtime(queues=[]):
        result = retrieve_workflow("operator").get_result(timeout=20)
    assert result == [True, 1, 1, 2, "c", True, True, 1, 1]
    assert list(Workflow.objects.exclude(pk="operator").order_by("pk").values()) == before
    assert [(row["status"], row["priority"], row["attributes"]) for row in before] == [
        ("ENQUEUED", 2, {"seen": True}),
        ("DELAYED", 0, {}),
        ("ENQUEUED", 0, {}),
    ]
    assert list(Step.objects.order_by("number").values_list("name", flat=True)) == [
        "DBOS.cancelWorkflow",
        "DBOS.cancelWorkflows",
        "DBOS.cancelWorkflows",
        "DBOS.resumeWorkflows",
        "DBOS.resumeWorkflow",
        "DBOS.setWorkflowPriority",
        "DBOS.setWorkflowDelay",
        "DBOS.deleteWorkflow",
        "DBOS.deleteWorkflows",
        "DBOS.updateWorkflowAttributes",
    ]


@workflow
def gives_up(cancel_children: bool) -> None:
    me = workflow_id()
    assert me is not None
    cancel_workflow(me, cancel_children=cancel_children)
    remembered("not reached")


@database
@pytest.mark.parametrize("cancel_children", [False, True])
def test_a_workflow_may_cancel_itself_and_ends_there(cancel_children: bool) -> None:
    with Runtime():
        handle = start_workflow(gives_up, cancel_children)
        with pytest.raises(AwaitedWorkflowCancelled):
            handle.get_result(timeout=20)
        eventually(lambda: not running_ids())
    assert runs == []
    assert handle.get_status().status == WorkflowStatus.CANCELLED


@step
def resumes_from_a_step(workflow_id: str) -> None:
    resume_workflow(workflow_id)


@workflow
def resumes_itself(in_step: bool) -> str:
    me = workflow_id()
    assert me is not None
    try:
        resumes_from_a_step(me) if in_step else resume_workflow(me)
    except InvalidOption as error:
        return str(error)
    return ""


@database
@pytest.mark.parametrize("in_step", [False, True])
def test_a_workflow_cannot_resume_itself_for_ever(in_step: bool) -> None:
    assert "cannot resume itself" in resumes_itself(in_step)


@workflow
def fails_to_operate() -> list[str]:
    errors = []
    for verb in (cancel_workflow, delete_workflow):
        try:
            verb("nobody")
        except NonExistentWorkflow as error:
            errors.append(error.code)
    return errors


@everywhere
def test_what_a_verb_raises_is_recorded_too() -> None:
    with SetWorkflowID("w"):
        assert fails_to_operate() == ["non_existent_workflow"] * 2
    assert Step.objects.filter(workflow_id="w", error__isnull=False).count() == 2


@everywhere
def test_the_async_twins_do_the_same() -> None:
    gate.set()
    ids = [start_workflow(three_steps).workflow_id for _ in range(2)]

    async def operate() -> list[Any]:
        await aupdate_workflow_attributes(ids[0], {"a": 1})
        return [
            await acancel_workflow(ids[0]),
            await acancel_workflows(ids, cancel_children=True),
            (await aresume_workflow(ids[0])).workflow_id,
            [handle.workflow_id for handle in await aresume_workflows(ids)],
            await aset_workflow_priority(ids[0], 3),
            await aset_workflow_delay(ids[0], delay_seconds=3600),
            await acancel_workflow(ids[0]),
            await adelete_workflow(ids[0]),
        ]

    assert async_to_sync(operate)() == [True, 1, ids[0], ids, True, True, True, 1]
    with Runtime():
        assert retrieve_workflow(ids[1]).get_result(timeout=20) == ["one", "held", "three"]
    assert async_to_sync(adelete_workflows)(ids[1:]) == 1


@database
@pytest.mark.parametrize("waits_for", ["a retry", "a result"])
def test_a_cancellation_ends_a_wait_at_once(waits_for: str) -> None:
    @step(name=f"down {waits_for}", retries_allowed=True, max_attempts=2, interval_seconds=3600)
    def down() -> None:
        runs.append("waiting")
        raise OSError("down")

    @workflow(name=f"waiting {waits_for}")
    def waiting(other: str) -> None:
        if waits_for == "a retry":
            down()
        runs.append("waiting")
        retrieve_workflow(other).get_result()

    with Runtime(queues=[]):
        other = Workflow.objects.create(id="other", name="of nobody", status="ENQUEUED", queue_name="nowhere")
        handle = start_workflow(waiting, other.pk)
        eventually(lambda: "waiting" in runs)
        cancel_workflow(handle.workflow_id)
        eventually(lambda: not running_ids())
    assert handle.get_status().status == WorkflowStatus.CANCELLED


@database
def test_a_cancellation_from_elsewhere_is_noticed_at_the_next_poll() -> None:
    @workflow
    def waiting_unwoken(other: str) -> None:
        runs.append("waiting")
        retrieve_workflow(other).get_result()

    with Runtime(queues=[]):
        other = Workflow.objects.create(id="other", name="of nobody", status="ENQUEUED", queue_name="nowhere")
        handle = start_workflow(waiting_unwoken, other.pk)
        eventually(lambda: "waiting" in runs)
        Workflow.objects.filter(pk=handle.workflow_id).update(status="CANCELLED")
        eventually(lambda: not running_ids())
