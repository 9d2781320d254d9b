"""The errors: one small tree, a docstring that is the message, a code that never changes."""

import inspect
import pickle

import pytest

from django_dbos import exceptions
from django_dbos.exceptions import (
    DBOSError,
    MaxStepRetriesExceeded,
    RecordedError,
    UnexpectedStep,
    WorkflowInterrupted,
)

#: Written out: a code is what users match on, and never changes.
CODES = {
    "DBOSError": "error",
    "NotInWorkflow": "not_in_workflow",
    "DirectCallInTransaction": "direct_call_in_transaction",
    "BlockingCall": "blocking_call",
    "DuplicateRegistration": "duplicate_registration",
    "UnknownWorkflow": "unknown_workflow",
    "NonExistentWorkflow": "non_existent_workflow",
    "UnknownVersion": "unknown_version",
    "ConflictingWorkflow": "conflicting_workflow",
    "WorkflowIDInUse": "workflow_id_in_use",
    "QueueDeduplicated": "queue_deduplicated",
    "UnknownQueue": "unknown_queue",
    "UnfinishedWorkflow": "unfinished_workflow",
    "InvalidOption": "invalid_option",
    "InvalidWorkflowID": "invalid_workflow_id",
    "InvalidArguments": "invalid_arguments",
    "NotAuthorized": "not_authorized",
    "StepTimeout": "step_timeout",
    "StreamEnded": "stream_ended",
    "StreamTimeout": "stream_timeout",
    "ReservationUsed": "reservation_used",
    "UnexpectedStep": "unexpected_step",
    "PatchNondeterminism": "patch_nondeterminism",
    "MaxStepRetriesExceeded": "max_step_retries_exceeded",
    "ResultTimeout": "result_timeout",
    "AwaitedWorkflowCancelled": "awaited_workflow_cancelled",
    "MaxRecoveryAttemptsExceeded": "max_recovery_attempts_exceeded",
    "SerializationError": "serialization",
    "DeserializationError": "deserialization",
    "RecordedError": "recorded_error",
    "WorkflowInterrupted": "workflow_interrupted",
    "WorkflowCancelled": "workflow_cancelled",
    "OwnershipLost": "ownership_lost",
    "ExecutorStopping": "executor_stopping",
    "ExecutionAbandoned": "execution_abandoned",
    "WouldWaitForever": "would_wait_forever",
}

CLASSES: list[type[BaseException]] = [
    value
    for value in vars(exceptions).values()
    if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == exceptions.__name__
]
ERRORS: list[type[DBOSError]] = [error for error in CLASSES if issubclass(error, DBOSError)]


def test_every_error_has_its_code_and_no_two_the_same() -> None:
    assert {error.__name__: getattr(error, "code", None) for error in CLASSES} == CODES
    assert len(set(CODES.values())) == len(CODES)


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_says_in_its_docstring_what_went_wrong(error: type[BaseException]) -> None:
    assert error.__doc__
    assert "__doc__" in vars(error)


@pytest.mark.parametrize("error", ERRORS)
def test_the_docstring_is_the_message_unless_another_is_given(error: type[DBOSError]) -> None:
    assert str(error()) == inspect.getdoc(error)
    assert str(error("in this case")) == "in this case"


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_is_an_ordinary_one_unless_a_body_must_not_swallow_it(error: type[BaseException]) -> None:
    assert issubclass(error, DBOSError) != issubclass(error, WorkflowInterrupted)
    assert issubclass(error, Exception) == issubclass(error, DBOSError)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("BlockingCall", RuntimeError),
        ("InvalidOption", ValueError),
        ("InvalidWorkflowID", ValueError),
        ("ResultTimeout", TimeoutError),
        ("SerializationError", TypeError),
        ("DeserializationError", ValueError),
    ],
)
def test_what_python_has_a_word_for_is_that_as_well(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(exceptions, name), builtin)


def test_an_exhausted_step_carries_the_errors_of_all_its_attempts() -> None:
    errors: list[BaseException] = [OSError("one"), OSError("two")]
    assert MaxStepRetriesExceeded("gave up", errors).errors == errors
    assert MaxStepRetriesExceeded().errors == []


def test_a_recorded_error_carries_what_is_known_of_the_one_that_was_recorded() -> None:
    error = RecordedError("boom", type_name="shop.Boom", arguments=(1,), traceback="Traceback ...")
    assert (str(error), error.type_name, error.arguments, error.traceback) == (
        "boom",
        "shop.Boom",
        (1,),
        "Traceback ...",
    )
    assert (RecordedError().type_name, RecordedError().arguments, RecordedError().traceback) == ("", (), "")


@pytest.mark.parametrize("error", [UnexpectedStep("at 3"), RecordedError("boom"), MaxStepRetriesExceeded("gave up")])
def test_an_error_may_travel_between_processes(error: DBOSError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is type(error)
    assert str(copy) == str(error)
