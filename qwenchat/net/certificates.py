"""Which certificates are trusted: the system's, or those in the file that SSL_CERT_FILE names."""

import ssl

from qwenchat.i18n import reason_of


def trusted_certificates() -> ssl.SSLContext:
    """Return a context that checks servers. Raises ssl.SSLCertVerificationError where SSL_CERT_FILE can't be used."""
    import httpx2  # noqa: PLC0415 - importing it takes a tenth of a second

    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        reason = f"SSL_CERT_FILE: {reason_of(error)}"
        raise ssl.SSLCertVerificationError(error.errno or 0, reason) from error
