"""Who may ask the inspector: a token, the name it is asked by, and where a request comes from.

Any page in the same browser can send requests to loopback, and any name can be made to point there (DNS rebinding).  So the
Host header must be an address or ``localhost``, and what changes anything comes as JSON from our own page alone.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

__all__ = ["COOKIE", "HEADERS", "LEAST_TOKEN", "Access", "Refused", "read_token"]

COOKIE: Final = "aiomilter-inspector"
LEAST_TOKEN: Final = 16
"""Octets of a token at least."""
_MOST_TOKEN: Final = 1024
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every response."""


class Refused(Exception):
    """A request is refused.

    Args:
        status: The HTTP status.
        why: A sentence.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status: int = status
        self.why: str = why


def read_token(octets: bytes) -> str:
    """Return the token that a file holds.

    Raises:
        ValueError: It is too short, too long, or not one line of printable ASCII.
    """
    text = octets.strip().decode("ascii", "replace")
    if not LEAST_TOKEN <= len(text) <= _MOST_TOKEN:
        raise ValueError(f"expected a token of {LEAST_TOKEN} to {_MOST_TOKEN} octets, found {len(text)}")
    if not all("!" <= one <= "~" for one in text):
        raise ValueError("expected a token of printable ASCII on one line, found other octets")
    return text


class Access:
    """Checks requests.

    Args:
        token: What a browser has to show; None to ask for none.
        host: The name or address that is listened on; a browser may ask by it.
        unix: Whether a UNIX-domain socket is listened on: no browser gets there by itself, and a proxy may use any name.
    """

    def __init__(self, token: str | None, host: str = "127.0.0.1", *, unix: bool = False) -> None:
        self.token: str | None = token
        self._host = host.lower()
        self._unix = unix
        # Made for each process, so that the token itself is not stored by the browser.
        self._secret = secrets.token_bytes(32)

    @property
    def cookie(self) -> str:
        """The value of the cookie of who has shown the token."""
        return hmac.new(self._secret, (self.token or "").encode(), "sha256").hexdigest()

    def check_host(self, host: str) -> None:
        """Check the Host header.

        Raises:
            Refused: It is a name that may have been made to point here.
        """
        if self._unix:
            return
        name = _host_name(host)
        if name is None or not (name in ("localhost", self._host) or _is_address(name)):
            raise Refused(421, "expected an address or localhost as Host, found another name")

    def check_cookie(self, cookie: str) -> None:
        """Check the cookie.

        Raises:
            Refused: A token is needed, and was not shown.
        """
        if self.token is not None and not hmac.compare_digest(_octets(cookie), self.cookie.encode()):
            raise Refused(401, "expected the token that was printed at start, found none")

    def check_token(self, token: object) -> None:
        """Check a token.

        Raises:
            Refused: It is another.
        """
        given = _octets(token) if isinstance(token, str) else b""
        if not hmac.compare_digest(given, (self.token or "").encode()):
            raise Refused(403, "this is not the token")

    def check_site(self, headers: Mapping[str, str]) -> None:
        """Check that a browser does not ask for another site.

        Raises:
            Refused: It does.
        """
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Refused(403, "expected a request of our own page, found that of another site")

    def check_post(self, headers: Mapping[str, str]) -> None:
        """Check that a request that changes something comes from our own page.

        Raises:
            Refused: It does not, or it is not JSON.
        """
        origin, host = headers.get("Origin", ""), headers.get("Host", "")
        # A proxy may change Host; what the browser itself says of the site no page can forge.
        ours = bool(origin) and _netloc(origin) == host.lower()
        if not ours and not (origin and headers.get("Sec-Fetch-Site") == "same-origin"):
            raise Refused(403, "expected our own Origin, found another or none")
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "expected application/json, found another type")


def _octets(text: str) -> bytes:
    """Return a text that others have sent, and which may hold surrogates, as octets."""
    return text.encode("utf-8", "surrogatepass")


def _netloc(origin: str) -> str | None:
    """Return host and port of an Origin header, in lower case; None if it is not one."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _host_name(host: str) -> str | None:
    """Return the name of a Host header without its port; None if it is not one."""
    try:
        split = urlsplit(f"//{host}")
        split.port  # noqa: B018  # raises for one that is not a number
        return split.hostname if "@" not in host and not split.path else None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
