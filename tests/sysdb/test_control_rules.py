"""Any order of starts, claims, steps, ends and verbs leaves what the rules say, and nothing else."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_dbos.clock import monotonic
from django_dbos.exceptions import NonExistentWorkflow, UnfinishedWorkflow, WorkflowIDInUse, WorkflowInterrupted
from django_dbos.models import Step, Workflow
from django_dbos.states import ACTIVE, FINISHED, WAITING, WorkflowStatus, expected
from django_dbos.sysdb import control, forks, journal, queues
from django_dbos.sysdb.forks import Course
from django_dbos.sysdb.journal import Checkpoint, Ending, Lease
from tests.sysdb.rows import NAME, claimant, workflow
from tests.sysdb.test_control import everywhere

S = WorkflowStatus
IDS = ("a", "b", "c")
STEPS = 3


@dataclass(frozen=True)
class Known:
    """A workflow as the rules have it."""

    status: str
    epoch: int = 0
    steps: int = 0
    forked_from: str | None = None
    parent: str | None = None


@dataclass
class Model:
    """What should be in the database, changed by the rules alone."""

    rows: dict[str, Known] = field(default_factory=dict)

    def change(self, each: str, verb: str, **values: object) -> None:
        """What a verb leaves of a workflow, if it is allowed at all."""
        row = self.rows.get(each)
        if row is not None and row.status in expected(verb):
            self.rows[each] = replace(row, **values)  # type: ignore[arg-type]

    def check(self) -> None:
        """The database says the same."""
        found = {
            row.pk: Known(
                status=row.status,
                epoch=row.epoch,
                steps=row.steps.count(),
                forked_from=row.forked_from_id,
                parent=row.parent_id,
            )
            for row in Workflow.objects.all()
        }
        assert found == self.rows
        for row in Workflow.objects.all():
            assert (row.completed_at is not None) == (row.status in FINISHED), row.status
            assert row.executor_id == "me" or row.status != S.PENDING
        assert Step.objects.count() == sum(row.steps for row in self.rows.values()), "a step without its workflow"


def enqueue(model: Model, each: str, other: str) -> None:
    if each not in model.rows:
        parent = other if other in model.rows else None
        workflow(each, parent_id=parent)
        model.rows[each] = Known(status=S.ENQUEUED, parent=parent)


def claim(model: Model, each: str, other: str) -> None:
    for claimed in queues.claim(claimant(), {"": 1}, 1):
        row = model.rows[claimed.id]
        assert row.status == S.ENQUEUED
        assert claimed.may_have_steps or not row.steps
        model.rows[claimed.id] = replace(row, status=S.PENDING, epoch=row.epoch + 1)


def lease_of(model: Model, each: str) -> Lease:
    row = model.rows.get(each)
    return Lease(each, "me", row.epoch if row else 1)


def record(model: Model, each: str, other: str) -> None:
    row = model.rows.get(each)
    now = monotonic()
    number = row.steps + 1 if row else 1
    checkpoint = Checkpoint(number=number, name="step", output="1", started=now, completed=now)
    try:
        journal.inline.record(lease_of(model, each), checkpoint)
    except WorkflowInterrupted:
        assert row is None or row.status != S.PENDING
    else:
        assert row is not None
        model.rows[each] = replace(row, steps=number)


def finish(model: Model, each: str, other: str) -> None:
    status = S.SUCCESS if other == "a" else S.ERROR
    row = model.rows.get(each)
    try:
        journal.inline.finish(lease_of(model, each), Ending(status=status, output="1"))
    except WorkflowInterrupted:
        assert row is None or row.status != S.PENDING
    else:
        # Under the same claim an outcome that is there already counts as written.
        model.change(each, "succeed", status=status)


def cancel(model: Model, each: str, other: str) -> None:
    if each not in model.rows:
        with pytest.raises(NonExistentWorkflow):
            control.cancel(each)
        return
    assert control.cancel(each) is (model.rows[each].status in ACTIVE)
    model.change(each, "cancel", status=S.CANCELLED)


def cancel_tree(model: Model, each: str, other: str) -> None:
    if each not in model.rows:
        return
    control.cancel_trees([each])
    for member in tree_of(model, each):
        model.change(member, "cancel", status=S.CANCELLED)


def tree_of(model: Model, root: str) -> set[str]:
    members = {root}
    while more := {each for each, row in model.rows.items() if row.parent in members} - members:
        members |= more
    return members


def resume(model: Model, each: str, other: str) -> None:
    if each in model.rows and other in model.rows:
        resumed = control.resume_all([each, other])
        assert resumed == len({x for x in (each, other) if model.rows[x].status in expected("resume")})
        for member in (each, other):
            model.change(member, "resume", status=S.ENQUEUED)
    else:
        with pytest.raises(NonExistentWorkflow):
            control.resume_all([each, other])


def delay(model: Model, each: str, other: str) -> None:
    if each in model.rows:
        assert control.delay(each, seconds=3600) is (model.rows[each].status in WAITING)
        model.change(each, "delay", status=S.DELAYED)


def fork(model: Model, each: str, other: str) -> None:
    original = model.rows.get(each)
    if original is None or other in model.rows:
        with pytest.raises((NonExistentWorkflow, WorkflowIDInUse)):
            forks.fork(each, other, STEPS)
        return
    forks.fork(each, other, STEPS)
    model.rows[other] = Known(status=S.ENQUEUED, steps=min(original.steps, STEPS - 1), forked_from=each)


def rewind(model: Model, each: str, other: str) -> None:
    row = model.rows.get(each)
    if row is None or row.status not in FINISHED:
        with pytest.raises((NonExistentWorkflow, UnfinishedWorkflow)):
            forks.rewind(each, 2, Course())
        return
    forks.rewind(each, 2, Course())
    model.change(each, "rewind", status=S.ENQUEUED, steps=min(row.steps, 1))


def delete(model: Model, each: str, other: str) -> None:
    row = model.rows.get(each)
    if row is None or row.status in ACTIVE:
        with pytest.raises((NonExistentWorkflow, UnfinishedWorkflow)):
            control.delete_all([each])
        return
    assert control.delete_all([each]) == 1
    del model.rows[each]


VERBS = (enqueue, claim, record, finish, cancel, cancel_tree, resume, delay, fork, rewind, delete)
#: Starts and claims are drawn more often: without them the others have nothing to do.
DRAWN = st.sampled_from((*VERBS, enqueue, claim, claim, record, finish))
ORDERS = st.lists(st.tuples(DRAWN, st.sampled_from(IDS), st.sampled_from(IDS)), min_size=10, max_size=40)


@everywhere
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(order=ORDERS)
def test_any_order_of_verbs_leaves_what_the_rules_say(order: list[tuple[object, str, str]]) -> None:
    for table in (Step, Workflow):
        table.objects.all().delete()
    model = Model()
    for verb, each, other in order:
        assert callable(verb)
        verb(model, each, other)
        model.check()
    assert not Workflow.objects.exclude(name=NAME).exists()
