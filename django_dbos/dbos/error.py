"""The errors under the names, numbers and words that programs written for DBOS Transact know.

Each is also the error of ours that it stands for, so that either name catches it. They are made at the edge of the
facade: what a step of the package raises is translated where the program gets to see it.
"""

from enum import IntEnum
from typing import Any, ClassVar

from .. import exceptions
from ..exceptions import DBOSError, WorkflowInterrupted


class DBOSErrorCode(IntEnum):
    """The numbers."""

    ConflictingIDError = 1
    RecoveryError = 2
    InitializationError = 3
    WorkflowFunctionNotFound = 4
    NonExistentWorkflowError = 5
    MaxRecoveryAttemptsExceeded = 6
    MaxStepRetriesExceeded = 7
    NotAuthorized = 8
    ConflictingWorkflowError = 9
    WorkflowCancelled = 10
    UnexpectedStep = 11
    QueueDeduplicated = 12
    AwaitedWorkflowCancelled = 13
    AwaitedWorkflowMaxRecoveryAttemptsExceeded = 14
    PatchNondeterminism = 15
    StreamTimeout = 16
    StreamNondeterminism = 17
    StepTimeout = 18
    ConflictingRegistrationError = 25
    QueryTimeout = 26
    WorkflowIDInUse = 27
    StepNondeterminism = 28


class _Numbered(BaseException):
    """What all of them share: a number, and a text that begins with it."""

    number: ClassVar[DBOSErrorCode | None] = None
    dbos_error_code: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.dbos_error_code = None if cls.number is None else cls.number.value

    @property
    def message(self) -> str:
        """The text without the number."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        code = self.dbos_error_code
        return self.message if code is None else f"DBOS Error {code}: {self.message}"


class DBOSBaseException(_Numbered, WorkflowInterrupted):
    """The execution of this workflow ends here; its body must not catch this."""


class DBOSException(_Numbered, DBOSError):
    """Something went wrong."""

    def __init__(self, *args: Any, dbos_error_code: int | None = None, **details: Any) -> None:
        super().__init__(*args, **details)
        if dbos_error_code is not None:
            self.dbos_error_code = dbos_error_code


class DBOSWorkflowConflictIDError(DBOSBaseException, exceptions.OwnershipLost):
    """Another executor runs this workflow."""

    number = DBOSErrorCode.ConflictingIDError


class DBOSRecoveryError(DBOSException):
    """A workflow could not be recovered."""

    number = DBOSErrorCode.RecoveryError


class DBOSInitializationError(DBOSException):
    """The configuration cannot be used."""

    number = DBOSErrorCode.InitializationError


class DBOSWorkflowFunctionNotFoundError(DBOSException, exceptions.UnknownWorkflow):
    """No function is registered under this workflow name in this process."""

    number = DBOSErrorCode.WorkflowFunctionNotFound


class DBOSNonExistentWorkflowError(DBOSException, exceptions.NonExistentWorkflow):
    """There is no workflow with this id."""

    number = DBOSErrorCode.NonExistentWorkflowError


class MaxRecoveryAttemptsExceededError(DBOSException):
    """The workflow was recovered too often without finishing."""

    number = DBOSErrorCode.MaxRecoveryAttemptsExceeded


class DBOSMaxStepRetriesExceeded(DBOSException, exceptions.MaxStepRetriesExceeded):
    """A step failed in each of its attempts; ``errors`` has them all."""

    number = DBOSErrorCode.MaxStepRetriesExceeded


class DBOSNotAuthorizedError(DBOSException, exceptions.NotAuthorized):
    """The user has none of the roles that are required."""

    number = DBOSErrorCode.NotAuthorized


class DBOSConflictingWorkflowError(DBOSException, exceptions.ConflictingWorkflow):
    """This workflow id already belongs to another function."""

    number = DBOSErrorCode.ConflictingWorkflowError


class DBOSWorkflowCancelledError(DBOSBaseException, exceptions.WorkflowCancelled):
    """The workflow was cancelled; it stops at this operation."""

    number = DBOSErrorCode.WorkflowCancelled


class DBOSUnexpectedStepError(DBOSException, exceptions.UnexpectedStep):
    """The workflow took another step than the one recorded at this number."""

    number = DBOSErrorCode.UnexpectedStep


class DBOSQueueDeduplicatedError(DBOSException, exceptions.QueueDeduplicated):
    """An active workflow of this queue holds the deduplication id."""

    number = DBOSErrorCode.QueueDeduplicated


class DBOSAwaitedWorkflowCancelledError(DBOSException, exceptions.AwaitedWorkflowCancelled):
    """The workflow whose result was awaited has been cancelled."""

    number = DBOSErrorCode.AwaitedWorkflowCancelled


class DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded(DBOSException, exceptions.MaxRecoveryAttemptsExceeded):
    """The workflow whose result was awaited was recovered too often without finishing."""

    number = DBOSErrorCode.AwaitedWorkflowMaxRecoveryAttemptsExceeded


class DBOSPatchNondeterminismError(DBOSException, exceptions.PatchNondeterminism):
    """A patch was asked for while other tasks of the workflow take steps."""

    number = DBOSErrorCode.PatchNondeterminism


class DBOSStreamTimeoutError(DBOSException, exceptions.StreamTimeout):
    """Nothing new was written to the stream within the timeout."""

    number = DBOSErrorCode.StreamTimeout


class DBOSStepTimeoutError(DBOSException, exceptions.StepTimeout):
    """An attempt of a step took longer than its timeout."""

    number = DBOSErrorCode.StepTimeout


class DBOSConflictingRegistrationError(DBOSException, exceptions.DuplicateRegistration):
    """Two different things are registered under one name."""

    number = DBOSErrorCode.ConflictingRegistrationError


class DBOSStepNondeterminismError(DBOSException, exceptions.ReservationUsed):
    """A reserved step was run before."""

    number = DBOSErrorCode.StepNondeterminism


class DBOSWorkflowIDInUseError(DBOSException, exceptions.WorkflowIDInUse):
    """This workflow id is already in use."""

    number = DBOSErrorCode.WorkflowIDInUse


class PortableWorkflowError(DBOSError):
    """An error that says what it is in plain values, for readers that do not know its class."""

    def __init__(self, message: str, name: str = "PortableWorkflowError", code: Any = None, data: Any = None) -> None:
        super().__init__(message, name, code, data)
        self.message = message
        self.name = name
        self.code = code  # type: ignore[misc]
        self.data = data

    def __str__(self) -> str:
        return self.message


#: Our error -> theirs. The rest of ours becomes a DBOSException, unless it is a ValueError or another built-in kind.
_THEIRS: dict[type[BaseException], type[BaseException]] = {
    base: theirs
    for theirs in list(vars().values())
    if isinstance(theirs, type) and issubclass(theirs, DBOSException | DBOSBaseException)
    for base in theirs.__bases__
    if base.__module__ == exceptions.__name__ and base not in (DBOSError, WorkflowInterrupted)
}
_BUILT_IN = (ValueError, TypeError, TimeoutError, exceptions.RecordedError)


def translated(error: BaseException) -> BaseException:
    """An error of ours as programs know it; any other error as it is."""
    if isinstance(error, _Numbered | PortableWorkflowError) or not isinstance(error, DBOSError | WorkflowInterrupted):
        return error
    if isinstance(error, exceptions.BlockingCall):
        return _blocking(error)
    kind = _THEIRS.get(type(error))
    if kind is None:
        if isinstance(error, (WorkflowInterrupted, *_BUILT_IN)):
            return error
        kind = DBOSException
    theirs = kind(*error.args)
    vars(theirs).update(vars(error))
    theirs.__cause__ = error
    return theirs.with_traceback(error.__traceback__)


def _blocking(error: BaseException) -> BaseException:
    ours = exceptions.BlockingCall(
        "A sync call would block the event loop that runs here: await its twin, whose name ends with _async, or the "
        "async function itself."
    )
    ours.__cause__ = error
    return ours
