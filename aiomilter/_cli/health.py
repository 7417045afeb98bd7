"""``aiomilter health``: whether a milter answers, asked as an MTA asks, without a line in any log."""

import argparse
import asyncio
import os
from typing import Any, Final

from aiomilter._cli.parsing import seconds, socket_text
from aiomilter._cli.trouble import Trouble
from aiomilter.exceptions import MilterError
from aiomilter.mta import connect

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Check that a milter answers: connect, negotiate as an MTA does, and quit.  Exit code 0 and no output if it does, 1 and a line
that says why if it does not.  The milter logs nothing, and aiomilter counts the check apart from mail.
"""
_EPILOG: Final = """\
examples:
  aiomilter health unix:/run/aiomilter/gateway.sock
  aiomilter health inet:8890@127.0.0.1 --timeout 2
  HEALTHCHECK CMD ["aiomilter", "health", "unix:/run/aiomilter/gateway.sock"]     (in a container file)

'aiomilter help health' has more, for HAProxy and for Kubernetes.
"""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser("health", help="check that a milter answers", description=_DESCRIPTION, epilog=_EPILOG)
    parser.set_defaults(command=_health, parser=parser)
    parser.add_argument("socket", metavar="SOCKET", type=socket_text, help="where it listens, as in --listen of run")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=5.0, help="time for the answer (default: %(default)g)"
    )


def _health(arguments: argparse.Namespace) -> int:
    try:
        asyncio.run(_check(arguments.socket, arguments.timeout))
    except TimeoutError:
        raise Trouble(f"{arguments.socket}: no answer within {arguments.timeout:g} s") from None
    except (OSError, EOFError, MilterError) as error:
        raise Trouble(f"{arguments.socket}: {_why(error)}") from None
    return 0


async def _check(address: str, timeout: float) -> None:
    async with asyncio.timeout(timeout), connect(address, timeout=timeout):
        """Negotiated; leaving it sends QUIT."""


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"cannot connect: {os.strerror(error.errno)}"
    return f"{error or type(error).__name__}"
