"""Options of starts and enqueues in the words that programs use for them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict

from .. import options
from ..exceptions import InvalidOption


class SetWorkflowID(options.SetWorkflowID):
    """``with SetWorkflowID("order-17"):`` - the next workflow that is started in the block has this id."""

    def __init__(self, wfid: str, *, workflow_id_reuse_policy: options.ReusePolicy | None = None) -> None:
        super().__init__(wfid, reuse_policy=workflow_id_reuse_policy)


class SetWorkflowTimeout(options.SetWorkflowTimeout):
    """``with SetWorkflowTimeout(30):`` - what is started in the block is cancelled after so many seconds."""

    def __init__(self, workflow_timeout_sec: float | timedelta | None) -> None:
        super().__init__(workflow_timeout_sec)


class SetEnqueueOptions(options.SetEnqueueOptions):
    """``with SetEnqueueOptions(priority=5):`` - for every enqueue in the block."""

    def __init__(
        self,
        *,
        deduplication_id: str | None = None,
        duplication_policy: options.DuplicationPolicy | None = None,
        priority: int | None = None,
        app_version: str | None = None,
        queue_partition_key: str | None = None,
        delay_seconds: options.Delay | None = None,
    ) -> None:
        super().__init__(
            deduplication_id=deduplication_id,
            duplication_policy=duplication_policy,
            priority=priority,
            partition_key=queue_partition_key,
            delay_seconds=delay_seconds,
            application_version=app_version,
        )


class DBOSContextSetAuth(options.SetAuthentication):
    """``with DBOSContextSetAuth("ada", ["editor"]):`` - on whose behalf what is started in the block runs."""

    def __init__(self, user: str | None, roles: Sequence[str] | None = None) -> None:
        super().__init__(user, roles)


class DBOSContextEnsure:
    """A block that needs nothing: there always is a context here."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc_info: object) -> None:
        return None


class EnqueueOptions(TypedDict, total=False):
    """An enqueue by name; ``workflow_name`` and ``queue_name`` are required."""

    workflow_name: str
    queue_name: str
    workflow_id: str | None
    workflow_id_reuse_policy: options.ReusePolicy | None
    app_version: str | None
    workflow_timeout: float | None
    delay_seconds: float | None
    deduplication_id: str | None
    duplication_policy: options.DuplicationPolicy | None
    priority: int | None
    max_recovery_attempts: int | None
    queue_partition_key: str | None
    authenticated_user: str | None
    authenticated_roles: list[str] | None
    serialization_type: Any
    class_name: str | None
    instance_name: str | None
    attributes: dict[str, Any] | None
    application_name: str | None
    otel_context: Any
    shard_key: str | None


#: Their word -> ours; the words that say nothing here have None.
_OURS: Mapping[str, str | None] = {
    **{name: name for name in EnqueueOptions.__annotations__},
    "workflow_id_reuse_policy": "reuse_policy",
    "app_version": "application_version",
    "workflow_timeout": "timeout_seconds",
    "queue_partition_key": "partition_key",
    **dict.fromkeys(("max_recovery_attempts", "serialization_type", "application_name", "otel_context", "shard_key")),
}


def enqueue_options(theirs: Mapping[str, Any]) -> options.EnqueueOptions:
    """Our options for theirs; raises InvalidOption for a word that is none, or is missing."""
    unknown = sorted(theirs.keys() - _OURS.keys())
    missing = sorted({"workflow_name", "queue_name"} - theirs.keys())
    if unknown or missing:
        raise InvalidOption(
            f"Options of an enqueue by name: {', '.join(missing) or 'nothing'} is missing, "
            f"{', '.join(unknown) or 'nothing'} is not known."
        )
    given = {name: value for name, value in theirs.items() if value is not None}
    ours = {_OURS[name]: value for name, value in given.items() if _OURS[name] is not None}
    return options.EnqueueOptions(**ours)  # type: ignore[arg-type]
