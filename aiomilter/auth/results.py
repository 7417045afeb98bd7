"""Authentication-Results: writes it, reads that of others, and finds fields that claim to be ours."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from aiomilter.auth._claims import claims_id, names, occurrences
from aiomilter.auth._structured import Reader, comment, quote
from aiomilter.mail.display import visible

__all__ = ["AuthenticationResults", "MethodResult", "Property", "forged", "parse", "quote", "visible"]

# Longer fields, and more of anything, are not found in honest mail.
_MAX_SIZE = 16_384
_MAX_RESULTS = 256
_MAX_PROPERTIES = 64
_MAX_UNREAD = 32

_KEYWORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)
# Keywords of which most results are made: known without a search (``benchmarks auth``).
_USUAL = frozenset((
    "iprev", "spf", "dkim", "arc", "dmarc", "none", "pass", "fail", "policy", "neutral", "softfail", "temperror", "permerror",
    "smtp", "header", "mailfrom", "helo", "from", "d", "i", "s", "a", "b",
))  # fmt: skip
_SURROGATE = re.compile("[\ud800-\udfff]")


class Property(NamedTuple):
    """What a method looked at: ``Property("smtp", "mailfrom", "alice@example.com")``.

    Some write properties without a ptype, such as ``action=none``: these are read with "" for it.
    """

    ptype: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One method and its result, as one part of an Authentication-Results field.

    Values, reason and comment may be any text: characters that a header cannot hold are replaced when they are written.

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
        usual = _USUAL
        if self.method not in usual or self.result not in usual:
            _expect_keywords(self.method, self.result)
        for ptype, name, _ in self.properties:
            if ptype not in usual or name not in usual:
                _expect_keywords(ptype or name, name)

    def __str__(self) -> str:
        """Return the part as it is written in ASCII, on one line."""
        return self.value()

    def value(self, *, smtputf8: bool = False) -> str:
        """Return the part as it is written, on one line.

        Args:
            smtputf8: The field is for SMTPUTF8 mail and may hold UTF-8.
        """
        parts = [f"{self.method}={self.result}"]
        if self.comment:
            parts.append(comment(self.comment, smtputf8=smtputf8))
        if self.reason:
            parts.append(f"reason={quote(self.reason, always=True, smtputf8=smtputf8)}")
        for ptype, name, value in self.properties:
            key = f"{ptype}.{name}" if ptype else name
            parts.append(f"{key}={quote(value, smtputf8=smtputf8)}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class AuthenticationResults:
    """The results of one host for one message.

    Args:
        authserv_id: The name of the host, or of all hosts that trust each other; "" for a field that names none, which
            is written as an empty quoted-string, so that the first method is not taken for a name.
        results: One for each method and identity; empty says that nothing was checked.
        unread: What :func:`parse` could not read, in order, each as visible text of 256 characters at most; no part of
            the value, and not written.
        omitted: How many more of results, properties and unread pieces there were than are kept.

    Source: RFC 8601 section 2.2.
    """

    authserv_id: str
    results: tuple[MethodResult, ...] = ()
    unread: tuple[str, ...] = field(default=(), compare=False)
    omitted: int = field(default=0, compare=False)

    def __str__(self) -> str:
        """Return the field's value in ASCII, one method a line, folded with LF and tab."""
        return self.value()

    def value(self, *, smtputf8: bool = False) -> str:
        """Return the field's value, one method a line, folded with LF and tab.

        Args:
            smtputf8: The message is SMTPUTF8 mail, whose header may hold UTF-8: addresses stay as they are.  Without,
                domains are written as A-labels and whatever else is not ASCII as ``?``.

        Source: RFC 8601 section 2.2; RFC 6532 section 3.
        """
        # Unlike the value of a property it is not an address.
        authserv_id = quote(self.authserv_id, always="@" in self.authserv_id, smtputf8=smtputf8)
        if not self.results:
            return f"{authserv_id}; none"
        return ";\n\t".join([authserv_id, *[result.value(smtputf8=smtputf8) for result in self.results]])


def _expect_keywords(*words: str) -> None:
    for word in words:
        if not _KEYWORD.fullmatch(word):
            raise ValueError(f"expected a keyword, found {word!r}")


def parse(value: str) -> AuthenticationResults | None:
    """Read an Authentication-Results field leniently.

    Comments, versions and the instance of an ARC-Authentication-Results field are skipped.  A field that begins with a
    result names no host.  What cannot be read is in ``unread``.  The values are as untrusted as the message they came
    with; octets in them that are not UTF-8 are U+FFFD.

    Args:
        value: The field's value, folded or not.
    Returns:
        What could be read, or None when there is neither an authserv-id nor a result, or more than 16,384 characters.

    Source: RFC 8601 section 2.2; RFC 8617 section 4.1.1.
    """
    if len(value) > _MAX_SIZE:
        return None
    return _Parser(_SURROGATE.sub("\ufffd", value)).field()


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
        ValueError: There is no authserv-id, or one that is not a name.

    Source: RFC 8601 section 5.
    """
    ours = names(*authserv_ids)
    return occurrences(headers, name, lambda value: claims_id(value, ours))


class _Parser:
    """Reads one field; keeps what it could not read."""

    def __init__(self, text: str) -> None:
        self._reader = Reader(text)
        self._unread: list[str] = []
        self._omitted = 0
        # An empty list of results was written, as "none".
        self._none = False

    def field(self) -> AuthenticationResults | None:
        reader = self._reader
        authserv_id = self._authserv_id()
        results: list[MethodResult] = []
        for _ in range(_MAX_RESULTS):
            reader.skip_semicolons()
            if reader.ended():
                break
            result = self._result()
            if result is not None:
                results.append(result)
        self._omitted += len([part for part in reader.rest().split(";") if part.strip()])
        self._leave(reader.open)
        if not authserv_id and not results and not self._none:
            return None
        return AuthenticationResults(authserv_id, tuple(results), tuple(self._unread), self._omitted)

    def _authserv_id(self) -> str:
        """Read the host and stop before the first result, or before everything if that is one."""
        reader = self._reader
        self._skip_instance()
        if self._at_result():
            return ""
        begin = reader.at
        name = reader.name()
        reader.take_number()
        if not reader.at_end_of_section() and not self._at_result():
            # Neither the one word nor the other is known to be a name.
            reader.skip_section()
            self._leave(reader.since(begin))
            return ""
        if name.lower() == "none" and reader.at_end_of_section():
            self._none = True
            return ""
        return name

    def _skip_instance(self) -> None:
        reader = self._reader
        begin = reader.at
        if reader.word().lower() != "i" or not reader.take("=") or not reader.take_number() or not reader.take(";"):
            reader.at = begin

    def _at_result(self) -> bool:
        reader = self._reader
        begin = reader.at
        found = bool(reader.words_around("/")) and reader.take("=")
        reader.at = begin
        return found

    def _result(self) -> MethodResult | None:
        """Read up to the next semicolon."""
        reader = self._reader
        if reader.at_end_of_section():
            return None
        begin = reader.at
        word = reader.words_around("/").lower()
        if word == "none" and reader.at_end_of_section():
            self._none = True
            return None
        method = word.partition("/")[0]
        result = reader.word().lower() if reader.take("=") else ""
        if not _KEYWORD.fullmatch(method) or not _KEYWORD.fullmatch(result) or reader.take("="):
            reader.skip_section()
            self._leave(reader.since(begin))
            return None
        reason = ""
        properties: list[Property] = []
        for _ in range(_MAX_PROPERTIES):
            if reader.at_end_of_section():
                break
            begin = reader.at
            found = self._property()
            if found is None:
                self._leave(reader.since(begin))
            elif not found.ptype and found.name.lower() == "reason" and not reason:
                reason = found.value
            else:
                properties.append(found)
        begin = reader.at
        reader.skip_section()
        if rest := reader.since(begin):
            self._omitted += max(rest.count("="), 1)
        return MethodResult(method, result, tuple(properties), reason)

    def _property(self) -> Property | None:
        """Read a property or reason; None if there is neither, and skip what was there."""
        reader = self._reader
        key = reader.words_around(".")
        if not reader.take("="):
            if not key:
                reader.value()
            return None
        value = reader.value()
        ptype, name = key.split(".", 1) if "." in key else ("", key)
        if value is None or not _KEYWORD.fullmatch(name) or not _KEYWORD.fullmatch(ptype or name):
            return None
        return Property(ptype, name, value)

    def _leave(self, text: str) -> None:
        if not text:
            return
        if len(self._unread) < _MAX_UNREAD:
            self._unread.append(visible(text, smtputf8=True))
        else:
            self._omitted += 1
