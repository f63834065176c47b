"""Times as people and programs read them. Times in the program are Unix milliseconds, UTC."""

from datetime import UTC, datetime


def local(ms: int) -> str:
    """Return a time to the minute in the person's own time zone."""
    return datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M")


def iso(ms: int) -> str:
    """Return a time in ISO 8601, UTC, to the millisecond."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
