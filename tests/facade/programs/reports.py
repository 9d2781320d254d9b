"""Long work under management: timeouts, cancelling, resuming, forking from a step."""

import threading

from django_dbos.dbos import DBOS, SetWorkflowID, SetWorkflowTimeout

DBOS(config={"name": "reports"})

runs: list[str] = []
is_fixed = threading.Event()


@DBOS.step()
def collect() -> list[int]:
    runs.append("collect")
    return [1, 2, 3]


@DBOS.step()
def add_up(numbers: list[int]) -> int:
    runs.append("add up")
    if not is_fixed.is_set():
        raise ArithmeticError("a bug in the second step")
    return sum(numbers)


@DBOS.workflow()
def report() -> int:
    return add_up(collect())


@DBOS.workflow()
def patient() -> str:
    collect()
    DBOS.recv("go", timeout_seconds=600)
    return "done"


def start_bounded(seconds: float, workflow_id: str) -> object:
    with SetWorkflowTimeout(seconds), SetWorkflowID(workflow_id):
        return DBOS.start_workflow(patient)
