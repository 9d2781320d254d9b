"""Tools for a project's own tests: run workflows in a TestCase, let them crash, move their clock. See docs/testing.md.

run_until_idle   run everything that can run, on the test's own connections
inline           run each workflow at once, where it is started
conducted        never block on a wait: run others meanwhile
crash_at         let an execution die at a step
recover          put what the dead left back on the queues
clock            let time pass
DBOSTestMixin    all of them as self.dbos
"""

from .cases import DBOSTestMixin, Tools
from .clock import Clock, clock
from .crashes import arecover, crash_at, recover
from .modes import arun_until_idle, conducted, inline, run_until_idle

__all__ = [
    "Clock",
    "DBOSTestMixin",
    "Tools",
    "arecover",
    "arun_until_idle",
    "clock",
    "conducted",
    "crash_at",
    "inline",
    "recover",
    "run_until_idle",
]
