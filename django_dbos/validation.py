"""What is asked of values that users hand in: each refused at once, with what would be right."""

from .exceptions import InvalidOption


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
