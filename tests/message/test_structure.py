"""Parts are found wherever the body is cut, as ``email`` finds them where mail programs agree."""

import email
import email.policy
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.message.structure import Node, Structure

MIXED = b'Content-Type: multipart/mixed; boundary="b"\r\n'


def found(head: bytes, body: bytes, cuts: tuple[int, ...] = (), **limits: int) -> Structure:
    structure = Structure(head, **limits)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, stop in pairwise(edges):
        structure.feed(body[start:stop])
    structure.end()
    return structure


def shown(structure: Structure, body: bytes) -> list[tuple[str, bytes]]:
    """Type and content of each part that has no parts."""
    return [(node.type.main, body[node.body : node.stop]) for node in structure.root.walk() if not node.opens]


def plain(*contents: bytes, boundary: bytes = b"b", head: bytes = b"") -> bytes:
    parts = b"".join(b"--" + boundary + b"\r\n" + head + b"\r\n" + content + b"\r\n" for content in contents)
    return parts + b"--" + boundary + b"--\r\n"


# Body of a multipart/mixed with the boundary b; contents of its leaves; defects.
BODIES: list[tuple[bytes, list[bytes], set[str]]] = [
    (plain(b"one", b"two"), [b"one", b"two"], set()),
    (plain(b"", b"", b"x"), [b"", b"", b"x"], set()),
    (b"preamble\r\n" + plain(b"one") + b"\r\n\r\n", [b"one"], set()),
    (plain(b"one") + b"more\r\n", [b"one"], {"text_after_end"}),
    (plain(b"one") + plain(b"two"), [b"one"], {"boundary_after_end", "text_after_end"}),
    (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n", [b"one", b"two\r\n"], {"unclosed_multipart"}),
    (b"--b \r\n\r\none\r\n--b-- \t\r\n", [b"one"], {"padded_delimiter"}),
    (b"--b\r\n\r\none\r\n--bc\r\ntwo\r\n--b--", [b"one\r\n--bc\r\ntwo"], {"boundary_with_text"}),
    (b"--b\r\nX: 1\r\n--b\r\n\r\ntwo\r\n--b--", [b"", b"two"], {"no_empty_line"}),
    (b"--b\r\n--b--", [b""], {"no_empty_line"}),
    (b"--b", [b""], {"no_empty_line", "unclosed_multipart"}),
    (b"nothing", [], {"unclosed_multipart"}),
    (b"", [], {"unclosed_multipart"}),
    (b"--b--\r\n", [], set()),
    (b"a\r\n --b\r\n-- b\r\n--B\r\n" + plain(b"one"), [b"one"], set()),
    (plain(b"a\nb"), [b"a\nb"], {"bare_line_end"}),
    (plain(b"a\rb"), [b"a\rb"], {"bare_line_end"}),
    (
        plain(plain(b"in", boundary=b"c"), head=b"Content-Type: multipart/mixed; boundary=c\r\n"),
        [b"in"],
        set(),
    ),
    (
        plain(plain(b"in"), head=b"Content-Type: multipart/mixed; boundary=b\r\n"),
        [b"in"],
        {"nested_same_boundary"},
    ),
    (
        plain(b"--c\r\n\r\nin\r\n", head=b"Content-Type: multipart/mixed; boundary=c\r\n"),
        [b"in\r\n"],
        {"unclosed_multipart"},
    ),
    (plain(b"in", head=b"Content-Type: multipart/mixed\r\n"), [b"in"], {"no_boundary"}),
    (plain(b"in", head=b"Content-Type: text/a\r\nContent-Type: text/b\r\n"), [b"in"], {"content_type_conflict"}),
    (plain(b"in", head=b"Content-Type: text/a; x=1; x=2\r\n"), [b"in"], {"content_type_conflict"}),
    (plain(b"Subject: s\r\n\r\ninner", head=b"Content-Type: message/rfc822\r\n"), [b"inner"], set()),
    (
        plain(b"aW4=", head=b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n"),
        [b"aW4="],
        {"encoded_message"},
    ),
]


@pytest.mark.parametrize(("body", "contents", "defects"), BODIES)
def test_parts_and_what_is_wrong_with_them_are_found(body: bytes, contents: list[bytes], defects: set[str]) -> None:
    structure = found(MIXED, body)
    assert [content for _, content in shown(structure, body)] == contents
    assert structure.defects == defects
    assert structure.complete


@pytest.mark.parametrize(("body", "contents", "defects"), BODIES)
def test_where_the_body_is_cut_does_not_matter(
    body: bytes, contents: list[bytes], defects: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiomilter.message.structure._STEP", 1)
    for cuts in [tuple(range(len(body))), *((cut,) for cut in range(len(body)))]:
        structure = found(MIXED, body, cuts)
        assert [content for _, content in shown(structure, body)] == contents
        assert structure.defects == defects
        assert offsets(structure) == offsets(found(MIXED, body))


def offsets(structure: Structure) -> list[tuple[int, ...]]:
    return [(n.depth, n.delimiter, n.start, n.body, n.stop, n.end, n.close) for n in structure.root.walk()]


def trees(chance: random.Random, depth: int = 0) -> tuple[bytes, bytes, list[bytes]]:
    """Return header section and body of a part made by chance, and its leaves."""
    if depth < 4 and chance.random() < (0.9 if depth == 0 else 0.4):
        boundary = f"b{chance.randrange(10**9)}".encode()
        parts = [trees(chance, depth + 1) for _ in range(chance.randrange(1, 4))]
        lines = [b"--" + boundary + b"\r\n" + head + b"\r\n" + body + b"\r\n" for head, body, _ in parts]
        preamble = chance.choice([b"", b"preamble\r\n"])
        body = preamble + b"".join(lines) + b"--" + boundary + b"--" + chance.choice([b"", b"\r\n"])
        head = b'Content-Type: multipart/mixed;\r\n boundary="' + boundary + b'"\r\n'
        return head, body, [leaf for _, _, leaves in parts for leaf in leaves]
    content = chance.choice([b"", b"text", b"a\r\nb\r\n", b"--\r\n--x\r\n", b"\r\n\r\n"])
    return chance.choice([b"", b"Content-Type: text/html\r\n"]), content, [content]


@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 500), max_size=5))
def test_trees_are_found_again(seed: int, cuts: list[int]) -> None:
    head, body, leaves = trees(random.Random(seed))
    structure = found(head, body, tuple(cuts))
    assert [body[node.body : node.stop] for node in structure.root.walk() if not node.opens] == leaves
    assert structure.defects == set()
    theirs = email.message_from_bytes(head + b"\r\n" + body, policy=email.policy.SMTP)
    assert len(list(theirs.walk())) == sum(1 for _ in structure.root.walk())


@given(body=st.lists(st.sampled_from([b"--b", b"--", b"\r\n", b"\r", b"\n", b"b", b":", b" ", b"x" * 50]), max_size=40))
def test_any_octets_are_a_body(body: list[bytes]) -> None:
    octets = b"".join(body)
    structure = found(MIXED, octets, tuple(range(0, len(octets), 7)))
    for node in structure.root.walk():
        check_offsets(node, octets)


def check_offsets(node: Node, octets: bytes) -> None:
    assert 0 <= node.start <= node.body <= node.stop <= len(octets)
    for child in node.children:
        assert node.body - 2 <= child.delimiter <= child.start
        assert child.stop <= max(node.stop, child.body)


def chunks(octets: bytes, size: int = 65_535) -> Iterator[bytes]:
    return (octets[at : at + size] for at in range(0, len(octets), size))


LARGE = 2_000_000
# Bodies that a parser might take long for; the root's header section is MIXED.
HOSTILE = {
    "parts": b"--b\r\n\r\n" * (LARGE // 7),
    "resembling": b"--bx\r\n" * (LARGE // 6),
    "closings": b"--b--\r\n" * (LARGE // 7),
    "hyphens": b"--" * (LARGE // 2),
    "hyphen lines": b"--\r\n" * (LARGE // 4),
    "line ends": b"\r\n" * (LARGE // 2),
    "no line end": b"--b" + b"x" * LARGE,
    "head without end": b"--b\r\n" + b"X: 1\r\n" * (LARGE // 6),
    "depth": b"".join(
        b'--%b\r\nContent-Type: multipart/mixed; boundary="%d"\r\n\r\n' % (b"%d" % (n - 1) if n else b"b", n)
        for n in range(LARGE // 60)
    ),
    "nested messages": b"--b\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * (LARGE // 32),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_bodies_take_few_steps(kind: str) -> None:
    structure = Structure(MIXED)
    most = 0
    for chunk in chunks(HOSTILE[kind]):
        before = structure.steps
        structure.feed(chunk)
        most = max(most, structure.steps - before)
        assert len(structure._data) <= 65_536 + 65_536 + 2
    structure.end()
    assert structure.steps <= 2_100
    assert sum(1 for _ in structure.root.walk()) <= 1_002
    assert max(node.depth for node in structure.root.walk()) <= 33


def test_more_than_is_looked_for_is_not_complete() -> None:
    assert not found(MIXED, plain(*[b"x"] * 5), max_parts=4).complete
    assert found(MIXED, plain(*[b"x"] * 4), max_parts=4).complete
    inner = plain(plain(b"x", boundary=b"c"), head=b"Content-Type: multipart/mixed; boundary=c\r\n")
    assert not found(MIXED, inner, max_depth=1).complete
    assert found(MIXED, inner, max_depth=2).complete
    assert not found(MIXED, plain(b"x", head=b"X: " + b"y" * 200 + b"\r\n"), max_head=100).complete


def test_a_body_without_parts_is_not_looked_at() -> None:
    structure = Structure(b"Subject: x\r\n")
    structure.feed(b"--b\r\n" * 10_000)
    structure.end()
    assert (structure.steps, structure.root.stop) == (0, 50_000)
    assert structure.defects == set()


class Counted(bytes):
    """Octets that know how often they were searched for line ends."""

    counts = 0

    def count(self, *args: object) -> int:
        Counted.counts += 1
        return super().count(*args)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("head", "searched"),
    [(b"Subject: x\r\n", 0), (b"Content-Type: text/html\r\n", 0), (MIXED, 3)],
    ids=["no type", "text", "multipart, until the first"],
)
def test_line_ends_are_counted_only_where_there_may_be_parts(head: bytes, searched: int) -> None:
    Counted.counts = 0
    structure = Structure(head)
    for _ in range(5):
        structure.feed(Counted(b"a\nb\r\n"))
    structure.end()
    assert Counted.counts == searched
    assert ("bare_line_end" in structure.defects) == bool(searched)
