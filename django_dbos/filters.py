"""Which workflows are wanted: the filters that lists, counts, aggregates and forks of failed ones share."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypedDict, cast

from django.utils import timezone

from .exceptions import InvalidOption
from .states import WorkflowStatus
from .sysdb import listing

#: One text or several.
Text = str | Iterable[str]
#: A time; a text is in ISO form, and what has no zone is in Django's current one.
Moment = datetime | str


class WorkflowFilters(TypedDict, total=False):
    """Which workflows are wanted: those for which every filter holds. None is as if it had not been given.

    Where it says ``Text``, one value or several, of which one has to be the workflow's. A time is a datetime or an ISO
    text, without a zone in Django's current one; both ends belong to what is wanted.
    """

    workflow_ids: Text | None
    #: How ids begin.
    workflow_id_prefix: str | None
    status: Text | None
    name: Text | None
    application_version: Text | None
    application_name: Text | None
    executor_id: Text | None
    queue_name: Text | None
    #: Only what was enqueued, as against started.
    queues_only: bool | None
    user: Text | None
    schedule_name: Text | None
    #: The workflow of which they are forks, or whether they are forks at all, or whether they have any.
    forked_from: Text | None
    is_fork: bool | None
    was_forked_from: bool | None
    #: The workflow whose children they are, or whether they are children at all.
    parent_workflow_id: Text | None
    has_parent: bool | None
    #: What their attributes contain.
    attributes: Mapping[str, Any] | None
    #: When they were created.
    start_time: Moment | None
    end_time: Moment | None
    completed_after: Moment | None
    completed_before: Moment | None
    #: When a worker took them last.
    dequeued_after: Moment | None
    dequeued_before: Moment | None


def checked_filters(filters: WorkflowFilters) -> dict[str, Any]:
    """The filters, each in the one form in which it is looked for; raises InvalidOption."""
    unknown = set(filters) - set(listing.FILTERS)
    if unknown:
        raise InvalidOption(f"There is no filter {', '.join(sorted(unknown))}; there are {', '.join(listing.FILTERS)}.")
    given = {name: value for name, value in cast(dict[str, Any], filters).items() if value is not None}
    return {name: _checked(name, value) for name, value in given.items()}


def _checked(name: str, value: Any) -> Any:
    if name in listing.ONE_OF:
        return words(name, value, WorkflowStatus.values if name == "status" else None)
    if name in listing.TIMES:
        return _moment(name, value)
    wanted = {"attributes": Mapping, "workflow_id_prefix": str}.get(name, bool)
    if not isinstance(value, wanted):
        raise InvalidOption(f"The filter {name} is a {wanted.__name__.lower()}, not {value!r:.300}.")
    return value


def words(name: str, value: Any, choices: Iterable[str] | None) -> list[str]:
    """One text or several, as a list of plain ones."""
    words = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    for word in words:
        if not isinstance(word, str) or "\x00" in word or (choices is not None and word not in choices):
            listed = "a text" if choices is None else f"one of {', '.join(choices)}"
            raise InvalidOption(f"{name} is {listed}, or several in a list, not {word!r:.300}.")
    return [str(word) for word in words]


def _moment(name: str, value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return timezone.make_aware(moment) if timezone.is_naive(moment) else cast(datetime, moment)
    except (ValueError, AttributeError) as error:
        raise InvalidOption(f"{name} is a datetime, or its ISO text, not {value!r:.300}.") from error
