"""``aiomilter srs``: sender addresses rewritten for forwarding, by hand or for an MTA that asks."""

import argparse
import asyncio
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aiomilter._cli import logs
from aiomilter._cli.beside import is_installed
from aiomilter._cli.parsing import file_mode, group_number_of, seconds, socket_text, user_number_of, whole
from aiomilter._cli.places import absolute
from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import FAILED, USAGE, Trouble
from aiomilter._process.lifecycle import UNCHANGED, ReloadFailed
from aiomilter._process.systemd import Systemd
from aiomilter._serving.binding import Bound, Permissions, bind
from aiomilter.addresses import parse_all
from aiomilter.daemon import run_service
from aiomilter.exceptions import AddressError
from aiomilter.mail.socketmap import Lookup, Socketmap
from aiomilter.mail.srs import Rewriter, SrsError, read_secrets
from aiomilter.observe import Lifecycle, LifecycleKind, Misuse, Where
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Rewrite sender addresses for forwarding (SRS), so that forwarded mail passes SPF, and bounces find their way back.
"""
_EPILOG: Final = """\
FILE has the secrets, one a line, the newest first: it makes addresses, all of them verify. To make one:
  (umask 077; head -c 24 /dev/urandom | base64 >srs.secrets)

examples:
  aiomilter srs forward alice@example.com --domain fwd.example.org --secrets srs.secrets
  aiomilter srs serve --listen inet:10003@127.0.0.1 --domain fwd.example.org --secrets srs.secrets
      Postfix asks it with  sender_canonical_maps = socketmap:inet:127.0.0.1:10003:forward
                            sender_canonical_classes = envelope_sender
                            recipient_canonical_maps = socketmap:inet:127.0.0.1:10003:reverse
                            recipient_canonical_classes = envelope_recipient
      which rewrites all mail of other domains; aiomilter/help/srs.rst rewrites only what leaves.
"""
_SHORT: Final = 16
_BOUNCES: Final = "srs_bounces"
"""The restriction class of Postfix that takes mail to a rewritten address only from the null sender."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the commands and their options."""
    parser = commands.add_parser(
        "srs", help="rewrite sender addresses for forwarding", description=_DESCRIPTION, epilog=_EPILOG
    )
    ways = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=type(parser))
    for name, what in (
        ("forward", "print the sender to forward a message of ADDRESS with"),
        ("reverse", "print the address that was rewritten"),
    ):
        way = ways.add_parser(name, help=what, description=f"{what.capitalize()}.")
        way.set_defaults(command=_rewrite, parser=way, way=name)
        way.add_argument("address", metavar="ADDRESS", nargs="+")
        _add_options(way)
    way = ways.add_parser(
        "serve",
        help="answer Postfix or Sendmail as a socketmap",
        description="Serve the maps 'forward', 'reverse' and 'access' until SIGTERM or SIGINT; SIGHUP reads the secrets again.",
    )
    way.set_defaults(command=_serve, parser=way)
    way.add_argument(
        "--listen", metavar="SOCKET", action="append", default=[], type=socket_text, help="where; may be repeated"
    )
    way.add_argument("--socket-mode", metavar="MODE", type=file_mode, help="permissions of a UNIX-domain socket")
    way.add_argument("--socket-owner", metavar="USER", type=user_number_of, help="its owner")
    way.add_argument("--socket-group", metavar="GROUP", type=group_number_of, help="its group")
    way.add_argument("--max-connections", metavar="N", type=whole, default=100, help="at once (default: %(default)s)")
    way.add_argument("--max-rate", metavar="N", type=seconds, default=1000, help="answers a second (default: 1000)")
    way.add_argument(
        "--any-sender", action="store_true", help="'access' takes mail to rewritten addresses that is no bounce, too"
    )
    _add_options(way)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--domain", metavar="DOMAIN", required=True, help="what rewritten addresses end in")
    parser.add_argument("--secrets", metavar="FILE", required=True, help="secrets, one a line, the newest first")
    parser.add_argument(
        "--own-domain", metavar="DOMAIN", action="append", default=[], help="senders to leave as they are; repeatable"
    )
    days = partial(whole, zero=True, maximum=1023)
    parser.add_argument("--max-age", metavar="DAYS", type=days, default=21, help="of bounces (default: %(default)s)")
    parser.add_argument("--separator", choices=("=", "+", "-"), default="=", help="behind SRS0 (default: =)")
    parser.add_argument("--hash-length", metavar="N", type=whole, default=4, help="4 to 20 (default: %(default)s)")
    parser.add_argument("--min-hash-length", metavar="N", type=whole, help="of older addresses (default: as new ones)")
    parser.add_argument(
        "--too-long", choices=("leave", "refuse", "rewrite"), default="leave", help="for SMTP's limits (default: leave)"
    )


def _secrets(name: str, path: str) -> tuple[bytes, ...]:
    """Return the secrets in a file.

    Raises:
        Trouble: It cannot be used.
    """
    try:
        return read_secrets(path)
    except OSError as error:
        raise Trouble(f"cannot read the secrets in {name!r}: {error.strerror}") from None
    except ValueError as error:
        raise Trouble(f"--secrets {name!r}: {error}") from None


def _rewriter(options: argparse.Namespace, secrets: tuple[bytes, ...]) -> Rewriter:
    """Return what the options ask for.

    Raises:
        Trouble: One of them is wrong.
    """
    try:
        return Rewriter(
            secrets,
            options.domain,
            own_domains=options.own_domain,
            max_age=options.max_age,
            separator=options.separator,
            hash_length=options.hash_length,
            min_hash_length=options.min_hash_length,
            too_long=options.too_long,
        )
    except ValueError as error:
        raise Trouble(str(error), status=USAGE) from None


def _rewrite(options: argparse.Namespace) -> int:
    rewriter = _rewriter(options, _secrets(options.secrets, options.secrets))
    for address in options.address:
        try:
            print(safe(getattr(rewriter, options.way)(address)))
        except SrsError as error:
            raise Trouble(f"{address[:300]!r}: {error.reason}: {error}", status=FAILED) from None
    return 0


def _serve(options: argparse.Namespace) -> int:
    systemd = Systemd.from_environment()
    try:
        sockets = systemd.sockets(options.listen)
        addresses = parse_all(sockets)
    except AddressError as error:
        raise Trouble(f"--listen {error}", status=USAGE) from None
    if not sockets:
        raise Trouble("where to listen? give --listen inet:10003@127.0.0.1, or a UNIX-domain socket", status=USAGE)
    service = _Service(options)
    try:
        permissions = Permissions(options.socket_mode, options.socket_owner, options.socket_group)
        for address in addresses:
            service.bound += bind(address, permissions)
        logs.set_up("info")
        run_service(service, uvloop=None if is_installed("uvloop") else False, systemd=systemd)
    except OSError as error:
        raise Trouble(str(error.strerror or error)) from None
    finally:
        for bound in service.bound:
            bound.close()
    return 0


def _quiet(rewrite: Callable[[str], str]) -> Lookup:
    """Return a table of what can be rewritten and becomes another address."""

    def look_up(address: str) -> str | None:
        try:
            found = rewrite(address)
        except SrsError:
            return None
        return None if found == address else found

    return look_up


def _access(rewriter: Rewriter, any_sender: bool, address: str) -> str | None:
    """Return what Postfix's check_recipient_access is to do with mail to an address."""
    try:
        rewriter.reverse(address)
    except SrsError as error:
        return None if error.reason == "not ours" else f"550 5.7.1 Not an address for bounces: {error.reason}"
    return None if any_sender else _BOUNCES


class _Service:
    """The tables, served until a signal comes."""

    drain_timeout = 5.0

    def __init__(self, options: argparse.Namespace) -> None:
        self.bound: list[Bound] = []
        self.broken = asyncio.Event()
        self._options = options
        self._path = absolute(options.secrets)
        self._observer = Guard(LogObserver())
        self._secrets = _secrets(options.secrets, self._path)
        self._rewriter = _rewriter(options, self._secrets)
        maps: dict[str, Lookup] = {
            "forward": _quiet(lambda address: self._rewriter.forward(address)),
            "reverse": _quiet(lambda address: self._rewriter.reverse(address)),
            "access": lambda address: _access(self._rewriter, options.any_sender, address),
        }
        self._maps = Socketmap(maps, max_connections=options.max_connections, max_rate=options.max_rate)
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen."""
        self._warn()
        for bound in self.bound:
            bound.listen(128)
            self._servers.append(await self._maps.listen(bound.socket))
            self.report(
                LifecycleKind.LISTENER_STARTED, f"answering as a socketmap on {bound.name}", listener=bound.name
            )
            if bound.exposed:
                what = "reachable from other hosts: whoever asks it can make addresses that bounce to anybody"
                self._observer.tell(Misuse(Where(listener=bound.name), what))

    def _warn(self) -> None:
        """Log what makes the secrets weak."""
        if min(map(len, self._secrets)) < _SHORT:
            self._observer.tell(Misuse(Where(), f"a secret of less than {_SHORT} octets can be guessed"))
        if os.stat(self._path).st_mode & (stat.S_IROTH | stat.S_IWOTH):
            what = f"every user of this machine may read {self._options.secrets}: chmod o= it"
            self._observer.tell(Misuse(Where(), what))

    def report(self, kind: LifecycleKind, what: str, error: BaseException | None = None, *, listener: str = "") -> None:
        """Log a sentence on the lifecycle."""
        self._observer.tell(Lifecycle(Where(listener=listener), kind, what, error))

    async def reload(self) -> None:
        """Read the secrets again.

        Raises:
            ReloadFailed: They cannot be used; the old ones stay.
        """
        try:
            secrets = _secrets(self._options.secrets, self._path)
            self._rewriter, self._secrets = _rewriter(self._options, secrets), secrets
            self._warn()
        except (Trouble, OSError) as error:
            raise ReloadFailed(f"cannot reload: {error}; {UNCHANGED}") from error

    async def drain(self, timeout: float | None = None) -> None:
        """Listen no more; MTAs keep connections open for later, so that none is waited for."""
        for server in self._servers:
            server.close()

    async def close(self) -> None:
        """End all connections."""
        await self.drain()
        await self._maps.close()
