"""A lane: a thread that runs only when it has its turn, so that of all lanes and the test only one ever runs."""

import threading
from collections.abc import Callable

from .connections import Connections, borrowed

_here = threading.local()


class Lane:
    """One sync call on a thread of its own, which gives its turn back when it waits and when it is over."""

    def __init__(self, call: Callable[[], None], connections: Connections) -> None:
        self._call = call
        self._connections = connections
        self._turn = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="dbos-lane", daemon=True)
        self._error: BaseException | None = None
        self.is_over = False
        #: Whether it goes on only when nothing else can.
        self.makes_way = False

    def take_turn(self) -> None:
        """Let it go on until it waits or is over; raises what ended it."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._turn.release()
        try:
            self._back.acquire()
        except BaseException:
            self.is_over = True  # somebody pressed Ctrl-C: it is left to itself
            raise
        if self.is_over:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def give_back(self) -> None:
        """Called on its own thread: let others go on until it has its turn again."""
        self._back.release()
        self._turn.acquire()

    def _run(self) -> None:
        _here.lane = self
        try:
            with borrowed(self._connections):
                self._call()
        except BaseException as error:
            self._error = error
        finally:
            self.is_over = True
            self._back.release()


def this_lane() -> Lane:
    """The lane whose thread calls."""
    lane: Lane = _here.lane
    return lane
