"""The scenario of ``check``: who sends what, and through which MTA, as options say."""

import argparse
import re
from typing import Final

from aiomilter._cli.parsing import ip_address, line, seconds
from aiomilter._cli.play import CheckScenario, Path
from aiomilter.wire.constants import Stage

__all__ = ["add_scenario", "scenario_of"]

_PATH: Final = re.compile(r"\s*(<[^<>]*>|[^\s<>]*)((?:\s+\S+)*)\s*")


def add_scenario(scenario: "argparse._ArgumentGroup") -> None:
    """Add the options that say who sends what, and through which MTA."""
    scenario.add_argument(
        "--mta", choices=("postfix", "sendmail"), default="postfix", help="the MTA to behave as (%(default)s)"
    )
    scenario.add_argument(
        "--client", metavar="IP", type=_client, default="192.0.2.1", help="the SMTP client's address (%(default)s)"
    )
    scenario.add_argument(
        "--hostname", metavar="NAME", type=line, default="client.example", help="its name (%(default)s)"
    )
    scenario.add_argument(
        "--helo", metavar="NAME", type=line, default="client.example", help="what it says in EHLO (%(default)s)"
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
        "--auth", metavar="LOGIN", type=line, help="the client has logged in: macros auth_authen and auth_type"
    )
    scenario.add_argument(
        "--macro",
        metavar="NAME=VALUE",
        type=_macro,
        action="append",
        default=[],
        help="a macro, as in i=4F2A or daemon_name=mx",
    )
    scenario.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=30.0,
        help="time that the MTA waits for an answer, and that each callback has (%(default)g, as in Postfix)",
    )


def _client(text: str) -> str:
    if text and not text.startswith("/") and text != "unknown":
        return ip_address(text, hint="; for its name see --hostname")
    return line(text)


def _path(text: str) -> Path:
    match = _PATH.fullmatch(line(text))
    if match is None:
        raise argparse.ArgumentTypeError(f"expected ADDRESS or <ADDRESS>, as in alice@example.org, found {text!r}")
    return Path(match[1] if match[1].startswith("<") else f"<{match[1]}>", tuple(match[2].split()))


def _macro(text: str) -> tuple[str, str]:
    name, equals, value = line(text).partition("=")
    bare = name[1:-1] if name.startswith("{") and name.endswith("}") else name
    if not equals or not bare.isascii() or not bare.replace("_", "").isalnum():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, as in auth_type=PLAIN, found {text!r}")
    return (bare if len(bare) == 1 else f"{{{bare}}}"), value


def scenario_of(options: argparse.Namespace) -> CheckScenario:
    """Return the scenario that options describe."""
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
