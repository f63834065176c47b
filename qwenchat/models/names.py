"""Names that come from a hub, a manifest or a URL: none of them may lead out of the folder it is meant for."""

import re
from pathlib import PurePosixPath

_COMPONENT = re.compile(r'[^<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]{1,255}')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")


def is_safe(name: str) -> bool:
    """Say whether every system we run on takes `name` as a relative path that stays below its folder.

    Refused are absolute names, `..`, `.`, empty components, backslashes, colons and what else Windows forbids,
    control and bidirectional characters, names of devices, and components that end in a dot or a space.
    """
    parts = name.split("/")
    return len(name.encode(errors="replace")) <= 1024 and all(
        _COMPONENT.fullmatch(part)
        and len(part.encode()) <= 255
        and part not in (".", "..")
        and part[-1] not in ". "
        and not _RESERVED.fullmatch(part)
        for part in parts
    )


def relative(name: str) -> PurePosixPath:
    """Return a safe name as a relative path. Raises ValueError for any other: callers ask `is_safe` first."""
    if not is_safe(name):
        raise ValueError(f"unsafe name: {name!r}")
    return PurePosixPath(name)
