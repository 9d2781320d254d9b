"""A clock that a test moves: what is due later becomes due now."""

from datetime import timedelta

from django.apps import apps
from django.db.models import DateTimeField, F

from ..bridge import Database
from ..exceptions import InvalidOption
from ..models import Executor
from ..sysdb import vendor


class Clock:
    """The time of workflows. It is the database's, so what is moved is everything that is written down in it."""

    def advance(self, seconds: float | timedelta) -> None:
        """Let so much time pass for all workflows: each moment they recorded is that much longer ago.

        Sleeps, delays and timeouts that have ended by then go on with the next run_until_idle(). The time that the
        project's own code reads stays as it is.
        """
        passed = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
        if passed < timedelta():
            raise InvalidOption(f"The clock goes forward only, not by {passed}.")
        with vendor.transaction():
            for model in apps.get_app_config("dbos").get_models():
                moments = [field.name for field in model._meta.local_fields if isinstance(field, DateTimeField)]
                if moments and model is not Executor:  # who is alive is no matter of a test's time
                    model._default_manager.update(**{name: F(name) - passed for name in moments})

    async def aadvance(self, seconds: float | timedelta) -> None:
        """See advance()."""
        await Database(lambda: self.advance(seconds)).aperform()


#: The clock of this process's tests.
clock = Clock()
