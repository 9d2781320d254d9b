"""What the clock decides happens in the dispatcher's own loop: delays that are over, deadlines that have passed."""

import math

from .. import clock
from ..conf import conf
from ..hub import hub
from ..sysdb import due

#: Who is told of everything looks so many times less often.
TOLD = 5
# SQLite compares milliseconds.
_SLACK = 0.001


class DueWork:
    """Knows when something is due next, and looks for what is new once per POLL_INTERVAL, seldom while nothing comes.

    Where no workflow has a delay or a deadline, that look is all that it costs.
    """

    def __init__(self) -> None:
        self._looked_at = -math.inf
        self._look_at = -math.inf

    def expect(self) -> None:
        """There may be something new: look as soon as one may look again."""
        self._look_at = min(self._look_at, self._looked_at + conf.POLL_INTERVAL)

    def seconds(self) -> float:
        """In how many seconds there can be something to do."""
        return max(self._look_at - clock.monotonic(), 0)

    def tick(self) -> None:
        """Do what is due, if there can be something."""
        if self.seconds() > 0:
            return
        ahead = due.next_due()
        changed = 0
        if ahead.delay is not None and ahead.delay <= 0:
            changed += due.ripen()
        if ahead.deadline is not None and ahead.deadline <= 0:
            changed += due.cancel_overdue()
        self._looked_at = clock.monotonic()
        self._look_at = self._looked_at + (0 if changed else self._pause(ahead))

    def _pause(self, ahead: due.Due) -> float:
        """Until the next one is due; one that is due and did not change is another worker's at this moment."""
        longest = conf.POLL_INTERVAL * (TOLD if hub.is_hearing else 1)
        moments = [seconds for seconds in (ahead.delay, ahead.deadline) if seconds is not None and seconds > 0]
        return min([longest, *(seconds + _SLACK for seconds in moments)])
