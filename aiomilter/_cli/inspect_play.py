"""Messages that the inspector plays to a filter of its own."""

import asyncio
import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast

from aiomilter import mta
from aiomilter._shadow import IN_SHADOW
from aiomilter.exceptions import MilterError
from aiomilter.inspector.recording import RecordedConnection
from aiomilter.inspector.store import Store
from aiomilter.inspector.view import detail
from aiomilter.options import Options
from aiomilter.server import Factory
from aiomilter.testing._memory import MemoryServer
from aiomilter.wire.constants import Stage
from aiomilter.wire.replies import PASSING

__all__ = ["InspectedFilter"]

_PATH: Final = re.compile(r"\s*(<[^<>]*>|[^\s<>]*)((?:\s+\S+)*)\s*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_MACRO: Final = re.compile(r"[A-Za-z0-9_]+")
_TIMEOUT: Final = 30.0
"""Seconds that the MTA of a play waits for an answer."""
_MOST_RECIPIENTS: Final = 100
_MOST_MACROS: Final = 100
_LONGEST: Final = 1000
"""Characters of a text of the scenario."""


@dataclass(frozen=True, slots=True)
class _Scenario:
    style: mta.Style
    client: str
    hostname: str
    helo: str
    sender: tuple[str, ...]
    recipients: tuple[tuple[str, ...], ...]
    macros: mta.MacroValues
    octets: bytes


class InspectedFilter:
    """The filter that plays are for: one of its own for each, made from what is configured at that moment.

    Args:
        current: Returns the factory and the options that serve now.
    """

    def __init__(self, current: Callable[[], tuple[Factory, Options]]) -> None:
        self._current = current
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Play a message; nothing is delivered, logged or counted.

        Raises:
            ValueError: What is asked for is wrong.
        """
        scenario = _scenario(asked)
        store = Store(max_messages=2)
        factory, options = self._current()
        options = replace(options, observer=store, ssl=None, allowed_networks=None, stall_timeout=None)
        trouble = ""
        async with self._one_at_a_time:
            before = IN_SHADOW.set(True)
            try:
                async with MemoryServer(factory, options, partial(_in_shadow, store)) as server:
                    trouble = await _play(server, scenario)
            except Exception as error:  # noqa: BLE001  # the user's factory
                trouble = f"{type(error).__name__}: {error}"
            finally:
                IN_SHADOW.reset(before)
        if not store.messages:
            raise ValueError(trouble or "the filter was asked about nothing")
        recorded = store.messages[store.last]
        store.add_original(recorded.event.where.queue_id or "", scenario.octets)
        return {**await detail(recorded, content=True), "trouble": trouble}


def _in_shadow(store: Store, *args: Any) -> RecordedConnection:
    """Return a connection whose filter is told that it must not act."""
    connection = store.connection_factory(*args)
    connection.session.transaction.shadow = True
    return connection


async def _play(server: MemoryServer, scenario: _Scenario) -> str:
    """Play a message, and return what went wrong; "" if nothing did."""
    streams = server.connect()
    played = mta.Session(*streams, style=scenario.style, timeout=_TIMEOUT, macros=scenario.macros)
    try:
        await played.negotiate()
        await played.connect(scenario.hostname, scenario.client)
        if played.decided is None:
            await played.helo(scenario.helo)
        if await played.mail(*scenario.sender) in PASSING:
            for recipient in scenario.recipients:
                await played.rcpt(*recipient)
        await played.message(scenario.octets)
        await played.quit()
    except (MilterError, TimeoutError) as error:
        return str(error)
    finally:
        await played.close()
    return ""


def _scenario(asked: Mapping[str, Any]) -> _Scenario:
    """Return what is asked for.

    Raises:
        ValueError: It is wrong.
    """
    style = asked.get("mta", "postfix")
    if style not in ("postfix", "sendmail"):
        raise ValueError(f"mta: expected postfix or sendmail, found {style!r:.40}")
    client = _text(asked, "client", "192.0.2.1")
    if client and not client.startswith("/") and client != "unknown":
        try:
            client = str(ipaddress.ip_address(client.removeprefix("IPv6:")))
        except ValueError:
            raise ValueError(f"client: expected an IP address, found {client!r:.60}") from None
    recipients = asked.get("recipients") or ["<bob@example.net>"]
    if not isinstance(recipients, list) or len(recipients) > _MOST_RECIPIENTS:
        raise ValueError(f"recipients: expected a list of at most {_MOST_RECIPIENTS}")
    return _Scenario(
        style=cast(mta.Style, style),
        client=client,
        hostname=_text(asked, "hostname", "client.example"),
        helo=_text(asked, "helo", "client.example"),
        sender=_path("sender", _text(asked, "sender", "<alice@example.org>")),
        recipients=tuple(_path("recipients", _text({"recipients": each}, "recipients", "")) for each in recipients),
        macros=_macros(asked),
        octets=_octets(asked),
    )


def _text(asked: Mapping[str, Any], name: str, default: str) -> str:
    given = asked.get(name, default)
    if not isinstance(given, str) or len(given) > _LONGEST or _CONTROL.search(given):
        raise ValueError(f"{name}: expected a text of one line, at most {_LONGEST} characters")
    return given


def _path(name: str, text: str) -> tuple[str, ...]:
    match = _PATH.fullmatch(text)
    if match is None:
        raise ValueError(f"{name}: expected ADDRESS or <ADDRESS>, as in alice@example.org, found {text!r:.80}")
    return (match[1] if match[1].startswith("<") else f"<{match[1]}>", *match[2].split())


def _macros(asked: Mapping[str, Any]) -> mta.MacroValues:
    """Return the macros by stage: those that are given so, and what login and TLS amount to."""
    found: dict[Stage, dict[str, str]] = {}
    given = asked.get("macros") or {}
    if not isinstance(given, dict):
        raise ValueError("macros: expected an object")
    for key, values in given.items():
        stage = Stage.__members__.get(key)
        named = values if isinstance(values, dict) else {key: values}
        for name, value in [*named.items()][:_MOST_MACROS]:
            text = _text({"macros": value}, "macros", "")
            macro = name.strip("{}")
            if not _MACRO.fullmatch(macro):
                raise ValueError(f"macros: expected a name such as auth_type, found {name!r:.40}")
            of_stage = found.setdefault(Stage.CONNECT if stage is None else stage, {})
            of_stage[macro if len(macro) == 1 else f"{{{macro}}}"] = text
    if login := _text(asked, "auth", ""):
        found.setdefault(Stage.MAIL, {}).update({"{auth_authen}": login, "{auth_type}": "PLAIN"})
    if asked.get("tls") is True:
        tls = {"{tls_version}": "TLSv1.3", "{cipher}": "TLS_AES_256_GCM_SHA384", "{cipher_bits}": "256"}
        found.setdefault(Stage.HELO, {}).update(tls)
    return found


def _octets(asked: Mapping[str, Any]) -> bytes:
    """Return the message: as base64, or as text."""
    if isinstance(given := asked.get("octets"), str):
        try:
            return base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("octets: expected base64") from None
    if not isinstance(text := asked.get("message"), str):
        raise ValueError("message: expected the text of a message")
    return text.encode("utf-8", "surrogatepass").replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
