"""``aiomilter check``: what would a filter do to a message?"""

import argparse
import asyncio
import json
import os
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, cast

from aiomilter import mta
from aiomilter._cli.expect import Expected, expected
from aiomilter._cli.filter_stdout import stdout_to_stderr
from aiomilter._cli.messages import Message, messages
from aiomilter._cli.notes import notes
from aiomilter._cli.options import add_options, given
from aiomilter._cli.parsing import socket_text
from aiomilter._cli.places import absolute
from aiomilter._cli.play import Failure, Play, PlayedMessage, begin, play_message
from aiomilter._cli.play_json import report as json_report
from aiomilter._cli.play_json import schema
from aiomilter._cli.play_text import DETAILED, report
from aiomilter._cli.scenario import add_scenario, scenario_of
from aiomilter._cli.target import Target, load, own_traceback, start_trouble
from aiomilter._cli.tls_client import add_tls, client_tls, hint, tls_refused
from aiomilter._cli.trouble import FAILED, MISSING, UNEXPECTED, USAGE, Trouble
from aiomilter._cli.watch import Watch
from aiomilter.exceptions import MilterError, RemoteProtocolError
from aiomilter.options import Options, ServeOptions
from aiomilter.testing import session

__all__ = ["add_parser", "command"]

_USAGE: Final = """%(prog)s TARGET [MESSAGE]... [options]
       %(prog)s --connect SOCKET [MESSAGE]... [options]"""
_DESCRIPTION: Final = f"""\
Play messages to a filter as an MTA would, and print what would happen: the answer at each stage, the edits, the message
that would be delivered as a diff, and what the SMTP client would be told.  Nothing is sent anywhere.

MESSAGE is a file, an mbox (unless its name ends in .eml), a directory (the .eml files in it and below, or all files if it
has none), or - for standard input; without one a small sample is played.  Several are played one after the other in one SMTP
session; a summary comes first, and the details follow for up to {DETAILED} messages, or with -v.
"""
_EPILOG: Final = """\
examples:
  aiomilter check filter.py message.eml
  aiomilter check filter.py message.eml --client 198.51.100.7 --sender alice@example.org --recipient bob@example.net
  aiomilter check filter.py message.eml --auth alice --macro daemon_name=submission
  aiomilter check filter.py spam/ --expect reject                for CI: exit code 3 if one is not rejected
  aiomilter check filter.py message.eml --output delivered.eml
  aiomilter check --connect inet:8891@127.0.0.1 message.eml      ask a running milter, of any make
  aiomilter check --connect inet:8891@127.0.0.1 --tls-ca ca.pem  ask one that speaks TLS
  aiomilter check filter.py - --json < message.eml | jq .messages[0].decided

In the report, (not sent) marks a stage that the filter has no callback for, (no reply) one whose answer the MTA does not wait
for.  SOCKET is inet:PORT@HOST, inet:HOST:PORT, inet6:PORT@HOST or unix:/PATH.

--json prints one object; --json-schema prints its JSON Schema.  In it, text is a string where its octets are UTF-8, and
{"base64": ...} where they are not, so that nothing is lost.  What a filter prints to stdout goes to stderr.

exit codes:
  0  played, whatever the answer, or as expected; a temporary failure that the filter reports itself is an answer
  1  the filter failed: an exception, a time-out, nonsense, a breach of the protocol; or it cannot be imported
  2  wrong usage
  3  not as expected: another outcome than --expect, or no delivered message for --output
  4  there is no such file or it cannot be read or written; nothing listens at SOCKET
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
_OPTIONS: Final = frozenset(
    {
        *("on-error", "on-timeout", "callback-timeout", "answer-timeout", "stall-timeout", "max-headers"),
        *("max-headers-size", "max-recipients", "max-edits", "max-edits-size", "max-new-body-size"),
    }
)
"""The options of ``run`` that also matter to a single message."""
_STALL_TIMEOUT: Final = 0.25
"""Seconds; shorter than that of a server, since here nothing else delays the loop."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "check", help="play messages to a filter", usage=_USAGE, description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.set_defaults(command=command, parser=parser)
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="TARGET MESSAGE",
        help="the filter: FILE.py, FILE.py:NAME or MODULE:NAME; then messages",
    )
    parser.add_argument(
        "--connect", metavar="SOCKET", type=socket_text, help="ask the milter that runs there instead of TARGET"
    )
    add_tls(parser)
    parser.add_argument(
        "--expect",
        metavar="OUTCOME",
        type=expected,
        help="what should become of each message: accept (it is delivered), continue (delivered, and no stage was answered"
        " accept), reject, tempfail, discard, or a code of the SMTP reply, 550 or 5.7.1 or both",
    )
    parser.add_argument("--output", metavar="FILE", help="write the delivered message there")
    parser.add_argument("-v", "--verbose", action="store_true", help="print all details, with the time of each stage")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--json-schema", action="store_true", help="print what the JSON looks like, and do nothing else"
    )
    add_scenario(parser.add_argument_group("the scenario"))
    defaults = {
        "callback-timeout": "that of --timeout",
        "answer-timeout": "that of --timeout",
        "stall-timeout": f"{_STALL_TIMEOUT:g}",
    }
    add_options(parser, Options, only=_OPTIONS, defaults=defaults)


def command(options: argparse.Namespace) -> int:
    """Play, print the report, and return the exit code."""
    if options.json_schema:
        print(schema(), end="")
        return 0
    if options.connect is None and not options.arguments:
        raise Trouble("which filter? write aiomilter check FILE.py [MESSAGE.eml], or --connect SOCKET", status=USAGE)
    serve_options = cast(ServeOptions, given(options, Options))
    if options.connect is not None and serve_options:
        name = next(iter(serve_options)).replace("_", "-")
        raise Trouble(f"--{name} is for TARGET; a filter that runs has its own", status=USAGE)
    names = options.arguments[options.connect is None :]
    context = client_tls(options)
    found = messages(names) if names else iter([Message("", _SAMPLE)])
    play = Play(scenario_of(options), options.connect or options.arguments[0])
    if options.expect is not None:
        play.expect = options.expect.text
    with stdout_to_stderr():
        run = _Run(play, found, options.expect, keep=options.json or options.verbose, output=options.output)
        if options.connect is not None:
            _ask_running(run, options, context)
        else:
            _ask_target(run, serve_options)
    lines = [json.dumps(json_report(play), indent=2)] if options.json else report(play, verbose=options.verbose)
    for line in lines:
        print(line)
    if play.failed:
        return FAILED
    return UNEXPECTED if play.unexpected or not _is_written(options.output, play) else 0


def _is_written(output: str | None, play: Play) -> bool:
    if output is None or any(played.delivered for played in play.messages):
        return True
    print(f"aiomilter: nothing is written to {output!r}: the message is not delivered", file=sys.stderr)
    return False


class _Run:
    """Plays messages, in a session, or in several if the filter breaks one off.

    Args:
        play: Takes what happens.
        found: The messages.
        expect: The outcome to compare with; None for none.
        keep: Whether the octets of all messages are shown at the end.
        output: The file for the delivered message; None for none.
    """

    def __init__(
        self, play: Play, found: Iterator[Message], expect: Expected | None, *, keep: bool, output: str | None
    ) -> None:
        self.play: Final = play
        self.hint = ""
        """Follows the error of a negotiation that fails."""
        self._messages = found
        self._expect = expect
        self._keep = keep
        self._output = output
        # A filter may change the directory.
        self._path = Path(absolute(output or ""))
        if output is not None:
            self._messages = _only(found)

    async def in_sessions(
        self,
        opening: Callable[[], AbstractAsyncContextManager[mta.Session]],
        trouble: Callable[[Exception], Trouble],
        *,
        connected: bool,
    ) -> None:
        """Play all messages.

        Args:
            opening: Opens a session.
            trouble: Makes an error message of what that raises.
            connected: CONNECT and HELO are played by it.

        Raises:
            Trouble: The first session cannot be opened, or a file not be read or written.
        """
        rest = self._messages
        while (message := next(rest, None)) is not None:
            rest = chain([message], rest)
            stack = AsyncExitStack()
            try:
                opened = await stack.enter_async_context(opening())
            except (RemoteProtocolError, TimeoutError) as error:
                self.play.failures.append(Failure("", f"{error}{self.hint}"))
                break
            except Exception as error:  # noqa: BLE001  # the user's factory
                if not self.play.messages:
                    raise trouble(error) from None
                self.play.failures.append(Failure("", str(trouble(error)), own_traceback(error)))
                break
            try:
                if not await self._in_session(opened, rest, connected=connected):
                    break
            finally:
                await self._leave(stack)
        self.play.unplayed = sum(1 for _ in rest)

    async def _in_session(self, opened: mta.Session, rest: Iterator[Message], *, connected: bool) -> bool:
        """Play messages until there is none, or the filter breaks off; return whether it came to a message."""
        play, before = self.play, len(self.play.messages)
        try:
            await begin(opened, play, connected=connected)
            for message in rest:
                await play_message(opened, play, message)
                self._end_of(play.messages[-1])
            await opened.quit()
        except (MilterError, TimeoutError) as error:
            play.add_failure(Failure("", str(error)))
            if play.current is not None and play.current.decided is None:
                self._end_of(play.current)
            await opened.close()
        return len(play.messages) > before

    async def _leave(self, stack: AsyncExitStack) -> None:
        """End a session; an exception of the factory's end is the filter's failure."""
        try:
            await stack.aclose()
        except Exception as error:  # noqa: BLE001  # the user's factory
            what = f"{type(error).__name__} left the factory at its end"
            self.play.failures.append(Failure("", what, own_traceback(error)))

    def _end_of(self, played: PlayedMessage) -> None:
        """Compare a message with what is expected, and keep of it what will be shown."""
        played.failures += notes(played)
        if self._expect is not None:
            played.expected = self._expect.matches(played)
        if self._output is not None and played.delivered is not None:
            _write(self._output, self._path, played.delivered.octets)
        if not self._keep and len(self.play.messages) > DETAILED:
            played.forget_octets()


def _only(found: Iterator[Message]) -> Iterator[Message]:
    """Return the only message."""
    first = next(found)
    if next(found, None) is not None:
        raise Trouble("--output takes one message; play several one by one", status=USAGE)
    return iter([first])


def _write(output: str, path: Path, octets: bytes) -> None:
    try:
        path.write_bytes(octets)
    except OSError as error:
        raise Trouble(f"{output!r} cannot be written: {error.strerror}", status=MISSING) from None


def _ask_running(run: _Run, options: argparse.Namespace, context: ssl.SSLContext | None) -> None:
    address = options.connect
    scenario = run.play.scenario
    opening = partial(
        mta.connect, address, style=scenario.style, timeout=scenario.timeout, macros=scenario.macros, ssl=context
    )
    run.hint = hint(options)

    def trouble(error: Exception) -> Trouble:
        if isinstance(error, ssl.SSLError) or (context is not None and isinstance(error, ConnectionResetError)):
            return tls_refused(address, error)
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number and number > 0 else str(error)
        what = f"cannot connect to {address}: {reason}; does the milter run, and listen there?"
        return Trouble(what, status=MISSING)

    asyncio.run(run.in_sessions(opening, trouble, connected=False))


def _ask_target(run: _Run, given_options: ServeOptions) -> None:
    target, scenario = run.play.asked, run.play.scenario
    # As for the daemon, no loop runs while the filter is imported.
    factory = load(Target.named(target))
    observer = Watch(run.play)
    options: ServeOptions = {
        "callback_timeout": scenario.timeout,
        "answer_timeout": scenario.timeout,
        "stall_timeout": _STALL_TIMEOUT,
        **given_options,
        "observer": observer,
    }
    opening = partial(
        session,
        factory,
        client=scenario.client,
        hostname=scenario.hostname,
        helo=scenario.helo,
        macros=scenario.macros,
        mta=scenario.style,
        # Longer than the callback's own limit, so that the time-out is reported as the filter's.
        timeout=scenario.timeout + 1,
        failures="answer",
        **options,
    )

    async def play() -> None:
        with observer.of_stalls(options.get("stall_timeout")):
            await run.in_sessions(opening, partial(start_trouble, target), connected=True)

    asyncio.run(play())
