"""How PostgreSQL finds the rows of each hot statement, in tables that are full of rows which it must not look at.

Every statement is explained twice: planned for its values, and planned once for all values, as the server may come to
do with a statement that is prepared. The statistics are those of this hour, or those of a quiet night.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import TestCase

from django_dbos.hub import EVENT, MESSAGE, STREAM, Watch
from django_dbos.models import Workflow
from django_dbos.states import ExecutorState, WorkflowStatus
from django_dbos.sysdb import (
    due,
    events,
    executors,
    journal,
    listing,
    messages,
    outcomes,
    queues,
    steps,
    streams,
    workflows,
)
from django_dbos.sysdb.bulk import Batch, place_many
from django_dbos.sysdb.group import Entry, write_group
from django_dbos.sysdb.journal import Checkpoint, Ending, Lease
from django_dbos.sysdb.listing import Page
from django_dbos.sysdb.messages import Letter
from django_dbos.sysdb.queues import Claimant
from django_dbos.sysdb.workflows import Submission, burst

FINISHED, WAITING, PENDING = 50_000, 20_000, 1_000
#: The waiting and the pending rows are spread evenly over these, and over so many executors.
QUEUES = ("one", "two", "three", "four", "five")
EXECUTORS = 10
_SOME_QUEUE = "(ARRAY['one', 'two', 'three', 'four', 'five'])[1 + n % 5]"

#: What earlier tests undid is still in some indexes, and is read there.
SLACK = 2

# All values are constants of this file.
_COLUMNS = """id, name, status, inputs, queue_name, executor_id, epoch, attempts, created_at, started_at, completed_at,
              output"""
_HISTORY = (
    f"""INSERT INTO dbos_workflow ({_COLUMNS})
        SELECT 'done-' || n, 'hot', 'SUCCESS', '[[1], {{}}]', {_SOME_QUEUE}, 'executor-' || n % {EXECUTORS}, 1, 1,
               STATEMENT_TIMESTAMP() - INTERVAL '9 days' + n * INTERVAL '1 second', STATEMENT_TIMESTAMP(),
               STATEMENT_TIMESTAMP(), '1'
        FROM GENERATE_SERIES(1, {FINISHED}) AS n""",
    """INSERT INTO dbos_step (workflow_id, number, name, output, completed_at)
       SELECT id, 0, 'step', '1', STATEMENT_TIMESTAMP() FROM dbos_workflow""",
    """INSERT INTO dbos_message (id, destination_id, topic, payload, consumed_by_step)
       SELECT 'letter-' || id, id, 'topic', '1', 1 FROM dbos_workflow WHERE id LIKE '%0'""",
    "INSERT INTO dbos_event (workflow_id, key, value) SELECT id, 'key', '1' FROM dbos_workflow WHERE id LIKE '%0'",
    f"""INSERT INTO dbos_executor (id, pid, state, heartbeat_at)
        SELECT 'executor-' || n, 1, CASE WHEN n < {EXECUTORS} THEN 'running' ELSE 'stopped' END,
               STATEMENT_TIMESTAMP() - CASE n WHEN 3 THEN INTERVAL '1 hour' WHEN 2000 THEN INTERVAL '9 days'
                                              ELSE INTERVAL '0' END
        FROM GENERATE_SERIES(0, 2000) AS n""",
)
_PRESENT = (
    f"""INSERT INTO dbos_workflow ({_COLUMNS})
        SELECT 'waits-' || n, 'hot', 'ENQUEUED', '[[1], {{}}]', {_SOME_QUEUE}, '', 0, 0,
               STATEMENT_TIMESTAMP() - INTERVAL '1 hour' + n * INTERVAL '1 millisecond', NULL, NULL, NULL
        FROM GENERATE_SERIES(1, {WAITING}) AS n""",
    f"""INSERT INTO dbos_workflow ({_COLUMNS})
        SELECT 'runs-' || n, 'hot', 'PENDING', '[[1], {{}}]', {_SOME_QUEUE}, 'executor-' || n % {EXECUTORS}, 1, 1,
               STATEMENT_TIMESTAMP(), STATEMENT_TIMESTAMP(), NULL, NULL
        FROM GENERATE_SERIES(1, {PENDING}) AS n""",
    """INSERT INTO dbos_step (workflow_id, number, name, output, completed_at)
       SELECT id, 0, 'step', '1', STATEMENT_TIMESTAMP() FROM dbos_workflow WHERE status = 'PENDING'""",
    """INSERT INTO dbos_message (id, destination_id, topic, payload)
       SELECT 'letter-' || id, id, 'topic', '1' FROM dbos_workflow WHERE status = 'PENDING'""",
    """INSERT INTO dbos_event (workflow_id, key, value)
       SELECT id, 'key', '1' FROM dbos_workflow WHERE status = 'PENDING'""",
    """INSERT INTO dbos_streamentry (workflow_id, key, "offset", value, step)
       SELECT id, 'key', n, '1', 1 FROM dbos_workflow, GENERATE_SERIES(0, 99) AS n WHERE status = 'PENDING'""",
)
_TABLES = "dbos_workflow, dbos_step, dbos_message, dbos_event, dbos_streamentry, dbos_executor, dbos_queue"
_ANALYZE = f"ANALYZE {_TABLES}"
#: Rolled back as all the rest is; without it the tables would hold what earlier tests undid.
_EMPTY = f"TRUNCATE {_TABLES}"


# ---- plans ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One way in which a plan reads a table, and how many rows it read there."""

    kind: str
    table: str
    index: str
    rows: float


@dataclass(slots=True)
class Plans:
    """The plans of the statements that were sent: for their values, and, if they are prepared, for all values."""

    found: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def scans(self) -> list[Scan]:
        """What all of them read."""
        return [scan for _, plan in self.found for scan in _scans(plan)]

    def check(self, *indexes: str, rows: int, small: tuple[str, ...] = ()) -> None:
        """No table is read from end to end (but ``small`` ones), through these indexes only, each plan so many rows."""
        assert self.found, "no statement was sent"
        for sql, plan in self.found:
            scans = [scan for scan in _scans(plan) if scan.table not in small]
            words = f"{sql}\n{json.dumps(plan, indent=1)}"
            assert not [scan for scan in scans if scan.kind == "Seq Scan"], words
            assert sum(scan.rows for scan in scans) <= SLACK * rows + SLACK, words
        assert {scan.index for scan in self.scans() if scan.table not in small} == set(indexes), self.scans()


def _scans(node: dict[str, Any], table: str = "") -> Iterator[Scan]:
    kind = node["Node Type"]
    if kind.endswith(("Seq Scan", "Index Scan", "Index Only Scan")):  # a bitmap's heap is read as its index says
        read = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        rows = sum(node.get(key, 0) for key in read) * node["Actual Loops"]
        # Django gives each key a second index, for LIKE; either finds a row by its key.
        index = re.sub(r"_id_[0-9a-f]{8}_like$", "_pkey", node.get("Index Name", ""))
        yield Scan(kind=kind, table=node.get("Relation Name", table), index=index, rows=rows)
    for part in node.get("Plans", ()):
        yield from _scans(part, node.get("Relation Name", table))


_names = count()


def explain(
    raw: "psycopg.Connection[Any]", sql: str, parameters: Any, *, is_prepared: bool
) -> Iterator[dict[str, Any]]:
    """What the server does for a statement; whatever it writes is undone."""
    how = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)"
    yield _undone(raw, f"{how} {sql}", parameters)
    if is_prepared:
        name, values = f"plan_{next(_names)}", list(parameters or ())
        types = f"({', '.join(map(_type, values))})" if values else ""
        numbers = count(1)
        numbered = re.sub(r"%[s%]", lambda mark: "%" if mark[0] == "%%" else f"${next(numbers)}", sql)
        raw.execute(f"PREPARE {name} {types} AS {numbered}")
        raw.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        call = f"{how} EXECUTE {name}" + (f"({', '.join(['%s'] * len(values))})" if values else "")
        yield _undone(raw, psycopg.ClientCursor(raw).mogrify(call, values), None)
        raw.execute("SET LOCAL plan_cache_mode = auto")


def _undone(raw: "psycopg.Connection[Any]", sql: str, parameters: Any) -> dict[str, Any]:
    raw.execute("SAVEPOINT explained")
    row = psycopg.Cursor(raw).execute(sql, parameters).fetchone()
    raw.execute("ROLLBACK TO SAVEPOINT explained")
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def _type(value: Any) -> str:
    """The type under which the driver sends a value; text is for the server to find out."""
    match value:
        case bool():
            return "boolean"
        case int():
            return "smallint" if abs(value) < 2**15 else "bigint"
        case float():
            return "float8"
    return "unknown"


class ExplainingConnection:
    """A connection as the grouped journal wants one, which explains what it is asked to do before it does it."""

    def __init__(self, raw: "psycopg.Connection[Any]", plans: Plans) -> None:
        self._raw = raw
        self._plans = plans

    def execute(self, sql: str, parameters: Any = None) -> Any:
        """See psycopg.Connection.execute()."""
        self._plans.found += [(sql, plan) for plan in explain(self._raw, sql, parameters, is_prepared=True)]
        return self._raw.execute(sql, parameters)


def plans_of(work: Callable[[], object]) -> Plans:
    """The plans of what ``work`` asks of the system tables on this thread's connection."""
    plans = Plans()

    def look(execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: dict[str, Any]) -> Any:
        if "dbos_" in sql:
            raw = context["connection"].connection
            is_prepared = '"dbos_' not in sql  # the ORM's are not
            plans.found += [(sql, plan) for plan in explain(raw, sql, parameters, is_prepared=is_prepared)]
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(look):
        work()
    return plans


# ---- the hot statements --------------------------------------------------------------------------------------

CLAIMANT = Claimant(executor_id="me", names=("hot", "cold"), application_version="")
KEY = "dbos_workflow_pkey"


def lease_of(number: int) -> Lease:
    return Lease(f"runs-{number}", f"executor-{number % EXECUTORS}", 1)


def checkpoint(number: int = 7) -> Checkpoint:
    return Checkpoint(number=number, name="step", output="1", started=0.0, completed=0.0)


ENDING = Ending(status=WorkflowStatus.SUCCESS, output="1")


class _Plans:
    """On 71,000 workflows, of which few matter to each statement."""

    # -- queues

    def test_claim(self) -> None:
        claimed: list[object] = []
        plans = plans_of(lambda: claimed.extend(queues.claim(CLAIMANT, dict.fromkeys(QUEUES, 16), 16)))
        assert len(claimed) == 16
        plans.check("dbos_workflow_to_claim", KEY, rows=len(QUEUES) * 16 + 16)

    def test_claim_finds_nothing(self) -> None:
        plans = plans_of(lambda: queues.claim(CLAIMANT, {"": 16, "empty": 16}, 16))
        plans.check("dbos_workflow_to_claim", KEY, rows=0)

    def test_claim_from_a_limited_queue(self) -> None:
        queues.declare({"one": {"global_concurrency": 1_000}})
        plans = plans_of(lambda: queues.claim_limited(CLAIMANT, "one", global_concurrency=1_000, quota=16))
        plans.check(
            "dbos_workflow_to_claim",
            "dbos_workflow_pending",
            KEY,
            rows=PENDING // len(QUEUES),
            small=("dbos_queue",),
        )

    def test_queues_with_waiting_work(self) -> None:
        plans = plans_of(lambda: queues.with_waiting_work([*QUEUES, "empty"]))
        plans.check("dbos_workflow_to_claim", rows=len(QUEUES))

    # -- the journal

    def test_checkpoint(self) -> None:
        lease = lease_of(1)
        plans = plans_of(lambda: journal.insert_checkpoint(lease.workflow_id, lease.key, checkpoint()))
        plans.check(KEY, rows=1)

    def test_outcome(self) -> None:
        plans_of(lambda: journal.inline.finish(lease_of(1), ENDING)).check(KEY, rows=1)

    def test_why_a_write_was_refused(self) -> None:
        plans_of(lambda: journal.explain(lease_of(1), 0)).check(KEY, "dbos_step_pkey", rows=1)

    def grouped(self, *entries: Entry) -> Plans:
        plans = Plans()
        write_group(ExplainingConnection(connection.connection, plans), entries)  # type: ignore[arg-type]
        return plans

    def test_group_of_one_step(self) -> None:
        lease = lease_of(1)
        self.grouped(Entry(lease, lease.key, checkpoint=checkpoint())).check(KEY, rows=1)

    def test_group_of_one_workflows_step_and_outcome(self) -> None:
        lease = lease_of(1)
        entries = (Entry(lease, lease.key, checkpoint=checkpoint()), Entry(lease, lease.key, ending=ENDING))
        self.grouped(*entries).check(KEY, rows=2)

    def test_group_of_many_workflows_steps_and_outcomes(self) -> None:
        leases = [lease_of(number) for number in range(1, 65)]
        entries = [Entry(lease, lease.key, checkpoint=checkpoint()) for lease in leases]
        entries += [Entry(lease, lease.key, ending=ENDING) for lease in leases]
        self.grouped(*entries).check(KEY, rows=2 * len(leases))

    def test_group_of_many_steps(self) -> None:
        leases = [lease_of(number) for number in range(1, 65)]
        self.grouped(*(Entry(lease, lease.key, checkpoint=checkpoint()) for lease in leases)).check(KEY, rows=64)

    def test_group_of_many_outcomes(self) -> None:
        leases = [lease_of(number) for number in range(1, 65)]
        self.grouped(*(Entry(lease, lease.key, ending=ENDING) for lease in leases)).check(KEY, rows=64)

    # -- workflows

    def test_submit(self) -> None:
        burst.forget()
        plans = plans_of(lambda: workflows.submit(submission("new", queue_name="one")))
        plans.check(rows=0)

    def test_attach_to_an_id_that_exists(self) -> None:
        plans_of(lambda: workflows.place(submission("done-1"))).check(KEY, rows=1)

    def test_history(self) -> None:
        ids = [f"done-{number}" for number in range(1, 17)]
        plans_of(lambda: steps.load_history(ids)).check("dbos_step_pkey", rows=16)

    def test_find_outcome(self) -> None:
        plans_of(lambda: outcomes.find_outcome("done-1")).check(KEY, rows=1)

    def test_finished_among(self) -> None:
        ids = [*(f"done-{number}" for number in range(1, 9)), *(f"runs-{number}" for number in range(1, 9))]
        plans_of(lambda: outcomes.finished_among(ids)).check(KEY, rows=16)

    def test_find_many_outcomes(self) -> None:
        ids = [*(f"done-{number}" for number in range(1, 9)), *(f"runs-{number}" for number in range(1, 9))]
        plans_of(lambda: outcomes.find_outcomes(ids)).check(KEY, rows=16)
        plans_of(lambda: outcomes.first_finished(ids)).check(KEY, rows=16)

    def test_ask_to_be_told_of_many(self) -> None:
        plans_of(lambda: outcomes.ask_to_be_told([f"runs-{number}" for number in range(1, 17)])).check(KEY, rows=32)

    def test_ask_to_be_told(self) -> None:
        plans_of(lambda: outcomes.ask_to_be_told(["runs-1"])).check(KEY, rows=2)

    # -- messages and events

    def test_send(self) -> None:
        letter = Letter(destination="runs-1", topic="topic", payload="1", serializer="json")
        plans_of(lambda: messages.send([letter])).check(KEY, rows=2)

    def test_is_a_message_waiting(self) -> None:
        plans = plans_of(lambda: messages.waiting(Watch(MESSAGE, "runs-1", "topic")))
        plans.check("dbos_message_to_receive", rows=1)

    def test_which_messages_are_waiting(self) -> None:
        watches = [Watch(MESSAGE, f"runs-{number}", "topic") for number in range(1, 17)]
        plans_of(lambda: messages.waiting_among(watches)).check("dbos_message_to_receive", rows=16)

    def test_consume_a_message(self) -> None:
        lease = lease_of(1)
        plans = plans_of(lambda: messages.consume(lease, 7, "DBOS.recv", "topic", 0.0, 0.0))
        plans.check("dbos_message_to_receive", "dbos_message_pkey", KEY, rows=2)

    def test_set_event(self) -> None:
        plans_of(lambda: events.set_event(lease_of(1), 7, "new", "1", "json")).check(KEY, rows=2)

    def test_find_event(self) -> None:
        plans_of(lambda: events.find_event("runs-1", "key")).check("dbos_event_pkey", rows=1)

    def test_which_events_are_set(self) -> None:
        watches = [Watch(EVENT, f"runs-{number}", "key") for number in range(1, 17)]
        plans_of(lambda: events.set_among(watches)).check("dbos_event_pkey", rows=16)

    # -- streams

    def test_write_to_a_stream(self) -> None:
        plans = plans_of(lambda: streams.append(lease_of(1), 7, "key", "1", "json"))
        plans.check("dbos_streamentry_pkey", KEY, rows=3)

    def test_read_a_stream(self) -> None:
        plans_of(lambda: streams.read("runs-1", "key", 90)).check("dbos_streamentry_pkey", KEY, rows=11)

    def test_read_behind_what_is_written(self) -> None:
        plans_of(lambda: streams.read("runs-1", "key", 100)).check("dbos_streamentry_pkey", KEY, rows=2)

    def test_which_entries_are_written(self) -> None:
        watches = [Watch(STREAM, f"runs-{number}", "key", 50) for number in range(1, 17)]
        plans_of(lambda: streams.written_among(watches)).check("dbos_streamentry_pkey", rows=16)

    # -- executors: of these there are thousands at most, and few of them live

    def test_heartbeat_and_silent_executors(self) -> None:
        plans = plans_of(lambda: executors.beat_and_look("executor-1", ExecutorState.RUNNING, 15.0))
        plans.check("dbos_workflow_pending", rows=2 * PENDING, small=("dbos_executor",))

    def test_recover(self) -> None:
        recovered: list[int] = []
        plans = plans_of(lambda: recovered.append(executors.recover("executor-3", 15.0)))
        assert recovered == [PENDING // EXECUTORS]
        plans.check("dbos_workflow_pending", KEY, rows=PENDING + PENDING // EXECUTORS, small=("dbos_executor",))

    def test_release(self) -> None:
        plans_of(lambda: executors.release("executor-1")).check("dbos_workflow_pending", rows=PENDING)

    def test_release_one(self) -> None:
        plans = plans_of(lambda: executors.release("executor-1", workflow_id="runs-1", epoch=1))
        assert sum(scan.rows for scan in plans.scans()) <= PENDING  # by its key, or among those of its executor

    def test_strays(self) -> None:
        running = [f"runs-{number}" for number in range(1, PENDING, EXECUTORS)]
        plans = plans_of(lambda: executors.owns_more_than("executor-1", running))
        plans.check("dbos_workflow_pending", rows=PENDING)
        plans_of(lambda: executors.release_strays("executor-1", running, 0.0)).check(
            "dbos_workflow_pending", rows=PENDING
        )

    def test_prune_executors(self) -> None:
        plans_of(lambda: executors.prune(86_400)).check("dbos_workflow_pending", rows=PENDING, small=("dbos_executor",))

    # -- what the clock decides

    def test_next_due(self) -> None:
        plans_of(due.next_due).check("dbos_workflow_to_ripen", "dbos_workflow_overdue", rows=2)

    def test_ripen(self) -> None:
        execute("UPDATE dbos_workflow SET status = 'DELAYED', delay_until = created_at WHERE id LIKE 'waits-1234%'")
        plans_of(due.ripen).check("dbos_workflow_to_ripen", KEY, rows=22)

    def test_cancel_overdue(self) -> None:
        execute("UPDATE dbos_workflow SET deadline = created_at WHERE id LIKE 'waits-1234%'")
        plans_of(due.cancel_overdue).check("dbos_workflow_overdue", KEY, rows=22)

    # -- many at a time

    def test_enqueue_many(self) -> None:
        ids = [f"new-{number}" for number in range(100)]
        batch = Batch(template=submission("", inputs="", queue_name="one"), ids=ids, inputs=["[]"] * 100)
        plans_of(lambda: place_many(batch)).check(rows=0)

    def test_enqueue_many_that_exist(self) -> None:
        ids = [f"done-{number}" for number in range(1, 101)]
        template = submission("", inputs="", queue_name="one")
        batch = Batch(template=template, ids=ids, inputs=["[]"] * 100, are_chosen=True)
        plans_of(lambda: place_many(batch)).check(KEY, rows=100)

    # -- what people look at

    def test_newest_page(self) -> None:
        plans_of(lambda: list(Workflow.objects.all()[:100])).check("dbos_workflow_newest", rows=100)

    @staticmethod
    def page(after: str | None = None, *, newest_first: bool = True, **filters: Any) -> Plans:
        page = Page(limit=100, newest_first=newest_first, after=after)
        return plans_of(lambda: listing.listed(filters, page))

    def test_first_pages_of_a_list(self) -> None:
        self.page().check("dbos_workflow_newest", rows=100)
        self.page(newest_first=False).check("dbos_workflow_newest", rows=100)

    def test_a_page_in_the_middle_of_a_list(self) -> None:
        self.page("done-25000").check("dbos_workflow_newest", KEY, rows=101)
        self.page("done-25000", newest_first=False).check("dbos_workflow_newest", KEY, rows=101)

    def test_newest_of_a_name(self) -> None:
        self.page(name="hot").check("dbos_workflow_newest", rows=100)
        self.page(name="cold").check("dbos_workflow_newest_of_name", rows=0)

    def test_list_of_what_waits(self) -> None:
        plans = self.page(status="ENQUEUED")
        plans.check(*{scan.index for scan in plans.scans()}, rows=WAITING)

    def test_steps_of_a_workflow(self) -> None:
        plans_of(lambda: listing.steps_of("done-1")).check("dbos_step_pkey", rows=1)

    def test_newest_failures(self) -> None:
        plans = plans_of(lambda: list(Workflow.objects.failed()[:100]))
        assert sum(scan.rows for scan in plans.scans()) <= 100


def submission(workflow_id: str, **columns: Any) -> Submission:
    return Submission(**{"id": workflow_id, "name": "hot", "inputs": "[[1], {}]", "serializer": "json", **columns})


@pytest.mark.skipif(connection.vendor != "postgresql", reason="the plans are PostgreSQL's")
class TestPlans(_Plans, TestCase):
    """The server knows what is in its tables."""

    @classmethod
    def setUpTestData(cls) -> None:
        execute(_EMPTY, *_HISTORY, *_PRESENT, _ANALYZE)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="the plans are PostgreSQL's")
class TestPlansAfterAQuietNight(_Plans, TestCase):
    """The server looked when nothing waited and nothing ran: it takes the indexes of such rows for empty."""

    @classmethod
    def setUpTestData(cls) -> None:
        execute(_EMPTY, *_HISTORY, _ANALYZE, *_PRESENT)


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
