"""SIGKILL at any moment: every workflow ends as if nothing had happened."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from django_dbos import WorkflowHandle, WorkflowStatus, start_workflow
from django_dbos.models import Executor, Step, Workflow
from tests.acceptance import workflows
from tests.acceptance.observed import Entry, Gate, Ledger
from tests.models import Row
from tests.support import WorkerProcess, eventually

pytestmark = pytest.mark.django_db(transaction=True)

StartWorker = Callable[..., WorkerProcess]

TRANSACTIONS = ("booked", "abooked")
#: Called under asyncio.gather(): here a process may be in two bodies of one workflow at the moment of its death.
SIDE_BY_SIDE = "adoubled"


@dataclass
class Fleet:
    """Workers that are killed and replaced, and what was recorded each time one had died."""

    start_worker: StartWorker
    ledger: Ledger
    workers: list[WorkerProcess] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    #: For each kill: how often each step that was recorded by then had begun by then.
    recorded: list[dict[str, int]] = field(default_factory=list)

    def grow(self, *, ready: bool) -> None:
        self.workers.append(self.start_worker("--no-scheduler", ready=ready))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for ``condition``, but not for workers that ended by themselves."""
        eventually(lambda: condition() or not all(worker.alive for worker in self.workers), 60)
        assert all(worker.alive for worker in self.workers), "a worker ended that nobody killed"

    def kill(self, worker: WorkerProcess) -> None:
        worker.kill()
        self.workers.remove(worker)
        self.killed.append(worker.pid)
        self.ledger.write("dead", pid=worker.pid)
        # The worker is dead: a step that is recorded now will not be recorded a second time, nor run.
        known = {f"{workflow}#{number}" for workflow, number in Step.objects.values_list("workflow_id", "number")}
        begun = Counter(entry.key for entry in self.ledger.entries("begin"))
        self.recorded.append({key: begun[key] for key in known})


def start_work(ledger: Ledger, count: int) -> list[tuple[WorkflowHandle[int], int]]:
    """Start ``count`` workflows of each kind; the handles, and what their results must be."""
    started: list[tuple[WorkflowHandle[int], int]] = []
    for number in range(count):
        started += [
            (start_workflow(workflows.sync_order, ledger, number), workflows.sync_order_result(number)),
            (start_workflow(workflows.async_order, ledger, number), workflows.async_order_result(number)),
        ]
        for queue in (workflows.one_at_a_time, workflows.two_per_worker):
            started += [
                (queue.enqueue(workflows.queued_job, ledger, number), workflows.queued_job_result(number)),
                (queue.enqueue(workflows.aqueued_job, ledger, number), workflows.queued_job_result(number)),
            ]
    return started


@pytest.mark.parametrize(("workers", "seed"), [(1, 1), (1, 2), (3, 3), (3, 4), (3, 5)])
def test_whenever_workers_are_killed_every_workflow_ends_as_if_nothing_had_happened(
    workers: int, seed: int, ledger: Ledger, start_worker: StartWorker
) -> None:
    dice = random.Random(seed)  # noqa: S311 - repeatable, no secret
    count, bodies = 4, 4 * (9 + 9 + 4 * 3)
    moments = sorted(dice.sample(range(2, bodies - 5), 3))
    started = start_work(ledger, count)
    fleet = Fleet(start_worker, ledger)
    for _ in range(workers):
        fleet.grow(ready=False)

    for moment in moments:
        fleet.wait(lambda moment=moment: ledger.begun() >= moment)  # type: ignore[misc]
        # One that works: whoever has not begun anything yet could be killed without a trace.
        busy = [worker for worker in fleet.workers if ledger.entries("begin", pid=worker.pid)]
        fleet.kill(dice.choice(busy or fleet.workers))
        fleet.grow(ready=False)

    fleet.wait(lambda: not Workflow.objects.active().exists())
    assert [handle.get_result(timeout=1) for handle, _ in started] == [result for _, result in started]
    assert_each_transaction_committed_once(ledger, orders=2 * count, jobs=4 * count)
    assert_only_interrupted_bodies_ran_again(fleet)
    assert_limits_were_kept(ledger)
    for worker in fleet.workers:
        worker.wait_ready()
        assert worker.stop() == 0


def assert_each_transaction_committed_once(ledger: Ledger, *, orders: int, jobs: int) -> None:
    rows = sorted(Row.objects.values_list("name", flat=True))
    steps = Step.objects.filter(name__in=TRANSACTIONS).values_list("workflow_id", "number")
    assert rows == sorted(f"{workflow}#{number}" for workflow, number in steps)
    # An order has two transactions of its own, and one in each of its two children.
    assert len(rows) == 4 * orders + jobs


def assert_only_interrupted_bodies_ran_again(fleet: Fleet) -> None:
    entries = fleet.ledger.entries()
    begins: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.mark == "begin":
            begins.setdefault(entry.key, []).append(entry)

    for recorded in fleet.recorded:
        again = {key for key, times in recorded.items() if len(begins.get(key, ())) != times}
        assert not again, f"recorded before a worker died, and run again after it: {again}"
    for runs in begins.values():
        for run in runs[:-1]:
            assert run.pid in fleet.killed, f"{run} was repeated although its worker lived"
            assert run.name == SIDE_BY_SIDE or is_last_of_its_process(run, entries), (
                f"{run} had ended, and was repeated"
            )

    # What counts was recorded by the process in which the body ran last.
    pids = dict(Executor.objects.values_list("id", "pid"))
    for step in Step.objects.filter(name__in={runs[0].name for runs in begins.values()}):
        runs = begins[f"{step.workflow_id}#{step.number}"]
        assert pids[step.executor_id] == runs[-1].pid


def is_last_of_its_process(run: Entry, entries: list[Entry]) -> bool:
    """Whether its process began nothing after it in the same workflow: it was in it when it died."""
    return run == [e for e in entries if e.mark == "begin" and e.workflow == run.workflow and e.pid == run.pid][-1]


def assert_limits_were_kept(ledger: Ledger) -> None:
    queues = dict(Workflow.objects.exclude(queue_name="").values_list("id", "queue_name"))
    running: set[tuple[str, int]] = set()
    for entry in ledger.entries():
        if entry.mark == "dead":
            running = {(workflow, pid) for workflow, pid in running if pid != entry.pid}
        elif entry.workflow in queues:
            change = running.add if entry.mark == "begin" else running.discard
            change((entry.workflow, entry.pid))
            of_queue = [pid for workflow, pid in running if queues[workflow] == queues[entry.workflow]]
            if queues[entry.workflow] == workflows.one_at_a_time.name:
                assert len(of_queue) <= 1, "global_concurrency=1 was exceeded"
            else:
                assert max(Counter(of_queue).values(), default=0) <= 2, "worker_concurrency=2 was exceeded"


def test_a_workflow_that_was_recovered_twice_has_counted_its_attempts(
    ledger: Ledger, start_worker: StartWorker, new_gate: Callable[..., Gate]
) -> None:
    gate = new_gate("gate", holds=2)
    handle = start_workflow(workflows.held_in_step, ledger, gate)
    victims = []
    for place in range(2):
        victims.append(start_worker())
        assert gate.wait_held(place) == victims[-1].pid
        victims[-1].kill()
    last = start_worker()

    assert handle.get_result(timeout=30) == [victims[0].pid, last.pid, last.pid]
    row = handle.get_status()
    assert (row.status, row.attempts, row.epoch) == (WorkflowStatus.SUCCESS, 3, 3)
