"""Rows as workers leave them, staff with permissions, and how a browser asks."""

from datetime import timedelta
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from django_dbos.ids import uuid7
from django_dbos.models import Step, Workflow
from django_dbos.serialization import dump_call, dump_error
from django_dbos.states import FINISHED

LIST = "/admin/dbos/workflow/"
VERBS = ("cancel", "resume", "fork")


def make(status: str = "SUCCESS", **fields: Any) -> Workflow:
    """A row as the worker leaves it."""
    inputs, serializer = dump_call((7,), {"name": "pen"})
    row = {"name": "admin_workflow", "inputs": inputs, "serializer": serializer, **fields}
    started = {} if status in ("ENQUEUED", "DELAYED") else {"started_at": timezone.now() - timedelta(seconds=90)}
    ended = {"completed_at": timezone.now()} if status in FINISHED else {}
    return Workflow.objects.create(**{"id": uuid7(), "status": status, **started, **ended, **row})


def add_step(workflow: Workflow, number: int, **fields: Any) -> Step:
    """A checkpoint."""
    moment = timezone.now()
    row = {"name": f"step_{number}", "output": "1", "started_at": moment, "completed_at": moment, **fields}
    return Step.objects.create(workflow=workflow, number=number, **row)


def failed_with(error: BaseException) -> dict[str, str]:
    """The columns of a recorded error, with a traceback."""
    try:
        raise error
    except type(error) as raised:
        text, name = dump_error(raised)
        return {"error": text, "serializer": name}


def client_with(*permissions: str) -> Client:
    """A staff member who holds these permissions."""
    user = User.objects.create_user(f"staff-{uuid7()}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="dbos", codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page(workflow: Workflow, verb: str = "change") -> str:
    """The address of a workflow's page, or of a verb on it."""
    return f"{LIST}{workflow.pk}/{verb}/"


def act(client: Client, verb: str, *rows: Workflow, query: str = "", across: bool = False, **fields: str) -> Any:
    """Post an action of the list, as the list's form does; ``confirm="yes"`` as the confirm page does."""
    data: dict[str, Any] = {
        "action": f"{verb}_workflows",
        "select_across": "1" if across else "0",
        "_selected_action": [row.pk for row in rows],
        **({"confirm": "yes"} if "confirm" in fields else {"index": "0"}),
        **fields,
    }
    return client.post(LIST + query, data)


def ids_in(response: Any) -> set[str]:
    """The workflows that a list shows."""
    return {row.pk for row in response.context["cl"].result_list}


def said(response: Any) -> str:
    """The messages that the next page shows."""
    return " ".join(str(message) for message in response.wsgi_request._messages)


def text_of(response: Any) -> str:
    """The page."""
    return str(response.content.decode())


def history(workflow: Workflow) -> list[str]:
    """What the admin's log says about a workflow."""
    entries = LogEntry.objects.filter(object_id=workflow.pk, content_type__model="workflow")
    return [entry.change_message for entry in entries]


def status_of(workflow: Workflow) -> str:
    """The status in the database."""
    return Workflow.objects.values_list("status", flat=True).get(pk=workflow.pk)
