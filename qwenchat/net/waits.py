"""How long to wait before a request is repeated: what the server asks for, otherwise twice as long each time."""

import email.utils
import random
import re
import time
from contextlib import suppress

_NUMBER = re.compile("[0-9]{1,18}")


def retry_after(value: str) -> float | None:
    """Return the seconds to wait according to a Retry-After header (seconds or a date); None if it is invalid."""
    if _NUMBER.fullmatch(value.strip()):
        return float(value)
    with suppress(ValueError, OverflowError):
        if when := email.utils.parsedate_tz(value):
            return max(0.0, email.utils.mktime_tz(when) - time.time())
    return None


def backoff_s(failures: int, *, first_s: float, longest_s: float) -> float:
    """Return the seconds to wait after a number of failures in a row: doubling, with jitter."""
    wait_s = min(longest_s, first_s * 2.0 ** (failures - 1))
    return wait_s * random.uniform(0.75, 1.25)  # noqa: S311
