"""However large, deep or numerous: the loop turns, memory and descriptors are bounded, and nothing is raised.

Octets that are worked on between two turns of the loop are counted, since time depends on the machine.
"""

import asyncio
import io
import os
import resource
import zipfile
import zlib
from collections.abc import Callable, Iterator
from struct import pack
from typing import Any

import pytest

from aiomilter import Context
from aiomilter.compose import compose
from aiomilter.message import Message, MessageMilter, filenames, parts, transfer, zips
from aiomilter.message import message as messages
from aiomilter.message.incoming import Incoming
from aiomilter.message.parameters import Parametrized, read
from aiomilter.message.parts import Content
from aiomilter.message.spool import BUDGET, Spool
from aiomilter.message.structure import MAX_DEPTH, MAX_PARTS, Structure
from aiomilter.testing import session
from tests.message.made import made
from tests.message.odd import MIXED
from tests.message.test_milter import doing
from tests.message.test_odd import read_all

MOST = 2_359_296
"""Octets between two turns, each counted once for each function that looks at it: 2.25 MiB take a few milliseconds."""


class Turns:
    """Counts the octets that functions are given between two turns of the loop."""

    def __init__(self) -> None:
        self.most = self.all = self._now = 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.most, self._now = max(self.most, self._now), 0
        self._loop.call_soon(self._turn)

    def counting(self, function: Callable[..., Any], place: int) -> Callable[..., Any]:
        """Return a function that does the same, and counts its argument at a place."""

        def counted(*arguments: Any, **options: Any) -> Any:
            self._now += len(arguments[place])
            self.all += len(arguments[place])
            return function(*arguments, **options)

        return counted


@pytest.mark.slow
async def test_25_mebibytes_do_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While they come, are read, decoded and sent on with another part."""
    turns = Turns()
    monkeypatch.setattr(Structure, "feed", turns.counting(Structure.feed, 1))
    monkeypatch.setattr(Spool, "add", turns.counting(Spool.add, 1))
    monkeypatch.setattr(transfer, "_base64", turns.counting(transfer._base64, 0))
    line = b"QUJD" * 18 + b"\r\n"
    head = b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    body = head + line * (25 * 2**20 // len(line)) + b"--b--\r\n"
    sizes = []

    async def look(message: Message) -> None:
        sizes.append(len(await message.root.children[0].read(2**25)))
        message.add_part("x")

    async with session(doing(look)) as s:
        result = await s.send(MIXED + b"\r\n" + body, "a@x.example", ["bob@y.example"])
    assert sizes == [body.count(b"QUJD") * 3]
    assert len(result.octets) > len(body)
    assert turns.all > 3 * 24 * 2**20
    assert turns.most <= MOST


NAMED = b"--b\r\nContent-Disposition: attachment; filename=a%d.exe\r\n\r\nMZ\r\n"
HOSTILE: dict[str, bytes] = {
    "10,000 parts": MIXED + b"\r\n" + b"".join(NAMED % number for number in range(10_000)) + b"--b--\r\n",
    "multiparts 100,000 deep": b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (number, number) for number in range(100_000)
    ),
    "messages 100,000 deep": b"Content-Type: message/rfc822\r\n\r\n" * 100_000,
    "one boundary 100,000 deep": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 100_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
async def test_too_many_parts_are_read_without_an_exception(kind: str) -> None:
    message = made(HOSTILE[kind])
    await read_all(message)
    all_parts = [*message.parts()]
    assert len(all_parts) <= MAX_PARTS + 2
    assert max(part.depth for part in all_parts) <= MAX_DEPTH + 1
    assert message.ambiguous or not message.complete
    assert next(message.attachments()) is message.root


ODD_NAMES = {
    "sections": "".join(f'filename*{number}*="=?x{number}?q?a%41?="; ' for number in range(30)),
    "words": "".join(f'filename="=?x{number}?q?a%41?="; ' for number in range(30)),
    "one word": 'filename="' + "=?a?q?%" * 100 + '"',
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ODD_NAMES)
def test_many_odd_names_are_not_all_spelled_out(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is known to be ambiguous then."""
    spelled: list[str] = []
    spellings = filenames.spellings

    def counted(text: str) -> Iterator[str]:
        spelled.append(text)
        return spellings(text)

    monkeypatch.setattr(filenames, "spellings", counted)
    part = f"--b\r\nContent-Disposition: attachment; {ODD_NAMES[kind]}\r\n\r\nx\r\n".encode()
    message = made(MIXED + b"\r\n" + part * 990 + b"--b--\r\n")
    named = [part for part in message.attachments() if part.filenames]
    assert len(named) == 990
    assert 0 < sum(1 + len(text) // 64 for text in spelled) <= 1_500
    assert message.ambiguous
    assert named[-1].defects == {"too_many_names"}


MANY_PARAMETERS = {
    **{f"names, {kind}": f"Content-Disposition: attachment; {names}" for kind, names in ODD_NAMES.items()},
    "parameters": "Content-Disposition: inline" + "".join(f";a{number}=b" for number in range(150)),
    "folded parameters": "Content-Disposition: inline" + "".join(f";\r\n a{number}=b" for number in range(110)),
    "semicolons": "Content-Disposition: inline" + ";a" * 480,
    "short sections": "Content-Disposition: inline" + "".join(f";filename*{number}=a" for number in range(60)),
    "comments": "Content-Disposition: inline " + "(a)" * 300,
    "fields": "\r\n".join(
        ["Content-Disposition: inline;x=y;filename=a"] * 10 + ["Content-Type: text/plain;x=y;name=a"] * 10
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MANY_PARAMETERS)
def test_many_parameters_are_not_all_read(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes time: those of a thousand ordinary parts and 8,000 more are read, three times at most."""
    separators = 0

    def counted(value: str) -> Parametrized:
        nonlocal separators
        separators += sum(map(value.count, ";=("))
        return read(value)

    message = made(MIXED + b"\r\n" + f"--b\r\n{MANY_PARAMETERS[kind]}\r\n\r\nx\r\n".encode() * 990 + b"--b--\r\n")
    assert len([*message.parts()]) == 991
    monkeypatch.setattr(filenames, "read", counted)
    monkeypatch.setattr(parts, "read", counted)
    found = [*message.attachments()]
    assert 0 < separators <= 3 * (1_000 * 16 + 8_000)
    assert message.ambiguous
    assert found[-1].defects >= {"too_many_names"}


def test_a_file_keeps_its_name_whatever_other_parts_have() -> None:
    odd = f"--b\r\n{MANY_PARAMETERS['parameters']}\r\n\r\nx\r\n" * 40
    many = ";".join(f"x{number}=y" for number in range(9))
    ordinary = '--b\r\nContent-Disposition: attachment; filename*0="a.e"; filename*1=xe\r\n\r\nx\r\n'
    longer = f"--b\r\nContent-Disposition: attachment; {many}; filename=a.txt; filename=b.exe\r\n\r\nx\r\n"
    message = made(MIXED + b"\r\n" + (odd + ordinary + longer).encode() + b"--b--\r\n")
    found = [*message.attachments()][-2:]
    assert [(part.extension, "too_many_names" in part.defects) for part in found] == [("exe", False), ("exe", True)]


def entry(name: bytes, extra: int = 0, method: int = 0) -> bytes:
    """Return the header of a file in a zip file, so many octets of extra fields to follow."""
    return b"PK\3\4" + pack("<5H3I2H", 20, 0, method, 0, 0, 0, 0, 0, len(name), extra) + name


def sharing(name: bytes, entries: int) -> bytes:
    """Return a zip file of 65 kB, in which each entry lies in the extra fields of those before it, and all have the rest."""
    header, path = entry(b"a", 65_000), b"up" + pack("<H", 5 + len(name)) + bytes(5) + name
    within = b"XX" + pack("<H", len(header)) + header
    return header + within * (entries - 1) + path * (65_000 // len(path)) + b"PK\5\6"


def nested(name: bytes, files: int) -> bytes:
    """Return a zip file of zip files of 500 entries each."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(entry(name) * 500 + b"PK\5\6") + packer.flush()
    return (entry(b"a.zip", method=8) + packed) * files + b"PK\5\6"


@pytest.mark.slow
@pytest.mark.parametrize(
    "octets",
    [sharing(b"a", 20), sharing("\N{LATIN SMALL LETTER A WITH DIAERESIS}".encode(), 20), nested(b"\xc3\xa4", 50)],
    ids=["plain", "odd", "nested"],
)
def test_what_stands_in_a_zip_file_over_and_over_is_not_read_over_and_over(
    octets: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counted(octets: bytes, at: int, size: int) -> int:
        read.append(size)
        return int.from_bytes(octets[at : at + size], "little")

    monkeypatch.setattr(zips, "_number", counted)
    found = zips.zip_names(octets)
    assert found.problem == "too many"
    assert 0 < len(read) <= 4 * 20_000 + 65_000


@pytest.mark.slow
def test_the_names_of_a_thousand_files_are_read_however_they_are_written() -> None:
    names = [f"{number}/" + "\N{CYRILLIC SMALL LETTER YA}" * 120 + ".txt" for number in range(990)]
    with zipfile.ZipFile(made_zip := io.BytesIO(), "w") as file:
        for name in names:
            info = zipfile.ZipInfo(name)
            octets = name.encode()
            info.extra = b"up" + pack("<HBI", 5 + len(octets), 1, zlib.crc32(octets)) + octets
            file.writestr(info, b"")
    found = zips.zip_names(made_zip.getvalue())
    assert found.problem == ""
    assert set(names) <= set(found.names)


CONNECTIONS = 1_000
ROOM = 200
"""Descriptors that are left."""


@pytest.mark.slow
@pytest.mark.parametrize("limited", [False, True])
async def test_a_thousand_connections_spool_at_once(limited: bool) -> None:
    """One descriptor each; where there are not so many the rest fails, which is ``on_error``, and all are given back."""
    before, used = len(os.listdir("/proc/self/fd")), BUDGET.used
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = before + ROOM if limited else before + CONNECTIONS + 100
    if hard != resource.RLIM_INFINITY and wanted > hard:
        pytest.skip(f"needs {wanted} descriptors, and there are {hard}")
    all_here = [Incoming(2**20, 10_000, None, keeps=True) for _ in range(CONNECTIONS)]
    most = 0

    async def spool(incoming: Incoming) -> None:
        nonlocal most
        for _ in range(3):
            await incoming.take(b"x" * 10_001)
            most = max(most, BUDGET.used)

    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        results = await asyncio.gather(*map(spool, all_here), return_exceptions=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    failed = [result for result in results if result is not None]
    open_now = len(os.listdir("/proc/self/fd")) - before
    for incoming in all_here:
        incoming.close()
    assert all(isinstance(each, OSError) for each in failed)
    assert (len(failed) > 0) is limited
    assert CONNECTIONS - len(failed) <= open_now <= (ROOM + 10 if limited else CONNECTIONS + 10)
    assert most - used <= CONNECTIONS * 2 * 10_001
    assert (BUDGET.used, len(os.listdir("/proc/self/fd"))) == (used, before)


class Named(MessageMilter):
    """Looks at the names of all files."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def message(self, ctx: Context, message: Message) -> None:
        self.log.append("message")
        self.log += [f"{sum(part.extension == 'exe' for part in message.attachments())} programs"]


@pytest.mark.parametrize("composed", [False, True])
@pytest.mark.parametrize(("count", "turns"), [(10, 0), (200, 200)])
async def test_names_of_many_parts_are_read_with_turns_of_the_loop_in_between(
    count: int, turns: int, composed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the filter goes through them, which it does in one go."""
    log: list[str] = []
    read = Content.filenames

    def noted(self: Content, values: Any, node: Any) -> Any:
        log.append("name")
        return read(self, values, node)

    async def turn(delay: float) -> None:
        log.append("turn")

    monkeypatch.setattr(Content, "filenames", noted)
    monkeypatch.setattr(messages, "_AT_ONCE", -1.0)
    monkeypatch.setattr(messages, "sleep", turn)
    part = f"--b\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\n{'x' * (90_000 // count)}\r\n".encode()
    octets = MIXED + b"\r\n" + part * count + b"--b--\r\n"
    made: Any = (lambda: Named(log)) if not composed else compose(lambda: Named(log))
    async with session(made) as s:
        await s.send(octets, "alice@example.org", ["bob@example.net"])

    before, after = log[: log.index("message")], log[log.index("message") :]
    assert before.count("turn") == (turns + 1 if turns else 0)
    assert (before if turns else after).count("name") == count + 1
    assert after[-1] == f"{count} programs"
    assert "name" not in (after if turns else before)
