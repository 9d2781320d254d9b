"""The facade: ``from django_dbos.dbos import DBOS`` is what ``from dbos import DBOS`` was.

Programs written for DBOS Transact for Python run with only their imports changed. Nothing is implemented here a second
time: names, arguments, results and errors are translated, see docs/dbos.md.
"""

from ..options import SetAuthentication as DBOSContextSetAuth
from ..options import SetEnqueueOptions, SetWorkflowAttributes, SetWorkflowID, SetWorkflowTimeout
from ..queues import Queue
from . import error
from .config import DBOSConfig
from .facade import DBOS
from .handles import WorkflowHandle, WorkflowHandleAsync

__all__ = [
    "DBOS",
    "DBOSConfig",
    "DBOSContextSetAuth",
    "Queue",
    "SetEnqueueOptions",
    "SetWorkflowAttributes",
    "SetWorkflowID",
    "SetWorkflowTimeout",
    "WorkflowHandle",
    "WorkflowHandleAsync",
    "error",
]
