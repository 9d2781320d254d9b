"""The journal: a checkpoint or an outcome is written under exactly (PENDING, executor, epoch), or not at all."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from django_dbos import clock
from django_dbos.exceptions import ExecutorStopping, OwnershipLost, WorkflowCancelled, WorkflowInterrupted
from django_dbos.hub import hub, outcome_of
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb import executors, journal, vendor
from django_dbos.sysdb.journal import Checkpoint, Ending, Lease, Recorded
from tests.sysdb.rows import committed, elsewhere, owned, postgresql, rolled_back, seconds_since, workflow

OTHER_STATUSES = [status for status in WorkflowStatus if status != WorkflowStatus.PENDING]
SUCCESS = Ending(status=WorkflowStatus.SUCCESS, output='"done"')


@pytest.fixture(autouse=True)
def nothing_local(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No executor of this process, and no claim on its way to the pool."""
    monkeypatch.setattr(executors, "local", set())
    yield
    journal.foreseen.clear()


def checkpoint(number: int = 1, **values: object) -> Checkpoint:
    now = clock.monotonic()
    defaults: dict[str, object] = {"name": "a_step", "output": '"ours"', "started": now, "completed": now}
    return Checkpoint(number=number, **{**defaults, **values})  # type: ignore[arg-type]


def lease(executor_id: str = "me", epoch: int = 1) -> Lease:
    return Lease("w", executor_id, epoch)


def record_theirs(number: int = 1) -> None:
    Step.objects.create(workflow_id="w", number=number, name="a_step", output='"theirs"', child_id="their-child")


THEIRS = Recorded(number=1, name="a_step", output='"theirs"', error=None, serializer="json", child_id="their-child")


# ---- what is written


@rolled_back
def test_a_checkpoint_holds_what_it_was_given() -> None:
    owned(epoch=3)
    given = checkpoint(7, output=None, error='"boom"', serializer="their.Serializer", child_id="child", attempts=4)
    assert journal.inline.record(lease(epoch=3), given) is None
    step = Step.objects.get()
    assert step.pk == ("w", 7)
    assert (step.name, step.output, step.error) == ("a_step", None, '"boom"')
    assert (step.serializer, step.child_id, step.attempts) == ("their.Serializer", "child", 4)
    assert step.executor_id == "me"


@rolled_back
def test_the_database_computes_the_times_from_the_seconds_that_have_passed() -> None:
    owned()
    now = clock.monotonic()
    journal.inline.record(lease(), checkpoint(started=now - 3600, completed=now - 60))
    step = Step.objects.get()
    assert seconds_since(step.started_at) == pytest.approx(3600, abs=1)
    assert seconds_since(step.completed_at) == pytest.approx(60, abs=1)


@rolled_back
def test_a_short_step_ends_after_it_began() -> None:
    owned()
    now = clock.monotonic()
    journal.inline.record(lease(), checkpoint(started=now - 0.25, completed=now))
    step = Step.objects.get()
    assert step.started_at is not None
    assert step.completed_at is not None
    assert step.completed_at - step.started_at == pytest.approx(timedelta(seconds=0.25), abs=timedelta(seconds=0.002))


@rolled_back
@pytest.mark.parametrize(
    "ending",
    [
        SUCCESS,
        Ending(status=WorkflowStatus.ERROR, error='"boom"'),
        Ending(status=WorkflowStatus.MAX_RECOVERY_ATTEMPTS_EXCEEDED, error='"too often"'),
    ],
    ids=lambda ending: ending.status,
)
def test_an_outcome_ends_the_workflow_and_frees_its_deduplication_id(ending: Ending) -> None:
    owned(deduplication_id="one at a time", queue_name="q")
    with hub.listen(outcome_of("w")) as woken:
        journal.inline.finish(lease(), ending)
        assert woken.is_set()
    row = Workflow.objects.get()
    assert (row.status, row.output, row.error) == (ending.status, ending.output, ending.error)
    assert row.deduplication_id == ""
    assert row.updated_at == row.completed_at
    assert seconds_since(row.completed_at) == pytest.approx(0, abs=1)
    assert (row.executor_id, row.epoch) == ("me", 1)


@rolled_back
def test_an_outcome_that_was_committed_just_before_its_connection_broke_is_our_own() -> None:
    owned()
    journal.inline.finish(lease(), SUCCESS)
    before = Workflow.objects.values().get()
    journal.inline.finish(lease(), SUCCESS)
    assert Workflow.objects.values().get() == before


# ---- what is refused


def refusals() -> list[tuple[str, str, int, type[WorkflowInterrupted]]]:
    """(status, executor, epoch) of rows that are not ("PENDING", "me", 2), and what the writer is told."""
    statuses = [
        (status, "me", 2, WorkflowCancelled if status == WorkflowStatus.CANCELLED else OwnershipLost)
        for status in OTHER_STATUSES
    ]
    keys = [("another", 2), ("another", 3), ("me", 1), ("me", 3), ("", 2)]
    return [*statuses, *((WorkflowStatus.PENDING, executor_id, epoch, OwnershipLost) for executor_id, epoch in keys)]


refused = pytest.mark.parametrize(("status", "executor_id", "epoch", "error"), refusals())


@rolled_back
@refused
def test_a_checkpoint_is_refused_under_any_other_status_executor_or_epoch(
    status: str, executor_id: str, epoch: int, error: type[WorkflowInterrupted]
) -> None:
    workflow(status=status, executor_id=executor_id, epoch=epoch)
    with pytest.raises(error):
        journal.inline.record(lease(epoch=2), checkpoint())
    assert not journal.insert_checkpoint("w", ("me", 2), checkpoint())
    assert not Step.objects.exists()


@rolled_back
@refused
def test_an_outcome_is_refused_under_any_other_status_executor_or_epoch(
    status: str, executor_id: str, epoch: int, error: type[WorkflowInterrupted]
) -> None:
    workflow(status=status, executor_id=executor_id, epoch=epoch)
    before = Workflow.objects.values().get()
    ending = Ending(status=WorkflowStatus.ERROR if status == WorkflowStatus.SUCCESS else WorkflowStatus.SUCCESS)
    with hub.listen(outcome_of("w")) as woken, pytest.raises(error):
        journal.inline.finish(lease(epoch=2), ending)
    assert not woken.is_set()
    assert Workflow.objects.values().get() == before


@rolled_back
def test_a_workflow_that_was_deleted_is_lost() -> None:
    writes: list[Callable[[], object]] = [
        lambda: journal.inline.record(lease(), checkpoint()),
        lambda: journal.inline.finish(lease(), SUCCESS),
        lambda: journal.inline.check(lease()),
    ]
    for write in writes:
        with pytest.raises(OwnershipLost):
            write()
    assert not Step.objects.exists()


# ---- explain: cancelled, lost, or recorded before


@rolled_back
def test_explain_says_that_a_workflow_was_cancelled() -> None:
    workflow(status=WorkflowStatus.CANCELLED, executor_id="me", epoch=1)
    with pytest.raises(WorkflowCancelled, match="w"):
        journal.explain(lease(), 1)
    with pytest.raises(WorkflowCancelled):
        journal.inline.check(lease())


@rolled_back
def test_explain_says_that_a_workflow_was_lost() -> None:
    owned(executor_id="another")
    with pytest.raises(OwnershipLost, match="w"):
        journal.explain(lease(), 1)
    with pytest.raises(OwnershipLost):
        journal.inline.check(lease())


@rolled_back
def test_explain_gives_what_was_recorded_before() -> None:
    owned(epoch=2)
    record_theirs()
    assert journal.explain(lease(epoch=2), 1) == THEIRS


@rolled_back
def test_explain_finds_nothing_wrong_with_a_row_that_is_ours() -> None:
    owned()
    assert journal.explain(lease(), 1) is None
    journal.inline.check(lease())


@rolled_back
def test_a_predecessors_checkpoint_that_came_first_counts() -> None:
    owned(epoch=2)
    record_theirs()
    assert journal.inline.record(lease(epoch=2), checkpoint()) == THEIRS
    assert Step.objects.get().output == '"theirs"'


@rolled_back
def test_a_number_is_recorded_once() -> None:
    owned()
    assert journal.inline.record(lease(), checkpoint()) is None
    second = journal.inline.record(lease(), checkpoint(output='"second"'))
    assert second is not None
    assert second.output == '"ours"'


# ---- renewed leases


@rolled_back
def test_a_renewed_lease_writes_under_the_newer_claim() -> None:
    owned(executor_id="runtime", epoch=2)
    ours = lease()
    ours.renew("runtime", 2)
    assert journal.inline.record(ours, checkpoint()) is None
    assert Step.objects.get().executor_id == "runtime"
    journal.inline.finish(ours, SUCCESS)
    assert Workflow.objects.get().status == WorkflowStatus.SUCCESS


@rolled_back
@pytest.mark.parametrize("write", ["record", "finish", "check"])
def test_a_claim_of_this_process_that_a_body_finds_in_its_row_is_its_own_from_then_on(write: str) -> None:
    executors.local.add("runtime")
    owned(executor_id="runtime", epoch=2)
    ours = lease()
    if write == "record":
        assert journal.inline.record(ours, checkpoint()) is None
    elif write == "finish":
        journal.inline.finish(ours, SUCCESS)
    else:
        journal.inline.check(ours)
    assert ours.key == ("runtime", 2)
    assert journal.foreseen == {("w", 2)}, "the pool must not start a second body for this claim"
    assert Step.objects.count() == (1 if write == "record" else 0)
    assert Workflow.objects.succeeded().count() == (1 if write == "finish" else 0)


@rolled_back
def test_a_claim_of_another_process_is_not_foreseen() -> None:
    executors.local.add("runtime")
    owned(executor_id="another", epoch=2)
    with pytest.raises(OwnershipLost):
        journal.inline.record(lease(), checkpoint())
    assert not journal.foreseen


def test_a_lease_that_covers_its_own_claim_foresees_nothing() -> None:
    executors.local.add("me")
    assert lease().covers("me", 1)
    assert not journal.foreseen


def test_a_stopped_lease_waits_for_no_database() -> None:
    ours = lease()
    ours.pause(0)
    ours.stop()
    assert ours.is_stopping
    with pytest.raises(ExecutorStopping, match="w"):
        ours.pause(3600)


# ---- on another connection, on another database


@committed
@postgresql
def test_a_claim_that_is_not_committed_yet_does_not_refuse_the_checkpoint_before_it() -> None:
    owned()
    with vendor.transaction():
        Workflow.objects.update(executor_id="another", epoch=2)
        assert elsewhere(lambda: journal.inline.record(lease(), checkpoint())) is None
    with pytest.raises(OwnershipLost):
        journal.inline.record(lease(), checkpoint(2))
    assert Step.objects.count() == 1


@pytest.mark.django_db(databases=["default", "other"])
def test_a_checkpoint_elsewhere_needs_no_workflow_there_and_is_written_once() -> None:
    assert journal.insert_checkpoint_elsewhere("other", "w", checkpoint(attempts=2))
    assert not journal.insert_checkpoint_elsewhere("other", "w", checkpoint(output='"second"'))
    step = Step.objects.using("other").get()
    assert (step.pk, step.name, step.output, step.attempts) == (("w", 1), "a_step", '"ours"', 2)
    assert seconds_since(step.completed_at) == pytest.approx(0, abs=1)
    assert not Step.objects.exists()


@rolled_back
def test_what_is_recorded_is_found_by_its_number() -> None:
    owned()
    record_theirs()
    assert journal.recorded("w", 1) == THEIRS
    assert journal.recorded("w", 2) is None
    assert journal.recorded("another", 1) is None
