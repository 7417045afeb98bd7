"""A filter with a configuration file, read again on SIGHUP; open SMTP sessions finish with what they began with.

::

    tag = "[EXTERNAL]"
    refuse = ["spam.example"]
"""

import asyncio
import signal
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import aiomilter
from aiomilter import Context, EndOfMessageContext, Mail, Milter, Reply, Response


@dataclass(frozen=True)
class Settings:
    """What the file may hold."""

    tag: str = ""
    refuse: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Return the settings of a file; OSError, ValueError or TypeError if they are of no use."""
        found = tomllib.loads(path.read_text())
        settings = cls(**found)
        return cls(settings.tag, frozenset(settings.refuse))


class Configured(Milter):
    """Refuse domains, and tag what passes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        if mail.domain in self.settings.refuse:
            return Reply(550, "5.7.1", "Not from there, please")
        return None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        if self.settings.tag:
            ctx.add_header("X-Tag", self.settings.tag)


async def reload(server: aiomilter.Server, path: Path) -> None:
    """Have new connections use what the file holds now; where it is broken, all stays as it was."""
    try:
        settings = Settings.read(path)
    except (OSError, ValueError, TypeError) as error:
        print(f"{path}: {error}; the old settings stay", file=sys.stderr)
        return
    await server.reload(lambda: Configured(settings))


async def main(path: Path, socket: str) -> None:
    """Serve until cancelled, and reload on SIGHUP."""
    settings = Settings.read(path)
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    async with aiomilter.serve(lambda: Configured(settings), socket) as server:
        while await hangup.wait():
            hangup.clear()
            await reload(server, path)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), "inet:8890@127.0.0.1"))
