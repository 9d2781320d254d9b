"""The demo without a person: orders, SIGKILL half way, another worker, and a report on what became of them."""

import time
from pathlib import Path

from django.db.models import Max

from django_dbos.models import Executor, Step, Workflow
from django_dbos.states import ExecutorState
from testproject.shop.models import Order, Product, StepRun, StockMovement

from .processes import TO_START, Child, DemoFailed, Processes, say, wait_for
from .report import Report, Run, step_key
from .setup import place_orders

#: Seconds until some orders have to be half way, and until all have to be finished.
TO_HALF_WAY, TO_FINISH = 30.0, 90.0
#: Half way: so many orders are paid, picked and not finished yet.
ENOUGH = 2


def run(directory: Path, port: int) -> int:
    """Do all of it; returns 0 only if everything finished and every transaction happened once."""
    with Processes(directory, port) as processes:
        report = _job(processes)
    return report.show()


def _job(processes: Processes) -> Report:
    started = time.monotonic()
    last_movement = StockMovement.objects.aggregate(last=Max("pk"))["last"] or 0
    stock = dict(Product.objects.values_list("pk", "stock"))
    processes.start_site()
    first = _ready_worker(processes)
    expected = place_orders()
    say(f"{len(expected)} orders are placed; worker A is process {first.pid}.")
    workflow_ids = [order.workflow_id for order in Order.objects.filter(pk__in=expected)]
    wait_for(lambda: _is_half_way(workflow_ids), TO_HALF_WAY, "no orders were half way")
    first.kill()
    interrupted = _interrupted(workflow_ids)
    killed = time.monotonic()
    say(f"Worker A is killed ({first.ending}) while it runs {len(interrupted)} steps.")
    second = _ready_worker(processes)
    say(f"Worker B is process {second.pid}.")
    in_time = _finished_in_time(workflow_ids, second)
    say(f"{time.monotonic() - killed:.1f} s after the kill, {time.monotonic() - started:.1f} s in all.")
    run = Run(
        expected=expected,
        stock=stock,
        last_movement=last_movement,
        interrupted=interrupted,
        workers={first.pid: "A", second.pid: "B"},
        in_time=in_time,
    )
    return Report(run)


def _ready_worker(processes: Processes) -> Child:
    worker = processes.start_worker()
    running = Executor.objects.filter(pid=worker.pid, state=ExecutorState.RUNNING)
    wait_for(lambda: running.exists() or not worker.alive, TO_START, "the worker is not ready")
    if not worker.alive:
        raise DemoFailed(f"the worker did not start: {worker.ending}")
    return worker


def _is_half_way(workflow_ids: list[str]) -> bool:
    """Whether enough orders are on their way and not finished, and the code of a step runs at this moment."""
    picked = Step.objects.filter(workflow_id__in=workflow_ids, name="pick").values("workflow_id")
    shipping = Workflow.objects.active().filter(pk__in=picked).count()
    return shipping >= ENOUGH and bool(_interrupted(workflow_ids))


def _interrupted(workflow_ids: list[str]) -> set[tuple[str, str]]:
    """The steps whose code has started and whose end is not recorded, as (workflow, step)."""
    started = {step_key(run) for run in StepRun.objects.filter(workflow_id__in=workflow_ids)}
    return started - {step_key(step) for step in Step.objects.filter(workflow_id__in=workflow_ids)}


def _finished_in_time(workflow_ids: list[str], worker: Child) -> bool:
    unfinished = Workflow.objects.active().filter(pk__in=workflow_ids)
    try:
        wait_for(lambda: not unfinished.exists() or not worker.alive, TO_FINISH, "not everything was finished")
    except DemoFailed:
        return False
    return not unfinished.exists()
