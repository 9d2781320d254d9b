"""What is asked of values that users hand in: each refused at once, with what would be right."""

from datetime import timedelta

from .exceptions import InvalidOption, InvalidWorkflowID

#: The longest duration that is taken, in seconds: a hundred years.
LONGEST = 100 * 366 * 86400.0


def whole_number(name: str, value: object, *, least: int, most: int = 2**31 - 1) -> int:
    """``value``, if it is a whole number from ``least`` to ``most``; raises InvalidOption."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidOption(f"{name} is a whole number from {least} to {most}, not {value!r:.300}.")
    return value


def short_text(name: str, value: object, error: type[InvalidOption] = InvalidOption) -> str:
    """``value``, if it is a text of 1 to 255 characters that a database can store; raises ``error``."""
    if not isinstance(value, str) or not 1 <= len(value) <= 255 or "\x00" in value:
        raise error(f"{name} is a text of 1 to 255 characters, not {value!r:.300}.")
    return value


def seconds_of(name: str, value: object) -> float:
    """A duration in seconds, given as a number or a timedelta, that is neither negative nor endless."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= LONGEST:
        raise InvalidOption(
            f"{name} is a number of seconds from 0 to {LONGEST:.0f}, or a timedelta, not {value!r:.300}."
        )
    return float(seconds)


def one_of(name: str, value: object, choices: tuple[object, ...]) -> object:
    """``value``, if it is one of ``choices``; raises InvalidOption."""
    if value not in choices:
        listed = " or ".join(repr(choice) for choice in choices)
        raise InvalidOption(f"{name} is {listed}, not {value!r:.300}.")
    return value


def valid_id(workflow_id: object) -> str:
    """``workflow_id``, if a workflow can have it; raises InvalidWorkflowID."""
    return short_text("A workflow id", workflow_id, InvalidWorkflowID)
