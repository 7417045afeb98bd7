"""Tests of filters without an MTA: :func:`session` plays one in memory, over the code that serves real ones.

The pytest plugin of the same name gives the fixture ``milter_session``.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Unpack

from aiomilter import mta as _mta
from aiomilter.options import Options, ServeOptions
from aiomilter.server import Factory
from aiomilter.testing._memory import MemoryServer
from aiomilter.wire.constants import Stage

__all__ = ["session"]


@asynccontextmanager
async def session(
    factory: Factory,
    *,
    client: str = "192.0.2.1",
    hostname: str = "client.example",
    helo: str = "client.example",
    macros: Mapping[str, str] | _mta.MacroValues = MappingProxyType({}),
    mta: _mta.Style = "postfix",
    timeout: float = 30.0,
    **options: Unpack[ServeOptions],
) -> AsyncIterator[_mta.Session]:
    """Play an SMTP session to a filter: ``async with session(MyFilter) as s: await s.mail("<a@x>", "SIZE=1")``.

    CONNECT and HELO have been played when the block begins, unless the filter has ended the session there; see
    ``s.decided``.  ``await s.mail(...)`` and ``await s.rcpt(...)`` return the filter's answer, ``await s.message(octets)``
    plays the rest and returns answer, edits and the message as the MTA would deliver it.

    Args:
        factory: As for :func:`aiomilter.serve`; entered before the block and left after it.
        client: Address of the SMTP client: IPv4, IPv6, a path, or "" for none.
        hostname: Its host name.
        helo: What it says in EHLO.
        macros: Values that the MTA lends, by name, from the first step on; or by step and name.
        mta: Whose manners to have.
        timeout: Seconds to wait for each answer.
        options: As for :func:`aiomilter.serve`.

    Raises:
        TypeError: There is no such option, or a value is not of its type.
        Exception: What the factory raises.
    """
    checked = Options.given_to(session, options)
    by_step: dict[Stage, Mapping[str, str]] = {}
    for key, value in macros.items():
        if isinstance(key, Stage):
            assert isinstance(value, Mapping)
            by_step[key] = value
        else:
            by_step[Stage.CONNECT] = {**by_step.get(Stage.CONNECT, {}), key: str(value)}
    async with MemoryServer(factory, checked) as server:
        reader, writer = server.connect()
        played = _mta.Session(reader, writer, style=mta, timeout=timeout, macros=by_step)
        try:
            await played.negotiate()
            await played.connect(hostname, client)
            if played.decided is None:
                await played.helo(helo)
            yield played
            await played.quit()
        finally:
            await played.close()
