"""The URLs of stores."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from aiomilter.exceptions import StoreSettingsError

__all__ = ["StoreUrl", "is_text", "parse"]

_PORTS: Final[Mapping[str, int]] = {"redis": 6379, "rediss": 6379, "postgresql": 5432, "postgres": 5432}
_SENTINEL: Final = 26379
_ENCODED: Final = "each @ : / ? # % of a name or password as %40 %3A %2F %3F %23 %25"
_NO_TEXT: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_FORMS: Final = "memory:, sqlite:PATH, redis://HOST:PORT/NUMBER, rediss://, redis+unix:PATH or postgresql://HOST/NAME"
_QUERY: Final[Mapping[str, frozenset[str]]] = {
    "memory": frozenset({"per_worker", "max_keys"}),
    "redis": frozenset({"sentinel"}),
    "rediss": frozenset({"sentinel", "ca"}),
    "postgresql": frozenset({"ca", "sslmode", "sslrootcert"}),
}


class StoreUrl(NamedTuple):
    """What a URL says.

    Args:
        scheme: ``memory``, ``sqlite``, ``redis``, ``rediss``, ``redis+unix`` or ``postgresql``.
        hosts: Hosts and ports.
        path: Of the file or socket; the name of the database.
        username: "" if none is there.
        password: "" if none is there.
        query: What follows the question mark.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    username: str = ""
    password: str = ""
    query: Mapping[str, str] = {}

    def __repr__(self) -> str:
        """Show all but the password."""
        shown = self._replace(password="***" if self.password else "")
        return f"StoreUrl{tuple(shown)!r}"


def parse(text: str) -> StoreUrl:
    """Return what the URL of a store says.

    Raises:
        StoreSettingsError: It is none; the message holds no password.
    """
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in ("memory", "sqlite", "redis+unix", *_PORTS):
        raise StoreSettingsError(f"expected {_FORMS}, found one that begins with {scheme[:20]!r}")
    if "\0" in text or "\n" in text:
        raise StoreSettingsError(f"expected {_FORMS} in one line")
    if scheme in ("sqlite", "redis+unix"):
        if not rest or rest == "//":
            raise StoreSettingsError(f"{scheme}: expected the path of a file")
        return StoreUrl(scheme, path=rest.removeprefix("//") if rest.startswith("///") else rest)
    if scheme == "memory":
        path, _, query = rest.partition("?")
        if path:
            raise StoreSettingsError("memory: expected nothing behind it, but ?max_keys=N")
        return StoreUrl(scheme, query=_query(scheme, query))
    return _server("postgresql" if scheme == "postgres" else scheme, text)


def _server(scheme: str, text: str) -> StoreUrl:
    if not is_text(text):  # of some of what is none, Python would leave it out
        raise StoreSettingsError(_no_text(scheme))
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = None
    # What Python says of it may hold the password.  Of one with a slash the end would be taken for a name, and shown.
    if parts is None or parts.fragment or "@" in parts.path + parts.query:
        raise StoreSettingsError(f"{scheme}: expected {scheme}://USER:PASSWORD@HOST, {_ENCODED}")
    query = _query(scheme, parts.query)
    login, at, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    default = _SENTINEL if "sentinel" in query else _PORTS[scheme]
    found = tuple(_host(scheme, host, default, is_shown=at != "") for host in hosts.split(","))
    if len(found) > 1 and "sentinel" not in query:
        raise StoreSettingsError(f"{scheme}: expected one host; several are sentinels, and need ?sentinel=NAME")
    username, password, path = map(_decoded, (username, password, parts.path.removeprefix("/")))
    if not all(map(is_text, (username, password, path, *query.values()))):
        raise StoreSettingsError(_no_text(scheme))
    if scheme != "postgresql" and path and not (path.isascii() and path.isdigit() and len(path) < 6):
        raise StoreSettingsError(f"{scheme}: expected the number of a database, found {path[:50]!r}")
    return StoreUrl(scheme, found, path, username, password, query)


def _host(scheme: str, text: str, default: int, *, is_shown: bool) -> tuple[str, int]:
    """Return a host and its port.

    A wrong port is shown behind a login alone: without the @ of that, it may be a password.
    """
    host, colon, port = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, colon, port = text, "", ""
    elif not colon:
        host, port = text, ""
    if colon and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        found = f", found {port[:20]!r}" if is_shown else ""
        raise StoreSettingsError(f"{scheme}: expected a port of 1 to 65535{found}")
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise StoreSettingsError(f"{scheme}: expected a host, as in {scheme}://127.0.0.1")
    return host, int(port) if port else default


def _query(scheme: str, text: str) -> dict[str, str]:
    found = {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}
    if unknown := found.keys() - _QUERY.get(scheme, frozenset()):
        taken = f"; taken are {', '.join(sorted(_QUERY[scheme]))}" if scheme == "postgresql" else ""
        raise StoreSettingsError(f"{scheme}: unknown {sorted(unknown)[0][:50]!r}{taken}")
    return found


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _no_text(scheme: str) -> str:
    return f"{scheme}: expected text in UTF-8 without control characters"


def is_text(text: str) -> bool:
    """Return whether a server can be given it: it is UTF-8, and no NUL ends it early."""
    return _NO_TEXT.search(text) is None
