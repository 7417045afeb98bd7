import pytest

from aiomilter import CONTINUE, Reply
from aiomilter.testing import session
from tests.examples.test_examples import load
from tests.examples.test_messages import message

ENVELOPE = ("alice@example.org", ["bob@example.net"])


async def test_strangers_do_not_write_in_our_name() -> None:
    example = load("composed")
    async with session(example.milter) as s:
        refused = await s.send(message(), *ENVELOPE)
        passed = await s.send(message(), "x@elsewhere.example", ["alice@example.org"])
    assert refused.answer == Reply(550, "5.7.1", "Log in to send as example.org")
    assert (passed.answer, passed.edits) == (CONTINUE, ())


@pytest.mark.parametrize(("name", "removed"), [("a.exe", 1), ("a.txt", 0)])
async def test_programs_are_taken_out_and_a_footer_is_added(name: str, removed: int) -> None:
    example = load("composed")
    async with session(example.milter, macros={"auth_authen": "alice"}) as s:
        result = await s.send(message((name, b"x")), *ENVELOPE)
    assert f"X-Programs-Removed: {removed}\r\n".encode() in result.octets
    assert (b"a.exe was removed." in result.octets) is bool(removed)
    assert b"Example Ltd." in result.octets
