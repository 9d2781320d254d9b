"""A recorded history is the truth: SIGKILL after each operation of a workflow that uses every primitive once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from django_dbos import SetWorkflowID, retrieve_workflow, send, start_workflow
from django_dbos.models import EventHistory, Message, Step, StreamEntry, Workflow
from tests.acceptance import everything
from tests.models import Row
from tests.support import WorkerProcess, eventually
from tests.sysdb.rows import workflow as row

RESULT = [
    2,
    "transaction",
    "red",
    {"colour": "red"},
    "for you",
    10,
    20,
    [30, 40],
    True,
    7,
    6,
    True,
    True,
    4,
    None,
    True,
]
PLACES = 26


@pytest.mark.django_db(transaction=True)
def test_killed_after_each_operation_it_ends_with_the_same_result_and_each_effect_once(
    tmp_path: Path, start_worker: Callable[..., WorkerProcess]
) -> None:
    with SetWorkflowID("source"):
        everything.source()
    row("mailbox", "ERROR", name="mailbox", error="{}")
    row("victim", "ENQUEUED", name="nobody knows it")
    with SetWorkflowID("w"):
        start_workflow(everything.everything, str(tmp_path))
    send("w", "for you", "topic")

    kills = 0
    while not Workflow.objects.get(pk="w").is_finished:
        worker = start_worker("--no-scheduler", ready=False)
        eventually(lambda worker=worker: not worker.alive or Workflow.objects.get(pk="w").is_finished, 60)  # type: ignore[misc]
        kills += not worker.alive

    assert retrieve_workflow("w").get_result(1) == RESULT
    assert kills == PLACES == len(list(tmp_path.iterdir()))
    assert sorted(Row.objects.values_list("name", flat=True)) == [
        *(f"offspring {n}" for n in range(1, 5)),
        "transaction",
    ]
    assert Counter(Message.objects.values_list("destination_id", flat=True)) == {"mailbox": 3, "w": 1}
    assert EventHistory.objects.filter(workflow_id="w").count() == 1
    assert list(StreamEntry.objects.filter(workflow_id="w").values_list("offset", "is_end")) == [(0, False), (1, True)]
    assert Workflow.objects.filter(name="offspring").count() == 4
    assert Workflow.objects.get(pk="victim").status == "CANCELLED"
    assert set(Workflow.objects.get(pk="mailbox").attributes) == {"by"}
    numbers = list(Step.objects.filter(workflow_id="w").order_by("number").values_list("number", flat=True))
    assert len(numbers) == len(set(numbers))
