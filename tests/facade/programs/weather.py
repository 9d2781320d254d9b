"""A step that calls a service which fails now and then, with retries that grow and a say in which errors to retry."""

from django_dbos.dbos import DBOS
from django_dbos.dbos.error import DBOSMaxStepRetriesExceeded

DBOS(config={"name": "weather"})

attempts: list[int | None] = []


def passes(error: BaseException) -> bool:
    return not isinstance(error, PermissionError)


@DBOS.step(retries_allowed=True, max_attempts=4, interval_seconds=0.01, backoff_rate=1.5, should_retry=passes)
def forecast(town: str, failures: int) -> str:
    attempts.append(DBOS.step_status.current_attempt)
    if town == "Area 51":
        raise PermissionError(town)
    if len(attempts) <= failures:
        raise TimeoutError(f"attempt {len(attempts)}")
    return f"sun in {town}"


@DBOS.workflow()
def report(town: str, failures: int) -> str:
    try:
        return forecast(town, failures)
    except DBOSMaxStepRetriesExceeded as error:
        return f"no forecast after {len(error.errors)} attempts"
