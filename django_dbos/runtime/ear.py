"""The ear of a process without a runtime: it listens to other processes while somebody here waits for news of them.

A process that waits for nothing never has one. It starts with the first wait that is not over at once, and ends when
nobody has waited for a while; the next one starts it again.
"""

import os
import threading

from .. import clock
from ..hub import hub
from .listener import Listener

#: Seconds without anybody waiting after which the ear stops listening.
LINGER = 10.0


class Ear(Listener):
    """A listener that ends by itself."""

    name = "ear"
    patience = LINGER

    def tick(self) -> float:
        """See Service.tick()."""
        super().tick()
        with _lock:
            if not hub.has_watches and self._has_lingered():
                self.stop()
                _listening.clear()
        return 0

    def _has_lingered(self) -> bool:
        return clock.monotonic() - hub.watched_at >= LINGER

    def _run(self) -> None:
        try:
            super()._run()
        finally:
            self._close()


_listening: list[Ear] = []
_lock = threading.Lock()


def start_ear() -> None:
    """Listen to other processes, unless this one does."""
    if not Listener.is_possible():
        return
    with _lock:
        if not _listening:
            ear = Ear()
            _listening.append(ear)
            ear.start()


def stop_ear() -> None:
    """Stop listening now; the next wait starts again. For processes that end their own use, such as tests."""
    with _lock:
        ears = list(_listening)
        _listening.clear()
    for ear in ears:
        ear.stop()
        ear.join()


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _lock
    _lock = threading.Lock()
    _listening.clear()


os.register_at_fork(after_in_child=_forget)
