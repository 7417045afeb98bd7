"""The body's hash, against a plain reading of RFC 6376 that has the whole body at hand."""

import hashlib
import re
import tracemalloc
from base64 import b64encode
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth.dkim._body import BodyHashes, BodyStream
from aiomilter.auth.dkim._canonical import Form


def reference(body: bytes, form: Form) -> bytes:
    """Return the canonical body, line by line."""
    lines = body.split(b"\r\n")
    if form == "relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines) or (b"\r\n" if form == "simple" else b"")


def hashed(chunks: list[bytes], form: Form, length: int | None = None) -> tuple[bytes, int]:
    """Return hash and size of a body that comes in chunks."""
    hashes = BodyHashes(1)
    digest = hashes.want("sha256", form, length)
    assert digest is not None
    for chunk in chunks:
        hashes.update(chunk)
    hashes.finish()
    return digest.digest(), hashes.size(form)


def expected(body: bytes, form: Form, length: int | None = None) -> tuple[bytes, int]:
    canonical = reference(body, form)
    return hashlib.sha256(canonical if length is None else canonical[:length]).digest(), len(canonical)


FORMS: Final[tuple[Form, ...]] = ("simple", "relaxed")

# Body, simple, relaxed: RFC 6376 sections 3.4.3, 3.4.4 and 3.4.5.
BODIES = [
    (b"", b"\r\n", b""),
    (b"\r\n", b"\r\n", b""),
    (b"\r\n\r\n\r\n", b"\r\n", b""),
    (b" \t\r\n \r\n", b" \t\r\n \r\n", b""),
    (b" ", b" \r\n", b""),
    (b"a", b"a\r\n", b"a\r\n"),
    (b"a\r\n", b"a\r\n", b"a\r\n"),
    (b"a\r\n\r\n\r\n", b"a\r\n", b"a\r\n"),
    (b"\r\na\r\n", b"\r\na\r\n", b"\r\na\r\n"),
    (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),
    (b"a \t", b"a \t\r\n", b"a\r\n"),
    # A bare CR or LF is an octet like any other.
    (b"a\r", b"a\r\r\n", b"a\r\r\n"),
    (b"a\n", b"a\n\r\n", b"a\n\r\n"),
    (b"a \r", b"a \r\r\n", b"a \r\r\n"),
    (b"a \rb\r\n", b"a \rb\r\n", b"a \rb\r\n"),
    (b"\r", b"\r\r\n", b"\r\r\n"),
    (b"\n\r\n", b"\n\r\n", b"\n\r\n"),
    (b"\r\r\n\r\n", b"\r\r\n", b"\r\r\n"),
    (b"a\r\n\n", b"a\r\n\n\r\n", b"a\r\n\n\r\n"),
    # Blanks are spaces and tabs alone.
    (b"a \x0b\x0c b\xa0\r\n", b"a \x0b\x0c b\xa0\r\n", b"a \x0b\x0c b\xa0\r\n"),
    (b"\0 \0\r\n", b"\0 \0\r\n", b"\0 \0\r\n"),
]


@pytest.mark.parametrize(("body", "simple", "relaxed"), BODIES)
def test_bodies_of_the_rfc_and_beyond(body: bytes, simple: bytes, relaxed: bytes) -> None:
    """D-022."""
    for form, canonical in (("simple", simple), ("relaxed", relaxed)):
        assert reference(body, form) == canonical  # type: ignore[arg-type]  # a tuple's texts are not literal
        wanted = (hashlib.sha256(canonical).digest(), len(canonical))
        for size in (1, 2, 3, 1000):
            chunks = [body[at : at + size] for at in range(0, len(body), size)]
            assert hashed(chunks, form) == wanted, size  # type: ignore[arg-type]  # as above


def test_hashes_of_empty_bodies() -> None:
    """D-025."""
    assert b64encode(hashed([], "simple")[0]) == b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="
    assert b64encode(hashed([], "relaxed")[0]) == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


# Line ends and blanks, and now and then something else.
BODY = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b"\t", b"a", b"\xff", b"\r\n\r\n", b"  "])).map(b"".join)


@given(BODY, st.lists(st.integers(0, 12)), st.sampled_from(FORMS), st.none() | st.integers(0, 40))
def test_any_split_of_any_body_gives_the_hash_of_the_whole(
    body: bytes, sizes: list[int], form: Form, length: int | None
) -> None:
    """D-022, D-024, D-042."""
    chunks, at = [], 0
    for size in sizes:
        chunks.append(body[at : at + size])
        at += size
    chunks.append(body[at:])
    assert hashed(chunks, form, length) == expected(body, form, length)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "body",
    [
        b"\r\n" * 200_000 + b"x",
        b" " * 200_000 + b"x",
        b"x" + b"\t \r\n" * 100_000,
        (b"a" * 65_534 + b"\r\n") * 3,
        (b"a" * 65_535 + b"\r\n ") * 3,
        b"\r" * 150_000,
        b"a  b \r\n" * 40_000,
    ],
    ids=["line ends", "blanks", "blank lines", "CR at the cut", "CRLF at the cut", "CRs", "text"],
)
def test_large_bodies_are_cut_where_it_does_not_matter(body: bytes, form: Form) -> None:
    assert hashed([body], form) == expected(body, form)


def test_each_hash_is_made_once() -> None:
    """D-020."""
    hashes = BodyHashes(3)
    assert hashes.want("sha256", "simple") is hashes.want("sha256", "simple")
    assert hashes.want("sha256", "relaxed") is not hashes.want("sha256", "simple")


def test_more_hashes_than_are_allowed_are_not_made() -> None:
    """D-071."""
    hashes = BodyHashes(3)
    wanted = [hashes.want("sha256", "simple", length) for length in (None, 1, 2, 3)]
    assert [digest is None for digest in wanted] == [False, False, False, True]
    assert hashes.want("sha256", "simple", 2) is wanted[2]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_large_body_is_not_kept(form: Form) -> None:
    """D-024: megabytes of text, and of empty lines that may be the end."""
    hashes = BodyHashes(1)
    hashes.want("sha256", form)
    text, empty = b"Hello  Bob, \t see you.\r\n" * 2_730, b"\r\n" * 32_767
    hashes.update(text)
    tracemalloc.start()
    try:
        for _ in range(60):
            hashes.update(text)
            hashes.update(empty)
        for _ in range(120):
            hashes.update(empty)
        hashes.update(b"x")
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 4_096
    assert peak < 1_000_000


def test_a_stream_keeps_what_is_undecided_alone() -> None:
    stream = BodyStream("relaxed")
    for chunk in (b"a \t", b" ", b"\r", b"\n", b"\r\n\r\n", b" \t \r"):
        stream.update(chunk)
    kept = [getattr(stream, name) for name in stream.__slots__ if name not in ("_form", "_sinks")]
    assert all(isinstance(value, int) for value in kept)
