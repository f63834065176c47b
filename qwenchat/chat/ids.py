"""Ids and the clock, so that tests can set both. Ids sort by the time they were made."""

import os
import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns Unix time in milliseconds, UTC."""
NewId = Callable[[], str]


def unix_ms() -> int:
    """Return the time now."""
    return time.time_ns() // 1_000_000


class UUIDv7:
    """Makes UUIDs of version 7 (RFC 9562, 5.7) that grow even within one millisecond.

    The 12 bits of `rand_a` count within a millisecond (method 1 of section 6.2); the rest is random.
    """

    def __init__(self, clock: Clock = unix_ms) -> None:
        self._clock = clock
        self._last = (0, 0)

    def __call__(self) -> str:
        """Return a new id."""
        now, (ms, count) = self._clock(), self._last
        if now > ms:
            ms, count = now, 0
        else:
            ms, count = (ms, count + 1) if count < 0xFFF else (ms + 1, 0)
        self._last = (ms, count)
        random = int.from_bytes(os.urandom(8)) & (1 << 62) - 1
        digits = f"{ms << 80 | 0x7 << 76 | count << 64 | 0b10 << 62 | random:032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
