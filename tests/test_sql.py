"""The SQL functions: any client of PostgreSQL can enqueue a workflow and send it a message."""

import json
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_dbos import Queue, Runtime, SetWorkflowID, recv, retrieve_workflow, serialization, start_workflow, workflow
from django_dbos.models import Message, Workflow
from django_dbos.models import Queue as QueueRow
from django_dbos.states import WorkflowStatus

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no functions of its own"),
]

queue = Queue("from sql")


@workflow
def called_from_sql(*args: Any, **kwargs: Any) -> list[Any]:
    return [list(args), kwargs]


@workflow
def told_from_sql() -> list[Any]:
    return [recv(timeout_seconds=20), recv("topic", timeout_seconds=20), recv("topic", timeout_seconds=0)]


def call(function: str, *args: Any, **named: Any) -> str:
    """Call a function as any client would: text goes in, text comes out."""
    words = [*["%s"] * len(args), *(f"{name} => %s" for name in named)]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}({', '.join(words)})", [*args, *named.values()])
        return str(cursor.fetchone()[0])


def enqueue(*args: Any, **named: Any) -> str:
    return call("dbos_enqueue_workflow", "called_from_sql", "from sql", *args, **named)


ODD = {"$type": "tuple", "value": [1, {"$type": "nothing"}], "more": {"a": [{"$type": None}]}, "": "x$type"}


def test_a_workflow_that_was_enqueued_by_sql_runs() -> None:
    workflow_id = enqueue(json.dumps([1, "two", None, 2.5, [True], ODD]), json.dumps({"key": ODD, "$type": 1}))
    with Runtime():
        result = retrieve_workflow(workflow_id).get_result(timeout=10)
    assert result == [[1, "two", None, 2.5, [True], ODD], {"key": ODD, "$type": 1}]
    row = Workflow.objects.get()
    assert (row.queue_name, row.serializer, row.status) == ("from sql", "json", WorkflowStatus.SUCCESS)


def test_a_waiting_worker_is_woken(settings: Any) -> None:
    settings.DBOS = {**settings.DBOS, "POLL_INTERVAL": 60}
    with Runtime():
        assert retrieve_workflow(enqueue()).get_result(timeout=20) == [[], {}]


def test_every_option_lands_in_its_column() -> None:
    options: dict[str, Any] = {
        "workflow_id": "chosen",
        "application_version": "7",
        "timeout_seconds": 1.5,
        "deduplication_id": "once",
        "priority": 3,
        "partition_key": "part",
        "delay_seconds": 3600,
        "authenticated_user": "ada",
        "authenticated_roles": '["admin"]',
        "class_name": "Shop",
        "instance_name": "main",
        "application_name": "billing",
        "attributes": '{"a": 1}',
    }
    assert enqueue(**options) == "chosen"
    row = Workflow.objects.get()
    assert row.delay_until is not None
    assert 3500 < (row.delay_until - row.created_at).total_seconds() <= 3600
    found = {name: getattr(row, name) for name in options if hasattr(row, name)}
    assert found == {
        **{name: value for name, value in options.items() if hasattr(row, name)},
        "authenticated_roles": ["admin"],
        "attributes": {"a": 1},
    }
    assert (row.id, row.timeout, row.status, row.epoch) == ("chosen", 1.5, WorkflowStatus.DELAYED, 0)


def test_ids_are_as_ours_and_never_come_twice() -> None:
    ids = [enqueue() for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(len(each) == 36 and each[14] == "7" for each in ids)


def test_who_comes_second_attaches() -> None:
    assert enqueue(workflow_id="same") == enqueue("[1]", workflow_id="same") == "same"
    first = enqueue(deduplication_id="once")
    assert enqueue(deduplication_id="once") == first
    assert Workflow.objects.count() == 2
    with pytest.raises(DatabaseError, match="another id"):
        call("dbos_enqueue_workflow", "told_from_sql", "from sql", workflow_id="same")


@pytest.mark.parametrize(
    ("args", "named", "words"),
    [
        (("{}",), {}, "positional_args"),
        (("[]", "[]"), {}, "named_args"),
        ((), {"workflow_id": ""}, "workflow_id"),
        ((), {"workflow_id": "x" * 256}, "workflow_id"),
        ((), {"priority": -1}, "priority"),
        ((), {"timeout_seconds": 0}, "timeout_seconds"),
        ((), {"delay_seconds": -1}, "delay_seconds"),
        ((), {"delay_seconds": float("nan")}, "delay_seconds"),
        ((), {"authenticated_roles": '"admin"'}, "authenticated_roles"),
        (("[" * 101 + "]" * 101,), {}, "100 levels"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(args: tuple[Any, ...], named: dict[str, Any], words: str) -> None:
    with pytest.raises(DatabaseError, match=words):
        enqueue(*args, **named)
    assert not Workflow.objects.exists()
    with pytest.raises(DatabaseError, match="workflow_name"):
        call("dbos_enqueue_workflow", None, "q")


def test_a_queue_with_limits_per_partition_asks_for_the_key() -> None:
    QueueRow.objects.create(name="from sql", declared={"partition_concurrency": 1})
    with pytest.raises(DatabaseError, match="partition_key"):
        enqueue()
    enqueue(partition_key="a")


def test_it_joins_the_callers_transaction() -> None:
    with transaction.atomic():
        enqueue()
        transaction.set_rollback(True)
    assert not Workflow.objects.exists()


def test_a_message_that_was_sent_by_sql_is_received() -> None:
    with Runtime():
        with SetWorkflowID("w"):
            handle = start_workflow(told_from_sql)
        call("dbos_send_message", "w", json.dumps(ODD))
        first = call("dbos_send_message", "w", '"once"', "topic", "key")
        assert call("dbos_send_message", "w", '"twice"', "topic", idempotency_key="key") == first
        assert handle.get_result(timeout=20) == [ODD, "once", None]
    assert Message.objects.count() == 2


def test_a_message_to_nobody_is_refused() -> None:
    with pytest.raises(DatabaseError, match="no workflow with the id 'nobody'"):
        call("dbos_send_message", "nobody", "1")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["$type", "value", "a"]), inner),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(values)
def test_plain_json_comes_back_as_itself(value: Any) -> None:
    text = call("dbos_typed_json", json.dumps(value))
    assert serialization.loads(text, "json") == value


def test_the_migration_can_be_undone_and_done_again() -> None:
    try:
        call_command("migrate", "dbos", "0002", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM pg_proc WHERE proname LIKE 'dbos\\_%%'", [])
            assert cursor.fetchone()[0] == 0
    finally:
        call_command("migrate", "dbos", verbosity=0)
    enqueue()


def test_as_many_levels_as_python_may_store_are_taken() -> None:
    deepest = 101 - next(depth for depth in range(1, 102) if is_storable([nested(101 - depth)]))
    enqueue(json.dumps([nested(deepest)]))
    with pytest.raises(DatabaseError, match="100 levels"):
        enqueue(json.dumps([nested(deepest + 1)]))


def nested(depth: int) -> Any:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def is_storable(args: list[Any]) -> bool:
    try:
        serialization.dump_call(tuple(args), {})
    except serialization.SerializationError:
        return False
    return True
