"""The SMTP client as a filter is shown it: its own address, or another by XCLIENT.

Source: Postfix, README_FILES/XCLIENT_README; RFC 3461 section 4 for xtext.
"""

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["XCLIENT_NAMES", "Client", "XClientError", "after_xclient"]

XCLIENT_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
"""Attributes that are taken; those from PROTO on have no effect, except LOGIN."""
_UNAVAILABLE: Final = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_HEX: Final = re.compile(r"\+([0-9A-F]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Client:
    """An SMTP client.

    Args:
        address: Its IP address; "" if unknown.
        port: Its port; 0 if unknown.
        name: Its verified host name; "" for none.
        login: The name it has logged in with; "" if it has not.
        mechanism: The SASL mechanism of that.
    """

    address: str
    port: int = 0
    name: str = ""
    login: str = ""
    mechanism: str = ""

    @property
    def hostname(self) -> str:
        """The host name, or else the address in brackets."""
        return self.name or (f"[{self.address}]" if self.address else "unknown")

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        try:
            return ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return False


class XClientError(ValueError):
    """An XCLIENT command is refused; the message is the SMTP reply."""


def after_xclient(client: Client, argument: str) -> Client:
    """Return a client as an XCLIENT command changes it.

    Args:
        client: As it was.
        argument: What follows the verb.

    Raises:
        XClientError: It is wrong.
    """
    words = argument.split()
    if not words:
        raise XClientError("501 5.5.4 Syntax: XCLIENT attribute=value...")
    for word in words:
        name, equals, text = word.partition("=")
        name = name.upper()
        if name not in XCLIENT_NAMES:
            raise XClientError(f"501 5.5.4 Bad XCLIENT attribute name: {name}")
        value = "" if text.upper() in _UNAVAILABLE else _decoded(text)
        if not equals or value is None or not _is_right(name, value):
            raise XClientError(f"501 5.5.4 Bad XCLIENT {name} syntax: {text}")
        client = _changed(client, name, value)
    return client


def _changed(client: Client, name: str, value: str) -> Client:
    match name:
        case "ADDR":
            return replace(client, address=_address(value))
        case "NAME":
            return replace(client, name=value)
        case "PORT":
            return replace(client, port=int(value or "0"))
        case "LOGIN":
            return replace(client, login=value, mechanism="XCLIENT" if value else "")
        case _:
            return client


def _decoded(text: str) -> str | None:
    """Return the text that xtext stands for; None if it is not xtext, or stands for control characters."""
    if not _XTEXT.fullmatch(text):
        return None
    octets = _HEX.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1")
    value = octets.decode("utf-8", "surrogateescape")
    return None if _CONTROL.search(value) else value


def _address(value: str) -> str:
    return value[5:] if value[:5].upper() == "IPV6:" else value


def _is_right(name: str, value: str) -> bool:
    """Return whether a value can be that of an attribute; "" can be of all."""
    if value and name in ("ADDR", "DESTADDR"):
        try:
            ipaddress.ip_address(_address(value))
        except ValueError:
            return False
    if value and name in ("PORT", "DESTPORT"):
        return value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 65535
    return True
