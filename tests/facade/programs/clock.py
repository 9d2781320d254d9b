"""Work by the clock: once a second."""

from datetime import datetime

from django_dbos.dbos import DBOS

DBOS(config={"name": "clock"})

ticks: list[tuple[datetime, datetime]] = []


@DBOS.step()
def note(scheduled: datetime, actual: datetime) -> None:
    ticks.append((scheduled, actual))


@DBOS.scheduled("* * * * * *")
@DBOS.workflow()
def ring(scheduled_time: datetime, actual_time: datetime) -> None:
    note(scheduled_time, actual_time)
