"""Which host a field says it is from, for every reader: the strict one of RFC 8601 and the most lenient ones.

A field is forged if any reader may take it for ours, and readers differ.  So our names are looked for in four ways:

1. The host is named as RFC 8601 wants it: a token or quoted-string, perhaps a version, then a semicolon.  Then only this
   name counts, whatever comments and values mention.
2. It is not.  Readers leave out blanks, comments, quotes, escapes or octets they do not know and join the rest, or take
   the first word.  So any mention of our name before the semicolon counts, with and without what they leave out.
3. To readers that do not know nested comments or escapes, comments end elsewhere.  What they find in the host's place
   counts too: if the field is as in 1, only our name by itself, else any mention.
4. The end of the host's place is not found within the bounds, or never.  Then any mention in the field counts.

Names are compared folded: letter case, compatibility forms, kinds of dots and invisible characters make no difference,
and a U-label is the same as its A-label.
"""

import binascii
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from aiomilter.mail.domain import ascii_name

__all__ = ["Names", "claims_id", "claims_receiver", "names", "occurrences"]

# Only this much of a field is parsed, since a sender may send thousands of them; the rest is searched.
_MAX_CLAIM = 4096
# Honest fields name a host within a few of these: parentheses, quotes, semicolons and what is between them.
_MAX_PIECES = 128
_MAX_RECEIVERS = 8
_MAX_DEPTH = 16
_MAX_ENCODED_WORDS = 64

_PIECE = re.compile(r'[^"();\\]+|\\.?|["();]', re.DOTALL)
_INNERMOST_COMMENT = re.compile(r"(?<!\\)\((?:[^()\\]|\\.)*\)", re.DOTALL)
_NESTED = re.compile(r"\([^()]*\(")

# A token (RFC 2045 section 5.1), or a quoted-string, and a version.  "/" is there for the job that some add; "%" is not,
# since it begins an escape in some places.
_TOKEN = re.compile(r'[^\s\x00-\x20\x7f-\x9f"%(),:;<=>?@\[\\\]\ud800-\udfff]+')
# Part of a name of ours: hosts without a name go by their address in brackets.
_LABEL = re.compile(r'[^\s\x00-\x20\x7f-\x9f"%()*,;<=>?\\\ud800-\udfff]+')
_HEAD = re.compile(rf'[ \t\r\n]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN.pattern}))(?:[ \t\r\n]+[0-9]+)?[ \t\r\n]*', re.DOTALL)
# Nothing, or the instance of an ARC set (RFC 8617 section 4.1.1).
_BEFORE_ID = re.compile(r'\s*+(?:""\s*+|i\s*+=\s*+[0-9]*+\s*+)?', re.IGNORECASE)
_RESULT = re.compile(r"\s*[\w.-]+\s*(?:/\s*[0-9]+\s*)?=")
# OpenDMARC takes a word for a comment if it begins with a parenthesis, be that quoted or escaped.
_WORD_AS_COMMENT = re.compile(r'(?:"\\?\((?:[^"\\]|\\.)*"?|\\\()(?:"(?:[^"\\]|\\.)*"?|\\.|[^\s.;="\\])*', re.DOTALL)
_PART_OF_PAIRS = re.compile(r'((?:"(?:[^"\\]|\\.)*"?|[^"=;])*)([=;]|\Z)', re.DOTALL)
_REMARK = re.compile(r"[^(=]*\(\s*([^\s:()]*)")

# Default_Ignorable_Code_Point of Unicode 15: what shows nothing, and IDNA drops.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
# Sorting the marks on one letter takes quadratic time; no name has so many.
_MARKS = re.compile(r"([^\w\x00-\x7f]{8})[^\w\x00-\x7f]+")
# One character each for a whole phrase or word, of up to 18 characters.
_PHRASES = re.compile("[\u3300-\u3357\ufdfa\ufdfb]+")
# Some take the capital and small forms of the Turkish i for ours (Java, equalsIgnoreCase); IDEOGRAPHIC FULL STOP.
_SAME = {0x130: "i", 0x131: "i", 0x3002: "."}
_DOT = re.compile("[.\u3002\uff0e\uff61]")
_DOTS = re.compile(r"\.{2,}")
_NOT_IN_A_NAME = {
    keep: (
        {code: None for code in range(128) if re.match(rf"[^\w.{keep}-]", chr(code))},
        re.compile(rf"[^\w.{keep}-]+"),
    )
    for keep in ("", ";")
}
# Of ASCII, what cannot be in the name of a host.
_SIGNS = r"\x00-,/:-@\[-^`{-\x7f"
_SIGN = re.compile(f"[{_SIGNS}]")
_ENCODED_WORD = re.compile(r"=\?([^?\s]*)\?([bBqQ])\?([^?]*)\?=")
_SEVEN_BITS = bytes(octet & 0x7F for octet in range(256))
_NOT_OCTETS = re.compile(r"[\ud800-\udc7f\udd00-\udfff]+")


class _Section(NamedTuple):
    """What stands between two semicolons: as it is, without comments, and where it ends."""

    text: str
    bare: str
    end: int


class Names:
    """The names that are ours, to be looked for in what others wrote.

    Args:
        names: Names of hosts, or any other word that hosts go by; ``".example.net"`` is a domain and all below it.
    Raises:
        ValueError: There is no name, or one that no host can have.
    """

    def __init__(self, names: Iterable[str]) -> None:
        exact, standing, joined = [], [], []
        for name in names:
            labels = _labels(name)
            body = _pattern(labels)
            below = name.startswith(".")
            exact.append(rf"(?:[^{_SIGNS}]+\.)?{body}" if below else body)
            standing.append(rf"(?<![\w{'' if below else '.'}-]){body}(?![\w-]|\.\w)")
            # A single label is found as a word only: not "mail" in "mailfrom".
            joined += [_pattern([{_joined(form) for form in forms} for forms in labels])] if len(labels) > 1 else []
        if not exact:
            raise ValueError("expected a name that is ours, found none")
        self._exact = re.compile("|".join(exact))
        self._standing = re.compile("|".join(standing))
        self._joined = re.compile("|".join(joined)) if joined else None
        self._alone = re.compile(rf";(?:{self._exact.pattern})\.?(?=;|$)")

    def named_by(self, text: str) -> bool:
        """Whether a token or the content of a quoted-string is our name, a job or the like behind it aside."""
        folded = _folded(text)
        name = _SIGN.split(folded, maxsplit=1)[0]
        if self._exact.fullmatch(folded.rstrip(".")) or self._exact.fullmatch(name.rstrip(".")):
            return True
        return not (name and _TOKEN.fullmatch(text)) and self.mentioned_in(text)

    def stand_in(self, text: str) -> bool:
        """Whether a name of ours is there as a word of its own."""
        return self._standing.search(_folded(text)) is not None

    def mentioned_in(self, text: str) -> bool:
        """Whether a name of ours is there, encoded or not, also with anything between its letters that is none."""
        for reading in _decoded(text):
            folded = _folded(reading)
            joined = _joined(folded).strip(".")
            if self._standing.search(folded) or self._exact.fullmatch(joined):
                return True
            if self._joined is not None and self._joined.search(joined):
                return True
        return False

    def alone_in(self, text: str) -> bool:
        """Whether a name of ours is all that stands between two semicolons, or behind the last."""
        return self._alone.search(_joined(_folded(text), ";")) is not None


def names(*ours: str) -> Names:
    """Return the names that are ours, made once: a filter asks with the same ones for each message.

    Raises:
        ValueError: There is no name, or one that no host can have.
    """
    if not all(isinstance(name, str) for name in ours):
        return Names(ours)
    return _kept(ours)


@lru_cache(maxsize=16)
def _kept(ours: tuple[str, ...]) -> Names:
    return Names(ours)


def occurrences(headers: Iterable[tuple[str, str]], name: str, forged: Callable[[str], bool]) -> list[int]:
    """Return which fields of a name are forged, from the last to the first; 1 is the first field of that name.

    Blanks before the colon are not part of a name: MTAs remove them.
    """
    name = _field_name(name)
    values = (value for header, value in headers if _field_name(header) == name)
    return [occurrence for occurrence, value in enumerate(values, 1) if forged(value)][::-1]


def claims_id(value: str, ours: Names) -> bool:
    """Whether an Authentication-Results field may be taken for one of ours.

    Source: RFC 8601 sections 2.2 and 5.
    """
    text = value[:_MAX_CLAIM]
    head: _Section | None = None
    behind: list[str] = []
    for section in _sections(text, len(value) > _MAX_CLAIM):
        if section is None:
            if head is None:
                return _mentioned_anywhere(value, ours) or _id_is_ours_otherwise(text, _may_be_named, ours)
            rest = _without_comments(value[head.end :])
            if ours.alone_in(rest):
                return True
            behind.append(rest[1:].partition(";")[0])
            break
        if head is None:
            if _BEFORE_ID.fullmatch(section.bare):
                continue
            if _id_is_ours(section, text, ours):
                return True
        else:
            behind.append(section.bare)
        head = section
    # There may be another name behind the first, where only results are allowed.
    return ours.mentioned_in(";".join(bare for bare in behind if not _RESULT.match(bare)))


def claims_receiver(value: str, ours: Names) -> bool:
    """Whether a Received-SPF field may be taken for one of ours.

    Source: RFC 7208 section 9.1.
    """
    text = value[:_MAX_CLAIM]
    receivers = _receivers(_sections(text, len(value) > _MAX_CLAIM))
    if receivers is None:
        return _mentioned_anywhere(value, ours)
    if any(_may_be_named(receiver, ours) for receiver in receivers):
        return True
    readings = (filter(None, sections) for sections in _other_readings(text, "\\"))
    if any(_is_named(receiver, ours) for reading in readings for receiver in _receivers(reading) or ()):
        return True
    # Before there was receiver=, the comment began with the host.
    remark = None if receivers else _REMARK.match(value)
    return remark is not None and ours.named_by(remark[1])


def _field_name(name: str) -> str:
    return name.strip(" \t\r\n\v\f").lower()


def _sections(text: str, cut: bool, *, nested: bool = True) -> Iterator[_Section | None]:
    """Yield what is between semicolons; None in place of the rest once that is not certain any more.

    Args:
        text: The field's value, or the beginning of it.
        cut: Whether it is only the beginning.
        nested: Whether comments may be in comments.
    """
    depth, quoted, begin = 0, False, 0
    bare: list[str] = []
    for count, piece in enumerate(_PIECE.finditer(text)):
        found = piece[0]
        if count >= _MAX_PIECES or depth > _MAX_DEPTH:
            yield None
            return
        if quoted:
            quoted = found != '"'
            bare.append(found)
        elif depth:
            if found == ")":
                depth -= 1
            elif found == "(" and nested:
                depth += 1
        elif found == "(":
            depth = 1
            bare.append(" ")
        elif found == ";":
            yield _Section(text[begin : piece.start()], "".join(bare), piece.start())
            begin, bare = piece.end(), []
        else:
            quoted = found == '"'
            bare.append(found)
    yield None if depth or quoted or cut else _Section(text[begin:], "".join(bare), len(text))


def _without_comments(text: str) -> str:
    """Return text without comments, however many there are; quotes have no meaning."""
    for _ in range(_MAX_DEPTH):
        text, found = _INNERMOST_COMMENT.subn(" ", text)
        if not found:
            break
    return text


def _other_readings(text: str, without: Iterable[str]) -> Iterator[Iterator[_Section | None]]:
    """Yield the sections for readers to whom comments end elsewhere, where that is possible.

    Args:
        text: The beginning of the field's value.
        without: Signs that mean nothing to some.
    """
    texts = [text]
    for sign in without:
        texts += [other.replace(sign, "") for other in texts if sign in other]
    for other in texts:
        if other is not text:
            yield _sections(other, False)
        if _NESTED.search(other):
            yield _sections(other, False, nested=False)


def _id_is_ours(section: _Section, text: str, ours: Names) -> bool:
    """Whether the section that is to hold the authserv-id may be taken for ours."""
    if _HEAD.fullmatch(section.bare):
        return _is_named(section.bare, ours) or _id_is_ours_otherwise(text, _is_named, ours)
    if _RESULT.match(section.bare):
        # Many write no id.  Letters of ours that are scattered over the results are not a claim.
        return ours.stand_in(section.text) or _id_is_ours_otherwise(text, _is_named, ours)
    return (
        ours.mentioned_in(section.text)
        or _may_be_named(section.bare, ours)
        or _id_is_ours_otherwise(text, _may_be_named, ours)
    )


def _id_is_ours_otherwise(text: str, names: Callable[[str, Names], bool], ours: Names) -> bool:
    for sections in _other_readings(text, '\\"'):
        head = next(
            (section for section in sections if section is None or not _BEFORE_ID.fullmatch(section.bare)), None
        )
        if head is not None and names(head.bare, ours):
            return True
    return False


def _may_be_named(bare: str, ours: Names) -> bool:
    """Whether a place for one name, without its comments, may be taken for ours."""
    if _HEAD.fullmatch(bare):
        return _is_named(bare, ours)
    return ours.mentioned_in(bare) or ("(" in bare and ours.mentioned_in(_WORD_AS_COMMENT.sub(" ", bare)))


def _mentioned_anywhere(value: str, ours: Names) -> bool:
    return ours.mentioned_in(value) or _may_be_named(_without_comments(value), ours)


def _is_named(bare: str, ours: Names) -> bool:
    found = _HEAD.fullmatch(bare)
    return found is not None and ours.named_by(found[2] or found[1])


def _receivers(sections: Iterable[_Section | None]) -> list[str] | None:
    """Return what is given as receiver, up to the next key, for values may be in pieces; None if that is not certain."""
    bare = []
    for section in sections:
        if section is None:
            return None
        bare.append(section.bare)
    text = ";".join(bare)
    if "=?" in text:
        text += ";" + _ENCODED_WORD.sub(_decoded_word, text, count=_MAX_ENCODED_WORDS)
    if "receiver" not in _joined(_folded(text)):
        return []
    found: list[str] = []
    key = ""
    for part, sign in _PART_OF_PAIRS.findall(text):
        words = part.rsplit(None, 1)
        if words and _joined(_folded(key)) == "receiver":
            found.append(words[0] if sign == "=" and len(words) > 1 else part)
            if len(found) > _MAX_RECEIVERS:
                return None
        if words or sign == ";":
            key = words[-1] if sign == "=" else ""
    return found


def _labels(name: str) -> list[set[str]]:
    """Return the labels of a name of ours from left to right, each in all its forms."""
    labels = _DOT.split(name) if isinstance(name, str) else []
    if labels[:1] == [""]:
        del labels[0]
    if labels[-1:] == [""]:
        del labels[-1]
    if not labels or not all(_LABEL.fullmatch(label) and _folded(label) for label in labels):
        raise ValueError(
            f"expected a name such as 'mx.example.net', or '.example.net' for all below it, found {name!r}"
        )
    return [_forms(label) for label in labels]


def _pattern(labels: list[set[str]]) -> str:
    return r"\.".join(f"(?:{'|'.join(map(re.escape, sorted(forms)))})" for forms in labels)


def _forms(label: str) -> set[str]:
    """Return a label folded, as it is and as U-label and A-label."""
    forms = {_folded(label), _folded(ascii_name(label) or label)}
    if label[:4].lower() == "xn--":
        with suppress(UnicodeError):
            forms.add(_folded(label[4:].encode().decode("punycode")))
    return forms


def _folded(text: str) -> str:
    """Return text with all that makes no difference taken away: letter case, width, what is invisible."""
    if not text.isascii():
        text = _MARKS.sub(r"\1", _PHRASES.sub("", _IGNORABLE.sub("", text)))
        text = unicodedata.normalize("NFKC", text).translate(_SAME)
    return _DOTS.sub(".", text.casefold())


def _joined(folded: str, keep: str = "") -> str:
    """Return what is left of folded text if everything goes that cannot be in a host's name."""
    ascii_signs, signs = _NOT_IN_A_NAME[keep]
    return _DOTS.sub(".", folded.translate(ascii_signs) if folded.isascii() else signs.sub("", folded))


def _decoded(text: str) -> Iterator[str]:
    """Yield text as it is, and as it is to readers who decode it."""
    yield text
    if "=?" in text:
        yield _ENCODED_WORD.sub(_decoded_word, text, count=_MAX_ENCODED_WORDS)
    if "%" in text:
        yield unquote(text)
    if not text.isascii():
        # Sendmail can be told to do this to all mail.
        yield _NOT_OCTETS.sub("", text).encode("utf-8", "surrogateescape").translate(_SEVEN_BITS).decode("ascii")


def _decoded_word(found: re.Match[str]) -> str:
    """Decode an encoded-word (RFC 2047 section 2)."""
    text = found[3].encode("ascii", "ignore")
    try:
        octets = binascii.a2b_base64(text + b"===") if found[2] in "bB" else binascii.a2b_qp(text, header=True)
    except binascii.Error:
        return ""
    # No other codec is asked for by name: names of strangers stay in memory for ever.  NUL goes with all else that is in
    # no name, so that wide characters need no codec.
    return octets.decode("utf-7" if found[1].lower() == "utf-7" else "utf-8", "ignore")
