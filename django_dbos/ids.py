"""Ids that sort by the time they were made."""

import os
import time
import uuid

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62


def uuid7() -> str:
    """A new UUID version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, 12 of their fraction, 62 random.

    New rows land side by side at the right edge of an index instead of all over it.
    """
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = rest * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return str(uuid.UUID(int=(milliseconds << 80) | _VERSION_7 | (fraction << 64) | _VARIANT | random))


def uuid7s(count: int) -> list[str]:
    """Many new ids, see uuid7(), in ascending order: each counts one fraction of a millisecond on."""
    fractions, random = time.time_ns() * 4096 // 1_000_000, os.urandom(8 * count).hex()
    return [_uuid7(fractions + number, random[16 * number : 16 * number + 16]) for number in range(count)]


def _uuid7(fractions: int, random: str) -> str:
    moment = f"{fractions >> 12:012x}"
    variant = "89ab"[int(random[0], 16) & 3]
    return f"{moment[:8]}-{moment[8:]}-7{fractions & 4095:03x}-{variant}{random[1:4]}-{random[4:]}"
