"""Odd messages: no packet if nothing is edited, no exception whatever is read, and nothing but the edited span changes."""

from collections.abc import Callable

import pytest

from aiomilter import Context
from aiomilter.message import Message, MessageMilter, Part, ProtectedError, StructureError
from aiomilter.mta import MessageResult, Style, cut
from aiomilter.testing import session
from tests.message.made import body_of, made
from tests.message.odd import ODD
from tests.message.test_milter import doing

NAMES = [name for name in ODD if name.startswith(("name", "two dispositions"))]


async def send(milter: Callable[[], MessageMilter], octets: bytes, mta: Style = "postfix") -> MessageResult:
    async with session(milter, mta=mta) as s:
        return await s.send(octets, "alice@x.example", ["bob@y.example"])


async def read_all(message: Message) -> None:
    for field in message.headers:
        _ = field.name, field.value, field.text, field.raw, field.addresses
    message.headers.text("Subject")
    message.headers.addresses("From")
    _ = message.defects, message.complete, message.changes, message.size
    for part in message.parts():
        _ = part.content_type, part.charset, part.disposition, part.filename, part.filenames, part.extension
        _ = part.headers, part.size, part.depth, part.parent, part.is_zip, part.protected, part.defects, repr(part)
        await part.read(1000)
        await part.text(1000)
        if part.is_zip:
            await part.zip_names()
        _ = part.zip_problem
    list(message.attachments())


@pytest.mark.slow
@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
async def test_an_odd_message_is_read_without_an_exception_and_stays_as_it_is(mta: Style) -> None:
    async with session(doing(read_all), mta=mta) as s:
        for name, octets in ODD.items():
            if cut(octets, mta).refusal is None:
                result = await s.send(octets, "alice@x.example", ["bob@y.example"])
                assert (name, result.modifications) == (name, ())


@pytest.mark.slow
async def test_its_octets_are_those_that_came() -> None:
    for name, octets in ODD.items():
        seen: list[bytes] = []

        async def look(message: Message, seen: list[bytes] = seen) -> None:
            seen.append(b"".join([piece async for piece in message.octets()]))

        result = await send(doing(look), octets)
        assert (name, seen[0].rstrip()) == (name, result.octets.rstrip())


EDITS: list[Callable[[Part], object]] = [
    lambda part: part.replace("new text"),
    lambda part: part.replace(b"new octets", filename="new.bin"),
    lambda part: part.rename("renamed.txt"),
    lambda part: part.remove(),
]


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
async def test_an_edit_changes_nothing_outside_of_the_part(edit: Callable[[Part], object]) -> None:
    """Each part of each message that can be edited."""
    done = 0
    for name, octets in ODD.items():
        for number in range(1, min(5, len([*made(octets).parts()]))):
            message = made(octets)
            part = [*message.parts()][number]
            before = await body_of(message)
            try:
                edit(part)
            except (StructureError, ProtectedError):
                continue
            after, node = await body_of(message), part._node
            above, below = before[: max(0, node.delimiter)], before[node.end :]
            assert after != before, name
            assert after.startswith(above), name
            assert after.endswith(below), name
            done += 1
    assert done > 10


async def test_where_programs_see_different_parts_edits_refuse() -> None:
    refused = []

    def edit(message: Message) -> None:
        try:
            message.add_part("x")
        except StructureError:
            refused.append(name)

    for name in ODD:
        edit(made(ODD[name]))
    assert {"unclosed", "nested, same boundary", "boundary with blanks", "1100 parts", "40 deep"} <= set(refused)
    assert not {"signed", "message in a message", "nothing", "no body", "digest"} & set(refused)


@pytest.mark.parametrize("name", NAMES)
async def test_the_name_of_a_file_is_the_most_dangerous_one(name: str) -> None:
    found: list[str] = []

    def look(message: Message) -> None:
        found.extend(part.extension for part in message.attachments())

    await send(doing(look), ODD[name])
    assert found == ["exe"]


@pytest.mark.parametrize("name", ["signed", "S/MIME", "PGP inline"])
async def test_what_is_signed_is_not_edited(name: str) -> None:
    class Editing(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> None:
            message.banner("From outside.")
            for part in message.parts():
                assert part.protected
                for edit in EDITS:
                    with pytest.raises(ProtectedError):
                        edit(part)

    assert (await send(Editing, ODD[name])).modifications == ()
