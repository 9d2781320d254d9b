"""Fan out over a queue, and gather: at most two pictures at a time in all."""

import threading

from django_dbos.dbos import DBOS, Queue, WorkflowHandle

DBOS(config={"name": "thumbnails"})

queue = Queue("thumbnails", concurrency=2)

lock = threading.Lock()
running = 0
most = 0


@DBOS.step()
def shrink(picture: str) -> str:
    global running, most
    with lock:
        running += 1
        most = max(most, running)
    threading.Event().wait(0.02)
    with lock:
        running -= 1
    return f"small-{picture}"


@DBOS.workflow()
def make_thumbnail(picture: str) -> str:
    return shrink(picture)


@DBOS.workflow()
def make_thumbnails(pictures: list[str]) -> list[str]:
    handles: list[WorkflowHandle[str]] = []
    for picture in pictures:
        handles.append(queue.enqueue(make_thumbnail, picture))  # noqa: PERF401 - as programs write it
    return [handle.get_result() for handle in handles]


def main(pictures: list[str]) -> list[str]:
    DBOS.launch()
    handle = DBOS.start_workflow(make_thumbnails, pictures)
    small: list[str] = handle.get_result()
    return small
