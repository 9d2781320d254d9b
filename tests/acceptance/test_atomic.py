"""A start joins the caller's transaction; a direct call inside one is refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections
from django.db.transaction import atomic, set_rollback
from django.test import TestCase

from django_dbos import SetWorkflowID, WorkflowStatus, retrieve_workflow, start_workflow
from django_dbos.exceptions import DirectCallInTransaction, NonExistentWorkflow
from django_dbos.models import Step, Workflow
from tests.acceptance import workflows
from tests.acceptance.observed import Ledger
from tests.models import Row
from tests.support import WorkerProcess

StartWorker = Callable[..., WorkerProcess]
Starter = Callable[..., object]


def seen_by_others(workflow_id: str) -> bool:
    """Whether a workflow is there for a connection of its own."""

    def look() -> bool:
        try:
            return Workflow.objects.filter(pk=workflow_id).exists()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(look).result()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("start", [start_workflow, workflows.plain.enqueue, workflows.one_at_a_time.enqueue])
def test_a_start_inside_atomic_appears_on_commit(start: Starter, ledger: Ledger, start_worker: StartWorker) -> None:
    worker = start_worker()
    with atomic():
        with SetWorkflowID("inside"):
            start(workflows.where, ledger)
        assert Workflow.objects.filter(pk="inside").exists()
        assert not seen_by_others("inside")
        assert not ledger.begun()
    assert retrieve_workflow("inside").get_result(timeout=30) == worker.pid
    assert ledger.begun() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("start", [start_workflow, workflows.plain.enqueue, workflows.one_at_a_time.enqueue])
def test_a_start_inside_atomic_vanishes_on_rollback(start: Starter, ledger: Ledger, start_worker: StartWorker) -> None:
    worker = start_worker()
    with atomic():
        Row.objects.create(name="order")
        with SetWorkflowID("inside"):
            start(workflows.where, ledger)
        set_rollback(True)
    assert start_workflow(workflows.where, ledger).get_result(timeout=30) == worker.pid
    assert ledger.begun() == 1
    assert not Row.objects.exists()
    with pytest.raises(NonExistentWorkflow):
        retrieve_workflow("inside")


@pytest.mark.django_db(transaction=True)
def test_a_direct_call_inside_atomic_is_refused_and_leaves_nothing(ledger: Ledger) -> None:
    with (
        pytest.raises(DirectCallInTransaction, match=r"where\(\) was called inside atomic.*start_workflow\(where"),
        atomic(),
    ):
        workflows.where(ledger)
    assert not ledger.begun()
    assert not Workflow.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_step_inside_atomic_in_a_workflow_is_refused_and_leaves_nothing(
    ledger: Ledger, start_worker: StartWorker
) -> None:
    start_worker()
    handle = start_workflow(workflows.careless, ledger)
    with pytest.raises(DirectCallInTransaction):
        handle.get_result(timeout=30)
    assert not ledger.begun()
    assert not Row.objects.exists()
    assert not Step.objects.exists()


class TestInsideTestCase(TestCase):
    """Django's TestCase is a transaction around everything, and no reason to refuse."""

    def test_a_direct_call_runs(self) -> None:
        with SetWorkflowID("called"):
            assert workflows.unwatched(20) == 41
        assert Workflow.objects.get(pk="called").status == WorkflowStatus.SUCCESS
        assert [step.name for step in Step.objects.order_by("number")] == ["added", "saved"]
        assert Row.objects.get().name == "41"

    def test_what_another_test_did_is_gone(self) -> None:
        assert not Workflow.objects.exists()
        assert not Row.objects.exists()

    def test_a_direct_call_inside_atomic_is_refused_all_the_same(self) -> None:
        with pytest.raises(DirectCallInTransaction), atomic():
            workflows.unwatched(20)
