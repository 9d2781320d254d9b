"""A workflow that uses every primitive once, and dies after each of them."""

import os
import signal
from pathlib import Path
from typing import Any

from django_dbos import (
    Queue,
    SendMessage,
    cancel_workflow,
    close_stream,
    enqueue_many,
    get_all_events,
    get_event,
    list_workflows,
    now,
    patch,
    random_uuid,
    read_stream_offset,
    recv,
    retrieve_workflow,
    run_step,
    send,
    send_bulk,
    set_event,
    sleep,
    start_workflow,
    step,
    transaction,
    update_workflow_attributes,
    wait_first,
    workflow,
    write_stream,
)
from tests.models import Row

CROWD = Queue("everything-crowd")


@step
def counted(number: int) -> int:
    return number + 1


@transaction
def kept(name: str) -> str:
    Row.objects.create(name=name)
    return name


@workflow
def offspring(number: int) -> int:
    kept(f"offspring {number}")
    return 10 * number


@workflow
def mailbox() -> None:
    """Stands for whoever is written to; the test makes its row."""


@workflow
def source() -> None:
    set_event("colour", "red")
    write_stream("numbers", 7)
    close_stream("numbers")


class Mortal:
    """Kills its process the first time that each place is reached."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._places = 0

    def __call__(self, value: Any = None) -> Any:
        """``value``, unless this is the first time here."""
        self._places += 1
        try:
            (self._folder / str(self._places)).touch(exist_ok=False)
        except FileExistsError:
            return value
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("nobody survives that")


@workflow
def everything(folder: str) -> list[Any]:
    mortal = Mortal(folder)
    seen: list[Any] = []
    seen.append(mortal(counted(1)))
    seen.append(mortal(kept("transaction")))
    set_event("mood", "good")
    mortal()
    seen.append(mortal(get_event("source", "colour", 20)))
    seen.append(mortal(get_all_events("source")))
    send("mailbox", "one")
    mortal()
    send_bulk([SendMessage("mailbox", "two"), SendMessage("mailbox", "three")])
    mortal()
    seen.append(mortal(recv("topic", 20)))
    sleep(0.05)
    mortal()
    seen.append(mortal(offspring(1)))
    handle = mortal(start_workflow(offspring, 2))
    seen.append(mortal(handle.get_result()))
    crowd = [placed.handle for placed in mortal(enqueue_many(CROWD, offspring, [(3,), (4,)]))]
    first = mortal(wait_first(crowd))
    seen.append(sorted(mortal([each.get_result() for each in crowd])))
    seen.append(first.workflow_id in {each.workflow_id for each in crowd})
    write_stream("log", "line")
    mortal()
    close_stream("log")
    mortal()
    seen.append(mortal(read_stream_offset("source", "numbers", 0)))
    seen.append(mortal(run_step({"name": "inline"}, counted, 5)))
    seen.append(mortal(patch("newer")))
    moment, name = mortal(now()), mortal(random_uuid())
    update_workflow_attributes("mailbox", {"by": name})
    mortal()
    seen.append(mortal(cancel_workflow("victim")))
    seen.append(mortal(len(list_workflows(name="offspring"))))
    seen.append(mortal(retrieve_workflow("source").get_result()))
    return [*seen, moment is not None]
