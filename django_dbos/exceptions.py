"""Every error a user can meet. A class's docstring is its default message; ``code`` never changes.

Ordinary errors derive from :class:`DBOSError`. The few that a workflow body must not swallow with
``except Exception`` derive from :class:`WorkflowInterrupted`, a ``BaseException``.
"""

import inspect
from typing import Any, ClassVar


class DBOSError(Exception):
    """Something went wrong in django-dbos."""

    code: ClassVar[str] = "error"

    def __init__(self, *args: Any) -> None:
        super().__init__(*(args or (inspect.cleandoc(type(self).__doc__ or ""),)))


class NotInWorkflow(DBOSError):
    """This can only be called inside a workflow."""

    code = "not_in_workflow"


class DirectCallInTransaction(DBOSError):
    """A durable operation cannot run inside atomic(): its checkpoints would vanish with a rollback."""

    code = "direct_call_in_transaction"


class BlockingCall(DBOSError, RuntimeError):
    """A sync step, workflow or handle was called on a running event loop, which it would block:
    await its async twin (its name begins with "a"), or call it through sync_to_async().
    """

    code = "blocking_call"


class DuplicateRegistration(DBOSError):
    """Two different functions are registered under one name."""

    code = "duplicate_registration"


class UnknownWorkflow(DBOSError):
    """No function is registered under this workflow name in this process."""

    code = "unknown_workflow"


class NotAuthorized(DBOSError):
    """None of the roles that this function requires is held."""

    code = "not_authorized"


class NonExistentWorkflow(DBOSError):
    """There is no workflow with this id."""

    code = "non_existent_workflow"


class UnknownVersion(DBOSError):
    """No worker of this application version has ever started here."""

    code = "unknown_version"


class ConflictingWorkflow(DBOSError):
    """This workflow id already belongs to another function."""

    code = "conflicting_workflow"


class WorkflowIDInUse(DBOSError):
    """This workflow id is already in use."""

    code = "workflow_id_in_use"


class QueueDeduplicated(DBOSError):
    """An active workflow of this queue holds the deduplication id."""

    code = "queue_deduplicated"

    def __init__(
        self, message: str = "", *, workflow_id: str = "", queue_name: str = "", deduplication_id: str = ""
    ) -> None:
        super().__init__(*([message] if message else []))
        #: The workflow that holds it.
        self.workflow_id = workflow_id
        self.queue_name = queue_name
        self.deduplication_id = deduplication_id


class UnknownQueue(DBOSError):
    """No queue of this name is declared."""

    code = "unknown_queue"


class UnfinishedWorkflow(DBOSError):
    """This can only be done to a workflow that has finished: cancel it first, or wait for its end."""

    code = "unfinished_workflow"


class InvalidOption(DBOSError, ValueError):
    """An option has a value that can never work."""

    code = "invalid_option"


class InvalidArguments(DBOSError, ValueError):
    """A workflow does not take these arguments."""

    code = "invalid_arguments"


class InvalidWorkflowID(InvalidOption):
    """A workflow id is a text of 1 to 255 characters."""

    code = "invalid_workflow_id"


class UnexpectedStep(DBOSError):
    """The workflow took another step than the one recorded at this number."""

    code = "unexpected_step"


class PatchNondeterminism(DBOSError):
    """A patch was asked for while other tasks of the workflow take steps, so that the next number is up to chance:
    call it in the body itself, before such tasks start or after they have ended.
    """

    code = "patch_nondeterminism"


class MaxStepRetriesExceeded(DBOSError):
    """A step failed in each of its attempts."""

    code = "max_step_retries_exceeded"

    def __init__(self, message: str = "", errors: list[BaseException] | None = None) -> None:
        super().__init__(*([message] if message else []))
        self.errors: list[BaseException] = errors or []


class StepTimeout(DBOSError, TimeoutError):
    """An attempt of a step took longer than its timeout."""

    code = "step_timeout"


class ReservationUsed(DBOSError):
    """A reserved step was run before: a reservation is for one step."""

    code = "reservation_used"


class ResultTimeout(DBOSError, TimeoutError):
    """The workflow did not finish within the timeout."""

    code = "result_timeout"


class StreamTimeout(DBOSError, TimeoutError):
    """Nothing new was written to the stream within the timeout."""

    code = "stream_timeout"


class StreamEnded(DBOSError, LookupError):
    """The stream has ended before this offset."""

    code = "stream_ended"


class AwaitedWorkflowCancelled(DBOSError):
    """The workflow whose result was awaited has been cancelled."""

    code = "awaited_workflow_cancelled"


class MaxRecoveryAttemptsExceeded(DBOSError):
    """The workflow was recovered too often without finishing; it can be looked at and resumed."""

    code = "max_recovery_attempts_exceeded"


class SerializationError(DBOSError, TypeError):
    """A value cannot be stored."""

    code = "serialization"


class DeserializationError(DBOSError, ValueError):
    """A stored value cannot be read back."""

    code = "deserialization"


class RecordedError(DBOSError):
    """An error was recorded whose class cannot be rebuilt here."""

    code = "recorded_error"

    def __init__(
        self,
        message: str = "",
        *,
        type_name: str = "",
        arguments: tuple[Any, ...] = (),
        traceback: str = "",
    ) -> None:
        super().__init__(*([message] if message else []))
        self.type_name = type_name
        self.arguments = arguments
        self.traceback = traceback


class WorkflowInterrupted(BaseException):
    """The execution of this workflow ends here, in this process; a workflow body must not catch this."""

    code: ClassVar[str] = "workflow_interrupted"


class WorkflowCancelled(WorkflowInterrupted):
    """The workflow was cancelled; it stops at this operation."""

    code = "workflow_cancelled"


class OwnershipLost(WorkflowInterrupted):
    """Another executor owns this workflow now; nothing more is written from here."""

    code = "ownership_lost"


class ExecutorStopping(WorkflowInterrupted):
    """This executor is shutting down; the workflow is handed back and goes on elsewhere."""

    code = "executor_stopping"


class ExecutionAbandoned(WorkflowInterrupted):
    """A test ended this execution without a trace, as if its process had been killed."""

    code = "execution_abandoned"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: The workflows whose bodies it ended: the one it began with, and those that had called it.
        self.workflow_ids: list[str] = []


class WouldWaitForever(ExecutionAbandoned):
    """A test waits for something that nothing it could run will bring about."""

    code = "would_wait_forever"
