"""A configuration file of ready filters to start from: for mail that comes in, that goes out, or both."""

import asyncio
import contextlib
import os
import re
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, TypeAlias

from aiomilter._cli.selector import selector_of

__all__ = ["Machine", "Purpose", "begin_gateway", "look", "next_steps"]

Purpose: TypeAlias = Literal["inbound", "outbound", "both"]

_HEAD: Final = """\
# A mail gateway: aiomilter run --config {name}
# 'aiomilter filters' lists the filters, 'aiomilter filters NAME' says what each can be set to, 'aiomilter help gateway'
# explains the file, and 'aiomilter config check {name}' finds every mistake.  Paths are relative to this file.

# Postfix finds it with   smtpd_milters = inet:127.0.0.1:8891   and   non_smtpd_milters = $smtpd_milters
# Sendmail finds it with  INPUT_MAIL_FILTER(`gateway', `S=inet:8891@127.0.0.1, F=T')
listen = ["inet:8891@127.0.0.1"]

# {about}
# The name in replies and in Received-SPF; the one in Authentication-Results, which is removed where others write it; and our
# domains, with those below them.
hostname = "{hostname}"
authserv_id = "{hostname}"
own_domains = ["{domain}"]

[networks]
# Whose mail is ours, as that of those who log in.
internal = [{internal}]
# Our own MTAs in front of this one: the client that counts is the one that they name.
#trusted_relays = ["198.51.100.7"]

[state]
# What filters remember; for several machines one "redis://127.0.0.1:6379".
store = "sqlite:state.db"
"""
_AUTHENTICATE: Final = """
[[filter]]
use = "authenticate"                   # SPF, DKIM, ARC, DMARC; our own mail is not judged
dmarc = "quarantine"                   # as published, but a published reject counts as quarantine; "enforce" rejects
dmarc_quarantine = "header"            # marks it X-Spam-Flag: YES; "quarantine" has the MTA hold it
#spf_fail = "reject"                   # refuses forwarded mail, too, that DKIM would save
"""
_RATES: Final = """
[[filter]]
use = "rates"
{rates}"""
_INBOUND_RATE: Final = """\
client = "300/h, burst 100"            # recipients, for each client that is not ours
"""
_OUTBOUND_RATE: Final = """\
user = "200/h, burst 50"               # recipients, for each login: what a stolen password is good for
"""
_SIGN: Final = """
[[filter]]
use = "sign"
when = ["authenticated", "internal"]   # otherwise whoever writes our domain into From is signed for
[filter.keys."{domain}"]
files = ["{selector}.pem"]               # aiomilter dkim keygen {domain} --selector {selector}
"""
_SEAL: Final = """
[[filter]]
use = "seal"                           # ARC, for those whom what comes in is sent on to; it is the last
domain = "{domain}"
[filter.keys."{domain}"]
files = ["{selector}.pem"]               # that of sign
"""
_LOOPBACK: Final = ("127.0.0.0/8", "::1")
_TIMEOUT: Final = 5.0
_BLANKS: Final = re.compile(r"[\s,]+")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.IGNORECASE)
_NETWORK: Final = re.compile(r"\[?[0-9a-f:.]+\]?(?:/[0-9]{1,3})?", re.IGNORECASE)


class Machine(NamedTuple):
    """What there is to know of this machine.

    Args:
        hostname: Its name.
        domain: The domain of its mail.
        internal: Our networks.
        source: Where all that is from; "" if the names are not known, and are examples.
    """

    hostname: str
    domain: str
    internal: tuple[str, ...]
    source: str


def look() -> Machine:
    """Return what Postfix says of this machine, if it is installed; else what its name says."""
    said = asyncio.run(_postconf("myhostname", "mydomain", "mynetworks"))
    name, domain, given = said if said is not None else (os.uname().nodename, "", "")
    source = "what postconf says" if said is not None else "the name of this machine"
    domain = domain or name.partition(".")[2]
    if not (_NAME.fullmatch(name) and _NAME.fullmatch(domain) and "." in domain and "." in name):
        name, domain, source = "mx.example.com", "example.com", ""
    networks = [each.replace("[", "").replace("]", "") for each in _BLANKS.split(given) if _NETWORK.fullmatch(each)]
    # An IPv4 client counts as one, however the MTA writes it.
    internal = [each for each in networks if not each.startswith("::ffff:")]
    return Machine(name, domain, tuple(internal or _LOOPBACK), source)


async def _postconf(*names: str) -> list[str] | None:
    """Return values of Postfix's settings, or None if it is not installed."""
    with contextlib.suppress(OSError, TimeoutError):
        process = await asyncio.create_subprocess_exec(
            "postconf",
            "-x",
            "-h",
            *names,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        lines = out.decode("utf-8", "replace").splitlines()
        if process.returncode == 0 and len(lines) == len(names):
            return [line.strip() for line in lines]
    return None


def begin_gateway(purpose: Purpose, name: str, machine: Machine) -> str:
    """Return the text of a file to start from.

    Args:
        purpose: What it is for.
        name: Of the file, for its first line.
        machine: Where it is written.
    """
    incoming, outgoing = purpose in ("inbound", "both"), purpose in ("outbound", "both")
    selector = selector_of(datetime.now(UTC))
    about = f"From {machine.source}." if machine.source else "example.com stands for your domain: write that instead."
    text = _HEAD.format(
        name=name,
        about=about,
        hostname=machine.hostname,
        domain=machine.domain,
        internal=", ".join(f'"{each}"' for each in machine.internal),
    )
    text += _AUTHENTICATE  # of outgoing mail, too, forged results go
    text += _RATES.format(rates=(_OUTBOUND_RATE if outgoing else "") + (_INBOUND_RATE if incoming else ""))
    if outgoing:
        text += _SIGN.format(domain=machine.domain, selector=selector)
    if incoming and outgoing:
        text += _SEAL.format(domain=machine.domain, selector=selector)
    return text


def next_steps(purpose: Purpose, name: str, machine: Machine) -> str:
    """Return what to do with the file."""
    lines = [f"{name}: written.  Next, in its directory:"]
    if purpose != "inbound":
        lines.append(f"  aiomilter dkim keygen {machine.domain} --selector {selector_of(datetime.now(UTC))}")
    lines.append(f"  aiomilter config check {name}")
    lines.append(f"  aiomilter run --config {name} --smtp 2525      and send a message to port 2525 of this machine:")
    sender = f"me@{machine.domain}"
    code = f"import smtplib; smtplib.SMTP('127.0.0.1', 2525).sendmail('{sender}', 'you@example.net', 'From: {sender}\\n\\nhi')"
    lines.append(f'  python3 -c "{code}"')
    return "\n".join(lines)
