"""How far an order is: the steps that are recorded, the one that runs, and those to come."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django_dbos.models import Step, Workflow

from .models import Order, StepRun
from .workers import latest_workers

#: What happens to an order that nothing goes wrong with.
JOURNEY = ("reserve_stock", "charge", "pick", "pack", "hand_over", "send_confirmation", "close_order")
TRANSACTIONS = frozenset({"reserve_stock", "release_stock", "close_order"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    One step of an order, as its page shows it.

    ``state``: ``done``, ``failed``, ``running``, ``interrupted`` (its worker is gone), ``waiting``. ``runs``: the
    processes in which its code ran, in order.
    """

    number: int
    name: str
    state: str
    runs: Sequence[int] = ()
    executor_id: str = ""
    seconds: float | None = None

    @property
    def title(self) -> str:
        """The name for people."""
        return self.name.replace("_", " ")

    @property
    def is_transaction(self) -> bool:
        """Whether it commits with its checkpoint."""
        return self.name in TRANSACTIONS

    @property
    def worker(self) -> str:
        """The process that recorded it, for people; see ``django_dbos.sysdb.executors.new_id``."""
        return self.executor_id.rsplit("-", 2)[1] if self.executor_id.count("-") > 1 else self.executor_id


def lines_of(order: Order) -> list[Line]:
    """Every step of an order: done, failed, running, or waiting for its turn."""
    runs = runs_of(order.workflow_id)
    workflow = Workflow.objects.filter(pk=order.workflow_id).first()
    recorded = [] if workflow is None else [_recorded(row, runs) for row in workflow.steps.order_by("number")]
    if order.is_finished or any(line.state == "failed" for line in recorded):
        return recorded
    coming = JOURNEY[len(recorded) :]
    alive = {worker.executor.pid for worker in latest_workers() if worker.is_alive}
    return recorded + [_coming(number, name, runs, alive) for number, name in enumerate(coming, len(recorded) + 1)]


def runs_of(workflow_id: str) -> dict[str, list[int]]:
    """The ledger of one workflow: step name -> the processes in which it ran."""
    runs = defaultdict(list)
    for run in StepRun.objects.filter(workflow_id=workflow_id):
        runs[run.name].append(run.pid)
    return runs


def _recorded(row: Step, runs: dict[str, list[int]]) -> Line:
    took = (row.completed_at - row.started_at).total_seconds() if row.completed_at and row.started_at else None
    return Line(
        number=row.number,
        name=row.name,
        state="failed" if row.error is not None else "done",
        runs=runs.get(row.name, ()),
        executor_id=row.executor_id,
        seconds=took,
    )


def _coming(number: int, name: str, runs: dict[str, list[int]], alive: set[int]) -> Line:
    started = runs.get(name, ())
    state = "waiting" if not started else "running" if started[-1] in alive else "interrupted"
    return Line(number=number, name=name, state=state, runs=started)
