"""The SMTP client, as each MTA describes it to a filter.

Source: aiomilter/help/protocol.rst, "Commands" and "Usual macros".
"""

import ipaddress

from aiomilter.exceptions import LocalProtocolError
from aiomilter.mta.content import Style
from aiomilter.wire.events import Connect, Family

__all__ = ["client_event", "client_macros"]


def client_event(style: Style, hostname: str, address: str, port: int, family: Family | None) -> Connect:
    """Return the CONNECT event for an SMTP client.

    Args:
        style: The MTA.
        hostname: Its verified name.
        address: Its address; "" for a client without one.
        port: Its port.
        family: Kind of address; None to read it off ``address``.

    Raises:
        LocalProtocolError: The port is not one.
    """
    if not 0 <= port <= 65535:
        raise LocalProtocolError(f"port: expected 0 to 65535, found {port}")
    if family is Family.UNKNOWN or (family is None and not address):
        return Connect(hostname)
    if family is None:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            # What Postfix sends where it knows no address: family 4 with some text.
            family = Family.UNIX if address.startswith("/") else Family.INET
        else:
            family = Family.INET if ip.version == 4 else Family.INET6
            address = ip.compressed if style == "postfix" or ip.version == 4 else _sendmail_ipv6(ip.exploded)
    return Connect(hostname, family, 0 if family is Family.UNIX else port, address)


def client_macros(style: Style, client: Connect) -> dict[str, str]:
    """Return the macros about an SMTP client, named without braces."""
    hostname, plain = client.hostname, client.raw_address.removeprefix("IPv6:")
    named = not hostname.startswith("[")
    if style == "postfix":
        who = f"{hostname if named else 'unknown'} [{plain}]"
    else:
        who = f"{hostname} [{client.raw_address}]" if named else hostname
    return {
        "_": who,
        "client_addr": f"IPv6:{plain}" if client.family is Family.INET6 else plain,
        "client_name": hostname if named else "unknown",
        "client_ptr": hostname if named else "unknown",
        "client_port": str(client.port),
        "client_resolve": "OK" if named else "FAIL",
    }


def _sendmail_ipv6(exploded: str) -> str:
    return "IPv6:" + ":".join(group.lstrip("0") or "0" for group in exploded.split(":"))
