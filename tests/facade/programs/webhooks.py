"""A webhook that is delivered more than once, and has to be worked on once."""

from typing import Any

from django_dbos.dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowID
from django_dbos.dbos import error as dboserror

DBOS(config={"name": "webhooks"})

imports = Queue("imports", worker_concurrency=1, priority_enabled=True)
handled: list[str] = []
order: list[str] = []


@DBOS.step()
def handle_event(event: dict[str, Any]) -> str:
    handled.append(event["id"])
    return f"handled {event['type']}"


@DBOS.workflow()
def process_event(event: dict[str, Any]) -> str:
    return handle_event(event)


def webhook(event: dict[str, Any]) -> str:
    """Answer at once; the sender's id is the workflow's."""
    with SetWorkflowID(f"event-{event['id']}"):
        DBOS.start_workflow(process_event, event)
    return "accepted"


@DBOS.workflow()
def import_account(account: str) -> str:
    order.append(account)
    DBOS.recv("go", timeout_seconds=5 if account == "first" else 0)
    return account


def request_import(account: str, priority: int | None = None) -> str:
    """One import of an account at a time."""
    try:
        with SetEnqueueOptions(deduplication_id=account, priority=priority):
            return str(imports.enqueue(import_account, account).workflow_id)
    except dboserror.DBOSQueueDeduplicatedError:
        return "already under way"
