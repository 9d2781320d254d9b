"""``manage.py dbos_worker``: its options, its processes, and what it says when it cannot work."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest
from django.db import connection

from django_dbos import WorkflowStatus, start_workflow
from django_dbos.models import Executor, Schedule, Step, Workflow
from tests.acceptance import workflows
from tests.acceptance.observed import Gate, Ledger
from tests.models import Row
from tests.support import WorkerProcess, eventually, manage

pytestmark = pytest.mark.django_db(transaction=True)

StartWorker = Callable[..., WorkerProcess]
NewGate = Callable[..., Gate]

EVERY_SECOND = {workflows.SCHEDULE: "1"}


# ---- processes


def children_of(worker: WorkerProcess) -> list[psutil.Process]:
    return psutil.Process(worker.pid).children()


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_several_processes_are_replaced_when_they_die_and_end_together(
    ledger: Ledger, start_worker: StartWorker, new_gate: NewGate
) -> None:
    worker = start_worker("--processes", "2", "--concurrency", "1")
    worker.wait_ready(processes=2)
    handles = [start_workflow(workflows.held_in_step, ledger, new_gate(f"gate-{n}")) for n in range(2)]
    pids = [new_gate(f"gate-{n}").wait_held() for n in range(2)]
    assert sorted(pids) == sorted(child.pid for child in children_of(worker)), "each runs one"

    psutil.Process(pids[0]).kill()
    worker.wait_ready(processes=3)
    new_gate("gate-1").open()
    assert handles[0].get_result(timeout=30)[0] == pids[0]
    assert handles[0].get_result()[-1] in {child.pid for child in children_of(worker)}
    assert handles[1].get_result(timeout=30) == [pids[1]] * 3

    children = children_of(worker)
    assert len(children) == 2
    assert worker.stop() == 0
    assert all_gone(children)
    stopped = Executor.objects.filter(pid__in=[child.pid for child in children])
    assert [executor.state for executor in stopped] == ["stopped"] * 2


def terminated(worker: WorkerProcess) -> bool:
    """Ask it to stop; whether it has."""
    worker.terminate()
    return not worker.alive


def test_a_second_sigterm_ends_all_processes_now(ledger: Ledger, start_worker: StartWorker, new_gate: NewGate) -> None:
    worker = start_worker("--processes", "2", "--concurrency", "1", "--shutdown-timeout", "60")
    worker.wait_ready(processes=2)
    for n in range(2):
        start_workflow(workflows.held_in_step, ledger, new_gate(f"gate-{n}"))
        new_gate(f"gate-{n}").wait_held()
    children = children_of(worker)
    worker.terminate()
    eventually(lambda: worker.output.count("dbos_worker stopping") == 2)
    # Right after the first one it may be the same request by another way: whoever means it asks again.
    eventually(lambda: terminated(worker), message="it goes on for as long as a step may take")
    assert worker.wait() != 0
    assert all_gone(children)


def test_a_sigterm_to_all_processes_at_once_is_one_request(
    ledger: Ledger, start_worker: StartWorker, gate: Gate
) -> None:
    worker = start_worker("--processes", "2")
    worker.wait_ready(processes=2)
    handle = start_workflow(workflows.held_in_step, ledger, gate)
    gate.wait_held()
    # As a process manager does; and the parent passes its own on.
    for process in (*children_of(worker), psutil.Process(worker.pid)):
        process.terminate()
    eventually(lambda: worker.output.count("dbos_worker stopping") == 2)
    gate.open()
    assert worker.wait() == 0
    assert Step.objects.filter(workflow_id=handle.workflow_id, name="held_step").exists()


def begun_to_work(worker: WorkerProcess) -> int:
    """How many of its processes have left its process group, which is the first thing that they do."""
    with suppress(ProcessLookupError):
        return sum(os.getpgid(child.pid) == child.pid for child in children_of(worker))
    return 0


def test_processes_that_are_stopped_while_they_start_end_in_good_order(start_worker: StartWorker) -> None:
    for count in (1, 2, 2):
        worker = start_worker("--processes", "2", ready=False)
        eventually(lambda worker=worker, count=count: begun_to_work(worker) >= count)  # type: ignore[misc]
        assert worker.stop() == 0
        assert "Traceback" not in worker.output


def test_no_process_outlives_a_parent_that_was_killed(ledger: Ledger, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "2")
    worker.wait_ready(processes=2)
    children = children_of(worker)
    worker.kill()
    eventually(lambda: all_gone(children), message="orphans live on")
    # They went in good order: nobody has to take them for dead.
    states = Executor.objects.filter(pid__in=[child.pid for child in children]).values_list("state", flat=True)
    assert list(states) == ["stopped"] * 2


# ---- what it refuses


def test_an_unmigrated_database_is_answered_with_one_line_that_names_the_remedy(tmp_path: Path) -> None:
    if connection.vendor == "sqlite":
        env = {"DBOS_TEST_DATABASES": json.dumps({"default": str(tmp_path / "empty.sqlite3")})}
    else:
        # The same database, seen through a schema in which there is nothing.
        url = os.environ["DATABASE_URL"]
        env = {"DATABASE_URL": f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3Dnothing"}
    for processes in ("1", "2"):
        done = manage("dbos_worker", "--processes", processes, env=env)
        assert done.returncode == 3
        assert done.stdout == ""
        [line] = done.stderr.splitlines()
        assert "python manage.py migrate" in line


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["--concurrency", "0"], "argument --concurrency: '0' is not a whole number of at least 1"),
        (["--concurrency", "many"], "argument --concurrency: 'many' is not a whole number of at least 1"),
        (["--processes", "-1"], "argument --processes: '-1' is not a whole number of at least 1"),
        (["--shutdown-timeout", "-1"], "argument --shutdown-timeout: '-1' is not a number of seconds"),
        (["--shutdown-timeout", "nan"], "argument --shutdown-timeout: 'nan' is not a number of seconds"),
        (["--queues", "mail,print"], "unrecognized arguments: --queues mail,print"),
    ],
)
def test_an_option_that_cannot_work_is_answered_at_once(options: list[str], answer: str) -> None:
    done = manage("dbos_worker", *options)
    assert done.returncode == 2
    assert answer in done.stderr
    assert "Traceback" not in done.stderr


# ---- queues


def test_only_the_named_queues_and_what_was_started_are_served(ledger: Ledger, start_worker: StartWorker) -> None:
    passed_over = workflows.other.enqueue(workflows.where, ledger)
    worker = start_worker("--queue", "acceptance-plain", "--queue", "acceptance-one")
    for _ in range(3):
        assert workflows.plain.enqueue(workflows.where, ledger).get_result(timeout=30) == worker.pid
        assert workflows.one_at_a_time.enqueue(workflows.awhere, ledger).get_result(timeout=30) == worker.pid
        assert start_workflow(workflows.where, ledger).get_result(timeout=30) == worker.pid
    assert passed_over.get_status().status == WorkflowStatus.ENQUEUED

    everything = start_worker()
    assert passed_over.get_result(timeout=30) == everything.pid


def test_no_more_run_at_a_time_than_the_concurrency(
    ledger: Ledger, start_worker: StartWorker, new_gate: NewGate
) -> None:
    start_worker("--concurrency", "2")
    gates = [new_gate(f"gate-{n}") for n in range(4)]
    handles = [start_workflow(workflows.held_in_step, ledger, gate) for gate in gates]
    for gate in gates[:2]:
        gate.wait_held()
    # The oldest two run; each that ends makes room for one.
    for n in range(2, 4):
        assert [gate.is_visited for gate in gates] == [True] * n + [False] * (4 - n)
        gates[n - 2].open()
        gates[n].wait_held()
        assert Workflow.objects.pending().count() <= 2
    for gate in gates:
        gate.open()
    for handle in handles:
        handle.get_result(timeout=30)


# ---- schedules


def ticks() -> list[datetime]:
    """The ticks whose runs have finished, in order."""
    runs = Workflow.objects.filter(schedule_name="every_second").succeeded().values_list("id", flat=True)
    return sorted(datetime.strptime(run, "sched-every_second-%Y-%m-%dT%H:%M:%S%z") for run in runs)


def test_a_tick_fires_once_with_three_workers(start_worker: StartWorker) -> None:
    workers = [start_worker(env=EVERY_SECOND, ready=False) for _ in range(3)]
    for worker in workers:
        worker.wait_ready()
    eventually(lambda: len(ticks()) >= 3, 30)
    workers.pop().kill()
    seen = len(ticks())
    eventually(lambda: len(ticks()) >= seen + 2, 30)
    for worker in workers:
        assert worker.stop() == 0

    fired = sorted(Workflow.objects.values_list("id", flat=True))
    first = datetime.strptime(fired[0], "sched-every_second-%Y-%m-%dT%H:%M:%S%z")
    expected = [first + timedelta(seconds=n) for n in range(len(fired))]
    assert fired == [f"sched-every_second-{tick:%Y-%m-%dT%H:%M:%SZ}" for tick in expected], "a tick was left out"
    rows = Counter(Row.objects.values_list("name", flat=True))
    assert {tick.isoformat(): 1 for tick in ticks()}.items() <= rows.items()
    assert set(rows.values()) == {1}


def test_without_a_scheduler_nothing_fires(ledger: Ledger, start_worker: StartWorker) -> None:
    worker = start_worker("--no-scheduler", env=EVERY_SECOND)
    until = time.time() + 2.5  # two ticks at least
    eventually(lambda: time.time() > until)
    assert start_workflow(workflows.where, ledger).get_result(timeout=30) == worker.pid
    assert not Workflow.objects.exclude(name="where").exists()
    assert not Schedule.objects.exists()
