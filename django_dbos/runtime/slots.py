"""How many workflows run at a time. One that waits gives its slot to others and takes one again when it goes on."""

import threading
from collections.abc import Callable

#: How long a start waits for a claim that is under way, in seconds; after that it goes to the queue.
_CLAIM = 0.05


class Slots:
    """``limit`` slots. Who resumes comes before whoever starts: what has begun is finished first.

    If it ``bounds_claims`` only, whoever starts or resumes here gets a slot at once, even if there is none.
    """

    def __init__(self, limit: int, on_release: Callable[[], None], *, bounds_claims: bool = False) -> None:
        self.limit = limit
        self._bounds_claims = bounds_claims
        self._on_release = on_release
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        # Each slot that becomes free wakes one of those who want to go on, not all.
        self._turn = threading.Condition(lock)
        self._used = 0
        self._resuming = 0
        self._is_open = True
        self._is_claiming = False
        # Whether somebody may wait for the next slot that is given back; only then it is worth a look.
        self._is_wanted = True
        self._was_released = False

    @property
    def free(self) -> int:
        """How many starts there is room for."""
        with self._changed:
            return self._free()

    def _free(self) -> int:
        return max(self.limit - self._used - self._resuming, 0) if self._is_open else 0

    def take_one(self) -> bool:
        """Take a slot for one start; whether there was one."""
        with self._changed:
            if self._bounds_claims and self._is_open:
                self._used += 1
                return True
            # A claim holds all free slots for the length of one statement; most of them come back.
            self._changed.wait_for(lambda: not self._is_claiming, _CLAIM)
            if self._free() < 1:
                return False
            self._used += 1
            return True

    def begin_claim(self) -> int:
        """Take every free slot for a claim; how many there were."""
        with self._changed:
            taken = self._free()
            self._used += taken
            self._is_claiming = True
            self._was_released = False
            return taken

    def end_claim(self, unused: int, *, is_sated: bool = False) -> None:
        """Give back what the claim did not need. ``is_sated``: nothing was left that waits for a slot."""
        with self._changed:
            self._is_claiming = False
            missed = self._was_released and not self._is_wanted and not is_sated
            self._is_wanted = not is_sated
            self._changed.notify_all()
        self.untake(unused)
        if missed:  # while it was not wanted yet
            self._on_release()

    def release(self) -> None:
        """Give one slot back, and say so if somebody may wait for it."""
        with self._changed:
            self._was_released = True
            is_wanted = self._is_wanted
        self.untake(1)
        if is_wanted:
            self._on_release()

    def untake(self, count: int) -> None:
        """Give back what was taken and not used."""
        with self._changed:
            self._used -= count
            self._turn.notify(count)

    def resume(self) -> None:
        """Take a slot again after a wait, as soon as one is free; at once when the runtime stops."""
        if self._bounds_claims:
            return self.resume_at_once()
        with self._changed:
            self._resuming += 1
            self._turn.wait_for(lambda: self._used < self.limit or not self._is_open)
            self._resuming -= 1
            self._used += 1

    def resume_at_once(self) -> None:
        """Take a slot again without waiting for one: on an event loop one too many costs little, blocking it all."""
        with self._changed:
            self._used += 1

    def close(self) -> None:
        """No more starts."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
            self._turn.notify_all()


class Seat:
    """The slot of one execution: given away while it waits, taken again when it goes on, given back at its end.

    However many of its operations wait at a time, it has one slot or none.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._is_taken = True
        self._is_over = False

    def give(self) -> None:
        """Give the slot away, if it has one."""
        if self._changes(to=False):
            self._slots.release()

    def take(self) -> None:
        """Take a slot again, as soon as one is free."""
        if self._changes(to=True):
            self._slots.resume()

    def take_at_once(self) -> None:
        """See Slots.resume_at_once()."""
        if self._changes(to=True):
            self._slots.resume_at_once()

    def leave(self) -> None:
        """Give the slot back for good: what still waits goes on without one."""
        with self._lock:
            gives, self._is_taken, self._is_over = self._is_taken, False, True
        if gives:
            self._slots.release()

    def _changes(self, *, to: bool) -> bool:
        with self._lock:
            if self._is_over or self._is_taken is to:
                return False
            self._is_taken = to
            return True
