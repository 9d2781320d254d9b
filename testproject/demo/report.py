"""What the rows say after the run: a table of every step, a summary, and whatever is wrong."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from django.db.models import QuerySet, Sum

from django_dbos.models import Executor, Step, Workflow
from django_dbos.states import WorkflowStatus
from testproject.shop.models import Order, Payment, Product, StepRun, StockMovement
from testproject.shop.progress import TRANSACTIONS

from .processes import say

StepKey = tuple[str, str]

ROW = "{:<26} {:<20} {:<12} {:<14} {}"


def step_key(row: Step | StepRun) -> StepKey:
    """(workflow, step): in this workflow no step is taken twice."""
    return row.workflow_id, row.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    What the run knows that the rows do not.

    ``expected``: order -> the status it has to end with. ``stock``: product -> how many there were before.
    ``last_movement``: the last movement of the stock before. ``interrupted``: the steps that were running at the
    kill. ``workers``: process -> its letter. ``in_time``: whether all orders were finished in time.
    """

    expected: Mapping[int, str]
    stock: Mapping[int, int]
    last_movement: int
    interrupted: set[StepKey]
    workers: Mapping[int, str]
    in_time: bool


class Report:
    """The rows of one run, read when they are asked for."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def show(self) -> int:
        """Write all of it to the terminal; the exit code."""
        self._show_table()
        problems = list(self.problems())
        self._show_summary()
        for problem in problems:
            say(f"WRONG: {problem}")
        say("FAILED" if problems else "OK: everything finished, and every transaction happened once.")
        return 1 if problems else 0

    # ---- the rows

    @cached_property
    def orders(self) -> list[Order]:
        """The orders of this run."""
        return list(Order.objects.filter(pk__in=self.run.expected).select_related("product").order_by("pk"))

    @cached_property
    def workflows(self) -> dict[str, Workflow]:
        """Their workflows, by id."""
        return {row.pk: row for row in Workflow.objects.filter(pk__in=[order.workflow_id for order in self.orders])}

    @cached_property
    def steps(self) -> dict[str, list[Step]]:
        """What is recorded, by workflow, in order."""
        steps = defaultdict(list)
        for step in Step.objects.filter(workflow_id__in=self.workflows).order_by("number"):
            steps[step.workflow_id].append(step)
        return steps

    @cached_property
    def runs(self) -> dict[StepKey, list[int]]:
        """The ledger: the processes in which each step's code ran."""
        runs = defaultdict(list)
        for run in StepRun.objects.filter(workflow_id__in=self.workflows):
            runs[step_key(run)].append(run.pid)
        return runs

    @cached_property
    def repeated(self) -> set[StepKey]:
        """The steps whose code ran more than once."""
        return {key for key, pids in self.runs.items() if len(pids) > 1}

    # ---- what is shown

    def _show_table(self) -> None:
        say()
        for letter, ending in (("A", "killed with SIGKILL half way"), ("B", "started after that")):
            pids = [str(pid) for pid, name in self.run.workers.items() if name == letter]
            say(f"{letter} = worker process {', '.join(pids)}, {ending}")
        say()
        header = ROW.format("order", "step", "attempts", "ran in", "recorded by")
        say(header)
        say("-" * len(header))
        for order in self.orders:
            label = f"{order.pk} {order.quantity} x {order.product}: {order.status}"
            for step in self.steps[order.workflow_id]:
                say(ROW.format(label, *self._cells(step)).rstrip())
                label = ""
        say()

    def _cells(self, step: Step) -> tuple[str, str, str, str]:
        pids = self.runs[step_key(step)]
        unit = "commit" if step.name in TRANSACTIONS else "run"
        attempts = f"{len(pids)} {unit}{'' if len(pids) == 1 else 's'}"
        ran_in = ", ".join(self._letter(pid) for pid in pids)
        recorded_by = self._recorder(step)
        return f"{step.number} {step.name}", attempts, ran_in, f"{recorded_by}{' (an error)' if step.error else ''}"

    def _recorder(self, step: Step) -> str:
        executor = self._executors.get(step.executor_id)
        return step.executor_id if executor is None else self._letter(executor)

    @cached_property
    def _executors(self) -> dict[str, int]:
        return dict(Executor.objects.values_list("pk", "pid"))

    def _letter(self, pid: int) -> str:
        return self.run.workers.get(pid, str(pid))

    def _show_summary(self) -> None:
        finished = sum(workflow.is_finished for workflow in self.workflows.values())
        commits = sum(len(pids) for (_, name), pids in self.runs.items() if name in TRANSACTIONS)
        sold = sum(order.quantity for order in self.orders if order.status == Order.Status.DONE)
        taken = -sum(self._movements(order).aggregate(n=Sum("quantity"))["n"] or 0 for order in self.orders)
        payments = list(Payment.objects.filter(order__in=self.orders))
        asked, paid = sum(payment.requests for payment in payments), len(payments)
        done = sum(order.status == Order.Status.DONE for order in self.orders)
        say(f"orders finished      {finished} of {len(self.orders)}")
        say(f"transactions         {commits} commits of {self._committed_steps()} recorded transactions")
        say(f"stock                {taken} taken, {sold} sold")
        say(f"payments             {paid} for {done} orders that were paid; asked for {asked} times")
        say(f"steps repeated       {len(self.repeated)}, {len(self.run.interrupted)} were running at the kill")

    def _committed_steps(self) -> int:
        return sum(step.name in TRANSACTIONS and step.error is None for steps in self.steps.values() for step in steps)

    # ---- what is wrong

    def problems(self) -> Iterator[str]:
        """Everything that should not be, in words."""
        if not self.run.in_time:
            yield "not everything was finished in time"
        for order in self.orders:
            yield from self._problems_of(order)
        yield from self._problems_of_stock()
        for workflow_id, name in sorted(self.repeated - self.run.interrupted):
            times = len(self.runs[workflow_id, name])
            yield f"{name} of {workflow_id} ran {times} times, and nobody had interrupted it"

    def _problems_of(self, order: Order) -> Iterator[str]:
        workflow, expected = self.workflows.get(order.workflow_id), self.run.expected[order.pk]
        if workflow is None or workflow.status != WorkflowStatus.SUCCESS:
            yield f"the workflow of order {order.pk} is {workflow.status if workflow else 'missing'}"
        if order.status != expected:
            yield f"order {order.pk} is {order.status}, not {expected}"
        for step in self.steps[order.workflow_id]:
            commits = len(self.runs[step_key(step)])
            if step.name in TRANSACTIONS and commits != (step.error is None):
                yield f"{step.name} of order {order.pk} committed {commits} times"
        movements = sorted(self._movements(order).values_list("quantity", flat=True))
        if movements != _movements_expected(order, expected):
            yield f"the stock moved by {movements} for order {order.pk}, which is {order.status}"
        payments = order.payments.count()
        if payments != (expected == Order.Status.DONE):
            yield f"order {order.pk}, {order.status}, was paid {payments} times"

    def _problems_of_stock(self) -> Iterator[str]:
        for product in Product.objects.filter(pk__in=self.run.stock):
            moved = product.movements.filter(pk__gt=self.run.last_movement).aggregate(n=Sum("quantity"))["n"] or 0
            if product.stock != self.run.stock[product.pk] + moved:
                yield f"{product.stock} of {product} are left, but {self.run.stock[product.pk]} {moved:+} were moved"

    def _movements(self, order: Order) -> QuerySet[StockMovement]:
        return StockMovement.objects.filter(order=order)


def _movements_expected(order: Order, status: str) -> list[int]:
    """How an order that ends with ``status`` moves the stock."""
    if status == Order.Status.DONE:
        return [-order.quantity]
    return [-order.quantity, order.quantity] if status == Order.Status.DECLINED else []
