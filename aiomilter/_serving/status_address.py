"""The address of an HTTP listener: how it is written, and who may reach it."""

from collections.abc import Collection

from aiomilter._serving.access import networks_of
from aiomilter._serving.binding import Bound, Permissions, bind
from aiomilter.addresses import Address, Inherited, parse
from aiomilter.exceptions import AddressError

__all__ = ["bind_status", "parse_status"]

_EXPECTED = "expected HOST:PORT, [HOST]:PORT or unix:/PATH, as in 127.0.0.1:9464"


def parse_status(text: str) -> Address:
    """Return the endpoint that the address of an HTTP listener names.

    Args:
        text: ``HOST:PORT``, ``[HOST]:PORT``, or as for :func:`aiomilter.addresses.parse`.

    Raises:
        AddressError: It is not an endpoint, or an inherited socket.
    """
    if not text.startswith(("inet:", "inet6:", "unix:", "local:", "fd:", "/")):
        text = f"inet:{text}"
        if "@" in text or text.count(":") < 2:
            raise AddressError(f"{text.removeprefix('inet:')!r:.200}: {_EXPECTED}")
    address = parse(text)
    if isinstance(address, Inherited):
        raise AddressError(f"{text!r:.200}: {_EXPECTED}")
    return address


def bind_status(
    text: str, allow: Collection[str] | None, permissions: Permissions | None = None, *, option: str = "allow"
) -> list[Bound]:
    """Bind the sockets of an HTTP listener; a host name may be looked up, which blocks.

    Args:
        text: See :func:`parse_status`.
        allow: Networks that may connect; None if there are none but the loopback.
        permissions: Of a UNIX-domain socket; None for those of the umask.
        option: What sets ``allow``, for the error.

    Raises:
        AddressError: It is not an endpoint; or other hosts would reach it, and ``allow`` is None.
        OSError: It cannot be bound.
        TypeError, ValueError: ``allow`` has something other than networks.
    """
    if allow is not None:
        networks_of(option, allow)
    bound = bind(parse_status(text), permissions or Permissions(None, None, None))
    if allow is None and any(one.exposed for one in bound):
        for one in bound:
            one.close()
        raise AddressError(f"{text!r}: other hosts would reach it; give {option}, or an address of the loopback")
    return bound
