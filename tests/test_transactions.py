"""Transactions: the ORM writes of a body and its checkpoint are one commit."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, IntegrityError, OperationalError, connection, connections
from django.db.transaction import atomic

from django_dbos import (
    Runtime,
    SetWorkflowID,
    cancel_workflow,
    retrieve_workflow,
    start_workflow,
    transaction,
    workflow,
)
from django_dbos.exceptions import AwaitedWorkflowCancelled, InvalidOption, SerializationError
from django_dbos.models import Step, Workflow
from django_dbos.sysdb.executors import release
from tests.models import Row

database = pytest.mark.django_db(transaction=True)
two_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])
postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")

runs: list[Any] = []


@pytest.fixture(autouse=True)
def no_runs() -> None:
    runs.clear()


@transaction
def write(name: str) -> int:
    runs.append(name)
    return Row.objects.create(name=name).pk


@transaction
async def awrite(name: str) -> int:
    runs.append(name)
    row = await Row.objects.acreate(name=name)
    return row.pk


@workflow
def writing(name: str) -> int:
    return write(name)


@workflow
async def awriting(name: str) -> int:
    return await awrite(name)


def names(using: str = "default") -> list[str]:
    return list(Row.objects.using(using).order_by("pk").values_list("name", flat=True))


def again(workflow_id: str) -> Any:
    """Run a finished workflow a second time, from its records, as a recovery would."""
    Workflow.objects.filter(pk=workflow_id).update(status="ENQUEUED", output=None, error=None, completed_at=None)
    with Runtime():
        return retrieve_workflow(workflow_id).get_result(timeout=10)


def run(function: Callable[..., Any], *args: Any) -> Any:
    return async_to_sync(function)(*args) if function is awriting else function(*args)


@database
@pytest.mark.parametrize("function", [writing, awriting], ids=["sync", "async"])
def test_a_transaction_commits_its_rows_and_its_checkpoint_once(function: Callable[..., Any]) -> None:
    with SetWorkflowID("w"):
        key = run(function, "row")
    assert again("w") == key
    assert names() == ["row"]
    assert runs == ["row"]


@database
@pytest.mark.parametrize("function", [writing, awriting], ids=["sync", "async"])
def test_a_transaction_runs_in_a_worker_too(function: Callable[..., Any]) -> None:
    with Runtime():
        handles = [start_workflow(function, f"row {number}") for number in range(10)]
        keys = {handle.get_result(timeout=10) for handle in handles}
    assert len(keys) == 10
    assert len(names()) == 10


@database
def test_an_async_body_writes_on_the_connection_that_holds_the_transaction() -> None:
    @transaction
    async def half_done() -> None:
        await Row.objects.acreate(name="half")
        raise LookupError("after the write")

    @workflow
    async def half_doing() -> None:
        await half_done()

    with pytest.raises(LookupError):
        async_to_sync(half_doing)()
    with Runtime(), pytest.raises(LookupError):
        start_workflow(half_doing).get_result(timeout=10)
    assert names() == []


@database
def test_an_error_rolls_the_rows_back_and_is_recorded() -> None:
    @transaction
    def spoiled() -> None:
        Row.objects.create(name="spoiled")
        runs.append("spoiled")
        raise LookupError("after the write")

    @workflow
    def spoiling() -> str:
        try:
            spoiled()
        except LookupError as error:
            return str(error)
        return ""

    with SetWorkflowID("w"):
        assert spoiling() == "after the write"
    assert again("w") == "after the write"
    assert names() == []
    assert runs == ["spoiled"]


@database
def test_a_database_error_of_the_body_is_its_own_and_is_not_retried() -> None:
    @transaction
    def colliding() -> None:
        runs.append(1)
        Row.objects.create(pk=1, name="first")
        Row.objects.create(pk=1, name="second")

    @workflow
    def collide() -> None:
        colliding()

    with pytest.raises(IntegrityError):
        collide()
    assert runs == [1]
    assert names() == []


@database
def test_a_result_that_cannot_be_stored_rolls_the_rows_back() -> None:
    @transaction
    def unstorable() -> Any:
        Row.objects.create(name="unstorable")
        return object()

    @workflow
    def storing() -> None:
        unstorable()

    with pytest.raises(SerializationError, match=r"unstorable\(\)"):
        storing()
    assert names() == []


def elsewhere(work: Callable[[], Any]) -> None:
    """Do something on a connection of its own, as another process would."""

    def run_and_close() -> None:
        work()
        connections.close_all()

    thread = threading.Thread(target=run_and_close)
    thread.start()
    thread.join(10)


@database
@postgresql
def test_when_the_workflow_was_lost_the_rows_are_rolled_back() -> None:
    def steal() -> None:
        owner = Workflow.objects.get(pk="w")
        release(owner.executor_id, workflow_id="w", epoch=owner.epoch)

    @transaction
    def overtaken() -> str:
        Row.objects.create(name="row")
        if not runs:
            runs.append(1)
            elsewhere(steal)
        return "done"

    @workflow
    def losing() -> str:
        return overtaken()

    with SetWorkflowID("w"), Runtime():
        assert losing() == "done"
    assert names() == ["row"]


@database
@postgresql
def test_a_checkpoint_that_slipped_in_before_ours_counts_and_our_rows_are_rolled_back() -> None:
    @transaction(name="overtaken-at-the-end")
    def overtaken() -> str:
        Row.objects.create(name="ours")
        elsewhere(
            lambda: Step.objects.create(workflow_id="w", number=1, name="overtaken-at-the-end", output='"theirs"')
        )
        return "ours"

    @workflow
    def racing() -> str:
        return overtaken()

    with SetWorkflowID("w"):
        assert racing() == "theirs"
    assert names() == []


@database
def test_a_cancelled_workflow_commits_nothing_more() -> None:
    @transaction
    def late() -> None:
        Row.objects.create(name="late")

    @workflow
    def doomed() -> None:
        cancel_workflow("w")
        late()

    with SetWorkflowID("w"), pytest.raises(AwaitedWorkflowCancelled):
        doomed()
    assert names() == []


@database
@pytest.mark.parametrize("message", ["database is locked"])
def test_a_conflict_is_retried_until_it_commits(message: str) -> None:
    @transaction
    def contended() -> int:
        Row.objects.create(name="contended")
        runs.append(1)
        if len(runs) < 4:
            raise OperationalError(message)
        return len(runs)

    @workflow
    def contending() -> int:
        return contended()

    assert contending() == 4
    assert names() == ["contended"]
    assert Step.objects.get().attempts == 4


@database
@postgresql
def test_real_serialization_failures_are_retried_and_no_update_is_lost() -> None:
    counter = Row.objects.create(name="counter", payload="0")

    @transaction(isolation_level="SERIALIZABLE")
    def increment() -> None:
        row = Row.objects.get(pk=counter.pk)
        row.payload = str(int(row.payload) + 1)
        row.save()

    @workflow
    def incrementing() -> None:
        for _ in range(5):
            increment()

    with Runtime(concurrency=4):
        handles = [start_workflow(incrementing) for _ in range(4)]
        for handle in handles:
            handle.get_result(timeout=30)
    counter.refresh_from_db()
    assert counter.payload == "20"


@database
@postgresql
def test_a_deadlock_is_retried() -> None:
    first, second = Row.objects.create(name="first"), Row.objects.create(name="second")
    both_hold_one = threading.Barrier(2)

    @transaction
    def locking(one: int, other: int) -> None:
        Row.objects.select_for_update().get(pk=one)
        if len(runs) < 2:
            runs.append(one)
            both_hold_one.wait(10)
        Row.objects.filter(pk=other).update(payload="seen")

    @workflow
    def lock_both(one: int, other: int) -> None:
        locking(one, other)

    with Runtime(concurrency=2):
        handles = [start_workflow(lock_both, first.pk, second.pk), start_workflow(lock_both, second.pk, first.pk)]
        for handle in handles:
            handle.get_result(timeout=30)
    assert Row.objects.filter(payload="seen").count() == 2


@database
@postgresql
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_the_isolation_level_is_the_one_that_was_asked_for(level: str) -> None:
    @transaction(isolation_level=level)
    def level_inside() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            return str(cursor.fetchone()[0])

    @workflow
    def asking() -> str:
        return level_inside()

    assert asking() == level.lower()


@database
@postgresql
def test_read_only_refuses_writes_and_its_result_is_recorded() -> None:
    @transaction(read_only=True)
    def reading() -> int:
        runs.append(1)
        return Row.objects.count()

    @transaction(read_only=True)
    def sneaking() -> None:
        Row.objects.create(name="sneaked")

    @workflow
    def reader() -> int:
        return reading()

    @workflow
    def sneaker() -> None:
        sneaking()

    with SetWorkflowID("w"):
        assert reader() == 0
    assert again("w") == 0
    assert runs == [1]
    with pytest.raises(DatabaseError, match="read-only"):
        sneaker()


@two_databases
def test_a_transaction_on_another_database_happens_once_by_the_checkpoint_it_keeps_there() -> None:
    @transaction(using="other")
    def write_elsewhere() -> str:
        runs.append(1)
        Row.objects.using("other").create(name="elsewhere")
        return "written"

    @workflow
    def reaching_out() -> str:
        return write_elsewhere()

    with SetWorkflowID("w"):
        assert reaching_out() == "written"
    assert Step.objects.using("other").count() == Step.objects.using("default").count() == 1
    # As if the process had died between the two commits:
    Step.objects.using("default").delete()
    assert again("w") == "written"
    assert names("other") == ["elsewhere"]
    assert runs == [1]
    assert Step.objects.using("default").count() == 1


@two_databases
def test_an_error_on_another_database_rolls_back_there_and_is_recorded_here() -> None:
    @transaction(using="other")
    def fail_elsewhere() -> None:
        Row.objects.using("other").create(name="elsewhere")
        raise LookupError("no")

    @workflow
    def failing_out() -> None:
        fail_elsewhere()

    with pytest.raises(LookupError):
        failing_out()
    assert names("other") == []
    assert Step.objects.get().error


@database
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_outside_a_workflow_it_is_one_plain_commit(is_async: bool) -> None:
    @transaction(name="two-writes")
    def two_writes() -> None:
        Row.objects.create(name="one")
        raise LookupError("after one")

    @transaction(name="two-awrites")
    async def two_awrites() -> None:
        await Row.objects.acreate(name="one")
        raise LookupError("after one")

    with pytest.raises(LookupError):
        async_to_sync(two_awrites)() if is_async else two_writes()
    assert names() == []
    assert (async_to_sync(awrite)("kept") if is_async else write("kept")) == Row.objects.get().pk
    assert not Step.objects.exists()


@database
def test_in_the_callers_own_transaction_it_joins_it() -> None:
    with atomic():
        write("rolled back")
        connection.set_rollback(True)
    assert names() == []


@database
def test_a_transaction_inside_a_step_is_part_of_it() -> None:
    @transaction
    def composed() -> None:
        write("inner")
        Row.objects.create(name="outer")

    @workflow
    def composing() -> None:
        composed()

    composing()
    assert names() == ["inner", "outer"]
    assert Step.objects.count() == 1


@database
def test_a_start_inside_a_transaction_step_commits_with_it() -> None:
    @transaction
    def order(fails: bool) -> str:
        handle = start_workflow(writing, "started")
        if fails:
            raise LookupError("no order")
        return handle.workflow_id

    @workflow
    def ordering(fails: bool) -> str:
        return order(fails)

    with pytest.raises(LookupError):
        ordering(True)
    assert not Workflow.objects.filter(name="writing").exists()
    child = ordering(False)
    assert Workflow.objects.get(pk=child).status == "ENQUEUED"


def test_an_unknown_isolation_level_is_refused_at_the_decorator() -> None:
    with pytest.raises(InvalidOption, match="SERIALIZABLE"):
        transaction(isolation_level="SNAPSHOT")
