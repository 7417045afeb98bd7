"""The Author Domains of a message: the domains of all addresses that a mail program may show as its author.

Mail programs differ, so whatever one of them may take for an address counts: an address without a comma before it, one
before or after angle brackets, one in a comment or quoted-string that is never closed.  What RFC 5322 says is not an
address is skipped: comments, quoted-strings, encoded words, names of groups, source routes.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from aiomilter.dns import question_name
from aiomilter.mail.display import visible

__all__ = ["author_domains"]

# Honest fields are far below these limits.
_MAX_SIZE: Final = 65_536
_MAX_TOKENS: Final = 1024
_MAX_DEPTH: Final = 16
# More than are ever evaluated; each may cost an IDNA conversion of some milliseconds.
_MAX_DOMAINS: Final = 4

_BLANKS: Final = r"[ \t\r\n]+"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
# In a phrase RFC 2047 section 5 allows less than this; none of the signs that end an address is among it.
_ENCODED_WORD: Final = r"=\?[^?\s]+\?[bBqQ]\?[^?\s()<>,;:\"\[\]\\]*\?=(?=[\s()<>,;:]|\Z)"
_WORD: Final = r'[^ \t\r\n()<>@,;:"]+'
_TOKEN: Final = re.compile(
    rf"(?P<blank>{_BLANKS})|(?P<quoted>{_QUOTED})|(?P<encoded>{_ENCODED_WORD})|(?P<word>{_WORD})|(?P<sign>.)", re.DOTALL
)
# Behind a quote or parenthesis that is never closed these mean nothing.
_OPEN_TOKEN: Final = re.compile(rf"(?P<blank>{_BLANKS})|(?P<word>{_WORD})|(?P<sign>.)", re.DOTALL)
_COMMENT_PART: Final = re.compile(r"[^()\\]+|\\.|[()\\]", re.DOTALL)
_ROUTE: Final = re.compile(rf"@{_WORD}(?:{_BLANKS})?(?:,(?:{_BLANKS})?@{_WORD}(?:{_BLANKS})?)*+:")
_LABELS: Final = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_DOMAIN: Final = re.compile(_LABELS)
# What nearly all mail has, and all rules read the same: perhaps one quoted-string or some words, and one address.  No word
# may hold what begins or ends anything else.
_PLAIN_SIZE: Final = 500
_PLAIN: Final = re.compile(
    rf'[ \t\r\n]*+(?:"[^"\\]*+"|[^()<>@,;:"]*+)[ \t\r\n]*+<[^ \t\r\n()<>@,;:"]++@({_LABELS})>[ \t\r\n]*+', re.IGNORECASE
)


class _Token(NamedTuple):
    kind: str
    text: str


_END: Final = _Token("sign", "")


class _Unreadable(Exception):
    """Why a field cannot be read; it never leaves this module."""


def author_domains(from_fields: Sequence[str]) -> tuple[str, ...] | str:
    """Return the domains of the addresses in From, or what is wrong with the From fields.

    Args:
        from_fields: The value of each From field, folded or not.
    Returns:
        Each domain once, in order, lower case, A-labels, no trailing dot; or the problem, visible text.

    Source: RFC 9989 sections 5.3.1 and 11.5; RFC 5322 sections 3.4 and 4.4; RFC 6854 section 2; RFC 6532 section 3.
    """
    if len(from_fields) != 1:
        return "no From field" if not from_fields else f"{len(from_fields)} From fields"
    (field,) = from_fields
    if len(field) > _MAX_SIZE:
        return f"From field of more than {_MAX_SIZE} characters"
    plain = _plain_domain(field)
    return _domains(field) if plain is None else (plain,)


def _plain_domain(field: str) -> str | None:
    """Return the domain of a field of one plain address, as nearly all are; None for any other field."""
    found = _PLAIN.fullmatch(field) if len(field) <= _PLAIN_SIZE and field.isascii() else None
    if found is None:
        return None
    domain = found[1].lower()
    return domain if question_name(domain) == domain else None


def _domains(field: str) -> tuple[str, ...] | str:
    """Return the domains of all addresses of a field, or why it cannot be read."""
    try:
        written = dict.fromkeys(map(_ascii_lower, _addresses([*_tokens(field), _END])))
        if len(written) > _MAX_DOMAINS:
            return f"From addresses of more than {_MAX_DOMAINS} domains"
        domains = tuple(dict.fromkeys(map(_domain_name, written)))
    except _Unreadable as problem:
        return str(problem)
    return domains or "From field without an address"


def _ascii_lower(written: str) -> str:
    """Return a domain in lower case if it is ASCII, so that other spellings of one do not count as more."""
    return written.lower().removesuffix(".") if written.isascii() else written


def _domain_name(written: str) -> str:
    domain = question_name(written)
    if domain is None or not _DOMAIN.fullmatch(domain):
        raise _Unreadable(f"From address at {visible(written, 100)!r}, which is no domain name")
    return domain


def _addresses(tokens: Sequence[_Token]) -> Iterator[str]:
    """Yield the domain of each address, as written: one for each "@" that stands by itself."""
    # empty: an angle bracket is open and holds no address yet; text: there is text behind a closed one.
    empty = angle = closed = text = False
    at = 0
    while True:
        kind, sign = tokens[at]
        at += 1
        if kind == "sign" and sign == "@":
            domain, at = _domain(tokens, at)
            if not domain:
                raise _Unreadable("From address without a domain")
            yield domain
            if angle and tokens[at].text not in (">", ""):
                raise _Unreadable("From address that does not end where its domain does")
            empty = text = False
        elif kind != "sign":
            text = text or closed
        elif sign in ("<", ">", ",", ";", ":", ""):
            if empty and sign != "<":
                raise _Unreadable("From address without a domain")
            if text and sign != "<":
                raise _Unreadable("text behind the address in the From field")
            text, closed = False, angle and sign == ">"
            empty = angle = sign == "<"
            if not sign:
                return


def _domain(tokens: Sequence[_Token], at: int) -> tuple[str, int]:
    """Read the words that dots join, whatever blanks and comments stand between, and return where they end."""
    domain = ""
    while tokens[at].kind in ("word", "encoded"):
        word = tokens[at].text
        if domain and not (domain.endswith(".") or word.startswith(".")):
            break
        domain += word
        at += 1
    return domain, at


def _tokens(field: str) -> Iterator[_Token]:
    """Yield all tokens except comments, blanks and source routes."""
    at = depth = begin = 0
    pattern = _TOKEN
    for _ in range(_MAX_TOKENS):
        found = (_COMMENT_PART if depth else pattern).match(field, at)
        if found is None and not depth:
            return
        if found is None or depth > _MAX_DEPTH:
            # It is never closed: its parenthesis is an ordinary sign.
            at, depth, pattern = begin, 0, _OPEN_TOKEN
            continue
        text = found[0]
        if depth or (text == "(" and pattern is _TOKEN):
            begin = begin if depth else at
            depth += (text == "(") - (text == ")")
        elif found.lastgroup != "blank":
            pattern = _OPEN_TOKEN if text == '"' else pattern
            yield _Token(str(found.lastgroup), text)
        at = found.end()
        if text == "<" and not depth and (route := _ROUTE.match(field, at)):
            at = route.end()
    raise _Unreadable(f"From field of more than {_MAX_TOKENS} parts")
