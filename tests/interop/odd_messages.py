"""Odd messages, and what the real Postfix and Sendmail make of them: what a filter is shown, and what is delivered.

``tests/interop/test_odd_messages.py`` asks both MTAs and holds these facts against them; ``tests/mta/test_odd_messages.py``
holds all of our own sides against these facts, on every machine.

A message is written as the client means it: dots are not stuffed, and an SMTP client adds what its last line lacks.
One piece, although long: a table.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = [
    "DIFFERENCES",
    "MESSAGES",
    "VERSIONS",
    "Difference",
    "Odd",
    "Refused",
    "Taken",
    "on_the_wire",
    "own_fields_cut",
]

VERSIONS: Final = {"postfix": (3, 7, 11), "sendmail": (8, 17, 1, 9)}
"""The MTAs that were asked."""

MBOX: Final = b"From alice@client.test Mon Nov 30 00:00:00 2026\r\n"
HEAD: Final = (
    b"From: alice@client.test\r\nTo: bob@example.test\r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@client.test>\r\n"
)
BODY: Final = b"\r\nHello Bob.\r\n"


class Taken(NamedTuple):
    """A message that the MTA took.

    Args:
        shown: What a filter is shown: header fields, an empty line, body.
        delivered: What the next hop gets, without the fields that the MTA itself adds.
    """

    shown: bytes
    delivered: bytes


class Refused(NamedTuple):
    """A message that the MTA refused, before a filter was shown anything of it; ``reply`` as the client got it."""

    reply: str


@dataclass(frozen=True, slots=True)
class Odd:
    """A message and its facts."""

    name: str
    octets: bytes
    postfix: Taken | Refused
    sendmail: Taken | Refused

    def fact(self, mta: str) -> Taken | Refused:
        """What the MTA of this name makes of it."""
        return self.postfix if mta == "postfix" else self.sendmail


class Difference(NamedTuple):
    """Where our own sides do something else than an MTA.

    Args:
        ours: What they do.
        reason: Which MTA does what, and why we do not.
    """

    ours: Taken | Refused
    reason: str


class _Taken(NamedTuple):
    """As :class:`Taken`; None: shown as sent, delivered as shown."""

    shown: bytes | None = None
    delivered: bytes | None = None


BARE_CR: Final = Refused("421 4.5.0 Bare carriage return (CR) not allowed")
BARE_LF: Final = Refused("421 4.5.0 Bare linefeed (LF) not allowed")
TOO_LARGE: Final = Refused("552 5.6.0 Headers too large (32768 max)")


def syntax_error(line: str) -> Refused:
    return Refused(f'553 5.3.0 header syntax error, line "{line}"')


def among(*lines: bytes) -> bytes:
    """A message with more lines in its header section, and one field after them."""
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"X-Next: 1\r\n" + BODY


def odd(
    name: str,
    octets: bytes,
    *,
    both: _Taken | None = None,
    postfix: _Taken | Refused | None = None,
    sendmail: _Taken | Refused | None = None,
) -> Odd:
    """A message; where nothing is said, it is shown and delivered as it was sent."""

    def fact(said: _Taken | Refused | None) -> Taken | Refused:
        if isinstance(said, Refused):
            return said
        shown, delivered = said or _Taken()
        shown = octets if shown is None else shown
        return Taken(shown, shown if delivered is None else delivered)

    return Odd(name, octets, fact(postfix or both), fact(sendmail or both))


def on_the_wire(octets: bytes) -> bytes:
    """A message as an SMTP client sends it behind a 354, up to the dot that ends it."""
    if octets and not octets.endswith(b"\r\n"):
        octets = octets.removesuffix(b"\n") + b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", octets) + b".\r\n"


_RECEIVED: Final = re.compile(rb"\AReceived: from [^\n]*\n(?:[ \t][^\n]*\n)*")
_ADDED: Final = re.compile(
    rb"(Date|From|Message-Id|Resent-Date|Resent-From|Resent-Message-Id): [^\n]*\n(?:[ \t][^\n]*\n)*"
)


def own_fields_cut(delivered: bytes, shown: bytes) -> bytes:
    """A message that was delivered, without the fields on top that the MTA itself added: none of their names was shown."""
    delivered = _RECEIVED.sub(b"", delivered)
    names = {name.lower() for name in re.findall(rb"(?m)^([^\n:]+):", (b"\r\n" + shown).partition(b"\r\n\r\n")[0])}
    while (field := _ADDED.match(delivered)) and field[1].lower() not in names:
        delivered = delivered[field.end() :]
    return delivered


MESSAGES: Final = (
    # Lines at the top that an mbox file has
    odd(
        "mbox line",
        MBOX + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: " + MBOX + HEAD + BODY),
        sendmail=_Taken(HEAD + BODY),
    ),
    odd(
        "mbox line, quoted",
        b">" + MBOX + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: >" + MBOX + HEAD + BODY),
        sendmail=_Taken(b"\r\n>" + MBOX + HEAD + BODY),
    ),
    odd(
        "mbox line, quoted thrice",
        b">>>" + MBOX + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: >>>" + MBOX + HEAD + BODY),
        sendmail=_Taken(b"\r\n>>>" + MBOX + HEAD + BODY),
    ),
    odd(
        "mbox lines",
        MBOX + b">" + MBOX + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: " + MBOX + b"X-Mailbox-Line: >" + MBOX + HEAD + BODY),
        sendmail=_Taken(b"\r\n>" + MBOX + HEAD + BODY),
    ),
    odd(
        "mbox line of a blank",
        b"From \r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: From \r\n" + HEAD + BODY),
        sendmail=_Taken(HEAD + BODY),
    ),
    odd("mbox line without blank", b"From\r\n" + HEAD + BODY, both=_Taken(b"\r\nFrom\r\n" + HEAD + BODY)),
    odd(
        "mbox line with tab",
        b"From\talice Mon\r\n" + HEAD + BODY,
        both=_Taken(b"\r\nFrom\talice Mon\r\n" + HEAD + BODY),
    ),
    odd(
        "mbox line in lower case",
        b"from alice Mon\r\n" + HEAD + BODY,
        both=_Taken(b"\r\nfrom alice Mon\r\n" + HEAD + BODY),
    ),
    odd(
        "mbox line with colon",
        b"From : alice@client.test\r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: From : alice@client.test\r\n" + HEAD + BODY),
        sendmail=_Taken(HEAD + BODY),
    ),
    odd(
        "mbox line alone",
        MBOX,
        postfix=_Taken(b"X-Mailbox-Line: " + MBOX + b"\r\n", b"X-Mailbox-Line: " + MBOX),
        sendmail=_Taken(b"\r\n"),
    ),
    odd(
        "mbox line, no header",
        MBOX + b"\r\nHello\r\n",
        postfix=_Taken(b"X-Mailbox-Line: " + MBOX + b"\r\nHello\r\n"),
        sendmail=_Taken(b"\r\nHello\r\n"),
    ),
    odd(
        "mbox line, then text",
        MBOX + b"Hello there\r\n",
        postfix=_Taken(b"X-Mailbox-Line: " + MBOX + b"\r\nHello there\r\n"),
        sendmail=_Taken(b"\r\nHello there\r\n"),
    ),
    odd(
        "mbox line, then fold",
        MBOX + b" folded\r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: " + MBOX + b"\r\n folded\r\n" + HEAD + BODY),
        sendmail=_Taken(b"\r\n folded\r\n" + HEAD + BODY),
    ),
    odd(
        "mbox line among fields",
        HEAD + MBOX + b"X-Next: 1\r\n" + BODY,
        both=_Taken(among(b"", b"From alice@client.test Mon Nov 30 00:00:00 2026")),
    ),
    odd("mbox line after empty line", b"\r\n" + MBOX + HEAD + BODY),
    odd("mbox line in the body", HEAD + b"\r\n" + MBOX + b">" + MBOX),
    odd(
        "mbox line of 3000",
        b"From " + b"a" * 2995 + b"\r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: From " + b"a" * 2995 + b"\r\n" + HEAD + BODY),
        sendmail=_Taken(HEAD + BODY),
    ),
    odd(
        "mbox line of 3000, then fold",
        b"From " + b"a" * 2995 + b"\r\n folded\r\n" + MBOX + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: From " + b"a" * 2995 + b"\r\n folded\r\n\r\n" + MBOX + HEAD + BODY),
        sendmail=_Taken(b"\r\n folded\r\n" + MBOX + HEAD + BODY),
    ),
    odd(
        "mbox line of 40000",
        b"From " + b"a" * 39995 + b"\r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: From " + b"a" * 39995 + b"\r\n" + HEAD + BODY),
        sendmail=TOO_LARGE,
    ),
    odd(
        "mbox line with NUL",
        b"From a\0b Mon\r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: From a\r\n" + HEAD + BODY),
        sendmail=_Taken(HEAD + BODY),
    ),
    odd(
        "mbox line behind NUL",
        b"\0From a\r\n" + HEAD + BODY,
        postfix=_Taken(b"\r\n\0From a\r\n" + HEAD + BODY),
        sendmail=_Taken(HEAD + BODY),
    ),
    odd(
        "mbox line, NUL in a record",
        b"From " + b"a" * 100 + b"\0" + b"b" * 3000 + b"\r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: From " + b"a" * 100 + b"b" * 1058 + b"\r\n" + HEAD + BODY),
        sendmail=_Taken(HEAD + BODY),
    ),
    odd(
        "mbox line, 8-bit",
        b"From \xe9 Mon\r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: From \xe9 Mon\r\n" + HEAD + BODY),
        sendmail=_Taken(HEAD + BODY),
    ),
    odd(
        "mbox line with CR",
        b"From a\rb\r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: From a b\r\n" + HEAD + BODY),
        sendmail=BARE_CR,
    ),
    odd(
        "mbox line, quotes of a record",
        b">" * 2043 + MBOX + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: " + b">" * 2043 + MBOX + HEAD + BODY),
        sendmail=_Taken(
            b"\r\n" + b">" * 2043 + MBOX + HEAD + BODY, b"\r\n" + b">" * 2039 + b"!\r\n >>>>" + MBOX + HEAD + BODY
        ),
    ),
    odd(
        "mbox line, more quotes",
        b">" * 2044 + MBOX + HEAD + BODY,
        postfix=_Taken(b"\r\n" + b">" * 2044 + MBOX + HEAD + BODY),
        sendmail=_Taken(
            b"\r\n" + b">" * 2044 + MBOX + HEAD + BODY, b"\r\n" + b">" * 2039 + b"!\r\n >>>>>" + MBOX + HEAD + BODY
        ),
    ),
    odd(
        "mbox line, another in its second record",
        b"From " + b"a" * 2043 + b"From b\r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: From " + b"a" * 2043 + b"X-Mailbox-Line: From b\r\n" + HEAD + BODY),
        sendmail=_Taken(HEAD + BODY),
    ),
    # Where header section and body part
    odd("nothing", b"", postfix=_Taken(b"\r\n", b""), sendmail=_Taken(b"\r\n")),
    odd("an empty line", b"\r\n"),
    odd("empty lines", b"\r\n\r\n\r\n"),
    odd("header only", HEAD, postfix=_Taken(HEAD + b"\r\n", HEAD), sendmail=_Taken(HEAD + b"\r\n")),
    odd("header and empty line", HEAD + b"\r\n"),
    odd("body only", b"\r\nHello\r\n"),
    odd(
        "body only, no empty line",
        b"Hello Bob.\r\nHow are you?\r\n",
        both=_Taken(b"\r\nHello Bob.\r\nHow are you?\r\n"),
    ),
    odd(
        "no empty line",
        HEAD + b"Hello Bob.\r\nSubject: no\r\n",
        both=_Taken(HEAD + b"\r\nHello Bob.\r\nSubject: no\r\n"),
    ),
    odd("two empty lines", HEAD + b"\r\n\r\nHello\r\n"),
    odd("empty lines at the end", HEAD + b"\r\nHello\r\n\r\n\r\n"),
    odd("no colon in the middle", HEAD + b"no colon\r\nX-Next: 1\r\n" + BODY, both=_Taken(among(b"", b"no colon"))),
    odd(
        "no colon, 5000 octets",
        HEAD + b"a" * 5000 + b"\r\n" + BODY,
        postfix=_Taken(HEAD + b"\r\n" + b"a" * 5000 + b"\r\n" + BODY),
        sendmail=_Taken(
            HEAD + b"\r\n" + b"a" * 5000 + b"\r\n" + BODY,
            HEAD + b"\r\n" + b"a" * 2039 + b"!\r\n " + b"a" * 2047 + b"!\r\n " + b"a" * 914 + b"\r\n" + BODY,
        ),
    ),
    odd("blank on the empty line", HEAD + b" \r\nHello\r\n", both=_Taken(HEAD + b" \r\n\r\nHello\r\n")),
    odd("tabs on the empty line", HEAD + b"\t\t\r\n" + BODY),
    odd("blanks on the first line", b"  \r\n" + HEAD + BODY, both=_Taken(b"\r\n  \r\n" + HEAD + BODY)),
    odd(
        "blank before the first field",
        b" Subject: x\r\n" + HEAD + BODY,
        both=_Taken(b"\r\n Subject: x\r\n" + HEAD + BODY),
    ),
    odd(
        "tab before the first field",
        b"\tSubject: x\r\n" + HEAD + BODY,
        both=_Taken(b"\r\n\tSubject: x\r\n" + HEAD + BODY),
    ),
    odd("no final line end", HEAD + b"\r\nHello", both=_Taken(HEAD + b"\r\nHello\r\n")),
    odd(
        "no final line end in a field",
        HEAD + b"Subject: x",
        postfix=_Taken(HEAD + b"Subject: x\r\n\r\n", HEAD + b"Subject: x\r\n"),
        sendmail=_Taken(HEAD + b"Subject: x\r\n\r\n"),
    ),
    odd("final CR", HEAD + b"\r\nHello\r", postfix=_Taken(HEAD + b"\r\nHello\r\n"), sendmail=BARE_CR),
    odd("first line is a dot", b".\r\n" + HEAD + BODY, both=_Taken(b"\r\n.\r\n" + HEAD + BODY)),
    odd("first field begins with a dot", b".X: 1\r\n" + HEAD + BODY),
    # Names
    odd("blank before the colon", among(b"X-Odd : value"), both=_Taken(among(b"X-Odd: value"))),
    odd("blanks before the colon", among(b"X-Odd \t  :value"), both=_Taken(among(b"X-Odd:value"))),
    odd(
        "vertical tab before the colon",
        among(b"X-Odd \x0b: value"),
        postfix=_Taken(among(b"", b"X-Odd \x0b: value")),
        sendmail=_Taken(among(b"X-Odd: value")),
    ),
    odd(
        "form feed before the colon",
        among(b"X-Odd\x0c: value"),
        postfix=_Taken(among(b"", b"X-Odd\x0c: value")),
        sendmail=_Taken(among(b"X-Odd: value")),
    ),
    odd("colon on the next line", among(b"X-Odd", b" : value"), both=_Taken(among(b"", b"X-Odd", b" : value"))),
    odd("blank in a name", among(b"X Odd: value"), both=_Taken(among(b"", b"X Odd: value"))),
    odd("name, 8-bit", among(b"X-\xe9: value"), both=_Taken(among(b"", b"X-\xe9: value"))),
    odd("no name", among(b": value"), both=_Taken(among(b"", b": value"))),
    odd("name of a blank", among(b" : value")),
    odd("control character in a name", among(b"X-\x01: value"), both=_Taken(among(b"", b"X-\x01: value"))),
    odd(
        "DEL in a name",
        among(b"X-\x7f: value"),
        postfix=_Taken(among(b"", b"X-\x7f: value")),
        sendmail=syntax_error("X-\x7f: value"),
    ),
    odd(
        "DEL in two names",
        among(b"X-\x7f: 1", b"Y-\x7f : 2"),
        postfix=_Taken(among(b"", b"X-\x7f: 1", b"Y-\x7f : 2")),
        sendmail=syntax_error("Y-\x7f : 2"),
    ),
    odd(
        "NUL in a name",
        among(b"X-\0a: value"),
        postfix=_Taken(among(b"", b"X-\0a: value")),
        sendmail=_Taken(among(b"X-a: value")),
    ),
    odd(
        "NUL before a name",
        among(b"\0X: value"),
        postfix=_Taken(among(b"", b"\0X: value")),
        sendmail=_Taken(among(b"X: value")),
    ),
    odd("CR in a name", among(b"X-\ra: value"), postfix=_Taken(among(b"", b"X- a: value")), sendmail=BARE_CR),
    odd("all other characters in a name", among(b"0X!#$%&'*+-/=?^_`{|}~.()<>@,;\\\"[]: value")),
    odd("name begins with two dashes", among(b"--X: value"), sendmail=_Taken(among(b"", b"--X: value"))),
    odd("name of 100", among(b"X" * 100 + b": value")),
    odd(
        "name of 101",
        among(b"X" * 101 + b" : value", b" folded"),
        postfix=_Taken(among(b"X" * 101 + b": value", b" folded")),
        sendmail=_Taken(HEAD + b"\r\n" + b"X" * 101 + b" : value\r\n foldedX-Next: 1\r\n" + BODY),
    ),
    odd(
        "name of 2047",
        among(b"X" * 2047 + b":value"),
        sendmail=_Taken(
            HEAD + b"\r\n" + b"X" * 2047 + b":valueX-Next: 1\r\n" + BODY,
            HEAD + b"\r\n" + b"X" * 2039 + b"!\r\n XXXXXXXX:valueX-Next: 1\r\n" + BODY,
        ),
    ),
    odd(
        "name of 2048",
        among(b"X" * 2048 + b":value"),
        postfix=_Taken(among(b"", b"X" * 2048 + b":value")),
        sendmail=_Taken(
            HEAD + b"\r\n" + b"X" * 2048 + b":valueX-Next: 1\r\n" + BODY,
            HEAD + b"\r\n" + b"X" * 2039 + b"!\r\n XXXXXXXXX:valueX-Next: 1\r\n" + BODY,
        ),
    ),
    odd(
        "name and blanks of 2048",
        among(b"X" * 2000 + b" " * 48 + b":value"),
        postfix=_Taken(among(b"", b"X" * 2000 + b" " * 48 + b":value")),
        sendmail=_Taken(
            HEAD + b"\r\n" + b"X" * 2000 + b" " * 48 + b":valueX-Next: 1\r\n" + BODY,
            HEAD + b"\r\n" + b"X" * 2000 + b" " * 39 + b"!\r\n          :valueX-Next: 1\r\n" + BODY,
        ),
    ),
    odd(
        "name of 2046 behind a dot",
        among(b"." + b"X" * 2046 + b":value"),
        postfix=_Taken(among(b"", b"." + b"X" * 2046 + b":value")),
        sendmail=_Taken(
            HEAD + b"\r\n." + b"X" * 2046 + b":valueX-Next: 1\r\n" + BODY,
            HEAD + b"\r\n." + b"X" * 2038 + b"!\r\n XXXXXXXX:valueX-Next: 1\r\n" + BODY,
        ),
    ),
    odd(
        "name of 2045 behind a dot",
        among(b"." + b"X" * 2045 + b":value"),
        sendmail=_Taken(
            HEAD + b"\r\n." + b"X" * 2045 + b":valueX-Next: 1\r\n" + BODY,
            HEAD + b"\r\n." + b"X" * 2038 + b"!\r\n XXXXXXX:valueX-Next: 1\r\n" + BODY,
        ),
    ),
    odd(
        "name of 70000",
        among(b"X" * 70000 + b": value"),
        postfix=_Taken(among(b"", b"X" * 70000 + b": value")),
        sendmail=TOO_LARGE,
    ),
    odd(
        "field called Text",
        among(b"text: value", b" folded"),
        sendmail=_Taken(HEAD + b"\r\ntext: value\r\n foldedX-Next: 1\r\n" + BODY),
    ),
    odd(
        "field called Text at the end",
        HEAD + b"TEXT: value\r\n",
        postfix=_Taken(HEAD + b"TEXT: value\r\n\r\n", HEAD + b"TEXT: value\r\n"),
        sendmail=_Taken(HEAD + b"\r\nTEXT: value", HEAD + b"\r\nTEXT: value\r\n"),
    ),
    odd(
        "field called Message",
        HEAD + b"MESSAGE : 1\r\n" + BODY,
        postfix=_Taken(HEAD + b"MESSAGE: 1\r\n" + BODY),
        sendmail=_Taken(HEAD + b"\r\nMESSAGE : 1" + BODY),
    ),
    odd(
        "fields that are dropped",
        among(b"Bcc: a@client.test,", b" b@client.test", b"RESENT-BCC:", b"return-path : <a@b>", b"Content-length:5"),
        postfix=_Taken(among()),
        sendmail=_Taken(
            among(
                b"Bcc: a@client.test,", b" b@client.test", b"RESENT-BCC:", b"return-path: <a@b>", b"Content-length:5"
            ),
            among(),
        ),
    ),
    odd(
        "empty fields",
        b"From:\r\nDate: \t\r\nmessage-id:\r\n \r\nFull-Name: \r\nResent-Date:\r\nTo:\r\nSubject: \r\n" + BODY,
        sendmail=_Taken(b"To:\r\nSubject: \r\n" + BODY),
    ),
    odd(
        "empty fields beside others",
        among(b"From: \x0b", b"X-Empty:", b"RESENT-FROM:\x0c"),
        sendmail=_Taken(among(b"X-Empty:")),
    ),
    odd(
        "From as in the envelope",
        b"From: <alice@client.test>\r\nFrom: alice@client.test\r\nTo: <bob@example.test>\r\n" + BODY,
    ),
    odd(
        "Bcc without To",
        b"bcc: a@client.test\r\n" + BODY,
        postfix=_Taken(BODY),
        sendmail=_Taken(None, b"bcc:\r\n" + BODY),
    ),
    odd("field called Full-Name", among(b"Full-Name: Alice"), sendmail=_Taken(None, among())),
    odd("fields twice", among(b"Subject: 1", b"subject: 2", b"SUBJECT: 3", b"Date: 4", b"Received: 5", b"Received: 6")),
    odd("From missing", b"To: bob@example.test\r\n" + BODY),
    # Values
    odd("no value", among(b"X-Odd:")),
    odd("value of blanks", among(b"X-Odd:  \t ")),
    odd("no blank before the value", among(b"X-Odd:value")),
    odd("two blanks before the value", among(b"X-Odd:  value")),
    odd("tab before the value", among(b"X-Odd:\tvalue")),
    odd("blanks after the value", among(b"X-Odd: value \t")),
    odd("value, 8-bit", among(b"X-Odd: caf\xe9 \xff\xfe\x80\x9f\xc3\xa9")),
    odd("control characters in a value", among(b"X-Odd: a\x01\x08\x0b\x0c\x1b\x7fb")),
    odd(
        "NUL in a value",
        among(b"X-Odd: a\0b\0c"),
        postfix=_Taken(among(b"X-Odd: a")),
        sendmail=_Taken(among(b"X-Odd: abc")),
    ),
    odd(
        "NUL in a fold",
        among(b"X-Odd: a\0b", b" c\0d", b" e"),
        postfix=_Taken(among(b"X-Odd: a", b" c", b" e")),
        sendmail=_Taken(among(b"X-Odd: ab", b" cd", b" e")),
    ),
    odd(
        "NUL first in a value",
        among(b"X-Odd:\0b"),
        postfix=_Taken(among(b"X-Odd:")),
        sendmail=_Taken(among(b"X-Odd:b")),
    ),
    odd(
        "NUL before a fold",
        among(b"X-Odd: a", b"\0 b"),
        postfix=_Taken(among(b"X-Odd: a", b"", b"\0 b")),
        sendmail=_Taken(among(b"X-Odd: a", b"", b" b")),
    ),
    odd(
        "NUL for an empty line",
        HEAD + b"\0\r\nHello\r\n",
        postfix=_Taken(HEAD + b"\r\n\0\r\nHello\r\n"),
        sendmail=_Taken(HEAD + b"\r\nHello\r\n"),
    ),
    odd(
        "NUL without colon",
        HEAD + b"a\0b\r\nc\0d\r\n",
        postfix=_Taken(HEAD + b"\r\na\0b\r\nc\0d\r\n"),
        sendmail=_Taken(HEAD + b"\r\nab\r\nc\0d\r\n"),
    ),
    odd(
        "NUL in a long value",
        among(b"X-Odd: " + b"a" * 993 + b"\0" + b"b" * 1500 + b"\0" + b"c" * 3000),
        postfix=_Taken(among(b"X-Odd: " + b"a" * 993 + b"b" * 453 + b"c" * 1406)),
        sendmail=_Taken(
            among(b"X-Odd: " + b"a" * 993 + b"b" * 1500 + b"c" * 3000),
            among(b"X-Odd: " + b"a" * 993 + b"b" * 1039 + b"!", b" " + b"b" * 264),
        ),
    ),
    odd(
        "NUL in a long value behind a dot",
        among(b".X-Odd: " + b"a" * 993 + b"\0" + b"b" * 1500),
        postfix=_Taken(among(b".X-Odd: " + b"a" * 993 + b"b" * 455)),
        sendmail=_Taken(
            among(b".X-Odd: " + b"a" * 993 + b"b" * 1500),
            among(b".X-Odd: " + b"a" * 993 + b"b" * 1038 + b"!", b" " + b"b" * 264),
        ),
    ),
    odd(
        "NUL in a long fold",
        among(b"X-Odd: " + b"a" * 993, b" " + b"b" * 10 + b"\0" + b"c" * 3000),
        postfix=_Taken(among(b"X-Odd: " + b"a" * 993, b" bbbbbbbbbb" + b"c" * 964)),
        sendmail=_Taken(
            among(b"X-Odd: " + b"a" * 993, b" bbbbbbbbbb" + b"c" * 3000),
            among(b"X-Odd: " + b"a" * 993, b" bbbbbbbbbb" + b"c" * 2028 + b"!", b" " + b"c" * 264),
        ),
    ),
    odd(
        "40000 NULs in a value",
        among(b"X-Odd: " + b"\0" * 40000 + b"a"),
        postfix=_Taken(among(b"X-Odd: ")),
        sendmail=_Taken(among(b"X-Odd: a")),
    ),
    odd("CR in a value", among(b"X-Odd: a\rb\r\rc"), postfix=_Taken(among(b"X-Odd: a b  c")), sendmail=BARE_CR),
    odd("CR last in a value", among(b"X-Odd: a\r\r\r"), postfix=_Taken(among(b"X-Odd: a")), sendmail=BARE_CR),
    odd("CR before a fold", among(b"X-Odd: a\r b"), postfix=_Taken(among(b"X-Odd: a  b")), sendmail=BARE_CR),
    odd(
        "LF in a value",
        among(b"X-Odd: a\nX-Inner: b"),
        postfix=_Taken(among(b"X-Odd: a", b"X-Inner: b")),
        sendmail=BARE_LF,
    ),
    odd("LF before a fold", among(b"X-Odd: a\n b"), postfix=_Taken(among(b"X-Odd: a", b" b")), sendmail=BARE_LF),
    odd("LF for an empty line", HEAD + b"\nHello\r\n", postfix=_Taken(HEAD + b"\r\nHello\r\n"), sendmail=BARE_LF),
    odd("LF, then no colon", among(b"X-Odd: a\nb"), postfix=_Taken(among(b"X-Odd: a", b"", b"b")), sendmail=BARE_LF),
    odd("LF throughout", (HEAD + BODY).replace(b"\r\n", b"\n"), postfix=_Taken(HEAD + BODY), sendmail=BARE_LF),
    odd(
        "LF throughout, and a CR",
        (HEAD + BODY).replace(b"\r\n", b"\n") + b"a\rb\n",
        postfix=_Taken(HEAD + b"\r\nHello Bob.\r\na b\r\n"),
        sendmail=BARE_LF,
    ),
    # Folds
    odd("fold", among(b"X-Odd: one", b"\ttwo", b"  three")),
    odd("fold before the value", among(b"X-Odd:", b" value")),
    odd("fold of blanks", among(b"X-Odd: one", b" ", b"\t \t", b" two", b"  ")),
    odd(
        "fold begins with form feed",
        among(b"X-Odd: one", b"\x0ctwo"),
        both=_Taken(among(b"X-Odd: one", b"", b"\x0ctwo")),
    ),
    odd(
        "fold begins with no-break space",
        among(b"X-Odd: one", b"\xa0two"),
        both=_Taken(among(b"X-Odd: one", b"", b"\xa0two")),
    ),
    odd("fold that looks like a field", among(b"X-Odd: one", b" X-Inner: two")),
    odd(
        "fold in an address field",
        b"Cc: bob@example.test,\r\n\tcarol@example.test\r\n" + HEAD + BODY,
        sendmail=_Taken(None, b"Cc: bob@example.test, carol@example.test\r\n" + HEAD + BODY),
    ),
    odd(
        "address without domain",
        b"Cc: bob\r\n" + HEAD + BODY,
        sendmail=_Taken(None, b"Cc: bob@mx.example.test\r\n" + HEAD + BODY),
    ),
    odd("300 folds", among(b"X-Odd: 0", *(b" %d" % number for number in range(1, 300)))),
    # Long lines, large fields
    odd("line of 998", among(b"X-Odd: " + b"a" * 991)),
    odd("line of 1500", among(b"X-Odd: " + b"a" * 1493)),
    odd(
        "line of 2048",
        among(b"X-Odd: " + b"a" * 2041),
        sendmail=_Taken(None, among(b"X-Odd: " + b"a" * 2032 + b"!", b" aaaaaaaaa")),
    ),
    odd(
        "line of 32000",
        among(b"X-Odd: " + b"a" * 31993),
        sendmail=_Taken(None, among(b"X-Odd: " + b"a" * 2032 + b"!", b" " + b"a" * 264)),
    ),
    odd(
        "section of 32768",
        HEAD + b"X: " + b"a" * 32653 + b"\r\n" + BODY,
        sendmail=_Taken(None, HEAD + b"X: " + b"a" * 2036 + b"!\r\n " + b"a" * 264 + b"\r\n" + BODY),
    ),
    odd("section of 32769", HEAD + b"X: " + b"a" * 32654 + b"\r\n" + BODY, sendmail=TOO_LARGE),
    odd(
        "line of 65535",
        among(b"X-Odd: " + b"a" * 65528),
        postfix=_Taken(among(b"X-Odd: " + b"a" * 59993)),
        sendmail=TOO_LARGE,
    ),
    odd(
        "line of 150000",
        among(b"X-Odd: " + b"a" * 149993),
        postfix=_Taken(among(b"X-Odd: " + b"a" * 59993)),
        sendmail=TOO_LARGE,
    ),
    odd(
        "field of 60000",
        among(b"X: " + b"a" * 59990, b" " + b"b" * 5, b" c"),
        postfix=_Taken(among(b"X: " + b"a" * 59990, b" bbbbb")),
        sendmail=TOO_LARGE,
    ),
    odd(
        "field of 60001",
        among(b"X: " + b"a" * 59990, b" " + b"b" * 6, b" c"),
        postfix=_Taken(among(b"X: " + b"a" * 59990)),
        sendmail=TOO_LARGE,
    ),
    odd(
        "field of 60000 up to a record",
        among(b"X: " + b"a" * 57948, b" " + b"b" * 2047 + b"c" * 5, b" c"),
        postfix=_Taken(among(b"X: " + b"a" * 57948, b" " + b"b" * 2047)),
        sendmail=TOO_LARGE,
    ),
    odd(
        "field of 70000, fold at 53999",
        among(b"X: " + b"a" * 53996, b" " + b"b" * 16000),
        postfix=_Taken(among(b"X: " + b"a" * 53996, b" " + b"b" * 5999)),
        sendmail=TOO_LARGE,
    ),
    odd(
        "field of 70000, fold at 54000",
        among(b"X: " + b"a" * 53997, b" " + b"b" * 16000),
        postfix=_Taken(among(b"X: " + b"a" * 53997)),
        sendmail=TOO_LARGE,
    ),
    odd(
        "field of 70000 in folds",
        among(b"X: a", *[b" " + b"b" * 97] * 710),
        postfix=_Taken(among(b"X: a", *[b" " + b"b" * 97] * 606)),
        sendmail=TOO_LARGE,
    ),
    odd(
        "field of folds at its limit",
        among(b"X: " + b"a" * 59990, *[b" "] * 9),
        postfix=_Taken(among(b"X: " + b"a" * 59990, b" ", b" ", b" ")),
        sendmail=TOO_LARGE,
    ),
    odd("1000 fields", HEAD + b"A: b\r\n" * 1000 + BODY),
    # Bodies
    odd("body line of 998", HEAD + b"\r\n" + b"a" * 998 + b"\r\n"),
    odd(
        "body line of 2048",
        HEAD + b"\r\n" + b"a" * 2048 + b"\r\n",
        sendmail=_Taken(None, HEAD + b"\r\n" + b"a" * 2039 + b"!\r\n aaaaaaaaa\r\n"),
    ),
    odd(
        "body line of 70000",
        HEAD + b"\r\n" + b"." * 70000 + b"\r\n",
        sendmail=_Taken(
            None, HEAD + b"\r\n" + b"." * 2039 + (b"!\r\n " + b"." * 2048) * 33 + b"!\r\n " + b"." * 410 + b"\r\n"
        ),
    ),
    odd("body of 240000", HEAD + b"\r\n" + b"0123456789\r\n" * 20000),
    odd("dots in the body", HEAD + b"\r\n.\r\n..\r\n.a\r\n. \r\n...\r\n"),
    odd(
        "dots after LF",
        HEAD + b"\r\na\n.b\n..c\n.\r\nd\r\n",
        postfix=_Taken(HEAD + b"\r\na\r\n.b\r\n..c\r\n.\r\nd\r\n"),
        sendmail=BARE_LF,
    ),
    odd("NUL in the body", HEAD + b"\r\na\0b\r\n\0\r\n\0\0c\r\n"),
    odd(
        "CR in the body",
        HEAD + b"\r\na\rb\r\n\rc\r\nd\r\r\n\r\r\n",
        postfix=_Taken(HEAD + b"\r\na b\r\n c\r\nd\r\n\r\n"),
        sendmail=BARE_CR,
    ),
    odd("CR for an empty line", HEAD + b"\r\r\nHello\r\n", postfix=_Taken(HEAD + b"\r\nHello\r\n"), sendmail=BARE_CR),
    odd("CR on the first line", b"\r\r\n" + HEAD + BODY, postfix=_Taken(b"\r\n" + HEAD + BODY), sendmail=BARE_CR),
    odd("LF in the body", HEAD + b"\r\na\nb\r\n\n", postfix=_Taken(HEAD + b"\r\na\r\nb\r\n\r\n"), sendmail=BARE_LF),
    odd(
        "CR before the first field",
        b"\rX-Odd: 1\r\n folded\r\n" + HEAD + BODY,
        postfix=_Taken(HEAD + BODY),
        sendmail=BARE_CR,
    ),
    odd(
        "CR behind an mbox line",
        MBOX + b"\rX-Odd: 1\r\n folded\r\n" + HEAD + BODY,
        postfix=_Taken(b"X-Mailbox-Line: " + MBOX + b" X-Odd: 1\r\n folded\r\n" + HEAD + BODY),
        sendmail=BARE_CR,
    ),
    odd(
        "CRs across records",
        HEAD + b"\r\n" + b"a" * 2047 + b"\r\r\nb\r\n",
        postfix=_Taken(HEAD + b"\r\n" + b"a" * 2047 + b" \r\nb\r\n"),
        sendmail=BARE_CR,
    ),
    odd("CR, then LF", HEAD + b"\r\na\rb\nc\r\n", postfix=_Taken(HEAD + b"\r\na b\r\nc\r\n"), sendmail=BARE_CR),
    odd("LF, then CR", HEAD + b"\r\na\nb\rc\r\n", postfix=_Taken(HEAD + b"\r\na\r\nb c\r\n"), sendmail=BARE_LF),
    odd(
        "LF in the body, DEL in a name",
        HEAD + b"X-\x7f: 1\r\n\r\na\nb\r\n",
        postfix=_Taken(HEAD + b"\r\nX-\x7f: 1\r\n\r\na\r\nb\r\n"),
        sendmail=syntax_error("X-\x7f: 1"),
    ),
    odd(
        "LF in the body of a large section",
        HEAD + b"X-Odd: " + b"a" * 40000 + b"\r\n\r\na\nb\r\n",
        postfix=_Taken(HEAD + b"X-Odd: " + b"a" * 40000 + b"\r\n\r\na\r\nb\r\n"),
        sendmail=TOO_LARGE,
    ),
    odd("body, 8-bit", HEAD + b"\r\ncaf\xe9 \x80\xff\r\n"),
    odd("control characters in the body", HEAD + b"\r\na\x01\x08\x0b\x0c\x1b\x7fb\r\n"),
    odd("blanks in the body", HEAD + b"\r\n \r\n\t\r\n  x  \r\n"),
    odd("fields in the body", HEAD + b"\r\nX-Odd: x\r\n folded\r\n\r\nend\r\n"),
    odd(
        "parts without colon",
        HEAD
        + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nno colon\r\n\r\ntext\r\n--x--\r\n",
        sendmail=_Taken(
            None,
            HEAD
            + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n\r\ntext\r\n--x--\r\n",
        ),
    ),
)

_BY_NAME: Final = {message.name: message for message in MESSAGES}


def _delivered_as_shown(reason: str, *names: str) -> dict[tuple[str, str], Difference]:
    """Differences of Sendmail alone, and not in what a filter is shown."""
    found = {}
    for name in names:
        fact = _BY_NAME[name].sendmail
        assert isinstance(fact, Taken)
        found[name, "sendmail"] = Difference(Taken(fact.shown, fact.shown), reason)
    return found


_DEL: Final = "Sendmail 8.17.1.9 repeats the DEL in its reply; a reply of ours holds no control characters"
_FILE: Final = "Sendmail 8.17.1.9 is sent bare LFs here; a message without any CRLF is a file to us, sent with CRLF"

DIFFERENCES: Final[dict[tuple[str, str], Difference]] = {
    ("mbox line, another in its second record", "postfix"): Difference(
        Taken(*[b"X-Mailbox-Line: From " + b"a" * 2043 + b"From b\r\n" + HEAD + BODY] * 2),
        "Postfix 3.7.11 takes the 2049th octet of such a line for the beginning of another: we do not follow an oversight",
    ),
    ("CRs across records", "postfix"): Difference(
        Taken(*[HEAD + b"\r\n" + b"a" * 2047 + b"\r\nb\r\n"] * 2),
        "Postfix 3.7.11 drops CRs before a line end, unless it has read the first of them as the 2048th octet of the line",
    ),
    ("LF throughout", "sendmail"): Difference(Taken(HEAD + BODY, HEAD + BODY), _FILE),
    ("LF throughout, and a CR", "sendmail"): Difference(BARE_CR, _FILE),
    ("DEL in a name", "sendmail"): Difference(syntax_error("X-?: value"), _DEL),
    ("DEL in two names", "sendmail"): Difference(syntax_error("Y-? : 2"), _DEL),
    ("LF in the body, DEL in a name", "sendmail"): Difference(syntax_error("X-?: 1"), _DEL),
    **_delivered_as_shown(
        "Sendmail 8.17.1.9 wraps lines of more than 2040 octets as its SMTP mailers are told to (L=2040), and loses some"
        " octets of a long header line; we hand on what it queues",
        "mbox line, quotes of a record",
        "mbox line, more quotes",
        "no colon, 5000 octets",
        "name of 2047",
        "name of 2048",
        "name and blanks of 2048",
        "name of 2046 behind a dot",
        "name of 2045 behind a dot",
        "NUL in a long value behind a dot",
        "NUL in a long value",
        "NUL in a long fold",
        "line of 2048",
        "line of 32000",
        "section of 32768",
        "body line of 2048",
        "body line of 70000",
    ),
    **_delivered_as_shown(
        "Sendmail 8.17.1.9 rewrites the addresses of header fields by the rules of its configuration; we have none",
        "fold in an address field",
        "address without domain",
    ),
    **_delivered_as_shown(
        "Sendmail 8.17.1.9 writes the parts of a MIME message anew; we do not read it",
        "parts without colon",
    ),
}
"""By name of the message, and MTA."""
