"""What a URL is as an address: whether it is one, which origin it belongs to, whether its host is this machine."""

import ipaddress
import re
from urllib.parse import urlsplit

_HOST = re.compile(r"[^\s\x00-\x20\x7f%/\\\ud800-\udfff]+")


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL; `("", "", 0)` if it is invalid."""
    try:
        parts = urlsplit(url)
        return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", "", 0


def is_address(url: str) -> bool:
    """Return whether a text is an http or https URL with a valid host and port."""
    scheme, host, _port = origin(url)
    return scheme in ("http", "https") and _HOST.fullmatch(host) is not None


def is_loopback(host: str) -> bool:
    """Return whether a host, without a port, is this machine, so that what is sent to it does not leave it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
