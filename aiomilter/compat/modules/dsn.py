"""Notify a sender, or ask its server whether it exists: ``Milter.dsn``.

A delivery status notification goes to the envelope sender, from the null sender.  A call-back verification is the same
conversation, ended before DATA.  Send either to senders only that something has authenticated.
"""

import re
import smtplib
import time
from collections.abc import Sequence
from contextlib import suppress
from email.generator import Generator
from email.message import Message
from io import StringIO
from typing import Any, Final

from aiomilter.compat.modules.dns import DNSError, Session
from aiomilter.compat.modules.generator import AS_READ
from aiomilter.compat.modules.utils import parse_addr

__all__ = ["create_msg", "send_dsn"]

# Line ends that would end a header, or make another of its rest.
_LINE_ENDS: Final = re.compile(r"(?:\r?\n(?![ \t])|\r(?!\n))++")
_HEADERS: Final = (("X-Mailer", "aiomilter"), ("MIME-Version", "1.0"), ("Content-Type", "text/plain"))


def send_dsn(
    mailfrom: str,
    receiver: str,
    msg: Message | str | None = None,
    timeout: float = 600,
    session: Session | None = None,
    ourfrom: str = "",
) -> tuple[int, str] | None:
    """Send a notification to a sender's mail server, and wait for its answer.

    Args:
        mailfrom: Envelope sender that is notified.
        receiver: Our name in HELO.
        msg: The notification; None only asks whether the server would take one.
        timeout: Seconds for all of it.
        session: Looks up the sender's mail exchangers.
        ourfrom: Envelope sender of the notification: the null sender unless given.
    Returns:
        None if it was taken, else the code and text of a reply: the server's, or one of ours, 4xx where it is worth
        another try.

    Source: RFC 5321 sections 5.1 and 6.1; RFC 3464 section 2.
    """
    end = time.monotonic() + timeout
    local_domain = parse_addr(mailfrom)
    if len(local_domain) != 2 or not all(local_domain):
        return (553, "expected an address with a domain")
    try:
        hosts = _exchangers(local_domain[1], session or Session())
    except DNSError as error:
        return (450, str(error))
    if not hosts:
        return (553, f"{local_domain[1]} takes no mail")
    octets = None if msg is None else _octets(msg)
    failure = (450, "no mail server answered")
    for host in hosts:
        left = end - time.monotonic()
        if left <= 0:
            break
        try:
            return _converse(host, receiver, ourfrom, mailfrom, octets, left)
        except (OSError, smtplib.SMTPException) as error:
            # smtplib's errors are OSErrors as well.  The next exchanger may do better.
            failure = (450, f"{host}: {error}")
    return failure


def _octets(msg: Message | str) -> bytes:
    if not isinstance(msg, str):
        file = StringIO()
        Generator(file, mangle_from_=False, maxheaderlen=0, policy=AS_READ).flatten(msg)
        msg = file.getvalue()
    return msg.encode("utf-8", "surrogateescape")


def _exchangers(domain: str, session: Session) -> list[str]:
    """Return the hosts to try, in this order."""
    exchangers = sorted(session.dns(domain, "MX"))
    if exchangers:
        # A null MX has no name (RFC 7505).
        return [name for _, name in exchangers if name]
    return [*session.dns(domain, "A"), *session.dns(domain, "AAAA")]


def _converse(
    host: str, helo: str, sender: str, recipient: str, octets: bytes | None, left: float
) -> tuple[int, str] | None:
    smtp = smtplib.SMTP(host, local_hostname=helo, timeout=left)
    try:
        smtp.ehlo_or_helo_if_needed()
        code, answer = smtp.mail(sender)
        if code == 250:
            code, answer = smtp.rcpt(recipient.removeprefix("<").removesuffix(">"))
        if code in (250, 251) and octets is not None:
            code, answer = smtp.data(octets)
        # The answer to QUIT does not matter.
        with suppress(OSError, smtplib.SMTPException):
            smtp.quit()
    finally:
        smtp.close()
    return None if code // 100 == 2 else (code, answer.decode("utf-8", "replace"))


def create_msg(
    v: Any, rcptlist: Sequence[str] | None = None, origmsg: Message | None = None, template: str | None = None
) -> Message | None:
    """Return a notification made from a template.

    Args:
        v: Its attributes take the place of ``%(name)s`` in the template; ``sender`` and ``receiver`` at least.
        rcptlist: Recipients of the original message, which become ``v.rcpt``.
        origmsg: Original message, whose Subject and first Received-SPF become ``v.subject`` and ``v.spf_result``.
        template: Header and body, separated by an empty line; lines end in LF.
    Returns:
        The notification; None without a template.
    Raises:
        ValueError: The template has no body, or a line in its header is none.
        KeyError: It names an attribute that ``v`` has not.

    Source: pymilter's documentation.
    """
    if template is None:
        return None
    if rcptlist:
        v.rcpt = "\n\t".join(rcptlist)
    if origmsg is not None:
        v.subject = origmsg["subject"]
        v.spf_result = origmsg["received-spf"]
    values = vars(v)
    head, blank, body = template.partition("\n\n")
    if not blank:
        raise ValueError("template: expected a header, an empty line and a body")
    message = Message()
    for name, value in _HEADERS:
        message[name] = value
    for line in head.splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("template: expected a name and a value in each line of the header")
        del message[name]
        # What comes from a peer makes no header of its own.
        message[name] = _LINE_ENDS.sub(" ", value.strip() % values)
    if "Auto-Submitted" not in message:
        # Programs must not answer it (RFC 3834).
        message["Auto-Submitted"] = "auto-generated"
    message.set_payload(_readable(body % values))
    return message


def _readable(text: str) -> str:
    """Return a text that a message can hold: octets mixed with non-ASCII characters are not text in any charset."""
    try:
        text.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text
