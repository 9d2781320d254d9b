"""The tools in one hand: for unittest as a mixin, for pytest as a fixture (see pytest_plugin)."""

from unittest import TestCase

from .clock import clock
from .crashes import arecover, crash_at, recover
from .modes import arun_until_idle, conducted, inline, run_until_idle


class Tools:
    """What a test does with workflows; each is documented where it is defined."""

    run_until_idle = staticmethod(run_until_idle)
    arun_until_idle = staticmethod(arun_until_idle)
    recover = staticmethod(recover)
    arecover = staticmethod(arecover)
    inline = inline
    crash_at = crash_at
    clock = clock


class DBOSTestMixin(TestCase):
    """Put it before django.test.TestCase: ``self.dbos`` has the tools, and no wait blocks the test."""

    dbos = Tools()

    def setUp(self) -> None:
        """See TestCase.setUp()."""
        super().setUp()
        self.enterContext(conducted())
