"""Authentication-Results: build it, read other people's, and find those that claim to be ours."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aiomilter.auth._claims import claims_id, names, occurrences

__all__ = ["AuthenticationResults", "MethodResult", "Property", "forged", "parse", "quote", "visible"]

# Deeper comments and longer fields than these are nobody's honest work.
_MAX_DEPTH = 16
_MAX_SIZE = 16_384
_MAX_RESULTS = 256
_MAX_PROPERTIES = 64
_MAX_VALUE = 256

_KEYWORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)
# RFC 2045 tokens, and addresses, may stand without quotes.
_BARE = re.compile(r"[!#$%&'*+.^_`{|}~A-Za-z0-9-]+|[!#$%&'*+/=?^_`{|}~.A-Za-z0-9-]*@[A-Za-z0-9_.-]+", re.ASCII)
_INVISIBLE = re.compile(r"[^ -~]+")
_PARENTHESES = re.compile(r"([()\\])")
_SPACE = re.compile(r"[ \t\r\n]+")
_WORD = re.compile(r"""[^ \t\r\n;=("]+""")
_VALUE_PART = re.compile(r"""[^ \t\r\n;("]+""")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_COMMENT_PART = re.compile(r"[^()\\]+|\\.", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Property(NamedTuple):
    """What a method looked at: ``Property("smtp", "mailfrom", "alice@example.com")``."""

    ptype: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One method and its result, as one part of an Authentication-Results field.

    Values, reason and comment may be any text: what a header cannot hold is replaced when they are written.

    Args:
        method: ``"spf"``, ``"dkim"``, ``"iprev"``; a keyword.
        result: ``"pass"``, ``"fail"``, ``"none"``; a keyword.
        properties: What the method looked at, in order.
        reason: Why the result is what it is, for people; "" for no reason.
        comment: A remark for people; "" for none.
    Raises:
        ValueError: Method, result, ptype or property name is not a keyword.

    Source: RFC 8601 section 2.2.
    """

    method: str
    result: str
    properties: tuple[Property, ...] = ()
    reason: str = ""
    comment: str = ""

    def __post_init__(self) -> None:
        for word in (self.method, self.result, *(word for item in self.properties for word in item[:2])):
            if not _KEYWORD.fullmatch(word):
                raise ValueError(f"expected a keyword, found {word!r}")

    def __str__(self) -> str:
        """Return the part as it is written, on one line."""
        parts = [f"{self.method}={self.result}"]
        if self.comment:
            parts.append(comment(self.comment))
        if self.reason:
            parts.append(f"reason={quote(self.reason, always=True)}")
        parts += [f"{item.ptype}.{item.name}={quote(item.value)}" for item in self.properties]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class AuthenticationResults:
    """What one host found out about one message.

    Args:
        authserv_id: The name of the host, or of all hosts that trust each other.
        results: One for each method and identity; empty says that nothing was checked.

    Source: RFC 8601 section 2.2.
    """

    authserv_id: str
    results: tuple[MethodResult, ...] = ()

    def __str__(self) -> str:
        """Return the field's value, one method a line, folded with LF and tab."""
        if not self.results:
            return f"{quote(self.authserv_id)}; none"
        return ";\n\t".join((quote(self.authserv_id), *map(str, self.results)))


def visible(text: str, limit: int = _MAX_VALUE) -> str:
    """Return text as printable ASCII on one line, cut to ``limit`` characters; runs of anything else become ``?``."""
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    text = _INVISIBLE.sub("?", text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."


def quote(text: str, *, always: bool = False) -> str:
    """Return text as a value in a structured header field: bare where that is safe, else as a quoted-string.

    Source: RFC 8601 section 2.2 (pvalue); RFC 5322 section 3.2.4.
    """
    if not always and len(text) <= _MAX_VALUE and _BARE.fullmatch(text):
        return text
    return '"' + visible(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def comment(text: str) -> str:
    """Return text as a comment of a structured header field, parentheses escaped.

    Source: RFC 5322 section 3.2.2.
    """
    return "(" + _PARENTHESES.sub(r"\\\1", visible(text)) + ")"


def parse(value: str) -> AuthenticationResults | None:
    """Read an Authentication-Results field as leniently as can be.

    Comments are skipped, what cannot be read is left out, versions are ignored.  The values are as untrusted as the
    message they came with.

    Args:
        value: The field's value, folded or not.
    Returns:
        What could be read, or None when not even the authserv-id can.

    Source: RFC 8601 section 2.2.
    """
    if len(value) > _MAX_SIZE:
        return None
    reader = _Reader(value)
    authserv_id = reader.word_or_quoted()
    if not authserv_id:
        return None
    reader.skip_section()
    results: list[MethodResult] = []
    for _ in range(_MAX_RESULTS):
        if not reader.take(";"):
            break
        result = _read_result(reader)
        if result is not None:
            results.append(result)
        reader.skip_section()
    return AuthenticationResults(authserv_id, tuple(results))


def forged(headers: Iterable[tuple[str, str]], *authserv_ids: str, name: str = "Authentication-Results") -> list[int]:
    """Find the fields that claim to come from us, in a message that comes from outside.

    A field is ours if any reader may take it for ours: by RFC 8601, by leaving out blanks, comments, quotes or what is
    invisible, or by taking the first word.  A field that names another host as RFC 8601 wants it is not, whatever it
    mentions.  A field without a readable host is, if our name stands before its first semicolon.

    Deleted in the order given, from the last to the first, the numbers are right on MTAs that renumber after a
    deletion (Postfix) and on those that do not (Sendmail).

    Args:
        headers: Name and value of every field, in the order received.
        authserv_ids: The names we sign with, in any letter case, as A-labels or U-labels; ``".example.net"`` is
            example.net and all names below it.
        name: The field to look for; another one of this syntax, such as ``"X-Authentication-Results"``.
    Returns:
        The occurrences to delete: 1 is the first field of that name.
    Raises:
        ValueError: There is no authserv-id, or one that is no name.

    Source: RFC 8601 section 5.
    """
    ours = names(*authserv_ids)
    return occurrences(headers, name, lambda value: claims_id(value, ours))


def _read_result(reader: "_Reader") -> MethodResult | None:
    method = reader.word().partition("/")[0]
    if not reader.take("="):
        return None
    result = reader.word()
    reason = ""
    properties: list[Property] = []
    while len(properties) < _MAX_PROPERTIES and (key := reader.word()):
        if not reader.take("="):
            continue
        value = reader.value()
        ptype, dot, name = key.partition(".")
        if key.lower() == "reason":
            reason = value
        elif dot and _KEYWORD.fullmatch(ptype) and _KEYWORD.fullmatch(name):
            properties.append(Property(ptype, name, value))
    if not _KEYWORD.fullmatch(method) or not _KEYWORD.fullmatch(result):
        return None
    return MethodResult(method.lower(), result.lower(), tuple(properties), reason)


class _Reader:
    """A position in a structured field value; every method moves on, or returns something false."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def word_or_quoted(self) -> str:
        self._skip()
        quoted = _QUOTED.match(self._text, self._at)
        if quoted is None:
            return self.word()
        self._at = quoted.end()
        return _ESCAPE.sub(r"\1", quoted[1])

    def word(self) -> str:
        self._skip()
        return self._match(_WORD)

    def value(self) -> str:
        self._skip()
        parts = []
        while True:
            quoted = _QUOTED.match(self._text, self._at)
            if quoted is not None:
                self._at = quoted.end()
                parts.append(_ESCAPE.sub(r"\1", quoted[1]))
            elif part := self._match(_VALUE_PART):
                parts.append(part)
            else:
                return "".join(parts)

    def take(self, character: str) -> bool:
        self._skip()
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        return True

    def skip_section(self) -> None:
        """Go to the next semicolon that is no part of a comment or quoted-string, or to the end."""
        while self._at < len(self._text):
            self._skip()
            if self._text.startswith(";", self._at):
                return
            quoted = _QUOTED.match(self._text, self._at)
            if quoted is not None:
                self._at = quoted.end()
            elif self._text.startswith('"', self._at):
                # Never closed: no quoted-string begins after it either, and looking for one again would be quadratic.
                self._at = len(self._text)
            elif not self._match(_WORD):
                self._at += 1

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]

    def _skip(self) -> None:
        while self._match(_SPACE) or self._comment():
            pass

    def _comment(self) -> bool:
        if not self._text.startswith("(", self._at):
            return False
        depth = 0
        while self._at < len(self._text):
            character = self._text[self._at]
            if character in "()":
                depth += 1 if character == "(" else -1
                self._at += 1
                if depth == 0:
                    return True
                if depth > _MAX_DEPTH:
                    break
            elif not self._match(_COMMENT_PART):
                break
        # Never closed, or nested for its own sake: whatever follows is not to be trusted with a meaning.
        self._at = len(self._text)
        return True
