"""Going back to a step: what a fork copies, what a rewind drops, and what both leave."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from django_dbos.exceptions import NonExistentWorkflow, UnfinishedWorkflow, WorkflowIDInUse
from django_dbos.models import ApplicationVersion, Event, EventHistory, Message, Step, StreamEntry, Workflow
from django_dbos.states import ACTIVE, FINISHED, WorkflowStatus
from django_dbos.sysdb import control, forks, queues, steps
from django_dbos.sysdb.forks import Course, Fork
from tests.support import statements
from tests.sysdb.rows import claimant, owned, rolled_back, workflow
from tests.sysdb.test_control import FULL, changes, columns, everywhere

SINGLE = Course()


def stepped(workflow_id: str, *names: str, **columns: Any) -> None:
    """A finished workflow with these steps."""
    workflow(workflow_id, columns.pop("status", WorkflowStatus.SUCCESS), epoch=1, **columns)
    for number, name in enumerate(names, 1):
        Step.objects.create(workflow_id=workflow_id, number=number, name=name, output='"done"')


@rolled_back
def test_a_fork_takes_over_what_was_asked_and_starts_the_rest_afresh() -> None:
    owned("original", epoch=5, output='"done"', **{**FULL, "application_version": ""})
    workflow("fresh")
    forks.fork("original", "copy", 1)
    differs = set(changes(columns("fresh"), columns("copy"))) - {"id", "created_at", "updated_at"}
    assert differs == {
        "forked_from_id",
        "class_name",
        "instance_name",
        "inputs",
        "serializer",
        "application_name",
        "authenticated_user",
        "authenticated_roles",
        "assumed_role",
        "attributes",
    }
    row = Workflow.objects.get(pk="copy")
    assert (row.status, row.forked_from_id, row.inputs, row.attributes) == ("ENQUEUED", "original", "[1]", {"a": 1})


@rolled_back
def test_a_fork_copies_the_steps_below_its_start_whole() -> None:
    owned("original")
    for number in (1, 2, 3):
        Step.objects.create(
            workflow_id="original",
            number=number,
            name=f"step {number}",
            output=f"{number}",
            serializer="their.Serializer",
            child_id="child",
            attempts=number,
            executor_id="me",
            started_at=Now(),
            completed_at=Now(),
        )
    forks.fork("original", "copy", 3)
    copied = list(Step.objects.filter(workflow_id="copy").order_by("number").values())
    originals = list(Step.objects.filter(workflow_id="original", number__lt=3).order_by("number").values())
    assert [{**step, "workflow_id": "original"} for step in copied] == originals
    assert Step.objects.filter(workflow_id="original").count() == 3


@rolled_back
def test_a_fork_under_an_id_that_is_taken_is_refused_and_writes_nothing() -> None:
    owned("original")
    Step.objects.create(workflow_id="original", number=1, name="step")
    workflow("taken", name="something else")
    before = columns("taken")
    with pytest.raises(WorkflowIDInUse, match="'taken'"):
        forks.fork("original", "taken", 2)
    assert columns("taken") == before
    assert not Step.objects.filter(workflow_id="taken").exists()


@rolled_back
def test_a_fork_of_an_unknown_workflow_says_so() -> None:
    with pytest.raises(NonExistentWorkflow, match="'nobody'"):
        forks.fork("nobody", "copy", 1)


@rolled_back
def test_a_fork_runs_where_it_is_told() -> None:
    stepped("original")
    course = Course(application_version="v2", queue_name="q", partition_key="p", timeout=5.0)
    forks.fork("original", "copy", 1, course)
    row = Workflow.objects.get(pk="copy")
    assert (row.application_version, row.queue_name, row.partition_key, row.timeout) == ("v2", "q", "p", 5.0)
    forks.fork("original", "free", 1, Course(application_version=""))
    assert Workflow.objects.get(pk="free").application_version == ""


@everywhere
@pytest.mark.parametrize("again", ["fork", "rewind"])
def test_what_was_pinned_to_a_version_goes_to_the_latest(again: str) -> None:
    def version_after(workflow_id: str) -> str:
        if again == "rewind":
            forks.rewind(workflow_id, 1, SINGLE)
            return Workflow.objects.get(pk=workflow_id).application_version
        forks.fork(workflow_id, f"{workflow_id} again", 1)
        return Workflow.objects.get(pk=f"{workflow_id} again").application_version

    stepped("free")
    stepped("pinned", application_version="v1")
    stepped("before any", application_version="v0")
    assert version_after("before any") == "v0"
    for name, minutes in (("v2", 1), ("v1", 2)):
        ApplicationVersion.objects.create(name=name, made_latest_at=Now() - timedelta(minutes=minutes))
    assert version_after("pinned") == "v2"
    assert version_after("free") == ""


@rolled_back
def test_replacements_take_the_place_of_children_in_the_copy_alone() -> None:
    workflow("new child")
    stepped("original", "start", "wait", "start another")
    Step.objects.filter(workflow_id="original", number__lt=3).update(child_id="child")
    Step.objects.filter(workflow_id="original", number=3).update(child_id="another")
    forks.fork("original", "copy", 9, replacements={"child": "new child", "not there": "new child"})
    children = Step.objects.order_by("workflow_id", "number").values_list("child_id", flat=True)
    assert list(children) == ["new child", "new child", "another", "child", "child", "another"]
    with pytest.raises(NonExistentWorkflow, match="'nobody'"):
        forks.fork("original", "another copy", 9, replacements={"child": "nobody"})
    assert not Workflow.objects.filter(pk="another copy").exists()


# ---- events, streams, messages ----------------------------------------------------------------------------------


def says(workflow_id: str) -> None:
    """What a workflow of four steps set and wrote; steps 2 and 3 ran side by side."""
    for key, step, value in (("a", 1, "1"), ("a", 3, "3"), ("b", 2, "2"), ("c", 4, "4")):
        EventHistory.objects.create(workflow_id=workflow_id, key=key, step=step, value=value)
    for key, value in (("a", "3"), ("b", "2"), ("c", "4")):
        Event.objects.create(workflow_id=workflow_id, key=key, value=value)
    for key, offset, step in (("s", 0, 1), ("s", 1, 3), ("s", 2, 2), ("s", 3, 4), ("t", 0, 4)):
        StreamEntry.objects.create(
            workflow_id=workflow_id, key=key, offset=offset, step=step, value=f'"from {step}"', is_end=step == 4
        )
    for consumed in (1, 3, None):
        Message.objects.create(
            id=f"{workflow_id} {consumed}", destination_id=workflow_id, payload="1", consumed_by_step=consumed
        )


def said(workflow_id: str) -> tuple[dict[str, str], list[tuple[str, int]], list[tuple[str, int, int]]]:
    """(events, their history, entries of streams) of a workflow."""
    return (
        dict(Event.objects.filter(workflow_id=workflow_id).values_list("key", "value")),
        list(EventHistory.objects.filter(workflow_id=workflow_id).order_by("key", "step").values_list("key", "step")),
        list(
            StreamEntry.objects.filter(workflow_id=workflow_id)
            .order_by("key", "offset")
            .values_list("key", "offset", "step")
        ),
    )


#: start step -> what is left of what was said.
LEFT: dict[int, Any] = {
    1: ({}, [], []),
    2: ({"a": "1"}, [("a", 1)], [("s", 0, 1)]),
    3: ({"a": "1", "b": "2"}, [("a", 1), ("b", 2)], [("s", 0, 1), ("s", 1, 2)]),
    4: ({"a": "3", "b": "2"}, [("a", 1), ("a", 3), ("b", 2)], [("s", 0, 1), ("s", 1, 3), ("s", 2, 2)]),
    99: (
        {"a": "3", "b": "2", "c": "4"},
        [("a", 1), ("a", 3), ("b", 2), ("c", 4)],
        [("s", 0, 1), ("s", 1, 3), ("s", 2, 2), ("s", 3, 4), ("t", 0, 4)],
    ),
}


@everywhere
@pytest.mark.parametrize("start_step", LEFT)
@pytest.mark.parametrize("again", ["fork", "rewind"])
def test_events_and_streams_are_as_they_were_at_the_step(again: str, start_step: int) -> None:
    stepped("w", "one", "two", "three", "four")
    says("w")
    if again == "fork":
        forks.fork("w", "copy", start_step)
        assert said("copy") == LEFT[start_step]
        assert said("w") == LEFT[99]
        assert not Message.objects.filter(destination_id="copy").exists()
        assert set(Message.objects.values_list("consumed_by_step", flat=True)) == {1, 3, None}
    else:
        forks.rewind("w", start_step, SINGLE)
        assert said("w") == LEFT[start_step]
        consumed = {step for step in (1, 3) if step < start_step}
        assert set(Message.objects.values_list("consumed_by_step", flat=True)) == {*consumed, None}


@everywhere
@pytest.mark.parametrize("again", ["fork", "rewind"])
def test_what_a_step_left_behind_that_was_never_recorded_goes(again: str) -> None:
    stepped("w", "one", "two", "three")
    says("w")
    if again == "fork":
        forks.fork("w", "copy", 99)
    else:
        forks.rewind("w", 99, SINGLE)
    assert said("copy" if again == "fork" else "w") == LEFT[4]


# ---- rewind ---------------------------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_rewind_drops_later_steps_and_leaves_the_epoch(status: str) -> None:
    values = {**FULL, "deduplication_id": "", "executor_id": "me", "attempts": 3}
    stepped("w", "one", "two", "three", status=status, output="1", error="2", completed_at=Now(), **values)
    before = columns()
    forks.rewind("w", 2, SINGLE)
    changed = changes(before, columns())
    changed.pop("updated_at")
    assert changed == {
        "status": WorkflowStatus.ENQUEUED,
        "executor_id": "",
        "attempts": 0,
        "deadline": None,
        "output": None,
        "error": None,
        "completed_at": None,
    }
    assert list(Step.objects.values_list("number", flat=True)) == [1]
    (claimed,) = queues.claim(claimant(version="v1"), {"q": 1}, 1)
    assert (claimed.epoch, claimed.may_have_steps) == (2, True)


@everywhere
def test_a_rewind_goes_where_it_is_told() -> None:
    stepped("w", queue_name="q", application_version="v1")
    forks.rewind("w", 1, Course(queue_name="other", partition_key="p", application_version=""))
    row = Workflow.objects.get()
    assert (row.queue_name, row.partition_key, row.application_version) == ("other", "p", "")


@everywhere
@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_what_has_not_finished_is_not_rewound(status: str) -> None:
    stepped("w", "one", status=status)
    before = columns()
    with pytest.raises(UnfinishedWorkflow, match=r"'w'.*cancel"):
        forks.rewind("w", 1, SINGLE)
    assert columns() == before
    assert Step.objects.count() == 1
    with pytest.raises(NonExistentWorkflow, match="'nobody'"):
        forks.rewind("nobody", 1, SINGLE)


@everywhere
def test_a_rewound_transaction_of_another_database_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "elsewhere", {"other"})
    stepped("w", "one", "two")
    for number in (1, 2):
        Step.objects.using("other").create(workflow_id="w", number=number, name="transaction")
    forks.rewind("w", 2, SINGLE)
    assert [step.number for step in Step.objects.using("other")] == [1]


# ---- from failure ---------------------------------------------------------------------------------------------


def failing(workflow_id: str, *errors: int, children: Sequence[tuple[int, str]] = (), steps: int = 4) -> None:
    stepped(workflow_id, *(["step"] * steps), status=WorkflowStatus.ERROR)
    Step.objects.filter(workflow_id=workflow_id, number__in=errors).update(output=None, error='"failed"')
    for number, child_id in children:
        Step.objects.filter(workflow_id=workflow_id, number=number).update(child_id=child_id)


@rolled_back
def test_the_failed_step_is_the_last_one_with_an_error() -> None:
    failing("step", 2, 4)
    failing("caught, then the body", steps=3)
    failing("nothing recorded", steps=0)
    failing("child", 4, children=[(2, "c"), (4, "c")])
    failing("child long ago", 4, children=[(1, "c"), (2, "c")])
    assert forks.failed_steps(list(Workflow.objects.values_list("pk", flat=True))) == {
        "step": 4,
        "caught, then the body": 4,
        "nothing recorded": 1,
        "child": 2,
        "child long ago": 4,
    }


@rolled_back
def test_only_what_failed_is_among_the_failed() -> None:
    for status in WorkflowStatus:
        workflow(status.value, status)
    ids = [*WorkflowStatus.values, "ERROR"]
    assert forks.failed_among(ids) == ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
    with pytest.raises(NonExistentWorkflow):
        forks.failed_among(["ERROR", "nobody"])


@rolled_back
def test_many_are_forked_in_a_few_statements_each_from_its_own_step() -> None:
    ids = [f"w{number:03}" for number in range(control.BATCH + 50)]
    for each in ids[:3]:
        failing(each, 2)
    Workflow.objects.bulk_create([Workflow(id=each, name="n", status=WorkflowStatus.ERROR) for each in ids[3:]])
    numbers = forks.failed_steps(ids)
    with statements() as sent:
        forks.fork_all([Fork(original_id=each, new_id=f"{each}+", start_step=numbers[each]) for each in ids], SINGLE)
    assert len([sql for sql in sent if sql.lstrip().startswith("INSERT")]) == 2 * 5
    assert Workflow.objects.enqueued().count() == len(ids)
    assert Step.objects.filter(workflow_id="w000+").count() == 1


@rolled_back
def test_one_fork_that_cannot_be_made_and_none_is() -> None:
    stepped("w")
    workflow("taken")
    for new_id, original in (("taken", "w"), ("new", "nobody")):
        with pytest.raises((WorkflowIDInUse, NonExistentWorkflow)):
            forks.fork_all(
                [
                    Fork(original_id="w", new_id="copy", start_step=1),
                    Fork(original_id=original, new_id=new_id, start_step=1),
                ],
                SINGLE,
            )
    assert Workflow.objects.count() == 2
