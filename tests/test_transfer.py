"""From one database to another: a tree of workflows as JSON, and back."""

import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db.models.functions import Now

from django_dbos import (
    Runtime,
    SetWorkflowID,
    aexport_workflow,
    aimport_workflow,
    cancel_workflow,
    delete_workflow,
    export_workflow,
    import_workflow,
    list_workflow_steps,
    resume_workflow,
    start_workflow,
    step,
    workflow,
)
from django_dbos.exceptions import InvalidOption, NonExistentWorkflow, WorkflowIDInUse
from django_dbos.models import Event, EventHistory, Message, Step, StreamEntry, Workflow
from django_dbos.states import WorkflowStatus

everywhere = pytest.mark.django_db(databases=["default", "other"])
committed = pytest.mark.django_db(transaction=True, databases=["default", "other"])
TABLES: tuple[Any, ...] = (Workflow, Step, Message, Event, EventHistory, StreamEntry)

runs: list[str] = []


@step
def noted_for_transfer(word: str) -> str:
    runs.append(word)
    return word


@workflow
def child_of_transfer(word: str) -> str:
    return noted_for_transfer(word)


@workflow
def parent_of_transfer() -> list[str]:
    return [noted_for_transfer("parent"), child_of_transfer("child")]


@pytest.fixture(autouse=True)
def fresh() -> None:
    runs.clear()


def everything() -> list[list[dict[str, Any]]]:
    return [list(table.objects.order_by("pk").values()) for table in TABLES]


def with_mail(workflow_id: str) -> None:
    Message.objects.create(id="m", destination_id=workflow_id, payload="1", consumed_by_step=1)
    Event.objects.create(workflow_id=workflow_id, key="k", value="1")
    EventHistory.objects.create(workflow_id=workflow_id, key="k", step=1, value="1")
    StreamEntry.objects.create(workflow_id=workflow_id, key="k", offset=0, value="1", step=1)


@committed
def test_a_tree_comes_back_as_it_was() -> None:
    with SetWorkflowID("root"):
        parent_of_transfer()
    with_mail("root")
    Workflow.objects.filter(pk="root").update(attributes={"a": [1, None]}, deadline=Now(), timeout=1.5)
    before = everything()
    document = json.loads(json.dumps(export_workflow("root")))
    assert everything() == before
    delete_workflow("root", delete_children=True)
    assert everything() == [[]] * 6
    handle = import_workflow(document)
    assert everything() == before
    assert handle.get_result() == ["parent", "child"]


@everywhere
def test_children_may_be_left_out() -> None:
    with SetWorkflowID("root"):
        parent_of_transfer()
    document = export_workflow("root", export_children=False)
    assert [row["id"] for row in document["workflows"]] == ["root"]
    assert {row["workflow_id"] for row in document["steps"]} == {"root"}


@committed
def test_what_had_not_finished_goes_on_behind_its_last_step() -> None:
    with SetWorkflowID("w"):
        handle = start_workflow(parent_of_transfer)
    Step.objects.create(workflow_id="w", number=1, name="noted_for_transfer", output='"recorded"')
    Workflow.objects.update(status=WorkflowStatus.PENDING, executor_id="on another machine", epoch=3)
    document = export_workflow("w")
    cancel_workflow("w")
    delete_workflow("w")
    with Runtime():
        import_workflow(document)
        assert handle.get_result(timeout=20) == ["recorded", "child"]
    assert runs == ["child"]
    assert Workflow.objects.get(pk="w").epoch == 4


@everywhere
def test_an_id_that_is_in_use_is_refused_and_nothing_is_written() -> None:
    with SetWorkflowID("root"):
        parent_of_transfer()
    document = export_workflow("root")
    delete_workflow("root")
    before = everything()
    with pytest.raises(WorkflowIDInUse, match="'root-2'"):
        import_workflow(document)
    assert everything() == before


@everywhere
def test_a_key_that_somebody_else_holds_is_refused() -> None:
    Workflow.objects.create(id="w", name="n", status="ENQUEUED", queue_name="q", deduplication_id="key")
    document = export_workflow("w")
    cancel_workflow("w")
    delete_workflow("w")
    Workflow.objects.create(id="holder", name="n", status="ENQUEUED", queue_name="q", deduplication_id="key")
    with pytest.raises(InvalidOption, match="'key'"):
        import_workflow(document)


def broken(change: Any) -> Any:
    document = export_workflow("w")
    delete_workflow("w")
    change(document)
    return document


BROKEN: list[tuple[str, Any, str]] = [
    ("format", lambda d: d.update(format="something"), "no exported workflow"),
    ("version", lambda d: d.update(version=2), "version 2"),
    ("table", lambda d: d.pop("steps"), "steps missing"),
    ("row", lambda d: d["steps"].append(5), "not 5"),
    ("stray", lambda d: d["steps"][0].update(workflow_id="nobody"), "not whole"),
    ("root", lambda d: d.update(root="nobody"), "not whole"),
    ("column", lambda d: d["steps"][0].update(colour="red"), "no column colour"),
    ("time", lambda d: d["workflows"][0].update(created_at="soon"), "Workflow cannot be read"),
    ("number", lambda d: d["steps"][0].update(number="one"), "Step cannot be read"),
]


@everywhere
@pytest.mark.parametrize(("change", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_document_that_is_not_whole_is_refused(change: Any, message: str) -> None:
    with SetWorkflowID("w"):
        child_of_transfer("x")
    document = broken(change)
    with pytest.raises(InvalidOption, match=message):
        import_workflow(document)
    assert everything() == [[]] * 6


@pytest.mark.parametrize("document", [None, [], "text", {}])
def test_something_else_is_no_document(document: Any) -> None:
    with pytest.raises(InvalidOption, match="no exported workflow"):
        import_workflow(document)


@everywhere
def test_an_unknown_workflow_cannot_be_exported() -> None:
    with pytest.raises(NonExistentWorkflow, match="'nobody'"):
        export_workflow("nobody")


@workflow
def moves(workflow_id: str) -> str:
    document = export_workflow(workflow_id)
    delete_workflow(workflow_id)
    return import_workflow(document).workflow_id


@everywhere
def test_in_a_body_they_are_recorded() -> None:
    with SetWorkflowID("w"):
        child_of_transfer("x")
    with SetWorkflowID("moves"):
        assert moves("w") == "w"
    names = [each.name for each in list_workflow_steps("moves")]
    assert names == ["DBOS.exportWorkflow", "DBOS.deleteWorkflow", "DBOS.importWorkflow"]


@everywhere
def test_the_async_twins_do_the_same() -> None:
    with SetWorkflowID("w"):
        child_of_transfer("x")
    before = everything()
    document = async_to_sync(aexport_workflow)("w")
    delete_workflow("w")
    assert async_to_sync(aimport_workflow)(document).workflow_id == "w"
    assert everything() == before
    resume_workflow("w")
    assert everything() == before
