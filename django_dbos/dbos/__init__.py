"""The facade: ``from django_dbos.dbos import DBOS`` is what ``from dbos import DBOS`` was.

Programs written for DBOS Transact for Python run with only their imports changed. Nothing is implemented here a second
time: names, arguments, results and errors are translated, see docs/dbos.md.
"""

from ..arguments import make_pydantic_args_validator, pydantic_args_validator
from ..attempts import StepOptions
from ..messages import SendMessage
from ..options import SetWorkflowAttributes
from . import error
from .calls import StepReservation
from .classes import DBOSConfiguredInstance
from .client import DBOSClient
from .config import DBOSConfig
from .error import PortableWorkflowError
from .facade import DBOS
from .formats import DBOSPortableJSONSerializer, Serializer, WorkflowSerializationFormat
from .handles import WorkflowHandle, WorkflowHandleAsync
from .options import (
    DBOSContextEnsure,
    DBOSContextSetAuth,
    EnqueueOptions,
    SetEnqueueOptions,
    SetWorkflowID,
    SetWorkflowTimeout,
)
from .queues import Queue
from .status import StepInfo, StepStatus, VersionInfo, WorkflowStatus, WorkflowStatusString

__all__ = [
    "DBOS",
    "DBOSClient",
    "DBOSConfig",
    "DBOSConfiguredInstance",
    "DBOSContextEnsure",
    "DBOSContextSetAuth",
    "DBOSPortableJSONSerializer",
    "EnqueueOptions",
    "PortableWorkflowError",
    "Queue",
    "SendMessage",
    "Serializer",
    "SetEnqueueOptions",
    "SetWorkflowAttributes",
    "SetWorkflowID",
    "SetWorkflowTimeout",
    "StepInfo",
    "StepOptions",
    "StepReservation",
    "StepStatus",
    "VersionInfo",
    "WorkflowHandle",
    "WorkflowHandleAsync",
    "WorkflowSerializationFormat",
    "WorkflowStatus",
    "WorkflowStatusString",
    "error",
    "make_pydantic_args_validator",
    "pydantic_args_validator",
]
