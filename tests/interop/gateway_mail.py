"""Mail for a gateway and for what it takes the place of: signed, forged and neither, SPF and DMARC of every kind.

Each author's domain has a policy of DMARC, and below it a name for each result of SPF, from which mail is sent.  Lists change
what is signed, forwarders send on from an address that is not the author's.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiomilter.auth import dkim
from tests.auth.arc.made import with_footer
from tests.auth.dkim.made import key, signed

__all__ = ["KEYS", "NAME", "POLICIES", "SPF", "Sent", "mail"]

NAME: Final = "mx.corp.example"
"""The gateway's, in Authentication-Results."""
CLIENT: Final = "192.0.2.1"
OTHER: Final = "other.example"
"""A domain that is nobody's author."""

POLICIES: Final = {
    "absent.example": "",
    "none.example": "v=DMARC1; p=none",
    "quarantine.example": "v=DMARC1; p=quarantine",
    "reject.example": "v=DMARC1; p=reject",
    "strict.example": "v=DMARC1; p=reject; adkim=s; aspf=s",
    "above.example": "v=DMARC1; p=reject; sp=none",
    OTHER: "",
    "lists.example": "v=DMARC1; p=none",
}
_AUTHORS: Final = [*POLICIES][:-2]
SPF: Final = {
    "pass": f"v=spf1 ip4:{CLIENT} -all",
    "fail": "v=spf1 ip4:203.0.113.1 -all",
    "softfail": "v=spf1 ip4:203.0.113.1 ~all",
    "neutral": "v=spf1 ?all",
    "permerror": "v=spf1 nonsense:x -all",
    "none": "",
}
"""The record of the name below each domain that has the result, for mail from ``CLIENT``."""
_KINDS: Final = {kind: key(kind) for kind in ("rsa", "ed25519")}
KEYS: Final = {
    (domain, kind): dkim.Key(domain, each.selector, each.private)
    for domain in POLICIES
    for kind, each in _KINDS.items()
}
_FORGED: Final = ("body", "author", "results", "no key", "no signature")


@dataclass(frozen=True)
class Sent:
    """A message and its envelope.

    Args:
        what: How it was made, for whoever reads of a difference.
        client: The address that it comes from.
        helo: What the client calls itself.
        sender: Of the envelope.
        content: The message.
    """

    what: str
    client: str
    helo: str
    sender: str
    content: bytes

    @property
    def signed(self) -> bool:
        """Whether its signature holds."""
        return self.what.startswith("signed")


def mail(count: int) -> Iterator[Sent]:
    """Yield messages, the same ones each time: a third signed, a third forged, a third neither."""
    chosen = random.Random(18)
    for number in range(count):
        author, spf, aligned = chosen.choice(_AUTHORS), chosen.choice([*SPF]), chosen.random() < 0.6
        shape = chosen.choice(["direct", "direct", "list", "forward", "bounce", "below"])
        kind = ("signed", "forged", "plain")[number % 3]
        yield _made(number, kind, author, spf, aligned=aligned, shape=shape, chosen=chosen)


def _made(number: int, kind: str, author: str, spf: str, *, aligned: bool, shape: str, chosen: random.Random) -> Sent:
    name = f"{spf}.{author if aligned else OTHER}"
    client, helo, sender = CLIENT, name, f"a@{name}"
    if shape == "list":
        sender = "bounces@pass.lists.example"
    elif shape == "forward":
        client = "198.51.100.7"
    elif shape == "bounce":
        sender = ""
    domain = f"news.{author}" if shape == "below" else author
    content = (
        f"From: Alice <alice@{domain}>\r\nTo: bob@example.test\r\nSubject:  Minutes  {number}\r\n"
        f"Date: Mon, 30 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}@{domain}>\r\n\r\nHello  Bob,\r\n.\r\nsee you. \r\n"
    ).encode()
    how = ""
    if kind == "signed":
        owner = chosen.choice([author, author, OTHER])
        how = chosen.choice(["rsa", "ed25519"])
        content = signed(content, KEYS[owner, how], now=time.time())
        how += f" by {owner}"
    elif kind == "forged":
        how = chosen.choice(_FORGED)
        content = _forge(content, how, author, domain)
    if shape == "list":
        content = with_footer(content.replace(b"Subject: ", b"Subject: [list]"))
        kind = kind.replace("signed", "broken")
    return Sent(f"{kind} {how}, {shape}, From {domain}, {client} as {sender or helo}", client, helo, sender, content)


def _forge(content: bytes, how: str, author: str, domain: str) -> bytes:
    if how == "body":
        return signed(content, KEYS[author, "rsa"], now=time.time()).replace(b"Hello", b"Pay up")
    if how == "author":
        theirs = signed(content.replace(domain.encode(), OTHER.encode()), KEYS[OTHER, "rsa"], now=time.time())
        return theirs.replace(b"From: Alice <alice@other.example>", f"From: Alice <alice@{domain}>".encode())
    if how == "results":
        return (
            f"Authentication-Results: {NAME}; dkim=pass header.d={author}; dmarc=pass header.from={author}\r\n".encode()
            + content
        )
    if how == "no key":
        missing = dkim.Key(author, "nowhere", KEYS[author, "rsa"].private)
        return signed(content, missing, now=time.time())
    fields = f"DKIM-Signature: v=1; a=rsa-sha256; d={author}; s=rsa2048; h=from; bh=AAAA; b=AAAA\r\n"
    return fields.encode() + content
