"""The inbox of a pool: no job is missed by a thread, and no thread by a job."""

import threading

from django_dbos.runtime.inbox import Inbox
from tests.support import eventually


def start(inbox: Inbox[str], taken: list[str | None], timeout: float = 10) -> threading.Thread:
    """A thread that takes one job."""
    thread = threading.Thread(target=lambda: taken.append(inbox.take(timeout)))
    thread.start()
    return thread


def test_jobs_are_taken_in_the_order_of_their_coming() -> None:
    inbox: Inbox[str] = Inbox()
    for job in "abc":
        inbox.put(job)
    assert [inbox.take(0) for _ in range(4)] == ["a", "b", "c", None]


def test_a_job_is_spoken_for_only_if_a_thread_waits_for_it_and_for_none_before_it() -> None:
    inbox: Inbox[str] = Inbox()
    taken: list[str | None] = []
    assert not inbox.put("nobody is there")
    assert inbox.take(0) == "nobody is there"
    thread = start(inbox, taken)
    eventually(lambda: inbox.waiting == 1)
    with inbox._changed:  # the thread cannot wake up in between
        assert inbox.put("first")
        assert not inbox.put("second")
    thread.join(10)
    assert taken == ["first"]
    assert inbox.take(0) == "second"


def test_a_thread_that_gives_up_waits_no_more() -> None:
    inbox: Inbox[str] = Inbox()
    taken: list[str | None] = []
    start(inbox, taken, timeout=0.01).join(10)
    assert taken == [None]
    assert inbox.waiting == 0
    assert not inbox.put("late")


def test_when_it_closes_nobody_waits_and_what_is_there_can_be_taken() -> None:
    inbox: Inbox[str] = Inbox()
    taken: list[str | None] = []
    threads = [start(inbox, taken) for _ in range(3)]
    eventually(lambda: inbox.waiting == 3)
    inbox.close()
    for thread in threads:
        thread.join(10)
    assert taken == [None] * 3
    inbox.put("late")
    assert [inbox.take(10), inbox.take(10)] == ["late", None]
