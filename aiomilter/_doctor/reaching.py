"""Connect to each filter as the MTA would, and negotiate: who listens there, and is it a filter?"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from aiomilter import mta
from aiomilter._address_hints import MAX_UNIX_PATH
from aiomilter._doctor.processes import Process, listener
from aiomilter.addresses import Inet, Unix
from aiomilter.exceptions import MilterError
from aiomilter.wire.negotiation import NegotiateAnswer

__all__ = ["Answered", "Result", "reach"]

Result: TypeAlias = Literal["filter", "nobody", "silent", "not a filter", "no host", "unknown"]
_PATIENCE: Final = 10.0
"""Seconds for a connection, and for the answer."""
_AT_ONCE: Final = 20
_MOST: Final = 200
"""Endpoints that are tried."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a connection.

    Args:
        result: In a word.
        text: What went wrong; "" for nothing.
        agreed: The filter's answer to an offer, if it is one.
        process: Who listens, if that is known.
    """

    result: Result
    text: str = ""
    agreed: NegotiateAnswer | None = None
    process: Process | None = None

    def as_json(self) -> Mapping[str, object]:
        """Return it as ``aiomilter doctor --json`` prints it."""
        return {
            "answers": self.result,
            "version": self.agreed.version if self.agreed is not None else None,
            "pid": self.process.pid if self.process is not None else None,
            "program": self.process.name if self.process is not None else None,
            "aiomilter": self.process.aiomilter if self.process is not None else None,
        }


async def reach(
    addresses: Iterable[Inet | Unix], style: Literal["postfix", "sendmail"], timeout: float = _PATIENCE
) -> Mapping[Inet | Unix, Answered]:
    """Return what comes of connections to endpoints, each tried once.

    Args:
        addresses: The endpoints; paths as the machine sees them.
        style: The MTA to behave as.
        timeout: Seconds for a connection, and for the answer.
    """
    slots = asyncio.Semaphore(_AT_ONCE)
    wanted = list(dict.fromkeys(addresses))[:_MOST]

    async def one(address: Inet | Unix) -> Answered:
        async with slots:
            return await _reach(address, style, timeout)

    found = await asyncio.gather(*map(one, wanted))
    return dict(zip(wanted, found, strict=True))


async def _reach(address: Inet | Unix, style: Literal["postfix", "sendmail"], timeout: float) -> Answered:
    if isinstance(address, Unix) and len(os.fsencode(address.path)) > MAX_UNIX_PATH:
        return Answered("unknown")
    process = listener(address)
    try:
        # As long as all of it may take, PROGRESS or not.
        connection = mta.connect(str(address), style=style, timeout=timeout, lenient=style == "postfix")
        async with asyncio.timeout(3 * timeout), connection as session:
            return Answered("filter", agreed=session.agreed, process=process)
    except TimeoutError:
        return Answered("silent", f"no answer within {timeout:g} seconds", process=process)
    except MilterError as error:
        return Answered("not a filter", str(error), process=process)
    except (ConnectionRefusedError, FileNotFoundError) as error:
        return Answered("nobody", error.strerror or str(error), process=process)
    except ConnectionError as error:
        return Answered("not a filter", error.strerror or str(error), process=process)
    except PermissionError:
        return Answered("unknown", process=process)
    except OSError as error:
        no_host = isinstance(address, Inet) and (error.errno is None or error.errno < 0)
        return Answered("no host" if no_host else "nobody", error.strerror or str(error), process=process)
