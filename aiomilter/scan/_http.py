"""Read the answer to one HTTP request.

Source: RFC 9112 section 6.
"""

import re
from typing import Final

from aiomilter.scan._exchange import Answer
from aiomilter.scan._trouble import Unavailable, name_shown

__all__ = ["read_response"]

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([2-5][0-9]{2})(?: [\x20-\x7e\x80-\xff]*)?")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e]*)?")
_DIGITS: Final = re.compile(rb"[0-9]{1,9}")
_LONGEST_LINE: Final = 1_000


async def read_response(answer: Answer) -> tuple[int, bytes]:
    """Return status and content of an answer.

    Raises:
        Unavailable: It is not one, is too long or ends too early.
    """
    lines = (await answer.until(b"\r\n\r\n")).split(b"\r\n")
    status = _STATUS.fullmatch(lines[0])
    if status is None:
        raise Unavailable(f"expected an answer of HTTP, found {name_shown(lines[0][:_LONGEST_LINE])!r}")
    coding, lengths = [], set()
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        match name.lower():
            case b"transfer-encoding":
                coding.append(value.strip().lower())
            case b"content-length":
                lengths.add(value.strip())
    if coding not in ([], [b"chunked"]) or len(lengths) > 1 or (coding and lengths):
        raise Unavailable("expected an answer whose end is clear")
    if coding:
        content = await _read_chunks(answer)
    elif lengths:
        length = lengths.pop()
        if not _DIGITS.fullmatch(length):
            raise Unavailable(f"expected a length of its answer, found {name_shown(length[:_LONGEST_LINE])!r}")
        content = await answer.exactly(int(length))
    else:
        content = await answer.rest()
    return int(status[1]), content


async def _read_chunks(answer: Answer) -> bytes:
    chunks: list[bytes] = []
    while True:
        size = _CHUNK.fullmatch(await answer.until(b"\r\n"))
        if size is None:
            raise Unavailable("expected the size of a chunk of its answer")
        if not int(size[1], 16):
            return b"".join(chunks)
        chunks.append(await answer.exactly(int(size[1], 16)))
        if await answer.exactly(2) != b"\r\n":
            raise Unavailable("expected the end of a chunk of its answer")
