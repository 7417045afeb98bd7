"""What two other programs have signed verifies after edits at the ends of the header section, for both of them."""

import re
from collections.abc import Callable
from itertools import cycle
from typing import Final

import pytest

from aiomilter.message import Message
from aiomilter.mta import Style
from aiomilter.testing import session
from tests.auth.dkim.made import MESSAGES, key
from tests.auth.dkim.oracles import Verified, dkimpy, mail_dkim, to_sign, to_verify
from tests.message.test_milter import doing

pytestmark = [pytest.mark.interop, pytest.mark.slow]

KEY: Final = key("rsa")
RECORDS: Final = {KEY.name: KEY.record()}
FORMS: Final = [f"{header}/{body}" for header in ("simple", "relaxed") for body in ("simple", "relaxed")]
ORIGINALS: Final = [octets for name, octets in MESSAGES.items() if name != "no line end"][:8]


def at_the_top(message: Message) -> None:
    message.headers.prepend("X-Scanned", "clean")
    message.headers.prepend("X-Folded", "", raw=b"\r\n\tone\r\n two")


def at_the_end(message: Message) -> None:
    message.headers.append("X-Scanned", "clean")
    message.headers.append("X-None", "", raw=b"")


def at_both(message: Message) -> None:
    at_the_top(message)
    at_the_end(message)


def changed(message: Message) -> None:
    field = next(field for field in message.headers if field.name.lower() == "from")
    message.headers.replace(field, "Mallory <mallory@x.example>")


EDITS: Final[list[Callable[[Message], None]]] = [lambda message: None, at_the_top, at_the_end, at_both]


STYLES: Final[tuple[Style, ...]] = ("postfix", "sendmail")


async def test_a_signature_verifies_after_edits_at_the_ends() -> None:
    questions = [to_sign(octets, KEY, form) for octets, form in zip(ORIGINALS, cycle(FORMS), strict=False)]
    signed = []
    for judge in (mail_dkim, dkimpy):
        for (field,), octets in zip(judge(questions), ORIGINALS, strict=True):
            signed.append(re.sub(rb"\r*\n", b"\r\n", field.encode().rstrip()) + b"\r\n" + octets)
    delivered: list[Verified] = []
    for edit in (*EDITS, changed):
        for mta in STYLES:
            async with session(doing(edit), mta=mta) as s:
                for octets in signed:
                    result = await s.send(octets, "alice@x.example", ["bob@y.example"])
                    delivered.append(Verified(result.octets, RECORDS))
    number = len(signed) * len(STYLES)
    wanted = ["pass"] * len(EDITS) * number + ["fail"] * number
    for judge in (mail_dkim, dkimpy):
        found = [results for (results,) in judge([to_verify(each) for each in delivered])]
        assert ["pass" if result == "pass" else "fail" for result in found] == wanted
