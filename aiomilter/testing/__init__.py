"""Tests of filters without an MTA: :func:`session` plays one in memory, over the code that serves real ones.

:func:`replay` plays a session that was recorded in production.  The pytest plugin gives the same functions as the fixtures
``milter_session`` and ``milter_replay``.  :mod:`~aiomilter.testing.resolver` answers DNS
questions from a zone written in the test.  See ``aiomilter help testing``.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Literal, Unpack

from aiomilter import mta as _mta
from aiomilter.exceptions import RemoteProtocolError
from aiomilter.options import Options, ServeOptions
from aiomilter.server import Factory
from aiomilter.testing._comparing import Difference
from aiomilter.testing._memory import MemoryServer
from aiomilter.testing._replay import Replay, replay
from aiomilter.wire.constants import Stage

__all__ = ["Difference", "Replay", "replay", "session"]


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
    failures: Literal["raise", "answer"] = "raise",
    **options: Unpack[ServeOptions],
) -> AsyncIterator[_mta.Session]:
    """Play an SMTP session to a filter: ``async with session(MyFilter) as s: await s.mail("<a@x>", "SIZE=1")``.

    CONNECT and HELO have been played when the block begins, unless the filter has ended the session there (``s.decided``).
    ``await s.send(octets, sender, recipients)`` plays a message and returns its fate: answer, edits, the message as delivered.
    ``await s.mail(...)`` and ``await s.rcpt(...)`` return the filter's answer, ``await s.message(octets)`` plays the rest.

    A failure of the filter is raised at its stage, or where that has no answer at the next one.  An exception is raised as it
    is (several as an ``ExceptionGroup``), a wrong answer, a time-out or too many edits as :class:`LocalProtocolError`.
    :class:`TemporaryFailure`, :class:`ResolverError` and :class:`StoreError` are answered, not raised.

    Args:
        factory: As for :func:`aiomilter.serve`; entered before the block and left after it.
        client: Address of the SMTP client: IPv4, IPv6, a path, or "" for none.
        hostname: Its host name.
        helo: What it says in EHLO.
        macros: Values that the MTA sends, by name, from the first stage on; or by stage and name.
        mta: The MTA to behave as.
        timeout: Seconds to wait for each answer.
        failures: "answer" to raise none of them and have ``on_error`` and ``on_timeout`` as the answers, as in production.
        options: As for :func:`aiomilter.serve`.

    Raises:
        TypeError, ValueError: There is no such option, or a value is not one that it takes.
        Exception: What the factory raises, and what a callback raises.
    """
    if failures not in ("raise", "answer"):
        raise ValueError(f"failures: expected 'raise' or 'answer', found {failures!r}")
    checked = Options.given_to(session, options)
    server = MemoryServer(factory, checked)
    raise_kept = server.failures.raise_kept if failures == "raise" else _raise_nothing
    async with server:
        streams = server.connect()
        played = _mta.Session(*streams, style=mta, timeout=timeout, macros=_by_stage(macros), on_answer=raise_kept)
        try:
            await played.negotiate()
            await played.connect(hostname, client)
            if played.decided is None:
                await played.helo(helo)
            yield played
            await played.quit()
        except (RemoteProtocolError, TimeoutError) as error:
            # The filter broke off because it had failed.
            raise_kept(error)
            raise
        finally:
            await played.close()
    raise_kept()


def _by_stage(macros: Mapping[str, str] | _mta.MacroValues) -> _mta.MacroValues:
    """Return macros by stage; those given by name alone are known from the first stage on."""
    known: dict[Stage, Mapping[str, str]] = {}
    for key, value in macros.items():
        if isinstance(key, Stage):
            assert isinstance(value, Mapping)
            known[key] = value
        else:
            known[Stage.CONNECT] = {**known.get(Stage.CONNECT, {}), key: str(value)}
    return known


def _raise_nothing(cause: BaseException | None = None) -> None:
    """Leave failures to their answers."""
