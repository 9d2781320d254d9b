"""django-dbos: durable workflows inside Django.

The public names, found when they are first asked for: importing the package before the app registry is ready
must not import a model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aggregates import Aggregate as Aggregate
    from .aggregates import astep_aggregates as astep_aggregates
    from .aggregates import aworkflow_aggregates as aworkflow_aggregates
    from .aggregates import step_aggregates as step_aggregates
    from .aggregates import workflow_aggregates as workflow_aggregates
    from .arguments import make_pydantic_args_validator as make_pydantic_args_validator
    from .arguments import pydantic_args_validator as pydantic_args_validator
    from .attempts import StepOptions as StepOptions
    from .awaitables import asyncio_wait as asyncio_wait
    from .bulk import Enqueued as Enqueued
    from .bulk import aenqueue_many as aenqueue_many
    from .bulk import enqueue_many as enqueue_many
    from .classes import ConfiguredInstance as ConfiguredInstance
    from .classes import dbos_class as dbos_class
    from .context import StepStatus as StepStatus
    from .context import assumed_role as assumed_role
    from .context import authenticated_roles as authenticated_roles
    from .context import authenticated_user as authenticated_user
    from .context import step_id as step_id
    from .context import step_status as step_status
    from .context import workflow_id as workflow_id
    from .control import acancel_workflow as acancel_workflow
    from .control import acancel_workflows as acancel_workflows
    from .control import adelete_workflow as adelete_workflow
    from .control import adelete_workflows as adelete_workflows
    from .control import aresume_workflow as aresume_workflow
    from .control import aresume_workflows as aresume_workflows
    from .control import aset_workflow_delay as aset_workflow_delay
    from .control import aset_workflow_priority as aset_workflow_priority
    from .control import aupdate_workflow_attributes as aupdate_workflow_attributes
    from .control import cancel_workflow as cancel_workflow
    from .control import cancel_workflows as cancel_workflows
    from .control import delete_workflow as delete_workflow
    from .control import delete_workflows as delete_workflows
    from .control import resume_workflow as resume_workflow
    from .control import resume_workflows as resume_workflows
    from .control import set_workflow_delay as set_workflow_delay
    from .control import set_workflow_priority as set_workflow_priority
    from .control import update_workflow_attributes as update_workflow_attributes
    from .dbos import DBOS as DBOS
    from .events import aget_all_events as aget_all_events
    from .events import aget_event as aget_event
    from .events import aset_event as aset_event
    from .events import get_all_events as get_all_events
    from .events import get_event as get_event
    from .events import set_event as set_event
    from .filters import WorkflowFilters as WorkflowFilters
    from .forks import afork_from_failure as afork_from_failure
    from .forks import afork_workflow as afork_workflow
    from .forks import arewind_workflow as arewind_workflow
    from .forks import fork_from_failure as fork_from_failure
    from .forks import fork_workflow as fork_workflow
    from .forks import rewind_workflow as rewind_workflow
    from .handles import WorkflowHandle as WorkflowHandle
    from .handles import aget_result as aget_result
    from .handles import aretrieve_workflow as aretrieve_workflow
    from .handles import await_all as await_all
    from .handles import await_first as await_first
    from .handles import get_result as get_result
    from .handles import retrieve_workflow as retrieve_workflow
    from .handles import wait_all as wait_all
    from .handles import wait_first as wait_first
    from .listing import acount_workflows as acount_workflows
    from .listing import aget_workflow_status as aget_workflow_status
    from .listing import alist_queued_workflows as alist_queued_workflows
    from .listing import alist_workflow_steps as alist_workflow_steps
    from .listing import alist_workflows as alist_workflows
    from .listing import count_workflows as count_workflows
    from .listing import get_workflow_status as get_workflow_status
    from .listing import list_queued_workflows as list_queued_workflows
    from .listing import list_workflow_steps as list_workflow_steps
    from .listing import list_workflows as list_workflows
    from .logs import logger as logger
    from .messages import SendMessage as SendMessage
    from .messages import arecv as arecv
    from .messages import asend as asend
    from .messages import asend_bulk as asend_bulk
    from .messages import recv as recv
    from .messages import send as send
    from .messages import send_bulk as send_bulk
    from .options import EnqueueOptions as EnqueueOptions
    from .options import SetAuthentication as SetAuthentication
    from .options import SetEnqueueOptions as SetEnqueueOptions
    from .options import SetWorkflowAttributes as SetWorkflowAttributes
    from .options import SetWorkflowID as SetWorkflowID
    from .options import SetWorkflowTimeout as SetWorkflowTimeout
    from .patching import adeprecate_patch as adeprecate_patch
    from .patching import apatch as apatch
    from .patching import deprecate_patch as deprecate_patch
    from .patching import patch as patch
    from .queues import Queue as Queue
    from .queues import aenqueue_workflow as aenqueue_workflow
    from .queues import aenqueue_workflow_with_options as aenqueue_workflow_with_options
    from .queues import enqueue_workflow as enqueue_workflow
    from .queues import enqueue_workflow_with_options as enqueue_workflow_with_options
    from .replay import Divergence as Divergence
    from .replay import Replay as Replay
    from .replay import areplay_workflow as areplay_workflow
    from .replay import replay_workflow as replay_workflow
    from .roles import default_required_roles as default_required_roles
    from .roles import required_roles as required_roles
    from .runtime import Runtime as Runtime
    from .schedules import SchedulerMode as SchedulerMode
    from .schedules import scheduled as scheduled
    from .serialization import register_type as register_type
    from .states import WorkflowStatus as WorkflowStatus
    from .steps import StepReservation as StepReservation
    from .steps import arun_step as arun_step
    from .steps import reserve_step as reserve_step
    from .steps import run_step as run_step
    from .steps import step as step
    from .streams import aclose_stream as aclose_stream
    from .streams import aread_stream as aread_stream
    from .streams import aread_stream_offset as aread_stream_offset
    from .streams import awrite_stream as awrite_stream
    from .streams import close_stream as close_stream
    from .streams import read_stream as read_stream
    from .streams import read_stream_offset as read_stream_offset
    from .streams import write_stream as write_stream
    from .timers import anow as anow
    from .timers import arandom_uuid as arandom_uuid
    from .timers import asleep as asleep
    from .timers import now as now
    from .timers import random_uuid as random_uuid
    from .timers import sleep as sleep
    from .transactions import transaction as transaction
    from .transfer import aexport_workflow as aexport_workflow
    from .transfer import aimport_workflow as aimport_workflow
    from .transfer import export_workflow as export_workflow
    from .transfer import import_workflow as import_workflow
    from .versions import aget_latest_application_version as aget_latest_application_version
    from .versions import alist_application_versions as alist_application_versions
    from .versions import application_version as application_version
    from .versions import aset_latest_application_version as aset_latest_application_version
    from .versions import aunserved_versions as aunserved_versions
    from .versions import get_latest_application_version as get_latest_application_version
    from .versions import list_application_versions as list_application_versions
    from .versions import set_latest_application_version as set_latest_application_version
    from .versions import unserved_versions as unserved_versions
    from .workflows import astart_workflow as astart_workflow
    from .workflows import start_workflow as start_workflow
    from .workflows import workflow as workflow

#: Public name -> the module that has it.
_EXPORTS: dict[str, str] = {
    "Aggregate": "aggregates",
    "ConfiguredInstance": "classes",
    "DBOS": "dbos",
    "Divergence": "replay",
    "EnqueueOptions": "options",
    "Enqueued": "bulk",
    "Queue": "queues",
    "Replay": "replay",
    "Runtime": "runtime",
    "SchedulerMode": "schedules",
    "SendMessage": "messages",
    "SetAuthentication": "options",
    "SetEnqueueOptions": "options",
    "SetWorkflowAttributes": "options",
    "SetWorkflowID": "options",
    "SetWorkflowTimeout": "options",
    "StepOptions": "attempts",
    "StepReservation": "steps",
    "StepStatus": "context",
    "WorkflowFilters": "filters",
    "WorkflowHandle": "handles",
    "WorkflowStatus": "states",
    "acancel_workflow": "control",
    "acancel_workflows": "control",
    "aclose_stream": "streams",
    "acount_workflows": "listing",
    "adelete_workflow": "control",
    "adelete_workflows": "control",
    "adeprecate_patch": "patching",
    "aenqueue_many": "bulk",
    "aenqueue_workflow": "queues",
    "aenqueue_workflow_with_options": "queues",
    "aexport_workflow": "transfer",
    "afork_from_failure": "forks",
    "afork_workflow": "forks",
    "aget_all_events": "events",
    "aget_event": "events",
    "aget_latest_application_version": "versions",
    "aget_result": "handles",
    "aget_workflow_status": "listing",
    "aimport_workflow": "transfer",
    "alist_application_versions": "versions",
    "alist_queued_workflows": "listing",
    "alist_workflow_steps": "listing",
    "alist_workflows": "listing",
    "anow": "timers",
    "apatch": "patching",
    "application_version": "versions",
    "arandom_uuid": "timers",
    "aread_stream": "streams",
    "aread_stream_offset": "streams",
    "arecv": "messages",
    "areplay_workflow": "replay",
    "aresume_workflow": "control",
    "aresume_workflows": "control",
    "aretrieve_workflow": "handles",
    "arewind_workflow": "forks",
    "arun_step": "steps",
    "asend": "messages",
    "asend_bulk": "messages",
    "aset_event": "events",
    "aset_latest_application_version": "versions",
    "aset_workflow_delay": "control",
    "aset_workflow_priority": "control",
    "asleep": "timers",
    "assumed_role": "context",
    "astart_workflow": "workflows",
    "astep_aggregates": "aggregates",
    "asyncio_wait": "awaitables",
    "aunserved_versions": "versions",
    "aupdate_workflow_attributes": "control",
    "authenticated_roles": "context",
    "authenticated_user": "context",
    "await_all": "handles",
    "await_first": "handles",
    "aworkflow_aggregates": "aggregates",
    "awrite_stream": "streams",
    "cancel_workflow": "control",
    "cancel_workflows": "control",
    "close_stream": "streams",
    "count_workflows": "listing",
    "dbos_class": "classes",
    "default_required_roles": "roles",
    "delete_workflow": "control",
    "delete_workflows": "control",
    "deprecate_patch": "patching",
    "enqueue_many": "bulk",
    "enqueue_workflow": "queues",
    "enqueue_workflow_with_options": "queues",
    "export_workflow": "transfer",
    "fork_from_failure": "forks",
    "fork_workflow": "forks",
    "get_all_events": "events",
    "get_event": "events",
    "get_latest_application_version": "versions",
    "get_result": "handles",
    "get_workflow_status": "listing",
    "import_workflow": "transfer",
    "list_application_versions": "versions",
    "list_queued_workflows": "listing",
    "list_workflow_steps": "listing",
    "list_workflows": "listing",
    "logger": "logs",
    "make_pydantic_args_validator": "arguments",
    "now": "timers",
    "patch": "patching",
    "pydantic_args_validator": "arguments",
    "random_uuid": "timers",
    "read_stream": "streams",
    "read_stream_offset": "streams",
    "recv": "messages",
    "register_type": "serialization",
    "replay_workflow": "replay",
    "required_roles": "roles",
    "reserve_step": "steps",
    "resume_workflow": "control",
    "resume_workflows": "control",
    "retrieve_workflow": "handles",
    "rewind_workflow": "forks",
    "run_step": "steps",
    "scheduled": "schedules",
    "send": "messages",
    "send_bulk": "messages",
    "set_event": "events",
    "set_latest_application_version": "versions",
    "set_workflow_delay": "control",
    "set_workflow_priority": "control",
    "sleep": "timers",
    "start_workflow": "workflows",
    "step": "steps",
    "step_aggregates": "aggregates",
    "step_id": "context",
    "step_status": "context",
    "transaction": "transactions",
    "unserved_versions": "versions",
    "update_workflow_attributes": "control",
    "wait_all": "handles",
    "wait_first": "handles",
    "workflow": "workflows",
    "workflow_aggregates": "aggregates",
    "workflow_id": "context",
    "write_stream": "streams",
}

__all__ = sorted(_EXPORTS)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
