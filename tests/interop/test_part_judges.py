"""What other programs find in messages of many parts, and in messages that programs read differently.

MIME::Tools in one perl process for all messages, rspamd, and mail-parser.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

import pytest

from aiomilter.message.filenames import dangerous
from aiomilter.scan import Rspamd
from tests.interop.rigs.scanners import RspamdRig
from tests.message.judges import Parts, by_mime_tools, missing_mime_tools
from tests.message.made import made
from tests.message.odd import ODD, part
from tests.message.test_smuggling import NAMES, STRUCTURES
from tests.message.trees import tree
from tests.programs import need, running

pytestmark = pytest.mark.interop

TREES = [each for each in (tree(random.Random(seed)) for seed in range(80)) if len(each.parts) <= 30]
HEAD = b"From: alice@client.test\r\nSubject: hello\r\nMIME-Version: 1.0\r\n"
LUA = """\
rspamd_config:register_symbol({
    name = 'TOY_PARTS',
    callback = function(task)
        local found = {}
        for number, part in ipairs(task:get_parts() or {}) do
            local kind, subtype = part:get_type()
            -- An option has a hundred octets at most.
            local name = string.sub(part:get_filename() or '', -36)
            name = string.gsub(name, '.', function(c) return string.format('%02x', string.byte(c)) end)
            found[number] = string.format('%d %s/%s x%s', number, kind, subtype, name)
        end
        return true, 1.0, found
    end
})
rspamd_config:set_metric_symbol({ name = 'TOY_PARTS', score = 0.0 })
"""


class RspamdOfParts(RspamdRig):
    """rspamd that tells the parts that it finds."""

    lua = LUA


@pytest.fixture(scope="module")
def rspamd() -> Iterator[RspamdRig]:
    yield from running(RspamdOfParts)


def hidden_from_us(octets: bytes, theirs: Parts) -> bool:
    """Return whether a judge finds a program where ours has neither one nor doubts."""
    message = made(octets)
    attachments = [*message.attachments()]
    ours = [name for each in attachments for name in each.filenames]
    doubts = bool(attachments) and (message.ambiguous or not message.complete)
    return any(dangerous(name.strip()) for _, name in theirs) and not any(map(dangerous, ours)) and not doubts


def odd_messages() -> list[bytes]:
    names = [
        part(b"Content-Disposition: " + value.encode("utf-8", "surrogateescape") + b"\r\n") for value in NAMES.values()
    ]
    return [*ODD.values(), *STRUCTURES.values(), *names]


def test_mime_tools_finds_the_same_parts_and_names() -> None:
    need(missing_mime_tools())
    assert by_mime_tools(HEAD + each.octets for each in TREES) == [each.parts for each in TREES]


def test_no_program_that_mime_tools_finds_is_hidden_from_us() -> None:
    need(missing_mime_tools())
    messages = odd_messages()
    found = by_mime_tools(messages)
    assert sum(dangerous(name) for parts in found for _, name in parts) > 40
    assert [octets for octets, parts in zip(messages, found, strict=True) if hidden_from_us(octets, parts)] == []


async def by_rspamd(rig: RspamdRig, messages: list[bytes]) -> list[Parts]:
    async with Rspamd(rig.address) as scanner:
        results = await asyncio.gather(*[scanner.scan(octets) for octets in messages])
    assert {result.problem for result in results} == {""}
    symbols = [result.symbols.get("TOY_PARTS") for result in results]
    found = [[option.split() for option in symbol.options] if symbol else [] for symbol in symbols]
    return [[(kind, bytes.fromhex(name[1:]).decode("utf-8", "replace")) for _, kind, name in each] for each in found]


async def test_rspamd_finds_the_same_parts_and_names(rspamd: RspamdRig) -> None:
    """It leaves the escapes in names."""
    found = await by_rspamd(rspamd, [HEAD + each.octets for each in TREES])
    assert [[(kind, name.replace("\\", "")) for kind, name in each] for each in found] == [each.parts for each in TREES]


async def test_no_program_that_rspamd_finds_is_hidden_from_us(rspamd: RspamdRig) -> None:
    messages = [octets for octets in odd_messages() if octets.strip()]
    found = await by_rspamd(rspamd, messages)
    assert sum(dangerous(name) for parts in found for _, name in parts) > 40
    assert [octets for octets, parts in zip(messages, found, strict=True) if hidden_from_us(octets, parts)] == []


def test_mail_parser_finds_the_same_attachments(caplog: pytest.LogCaptureFixture) -> None:
    need(None if find_spec("mailparser") else "mail-parser is not installed (PyPI)")
    mailparser = import_module("mailparser")
    caplog.set_level(logging.CRITICAL)
    for built in TREES:
        theirs = mailparser.parse_from_bytes(HEAD + built.octets).attachments
        named = [part for part in built.parts if part[1]]
        assert [(each["mail_content_type"], each["filename"]) for each in theirs] == named
