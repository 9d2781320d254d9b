"""Going back to a step: forks, forks of what failed, rewinds."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_dbos import (
    Runtime,
    SetWorkflowID,
    afork_from_failure,
    afork_workflow,
    arewind_workflow,
    fork_from_failure,
    fork_workflow,
    list_workflow_steps,
    list_workflows,
    retrieve_workflow,
    rewind_workflow,
    start_workflow,
    step,
    workflow,
)
from django_dbos import transaction as dbos_transaction
from django_dbos.exceptions import InvalidOption, NonExistentWorkflow, UnfinishedWorkflow, WorkflowIDInUse
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from tests.models import Row
from tests.support import eventually

database = pytest.mark.django_db(transaction=True)
#: A rewind looks on every database where transactions of the suite may have left something.
everywhere = pytest.mark.django_db(transaction=True, databases=["default", "other"])

runs: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def fresh() -> None:
    runs.clear()
    broken.clear()


@step
def done_for_forks(name: str) -> str:
    runs.append(name)
    if name in broken:
        raise ValueError(f"{name} is broken")
    return name


@workflow
def three_done() -> list[str]:
    return [done_for_forks("one"), done_for_forks("two"), done_for_forks("three")]


@workflow
def child_of_fork(name: str) -> str:
    return done_for_forks(name)


@workflow
def parent_of_fork() -> list[str]:
    return [done_for_forks("before"), start_workflow(child_of_fork, "child").get_result(), done_for_forks("after")]


@database
@pytest.mark.parametrize(("start_step", "expected"), [(1, ["one", "two", "three"]), (3, ["three"]), (99, [])])
def test_a_fork_takes_over_the_steps_below_its_start(start_step: int, expected: list[str]) -> None:
    with SetWorkflowID("original"):
        three_done()
    runs.clear()
    with Runtime():
        fork = fork_workflow("original", start_step)
        assert fork.get_result(timeout=10) == ["one", "two", "three"]
    assert runs == expected
    row = fork.get_status()
    assert row.forked_from_id == "original"
    assert row.steps.count() == 3
    assert list(Workflow.objects.get(pk="original").forks.values_list("pk", flat=True)) == [fork.workflow_id]


@database
def test_a_fork_may_be_given_its_id() -> None:
    with SetWorkflowID("original"):
        three_done()
    with SetWorkflowID("copy"):
        assert fork_workflow("original").workflow_id == "copy"


@database
def test_a_fork_leaves_the_original_as_it_was() -> None:
    with SetWorkflowID("original"):
        three_done()
    before = Workflow.objects.filter(pk="original").values().get()
    fork_workflow("original", 2)
    assert Workflow.objects.filter(pk="original").values().get() == before
    assert Step.objects.filter(workflow_id="original").count() == 3


@pytest.mark.parametrize("start_step", [0, -1, "2", None])
def test_a_bad_start_step_is_refused_at_once(start_step: Any) -> None:
    with pytest.raises(InvalidOption, match="start_step"):
        fork_workflow("w", start_step)


@database
def test_a_fork_under_an_id_that_is_in_use_is_refused() -> None:
    with SetWorkflowID("original"):
        three_done()
    with SetWorkflowID("original"), pytest.raises(WorkflowIDInUse, match="'original'"):
        fork_workflow("original")
    assert Workflow.objects.count() == 1


@database
def test_a_fork_goes_where_it_is_told() -> None:
    with SetWorkflowID("original"):
        three_done()
    row = fork_workflow(
        "original", 2, application_version="v2", queue_name="q", partition_key="p", timeout_seconds=timedelta(minutes=1)
    ).get_status()
    assert (row.application_version, row.queue_name, row.partition_key, row.timeout) == ("v2", "q", "p", 60.0)


@pytest.mark.parametrize(
    "options",
    [
        {"queue_name": ""},
        {"application_version": "x" * 256},
        {"timeout_seconds": 0},
        {"timeout_seconds": -1},
        {"replacement_children": {"a": 5}},
    ],
)
def test_a_bad_option_of_a_fork_is_refused_at_once(options: Any) -> None:
    with pytest.raises(InvalidOption):
        fork_workflow("w", **options)


@database
def test_a_fork_may_take_another_child() -> None:
    broken.add("child")
    with Runtime():
        with SetWorkflowID("original"):
            handle = start_workflow(parent_of_fork)
        with pytest.raises(ValueError, match="broken"):
            handle.get_result(timeout=20)
        broken.clear()
        repaired = fork_workflow("original-2")
        repaired.get_result(timeout=20)
        fork = fork_workflow("original", 3, replacement_children={"original-2": repaired.workflow_id})
        assert fork.get_result(timeout=20) == ["before", "child", "after"]
    assert runs == ["before", "child", "child", "after"]


# ---- from failure ---------------------------------------------------------------------------------------------


@database
def test_what_failed_runs_again_from_the_step_that_failed() -> None:
    broken.add("two")
    for number in range(3):
        with SetWorkflowID(f"w{number}"), pytest.raises(ValueError, match="broken"):
            three_done()
    broken.clear()
    with SetWorkflowID("good"):
        three_done()
    runs.clear()
    with Runtime():
        handles = fork_from_failure(["good", "w2", "w0"], queue_name=None)
        results = [handle.get_result(timeout=20) for handle in handles]
    assert results == [["one", "two", "three"]] * 2
    assert sorted(runs) == ["three", "three", "two", "two"]
    assert [handle.get_status().forked_from_id for handle in handles] == ["w2", "w0"]
    (last,) = fork_from_failure(filters={"name": "three_done", "was_forked_from": False})
    assert last.get_status().forked_from_id == "w1"
    assert fork_from_failure(filters={"was_forked_from": False}) == []


@database
def test_a_child_that_failed_is_started_again() -> None:
    broken.add("child")
    with Runtime():
        with SetWorkflowID("original"):
            handle = start_workflow(parent_of_fork)
        with pytest.raises(ValueError, match="broken"):
            handle.get_result(timeout=20)
        broken.clear()
        (fork,) = fork_from_failure(["original"])
        assert fork.get_result(timeout=20) == ["before", "child", "after"]
    assert runs == ["before", "child", "child", "after"]


@database
def test_filters_and_limits_choose_what_is_forked() -> None:
    for number in range(3):
        Workflow.objects.create(id=f"w{number}", name="n", status=WorkflowStatus.ERROR)
    Workflow.objects.create(id="cancelled", name="n", status=WorkflowStatus.CANCELLED)
    handles = fork_from_failure(filters={}, limit=2, application_version="v2", timeout_seconds=5)
    rows = [handle.get_status() for handle in handles]
    assert [row.forked_from_id for row in rows] == ["w0", "w1"]
    assert {(row.application_version, row.timeout) for row in rows} == {("v2", 5.0)}
    with pytest.raises(NonExistentWorkflow, match="'nobody'"):
        fork_from_failure(["w2", "nobody"])
    assert not Workflow.objects.filter(forked_from_id="w2").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"workflow_ids": ["w"], "filters": {}},
        {"workflow_ids": "w"},
        {"filters": {"x": 1}},
        {"filters": {}, "limit": -1},
    ],
)
def test_a_choice_that_says_nothing_is_refused(arguments: Any) -> None:
    with pytest.raises(InvalidOption):
        fork_from_failure(**arguments)


# ---- rewind ---------------------------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize(("start_step", "expected"), [(1, ["one", "two", "three"]), (3, ["three"]), (99, [])])
def test_a_rewound_workflow_runs_again_under_its_own_id(start_step: int, expected: list[str]) -> None:
    with SetWorkflowID("w"):
        three_done()
    runs.clear()
    with Runtime():
        handle = rewind_workflow("w", start_step)
        assert handle.workflow_id == "w"
        assert handle.get_result(timeout=20) == ["one", "two", "three"]
    assert runs == expected
    assert Workflow.objects.count() == 1
    assert Workflow.objects.get().epoch == 2


@dbos_transaction(using="other")
def written_elsewhere(name: str) -> str:
    runs.append(name)
    Row.objects.using("other").create(name=name)
    return name


@workflow
def writes_elsewhere() -> str:
    return written_elsewhere("row")


@everywhere
def test_a_rewound_transaction_of_another_database_runs_again() -> None:
    with SetWorkflowID("w"):
        writes_elsewhere()
    with Runtime():
        rewind_workflow("w").get_result(timeout=20)
    assert runs == ["row", "row"]


@database
def test_what_runs_is_not_rewound() -> None:
    gate = threading.Event()

    @workflow(name="held by a gate")
    def holds() -> None:
        runs.append("held")
        gate.wait(10)

    with Runtime():
        handle = start_workflow(holds)
        eventually(lambda: "held" in runs)
        with pytest.raises(UnfinishedWorkflow):
            rewind_workflow(handle.workflow_id)
        gate.set()
        handle.get_result(timeout=20)


@pytest.mark.parametrize("start_step", [0, "1", True])
def test_a_bad_start_step_of_a_rewind_is_refused_at_once(start_step: Any) -> None:
    with pytest.raises(InvalidOption, match="start_step"):
        rewind_workflow("w", start_step)


# ---- in a workflow's body -------------------------------------------------------------------------------------

attempts: list[int] = []


@workflow
def forks_and_rewinds() -> list[str]:
    fork = fork_workflow("original", 2)
    with SetWorkflowID("named"):
        named = fork_workflow("original")
    failed = fork_from_failure(["original", "failed"])
    rewound = rewind_workflow("original")
    attempts.append(1)
    if len(attempts) == 1:
        raise KeyboardInterrupt  # as if the process had died here
    return [fork.workflow_id, named.workflow_id, *(each.workflow_id for each in failed), rewound.workflow_id]


@everywhere
def test_in_a_body_they_happen_once() -> None:
    attempts.clear()
    with SetWorkflowID("original"):
        three_done()
    Workflow.objects.create(id="failed", name="of nobody", status=WorkflowStatus.ERROR)
    with SetWorkflowID("operator"), pytest.raises(KeyboardInterrupt):
        forks_and_rewinds()
    with Runtime():
        ids = retrieve_workflow("operator").get_result(timeout=20)
    assert len(list_workflows(is_fork=True)) == 3
    assert ids[1] == "named"
    assert ids[3] == "original"
    names = [each.name for each in list_workflow_steps("operator")]
    assert names == ["DBOS.forkWorkflow", "DBOS.forkWorkflow", "DBOS.forkFromFailure", "DBOS.rewindWorkflow"]


@everywhere
def test_the_async_twins_do_the_same() -> None:
    with SetWorkflowID("original"):
        three_done()
    Workflow.objects.create(id="failed", name="of nobody", status=WorkflowStatus.ERROR)

    async def operate() -> list[str]:
        fork = await afork_workflow("original", 2, queue_name="q")
        failed = await afork_from_failure(["failed"])
        rewound = await arewind_workflow("original", 2)
        return [fork.workflow_id, *(each.workflow_id for each in failed), rewound.workflow_id]

    fork, failed, rewound = async_to_sync(operate)()
    assert Workflow.objects.get(pk=fork).queue_name == "q"
    assert Workflow.objects.get(pk=failed).forked_from_id == "failed"
    assert Step.objects.filter(workflow_id=rewound).count() == 1
