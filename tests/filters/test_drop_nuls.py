from aiomilter import Context
from aiomilter.mta import Style
from aiomilter.testing import session
from tests.filters.drop_nuls import MEMORY, DropNuls

LINE = b"0123456789\0abcdef\r\n"


async def test_a_large_body_is_replaced_and_a_clean_one_is_not(mta: Style) -> None:
    large = LINE * (MEMORY // 10)
    async with session(DropNuls, mta=mta) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        first = await s.message(b"Subject: 1\r\n\r\n" + large)
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        second = await s.message(b"Subject: 2\r\n\r\nclean\r\n")

    assert first.delivered is not None
    head, _, body = first.delivered.octets.partition(b"\r\n\r\n")
    assert head == b"Subject: 1\r\nX-Dropped-NULs: %d" % (MEMORY // 10)
    assert body == large.replace(b"\0", b"")
    assert second.modifications == ()
    assert second.delivered is not None
    assert second.delivered.octets == b"Subject: 2\r\n\r\nclean\r\n"


async def test_a_body_of_nothing_but_nuls_becomes_an_empty_line(mta: Style) -> None:
    async with session(DropNuls, mta=mta) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        result = await s.message(b"Subject: 1\r\n\r\n\0\0\r\n")

    assert result.delivered is not None
    assert result.delivered.octets == b"Subject: 1\r\nX-Dropped-NULs: 2\r\n\r\n\r\n"


async def test_the_file_is_closed_however_the_message_ends(mta: Style) -> None:
    aborted: list[DropNuls] = []

    class Watched(DropNuls):
        async def abort(self, ctx: Context) -> None:
            assert not self.kept.closed
            aborted.append(self)

    async with session(Watched, mta=mta) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        await s.data()
        await s.eoh()
        await s.body(LINE)

    assert [made.kept.closed for made in aborted] == [True]
