"""The console: workflows, and what an operator may do to them; executors, queues and schedules.

Each admin class can be registered on any site; importing this package registers them on the default one.
"""

from .executors import ExecutorAdmin
from .queues import QueueAdmin
from .schedules import ScheduleAdmin
from .workflows import WorkflowAdmin

__all__ = ["ExecutorAdmin", "QueueAdmin", "ScheduleAdmin", "WorkflowAdmin"]
