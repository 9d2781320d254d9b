"""Time as one process sees it. Whatever decides something asks the database for the time instead."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime


def now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds that never go backwards."""
    return time.monotonic()


def jittered(seconds: float) -> float:
    """``seconds``, give or take a tenth, so that many processes do not knock at once."""
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, keeps no secret


def backoff(first: float, rate: float, longest: float) -> Iterator[float]:
    """Endless jittered delays in seconds: ``first``, times ``rate`` each time, never above ``longest``."""
    delay = first
    while True:
        yield jittered(min(delay, longest))
        delay = min(delay * rate, longest)
