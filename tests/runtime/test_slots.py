"""Slots: how many run at a time, and who comes first."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

from django_dbos.runtime import slots as slots_module
from django_dbos.runtime.slots import Seat, Slots
from tests.support import eventually


def new_slots(limit: int = 2, on_release: Callable[[], None] = lambda: None) -> Slots:
    return Slots(limit, on_release=on_release)


def in_background(work: Callable[[], bool | None]) -> "Future[bool | None]":
    """Begin something that may block."""
    done: Future[bool | None] = Future()
    threading.Thread(target=lambda: done.set_result(work()), daemon=True).start()
    return done


def test_no_more_start_than_there_are_slots() -> None:
    slots = new_slots(3)
    assert slots.free == 3
    assert [slots.take_one() for _ in range(4)] == [True, True, True, False]
    slots.release()
    assert slots.free == 1
    assert slots.take_one()
    assert not slots.take_one()


def test_a_claim_takes_what_is_free_and_gives_back_what_it_did_not_need() -> None:
    slots = new_slots(5)
    slots.take_one()
    assert slots.begin_claim() == 4
    assert slots.free == 0
    slots.end_claim(3)
    assert slots.free == 3
    assert slots.begin_claim() == 3


def test_the_limit_holds_whatever_many_threads_do() -> None:
    slots, lock = new_slots(3), threading.Lock()
    running = peak = 0

    def enter() -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)

    def leave() -> None:
        nonlocal running
        with lock:
            running -= 1

    def work() -> None:
        for _ in range(200):
            if slots.take_one():
                enter()
                leave()  # and waits, as a workflow does for a result
                slots.release()
                slots.resume()
                enter()
                leave()
                slots.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert peak <= 3
    assert slots.free == 3


def test_a_release_says_so_and_giving_back_what_was_not_used_does_not() -> None:
    released: list[int] = []
    slots = new_slots(2, on_release=lambda: released.append(slots.free))
    assert slots.begin_claim() == 2
    slots.end_claim(1)
    slots.untake(0)
    assert released == []
    slots.release()
    assert released == [2], "whoever is woken finds the slot free"


def test_who_resumes_comes_before_who_starts() -> None:
    slots = new_slots(1)
    slots.take_one()
    resuming = in_background(slots.resume)
    eventually(lambda: slots._resuming == 1)
    assert not resuming.done()
    slots.untake(1)
    assert not slots.take_one(), "a start took the slot that a resuming workflow was waiting for"
    assert slots.begin_claim() == 0
    slots.end_claim(0)
    resuming.result(10)
    assert slots.free == 0
    slots.release()
    assert slots.free == 1


def test_a_free_slot_is_resumed_on_at_once() -> None:
    slots = new_slots(1)
    in_background(slots.resume).result(10)
    assert slots.free == 0


def test_on_an_event_loop_resuming_never_waits_and_the_next_start_does() -> None:
    slots = new_slots(1)
    slots.take_one()
    slots.resume_at_once()
    slots.release()
    assert slots.free == 0, "one too many runs"
    assert not slots.take_one()
    slots.release()
    assert slots.take_one()


def test_when_it_is_closed_nothing_starts_and_who_resumes_goes_on() -> None:
    slots = new_slots(1)
    slots.take_one()
    resuming = in_background(slots.resume)
    eventually(lambda: slots._resuming == 1)
    slots.close()
    resuming.result(10)
    slots.release()
    slots.release()
    assert slots.free == 0
    assert not slots.take_one()
    assert slots.begin_claim() == 0


def test_a_start_waits_for_a_claim_that_is_under_way() -> None:
    slots = new_slots(2)
    assert slots.begin_claim() == 2
    # The wait is bounded, and may be over before this thread comes to end_claim(): then it is just tried again.
    starting = in_background(slots.take_one)
    eventually(lambda: slots._changed._waiters or starting.done())  # type: ignore[attr-defined]
    slots.end_claim(1)
    assert starting.result(10) or slots.take_one()
    assert slots.free == 0


def test_a_start_does_not_wait_for_ever() -> None:
    slots = new_slots(2)
    slots.begin_claim()
    assert in_background(slots.take_one).result(slots_module._CLAIM + 10) is False


def test_a_slot_that_nobody_waits_for_is_given_back_in_silence() -> None:
    told: list[str] = []
    slots = new_slots(2, on_release=lambda: told.append("released"))
    assert slots.take_one()
    slots.begin_claim()
    slots.end_claim(1, is_sated=True)
    slots.release()
    assert told == []
    assert slots.take_one()
    slots.begin_claim()
    slots.end_claim(1, is_sated=False)
    slots.release()
    assert told == ["released"]


def test_a_slot_given_back_during_the_claim_that_wants_it_is_told() -> None:
    told: list[str] = []
    slots = new_slots(2, on_release=lambda: told.append("released"))
    slots.begin_claim()
    slots.end_claim(1, is_sated=True)
    slots.begin_claim()
    slots.release()
    assert told == []
    slots.end_claim(1, is_sated=False)
    assert told == ["released"]


def test_a_seat_is_given_and_taken_once_however_often_it_is_said() -> None:
    slots = new_slots(1)
    slots.take_one()
    seat = Seat(slots)
    seat.give()
    seat.give()
    assert slots.free == 1
    seat.take()
    seat.take_at_once()
    assert slots.free == 0
    seat.give()
    seat.leave()
    assert slots.free == 1
    seat.take()
    seat.leave()
    assert slots.free == 1, "what still waits after the end takes no slot"


def test_each_slot_that_becomes_free_lets_one_go_on() -> None:
    slots = new_slots(1)
    slots.take_one()
    resuming = [in_background(slots.resume) for _ in range(5)]
    eventually(lambda: slots._resuming == 5)
    for count in range(1, 6):
        slots.untake(1)
        eventually(lambda count=count: sum(each.done() for each in resuming) == count)  # type: ignore[misc]
        assert slots.free == 0
