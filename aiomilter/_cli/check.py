"""``aiomilter check``: what would a filter do to a message?"""

import argparse
import asyncio
import ipaddress
import json
import os
import re
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path as FilePath
from typing import Any, Final

from aiomilter import mta
from aiomilter._cli.parsing import seconds, socket_text
from aiomilter._cli.play import CheckScenario, Failure, Message, Path, Play, begin, play_message
from aiomilter._cli.play_json import report as json_report
from aiomilter._cli.play_json import schema
from aiomilter._cli.play_text import report
from aiomilter._cli.target import Target, load, own_traceback, start_trouble
from aiomilter._cli.trouble import FAILED, USAGE, Trouble
from aiomilter.exceptions import MilterError, RemoteProtocolError
from aiomilter.observe import (
    CallbackFailed,
    CallbackTimedOut,
    InternalError,
    Limit,
    LimitReached,
    Misuse,
    Observer,
    PeerError,
    TemporaryFailed,
    Where,
)
from aiomilter.server import Factory
from aiomilter.testing import session
from aiomilter.wire.constants import Stage

__all__ = ["add_parser"]

_USAGE: Final = """%(prog)s TARGET [MESSAGE]... [options]
       %(prog)s --connect SOCKET [MESSAGE]... [options]"""
_DESCRIPTION: Final = """\
Play messages to a filter as an MTA would, and print what would happen: the answer at each stage, the edits, the message
that would be delivered as a diff, and what the SMTP client would be told.  Nothing is sent anywhere.

MESSAGE is a file, or - for standard input; without one a small sample is played.  Several are played one after the other
in one SMTP session.
"""
_EPILOG: Final = """\
examples:
  aiomilter check filter.py message.eml
  aiomilter check filter.py message.eml --client 198.51.100.7 --sender alice@example.org --recipient bob@example.net
  aiomilter check filter.py message.eml --auth alice --macro daemon_name=submission
  aiomilter check --connect inet:8891@127.0.0.1 message.eml      ask a running milter, of any make
  aiomilter check filter.py - --json < message.eml | jq .messages[0].decided

--json prints one object; --json-schema prints its JSON Schema.  In it, text is a string where its octets are UTF-8, and
{"base64": ...} where they are not, so that nothing is lost.

exit codes: 0 played, whatever the answer; 1 the filter failed or broke the protocol; 2 wrong usage
"""
_SAMPLE: Final = b"""\
From: Alice <alice@example.org>\r
To: Bob <bob@example.net>\r
Subject: A sample message\r
Date: Thu, 01 Jan 2026 12:00:00 +0000\r
Message-ID: <sample@example.org>\r
\r
This is the sample that aiomilter plays when it is given no message.\r
"""
_PATH: Final = re.compile(r"\s*(<[^<>]*>|[^\s<>]*)((?:\s+\S+)*)\s*")


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "check", help="play messages to a filter", usage=_USAGE, description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.set_defaults(command=_check, parser=parser)
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="TARGET MESSAGE",
        help="the filter: FILE.py, FILE.py:NAME or MODULE:NAME; then messages",
    )
    parser.add_argument(
        "--connect", metavar="SOCKET", type=socket_text, help="ask the milter that runs there instead of TARGET"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--json-schema", action="store_true", help="print what the JSON looks like, and do nothing else"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=30.0,
        help="to wait for an answer (%(default)g, as Postfix does)",
    )
    _add_scenario(parser.add_argument_group("the scenario"))


def _add_scenario(scenario: "argparse._ArgumentGroup") -> None:
    """Add the options that say who sends what, and through which MTA."""
    scenario.add_argument(
        "--mta", choices=("postfix", "sendmail"), default="postfix", help="the MTA to behave as (%(default)s)"
    )
    scenario.add_argument(
        "--client", metavar="IP", type=_client, default="192.0.2.1", help="the SMTP client's address (%(default)s)"
    )
    scenario.add_argument(
        "--hostname", metavar="NAME", type=_line, default="client.example", help="its name (%(default)s)"
    )
    scenario.add_argument(
        "--helo", metavar="NAME", type=_line, default="client.example", help="what it says in EHLO (%(default)s)"
    )
    scenario.add_argument(
        "--sender",
        metavar="ADDRESS",
        type=_path,
        default="<alice@example.org>",
        help="envelope sender, with ESMTP parameters if need be; '<>' is the null sender (%(default)s)",
    )
    scenario.add_argument(
        "--recipient",
        metavar="ADDRESS",
        type=_path,
        action="append",
        help="envelope recipient, may be repeated (<bob@example.net>)",
    )
    scenario.add_argument(
        "--auth", metavar="LOGIN", type=_line, help="the client has logged in: macros auth_authen and auth_type"
    )
    scenario.add_argument(
        "--macro",
        metavar="NAME=VALUE",
        type=_macro,
        action="append",
        default=[],
        help="a macro, as in i=4F2A or daemon_name=mx",
    )


def _line(text: str) -> str:
    if any(character in text for character in "\0\r\n"):
        raise argparse.ArgumentTypeError("expected one line, found a line end or NUL")
    return text


def _client(text: str) -> str:
    if text and not text.startswith("/") and text != "unknown":
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"expected an IP address, found {text!r}; for its name see --hostname"
            ) from None
    return _line(text)


def _path(text: str) -> Path:
    match = _PATH.fullmatch(_line(text))
    if match is None:
        raise argparse.ArgumentTypeError(f"expected ADDRESS or <ADDRESS>, as in alice@example.org, found {text!r}")
    return Path(match[1] if match[1].startswith("<") else f"<{match[1]}>", tuple(match[2].split()))


def _macro(text: str) -> tuple[str, str]:
    name, equals, value = _line(text).partition("=")
    bare = name[1:-1] if name.startswith("{") and name.endswith("}") else name
    if not equals or not bare.isascii() or not bare.replace("_", "").isalnum():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, as in auth_type=PLAIN, found {text!r}")
    return (bare if len(bare) == 1 else f"{{{bare}}}"), value


def _check(options: argparse.Namespace) -> int:
    if options.json_schema:
        print(schema(), end="")
        return 0
    if options.connect is None and not options.arguments:
        raise Trouble("which filter? write aiomilter check FILE.py [MESSAGE.eml], or --connect SOCKET", status=USAGE)
    messages = [_message(name) for name in options.arguments[options.connect is None :]] or [Message("", _SAMPLE)]
    if options.connect is not None:
        play = asyncio.run(_ask_running(options.connect, _scenario(options), messages))
    else:
        target = options.arguments[0]
        # As for the daemon, no loop runs while the filter is imported.
        play = asyncio.run(_ask_target(target, load(Target.named(target)), _scenario(options), messages))
    lines = [json.dumps(json_report(play), indent=2)] if options.json else report(play)
    for line in lines:
        print(line)
    return FAILED if play.failed else 0


def _message(name: str) -> Message:
    try:
        octets = sys.stdin.buffer.read() if name == "-" else FilePath(name).read_bytes()
    except FileNotFoundError:
        raise Trouble(f"there is no message {name!r}") from None
    except OSError as error:
        raise Trouble(f"{name!r} cannot be read: {error.strerror}") from None
    return Message(name, octets)


def _scenario(options: argparse.Namespace) -> CheckScenario:
    macros: dict[Stage, dict[str, str]] = {}
    if options.macro:
        macros[Stage.CONNECT] = dict(options.macro)
    if options.auth is not None:
        macros[Stage.MAIL] = {"{auth_authen}": options.auth, "{auth_type}": "PLAIN"}
    return CheckScenario(
        style=options.mta,
        client=options.client,
        hostname=options.hostname,
        helo=options.helo,
        sender=options.sender,
        recipients=tuple(options.recipient or (Path("<bob@example.net>"),)),
        macros=macros,
        timeout=options.timeout,
    )


async def _ask_running(address: str, scenario: CheckScenario, messages: list[Message]) -> Play:
    play = Play(scenario, address)
    opening = mta.connect(address, style=scenario.style, timeout=scenario.timeout, macros=scenario.macros)
    async with AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(opening)
        except (RemoteProtocolError, TimeoutError) as error:
            play.failures.append(Failure("", str(error)))
            return play
        except (OSError, MilterError) as error:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number and number > 0 else str(error)
            raise Trouble(f"cannot connect to {address}: {reason}; does the milter run, and listen there?") from None
        await _play(opened, play, messages, connected=False)
    return play


async def _ask_target(target: str, factory: Factory, scenario: CheckScenario, messages: list[Message]) -> Play:
    play = Play(scenario, target)
    watch = _Watch(play)
    opening: AbstractAsyncContextManager[mta.Session] = session(
        factory,
        client=scenario.client,
        hostname=scenario.hostname,
        helo=scenario.helo,
        macros=scenario.macros,
        mta=scenario.style,
        # Longer than the callback's own limit, so that the time-out is reported as the filter's.
        timeout=scenario.timeout + 1,
        callback_timeout=scenario.timeout,
        answer_timeout=scenario.timeout,
        observer=watch,
        failures="answer",
    )
    stack = AsyncExitStack()
    try:
        opened = await stack.enter_async_context(opening)
    except (RemoteProtocolError, TimeoutError) as error:
        play.failures.append(Failure("", str(error)))
        return play
    except Exception as error:  # noqa: BLE001  # the user's factory
        raise start_trouble(target, error) from None
    try:
        await _play(opened, play, messages, connected=True)
    finally:
        await _leave(stack, play)
    return play


async def _leave(stack: AsyncExitStack, play: Play) -> None:
    """End the session; what a factory raises while it is left is the filter's failure."""
    try:
        await stack.aclose()
    except Exception as error:  # noqa: BLE001  # the user's factory
        what = f"{type(error).__name__} left the factory at its end"
        play.failures.append(Failure("", what, own_traceback(error)))


async def _play(opened: mta.Session, play: Play, messages: list[Message], *, connected: bool) -> None:
    """Play everything; where the filter breaks off, the rest is left out."""
    try:
        await begin(opened, play, connected=connected)
        for message in messages:
            await play_message(opened, play, message)
        await opened.quit()
    except (MilterError, TimeoutError) as error:
        play.failures.append(Failure("", str(error)))
        await opened.close()


class _Watch(Observer):
    """Keeps what goes wrong.

    Args:
        play: Takes it.
    """

    def __init__(self, play: Play) -> None:
        self._play = play

    def callback_failed(self, event: CallbackFailed) -> None:
        """Keep a failure."""
        error = event.error
        shown = f"{type(error).__name__}: {error}" if error is not None else event.what
        traceback = own_traceback(error) if error is not None else ""
        self._play.failures.append(Failure(event.where.callback, shown, traceback))

    def internal_error(self, event: InternalError) -> None:
        """Keep a failure."""
        self.callback_failed(CallbackFailed(event.where, event.what, event.error))

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        """Keep a failure."""
        self._play.failures.append(Failure(event.where.callback, event.what))

    def limit_reached(self, event: LimitReached) -> None:
        """Keep a limit; that of the edits fails the message."""
        self._keep(event.where, event.what, fatal=event.limit is Limit.EDITS)

    def temporary_failed(self, event: TemporaryFailed) -> None:
        """Keep a remark."""
        self._keep(event.where, event.what)

    def misuse(self, event: Misuse) -> None:
        """Keep a remark."""
        self._keep(event.where, event.what)

    def peer_error(self, event: PeerError) -> None:
        """Keep a remark."""
        self._keep(event.where, event.what)

    def _keep(self, where: Where, what: str, *, fatal: bool = False) -> None:
        self._play.failures.append(Failure(where.callback, what, fatal=fatal))
