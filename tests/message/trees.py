"""Messages of many parts, made by chance, with what they are made of."""

import random
from base64 import encodebytes
from quopri import encodestring
from typing import Final, NamedTuple

from tests.message.judges import Parts

__all__ = ["Tree", "tree"]

# Written as senders do, and the name that is meant.
_NAMES: Final = (
    ("{name}.txt", "{name}.txt"),
    ('"{name} (1), x.pdf"', "{name} (1), x.pdf"),
    ('"a \\"{name}\\".txt"', 'a "{name}".txt'),
    ("*=utf-8''{name}%C3%A4%20b.doc", "{name}\u00e4 b.doc"),
    ("*0*=utf-8''{name}%C3%A4; filename*1=b.; filename*2=doc", "{name}\u00e4b.doc"),
    ('*0="{name};"; filename*1=" b.doc"', "{name}; b.doc"),
)
_KINDS: Final = ("text/plain", "text/html", "application/pdf", "image/png", "application/octet-stream")
_CONTENTS: Final = (b"", b"text\r\n", b"a\r\n\r\nb", b"--\r\n--x\r\n", b"\r\n\r\n", bytes(range(256)))


class Tree(NamedTuple):
    """A message, or a part.

    Args:
        octets: Header section, empty line, body.
        parts: What is to be found.
        contents: Of each that has no parts, decoded.
    """

    octets: bytes
    parts: Parts
    contents: list[bytes]


def tree(chance: random.Random, depth: int = 0) -> Tree:
    """Return a message, or a part of one."""
    kind = chance.random()
    if depth == 0 or (depth < 4 and kind < 0.3):
        return _multipart(chance, depth)
    if depth < 4 and kind < 0.4:
        inner = tree(chance, depth + 1)
        return Tree(
            b"Content-Type: message/rfc822\r\n\r\n" + inner.octets,
            [("message/rfc822", ""), *inner.parts],
            inner.contents,
        )
    return _leaf(chance)


def _multipart(chance: random.Random, depth: int) -> Tree:
    kind = chance.choice(["mixed", "alternative", "related"])
    boundary = f"=_{chance.randrange(10**9)}".encode()
    children = [tree(chance, depth + 1) for _ in range(chance.randrange(1, 5))]
    head = f"Content-Type: multipart/{kind};\r\n\tboundary=".encode() + b'"' + boundary + b'"\r\n\r\n'
    lines = [b"--" + boundary + b"\r\n" + child.octets + b"\r\n" for child in children]
    preamble, end = chance.choice([b"", b"For old programs.\r\n"]), chance.choice([b"", b"\r\n"])
    parts = [part for child in children for part in child.parts]
    contents = [content for child in children for content in child.contents]
    body = preamble + b"".join(lines) + b"--" + boundary + b"--" + end
    return Tree(head + body, [(f"multipart/{kind}", ""), *parts], contents)


def _leaf(chance: random.Random) -> Tree:
    kind, content = chance.choice(_KINDS), chance.choice(_CONTENTS)
    fields, name = [f"Content-Type: {kind}"], ""
    if chance.random() < 0.6:
        written, meant = chance.choice(_NAMES)
        word = f"n{chance.randrange(1000)}"
        name = meant.format(name=word)
        equals = "" if written.startswith("*") else "="
        fields.append("Content-Disposition: attachment;\r\n filename" + equals + written.format(name=word))
    octets = content
    if chance.random() < 0.5 or content == _CONTENTS[-1]:
        fields.append("Content-Transfer-Encoding: base64")
        octets = encodebytes(content).replace(b"\n", b"\r\n")
    elif chance.random() < 0.5:
        fields.append("Content-Transfer-Encoding: quoted-printable")
        octets = encodestring(content).replace(b"\n", b"\r\n").replace(b"\r\r", b"\r")
    return Tree("\r\n".join([*fields, "", ""]).encode() + octets, [(kind, name)], [content])
