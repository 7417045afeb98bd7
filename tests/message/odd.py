"""Odd messages: what senders, and attackers, have sent.  Each is kept octet for octet, and every accessor gives an answer."""

from typing import Final

MIXED: Final = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'


def part(head: bytes, content: bytes = b"x") -> bytes:
    return MIXED + b"\r\n--b\r\n" + head + b"\r\n" + content + b"\r\n--b--\r\n"


def single(*fields: bytes, body: bytes = b"x\r\n") -> bytes:
    return b"\r\n".join(fields) + b"\r\n\r\n" + body


ODD: Final[dict[str, bytes]] = {
    # Header sections
    "nothing": b"",
    "empty line": b"\r\n",
    "no body": b"Subject: x\r\n\r\n",
    "no empty line": b"Subject: x\r\n",
    "body alone": b"\r\nbody\r\n",
    "no blank after the colon": single(b"Subject:x"),
    "two blanks after the colon": single(b"Subject:  x"),
    "tab after the colon": single(b"Subject:\tx"),
    "fold after the colon": single(b"Subject:\r\n x"),
    "empty value": single(b"Subject:"),
    "blanks for a value": single(b"Subject:   "),
    "blank line in a fold": single(b"Subject: a\r\n \r\n b"),
    "trailing blanks": single(b"Subject: x  "),
    "8-bit in a value": single(b"Subject: caf\xc3\xa9"),
    "Latin-1 in a value": single(b"Subject: caf\xe9"),
    "two From": single(b"From: a@x.example", b"From: b@y.example"),
    "two Subject": single(b"Subject: a", b"Subject: b"),
    "two Content-Type": single(b"Content-Type: text/plain", b"Content-Type: text/html"),
    "encoded words": single(b"Subject: =?utf-8?q?caf=C3=A9?= =?x-none?b?eA==?= =?utf-8?b?///?="),
    "encoded word without end": single(b"Subject: =?utf-8?q?" + b"a" * 100),
    "addresses": single(b'From: "a, b" <c@x.example>, (x (y) z) d@x.example, g: e@x.example;, <@r:f@x.example>, "'),
    "address of brackets": single(b"From: " + b"<" * 200),
    "address of quotes": single(b"From: " + b'"' * 201),
    "address of comments": single(b"From: " + b"(" * 200),
    # Types
    "type without slash": single(b"Content-Type: text"),
    "type of nothing": single(b"Content-Type: "),
    "type of semicolons": single(b"Content-Type: ;;;;=;=;"),
    "type with a comment": single(b"Content-Type: text/plain (a comment); (another) charset=utf-8"),
    "charset that is none": single(b"Content-Type: text/plain; charset=x-none"),
    "charset that is a codec": single(b"Content-Type: text/plain; charset=hex"),
    "charset that is idna": single(b"Content-Type: text/plain; charset=idna", body=b"xn--\xff\r\n"),
    "charset with NUL": single(b"Content-Type: text/plain; charset=\xffutf-8"),
    "two charsets": single(b"Content-Type: text/plain; charset=utf-8; charset=utf-7"),
    "utf-7": single(b"Content-Type: text/plain; charset=utf-7", body=b"+ADw-\r\n"),
    "encoding that is none": single(b"Content-Transfer-Encoding: x-none"),
    "two encodings": single(b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: 7bit"),
    "broken base64": single(b"Content-Transfer-Encoding: base64", body=b"a=b=c==d\r\n*\r\n"),
    "base64 of one character": single(b"Content-Transfer-Encoding: base64", body=b"a\r\n"),
    "base64 behind padding": single(b"Content-Transfer-Encoding: base64", body=b"YQ==Yg==\r\n"),
    "broken quoted-printable": single(
        b"Content-Transfer-Encoding: quoted-printable", body=b"a=\r\n=ZZ=3\r\n=\r\n=\r\n"
    ),
    "uuencode": single(b"Content-Transfer-Encoding: x-uuencode", body=b"begin 644 a\r\n#0V%T\r\n`\r\nend\r\n"),
    # Multiparts
    "multipart without boundary": single(b"Content-Type: multipart/mixed"),
    "multipart with an empty boundary": single(
        b'Content-Type: multipart/mixed; boundary=""', body=b"--\r\n\r\nx\r\n----\r\n"
    ),
    "boundary with blanks": single(
        b'Content-Type: multipart/mixed; boundary="b "', body=b"--b \r\n\r\nx\r\n--b --\r\n"
    ),
    "boundary that is long": single(b'Content-Type: multipart/mixed; boundary="' + b"b" * 300 + b'"'),
    "two boundaries": single(
        b"Content-Type: multipart/mixed; boundary=b; boundary=c", body=b"--c\r\n\r\nx\r\n--c--\r\n"
    ),
    "boundary in sections": single(
        b"Content-Type: multipart/mixed; boundary*0=a; boundary*1=b", body=b"--ab\r\n\r\nx\r\n--ab--\r\n"
    ),
    "no parts": MIXED + b"\r\nnothing here\r\n",
    "closed at once": MIXED + b"\r\n--b--\r\n",
    "unclosed": MIXED + b"\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n",
    "unclosed, no line end": MIXED + b"\r\n--b\r\n\r\none\r\n--b",
    "blanks behind a boundary": MIXED + b"\r\n--b \t\r\n\r\none\r\n--b--  \r\n",
    "text behind a boundary": MIXED + b"\r\n--b x\r\n\r\none\r\n--b--x\r\n",
    "preamble and epilogue": MIXED + b"\r\npreamble\r\n--b\r\n\r\none\r\n--b--\r\nepilogue\r\n",
    "parts after the end": MIXED + b"\r\n--b\r\n\r\none\r\n--b--\r\n--b\r\n\r\ntwo\r\n--b--\r\n",
    "nested, same boundary": part(b"Content-Type: multipart/mixed; boundary=b\r\n", b"--b\r\n\r\nx\r\n--b--"),
    "nested, one a prefix": part(b"Content-Type: multipart/mixed; boundary=bb\r\n", b"--bb\r\n\r\nx\r\n--bb--"),
    "part without empty line": MIXED + b"\r\n--b\r\nContent-Type: text/html\r\n--b--\r\n",
    "part without header section": part(b""),
    "part that is empty": MIXED + b"\r\n--b\r\n\r\n--b\r\n\r\n\r\n--b--\r\n",
    "line without colon in a part": part(b"no colon\r\nContent-Type: text/html\r\n"),
    "fold at the top of a part": part(b" folded\r\nContent-Type: text/html\r\n"),
    "message in a message": part(b"Content-Type: message/rfc822\r\n", b"Subject: inner\r\n\r\nhello"),
    "message in base64": part(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n", b"QTogMQ=="),
    "multipart in base64": part(
        b"Content-Type: multipart/mixed; boundary=c\r\nContent-Transfer-Encoding: base64\r\n", b"LS1j"
    ),
    "digest": b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: inner\r\n\r\nhello\r\n--b--\r\n",
    "delivery status": part(
        b"Content-Type: message/delivery-status\r\n", b"Reporting-MTA: dns; x\r\n\r\nAction: failed"
    ),
    "partial message": single(b"Content-Type: message/partial; id=a; number=1; total=2"),
    "external body": single(b"Content-Type: message/external-body; access-type=URL"),
    "40 deep": b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(40)),
    "1100 parts": MIXED + b"\r\n" + b"--b\r\n\r\nx\r\n" * 1_100 + b"--b--\r\n",
    # Names
    "name in quotes": part(b'Content-Disposition: attachment; filename="a \\"b\\".exe"\r\n'),
    "name in RFC 2231": part(b"Content-Disposition: attachment; filename*=utf-8''a%2eexe\r\n"),
    "name in sections": part(b'Content-Disposition: attachment; filename*0="a.e"; filename*1="xe"\r\n'),
    "name in an encoded word": part(b'Content-Disposition: attachment; filename="=?utf-8?b?YS5leGU=?="\r\n'),
    "name of a type": part(b'Content-Type: application/octet-stream; name="a.exe"\r\n'),
    "names that differ": part(
        b'Content-Type: text/plain; name="a.exe"\r\nContent-Disposition: inline; filename="a.txt"\r\n'
    ),
    "name with a path": part(b'Content-Disposition: attachment; filename="C:\\\\x\\\\a.exe"\r\n'),
    "name with a dot at the end": part(b'Content-Disposition: attachment; filename="a.exe. ."\r\n'),
    "name with an override": part(b"Content-Disposition: attachment; filename*=utf-8''a%E2%80%AEtxt.exe\r\n"),
    "name with NUL": part(b"Content-Disposition: attachment; filename*=utf-8''a.exe%00.txt\r\n"),
    "name without quotes": part(b"Content-Disposition: attachment; filename=a b.exe\r\n"),
    "name without end": part(b'Content-Disposition: attachment; filename="a.exe\r\n'),
    "name twice": part(b"Content-Disposition: attachment; filename=a.txt; filename=a.exe\r\n"),
    "two dispositions": part(
        b"Content-Disposition: attachment; filename=a.txt\r\nContent-Disposition: attachment; filename=a.exe\r\n"
    ),
    # Protected
    "signed": b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\n\r\nsignature\r\n--b--\r\n",
    "S/MIME": single(b"Content-Type: application/pkcs7-mime; name=smime.p7m", b"Content-Transfer-Encoding: base64"),
    "PGP inline": single(b"Subject: x", body=b"-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nx\r\n"),
    # Octets
    "NUL in the body": single(b"Subject: x", body=b"a\0b\r\n"),
    "CR in the body": single(b"Subject: x", body=b"a\rb\r\n"),
    "LF in the body": single(b"Subject: x", body=b"a\nb\r\n"),
    "CR and LF in a multipart": MIXED + b"\r\n--b\r\n\r\na\rb\n--b\r\n--b--\r\n",
    "long line": single(b"Subject: x", body=b"a" * 100_000 + b"\r\n"),
    "no line end": single(b"Subject: x", body=b"a"),
}
"""By what is odd."""
