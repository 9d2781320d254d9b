"""Many workflows submitted at a time: a few statements for all of them, and one wake-up."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from ..models import Workflow
from . import vendor
from .executors import wake_workers
from .vendor import Dialect, dialect
from .workflows import FUNCTION, ROUNDS, Submission, check_function, holders, row_of

#: How many rows one statement inserts at most; SQLite tells no more than a thousand of a millisecond apart.
CHUNK: Final = 5000
_CHUNK_OF_CHOSEN: Final = 999


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What became of many submissions: the workflow of each, and the places of those that are not new."""

    ids: list[str]
    attached: list[int] = field(default_factory=list)
    deduplicated: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Submissions that differ in these columns only. ``are_chosen``: the ids are the caller's, in no order."""

    template: Submission
    ids: list[str]
    inputs: list[str]
    deduplication_ids: list[str] | None = None
    are_chosen: bool = False

    def columns_at(self, places: Sequence[int]) -> dict[str, list[str]]:
        """The columns that differ, at these places."""
        columns = {"id": self.ids, "inputs": self.inputs, "deduplication_id": self.deduplication_ids}
        return {name: [values[place] for place in places] for name, values in columns.items() if values is not None}


def place_many(batch: Batch) -> Placed:
    """Submit many workflows in the caller's transaction; queues serve them in their order.

    Raises ConflictingWorkflow if an id belongs to another function.
    """
    placed = Placed(ids=list(batch.ids))
    size = _CHUNK_OF_CHOSEN if batch.are_chosen else CHUNK
    for first in range(0, len(batch.ids), size):
        places = range(first, min(first + size, len(batch.ids)))
        missing = _insert(batch, places)
        for _ in range(ROUNDS):
            if not missing:
                break
            missing = _insert(batch, _find(batch, missing, placed))
    if batch.ids:
        wake_workers()
    return placed


@cache
def _insert_sql(
    dialect: Dialect, varying: tuple[str, ...], fixed: tuple[tuple[str, str], ...], are_chosen: bool
) -> str:
    # The queues' order is that of created_at and then of the ids.
    created_at = {"created_at": dialect.nth.format("v.n")} if are_chosen else {}
    row = dict(fixed) | created_at | {name: f"v.{name}" for name in varying}
    return f"""
        INSERT INTO dbos_workflow ({", ".join(row)}) SELECT {", ".join(row.values())}
        FROM {vendor.table_of(varying)} WHERE TRUE
        ON CONFLICT DO NOTHING RETURNING id
    """  # noqa: S608


def _insert(batch: Batch, places: Sequence[int]) -> list[int]:
    """Insert the rows at these places; the places of those whose way was blocked."""
    if not places:
        return []
    columns = batch.columns_at(places)
    fixed, parameters = row_of(batch.template)
    sql = _insert_sql(dialect(), tuple(columns), tuple(fixed.items()), are_chosen=batch.are_chosen)
    inserted = {row[0] for row in vendor.fetch(sql, [*parameters, *vendor.table_parameters(list(columns.values()))])}
    if len(inserted) == len(places):
        return []
    missing = []
    for place in places:
        if batch.ids[place] in inserted:
            inserted.discard(batch.ids[place])  # the first of several with one id is the new one
        else:
            missing.append(place)
    return missing


def _find(batch: Batch, places: list[int], placed: Placed) -> list[int]:
    """Write down what was in the way at these places; the places where it is gone."""
    template, gone = batch.template, []
    functions = _functions([batch.ids[place] for place in places])
    held = _held(batch, places)
    for place in places:
        workflow_id = batch.ids[place]
        if workflow_id in functions:
            check_function(workflow_id, functions[workflow_id], template)
            placed.attached.append(place)
        elif batch.deduplication_ids is not None and batch.deduplication_ids[place] in held:
            placed.ids[place] = held[batch.deduplication_ids[place]]
            placed.deduplicated.append(place)
        else:
            gone.append(place)
    return gone


# Older SQLites take no more parameters than this.
_LISTED: Final = 500


def _functions(workflow_ids: list[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for first in range(0, len(workflow_ids), _LISTED):
        rows = Workflow.objects.filter(pk__in=workflow_ids[first : first + _LISTED]).order_by()
        found.update((row[0], row[1:]) for row in rows.values_list("pk", *FUNCTION))
    return found


def _held(batch: Batch, places: list[int]) -> dict[str, str]:
    ids = [batch.deduplication_ids[place] for place in places] if batch.deduplication_ids is not None else []
    found: dict[str, str] = {}
    for first in range(0, len(ids), _LISTED):
        found.update(holders(batch.template.queue_name, ids[first : first + _LISTED]))
    return found
