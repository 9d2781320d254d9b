"""How a workflow begins: what is asked for, and the row that comes of it.

A child's row and its parent's step are one commit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from . import context, serialization
from .arguments import validated
from .bridge import Database, MakeWay, Operation, Shared
from .classes import bound, names_of
from .clock import monotonic
from .conf import conf
from .context import Execution, Result, replayed
from .exceptions import DBOSError, UnknownQueue
from .handles import WorkflowHandle
from .hub import LocalRunner, local_runner
from .ids import uuid7
from .options import UNSAID, Ambient, ChosenID, ambient, attributes_text
from .registry import WorkflowDefinition
from .roles import identified
from .sysdb import executors, journal, queues, vendor, workflows
from .sysdb.journal import Checkpoint, Recorded
from .sysdb.workflows import Submission, claimed_by_submission
from .versions import application_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is asked for when a workflow is started; without a queue it may run in this process at once.

    What holds around the call is taken when this is made, that is at the call.
    """

    name: str
    #: None: this process need not know the function.
    definition: WorkflowDefinition | None = None
    serializer: str | None = None
    class_name: str = ""
    instance_name: str = ""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    queue_name: str | None = None
    #: Whether the queue need not be looked for.
    is_queue_known: bool = True
    options: Ambient = field(default_factory=ambient)

    def __post_init__(self) -> None:
        if self.queue_name is None:
            self.options.refuse_for_direct_start(self.name)

    def submission(
        self, chosen: ChosenID | None = None, parent: Execution | None = None, number: int = 0
    ) -> Submission:
        """The row to insert; what cannot be stored raises SerializationError here, before anything is written."""
        inputs, serializer = serialization.dump_call(self.args, self.kwargs, serializer=self.serializer)
        if chosen is not None:
            return self.template(parent, chosen.id, inputs, serializer, must_be_new=chosen.must_be_new)
        new_id = uuid7() if parent is None else f"{parent.workflow_id}-{number}"
        return self.template(parent, new_id, inputs, serializer)

    def template(
        self,
        parent: Execution | None,
        workflow_id: str = "",
        inputs: str = "",
        serializer: str = "",
        *,
        must_be_new: bool = False,
    ) -> Submission:
        """The row; of many that are alike, without what differs."""
        said, version = self.options, self.options.application_version
        return Submission(
            id=workflow_id,
            name=self.name,
            inputs=inputs,
            serializer=serializer,
            must_be_new=must_be_new,
            class_name=self.class_name,
            instance_name=self.instance_name,
            queue_name=self.queue_name or "",
            priority=said.priority or 0,
            deduplication_id=said.deduplication_id or "",
            may_join=said.duplication_policy == "return-existing",
            partition_key=said.partition_key or "",
            delay=said.delay,
            timeout=None if said.timeout is UNSAID else said.timeout,
            inherits_deadline=said.timeout is UNSAID and parent is not None and parent.has_deadline,
            parent_id=None if parent is None else parent.workflow_id,
            application_version=application_version() if version is None else version,
            application_name=conf.APPLICATION_NAME,
            attributes=attributes_text(said.attributes) if said.attributes else "",
            identity=said.identity,
        )

    def check_queue(self) -> None:
        """Raises UnknownQueue if nobody has declared the queue."""
        if not self.is_queue_known and self.queue_name is not None and not queues.exists(self.queue_name):
            raise UnknownQueue(
                f"There is no queue {self.queue_name!r}: declare it with Queue({self.queue_name!r}). For a queue that "
                "only another process knows, use enqueue_workflow_with_options(EnqueueOptions(...))."
            )


def start_of(definition: WorkflowDefinition, args: tuple[Any, ...], kwargs: dict[str, Any], **details: Any) -> Start:
    """A start of a function that this process knows, or of a method."""
    definition, args = bound(definition, args)
    class_name, instance_name = names_of(definition.receiver)
    return Start(
        name=definition.name,
        definition=definition,
        serializer=definition.serializer,
        class_name=class_name,
        instance_name=instance_name,
        args=args,
        kwargs=kwargs,
        **details,
    )


def prepared(start: Start, parent: Execution | None = None) -> Operation[Start]:
    """The start as it may be made: in the role that it requires, with validated arguments; raises what forbids it."""
    definition, said = start.definition, start.options
    if definition is None:  # whoever claims it will see
        return start
    called_on = definition.called_on(start.args)
    identity = yield from identified(definition.function, called_on, said.identity, parent)
    args, kwargs = validated(definition, start.args, start.kwargs)
    if identity is not said.identity:
        start = replace(start, options=replace(said, identity=identity))
    return start if args is start.args and kwargs is start.kwargs else replace(start, args=args, kwargs=kwargs)


def start_operation(start: Start) -> Operation[WorkflowHandle[Any]]:
    """Insert a workflow, as a child and a recorded step if a workflow's body asks for it."""
    # Numbers and ids are drawn here, at the call: under asyncio.gather() that is the order of the arguments.
    parent, chosen = context.current(), start.options.take_id()
    if parent is None:
        return _start(start, chosen)
    return _start_as_child(parent, parent.next_number(), chosen, start)


def _start(start: Start, chosen: ChosenID | None) -> Operation[WorkflowHandle[Any]]:
    start = yield from prepared(start)
    submission = start.submission(chosen)
    workflow_id = yield Database(partial(_submit_in_background, start, submission))
    yield MakeWay()
    return WorkflowHandle(workflow_id)


def _start_as_child(
    parent: Execution, number: int, chosen: ChosenID | None, start: Start
) -> Operation[WorkflowHandle[Any]]:
    child_id = yield from start_child(parent, number, chosen, start, _submit_child)
    yield MakeWay()
    return WorkflowHandle(child_id)


def _submit_in_background(start: Start, submission: Submission) -> str:
    runner = _runner_for(start)
    executor_id = runner.reserve() if runner else None
    if runner is not None and executor_id is not None:
        return _run_here(runner, replace(submission, executor_id=executor_id))
    start.check_queue()
    return workflows.place(submission)[0]


def _runner_for(start: Start) -> LocalRunner | None:
    """This process's own runtime, where a start means running at once: on no queue, and not inside atomic()."""
    return None if start.queue_name is not None or vendor.in_transaction() else local_runner()


def _run_here(runner: LocalRunner, submission: Submission) -> str:
    """Submit, and hand what is new to the slot that was reserved for it."""
    try:
        workflow_id, is_new = workflows.place(submission)
    except BaseException as error:
        if not isinstance(error, DBOSError):
            # The row may have been committed all the same: the runner looks for claims that it knows nothing of.
            executors.suspects.add(submission.executor_id)
        runner.unreserve()
        raise
    if is_new:
        runner.run(claimed_by_submission(submission))
    else:
        runner.unreserve()
    return workflow_id


Submit = Callable[[Execution, Checkpoint, Submission], str | Recorded]


def start_child(
    parent: Execution, number: int, chosen: ChosenID | None, start: Start, submit: Submit
) -> Operation[str]:
    """Step ``number`` of a workflow: start a child, whose row and step are one commit. The child's id.

    That it was refused is recorded, too.
    """
    recorded = parent.recall(number, start.name)
    if recorded is not None:
        return (yield from _recorded_child(recorded))
    yield from parent.begin()
    now = monotonic()
    try:
        start = yield from prepared(start, parent)
    except Exception as refusal:
        return (yield from _refused_child(parent, number, start.name, refusal, now))
    submission = start.submission(chosen, parent, number)
    checkpoint = Checkpoint(
        number=number,
        name=start.name,
        serializer=parent.serializer,
        child_id=submission.id,
        started=now,
        completed=now,
    )
    try:
        child: str | Recorded = yield Shared(partial(_checked, start, submit, parent, checkpoint, submission))
    except DBOSError as refusal:  # it was rolled back: what is recorded is that it was refused
        return (yield from _refused_child(parent, number, start.name, refusal, now))
    return (yield from _recorded_child(child)) if isinstance(child, Recorded) else child


def _checked(start: Start, submit: Submit, *details: Any) -> str | Recorded:
    start.check_queue()
    return submit(*details)


def _recorded_child(recorded: Recorded) -> Operation[str]:
    if recorded.error is not None:
        yield from replayed(recorded)
    return recorded.child_id


def _refused_child(parent: Execution, number: int, name: str, refusal: Exception, started: float) -> Operation[str]:
    result = yield from parent.keep(Result(error=refusal), number=number, name=name, started=started)
    result.unwrap()
    # A predecessor has started the child meanwhile.
    earlier: Recorded = yield Database(partial(journal.recorded, parent.workflow_id, number))
    return earlier.child_id


def _submit_child(parent: Execution, checkpoint: Checkpoint, child: Submission) -> str | Recorded:
    placed = place_child(parent, checkpoint, child)
    return placed if isinstance(placed, Recorded) else placed[0]


def place_child(parent: Execution, checkpoint: Checkpoint, child: Submission) -> tuple[str, bool] | Recorded:
    """Insert child and step: (the child's id, whether it is new); what a predecessor recorded at this number."""
    return vendor.patiently(lambda: workflows.place_child(parent.lease, checkpoint, child), pause=parent.lease.pause)
