"""The words of structured header fields: written so that no text gets out of its place, and read leniently."""

import re

from aiomilter.mail.display import MAX_SHOWN, visible
from aiomilter.mail.domain import ascii_name

__all__ = ["Reader", "comment", "quote"]

# Deeper comments, and names in more pieces, are not found in honest mail.
_MAX_DEPTH = 16
_MAX_PIECES = 32

# RFC 2045 tokens, and addresses, may stand without quotes; addresses in SMTPUTF8 mail with letters of any script.
_BARE_TEXT = r"[!#$%&'*+.^_`{|}~A-Za-z0-9-]+|[!#$%&'*+/=?^_`{|}~.\w-]*@[\w.-]+"
_BARE = {False: re.compile(_BARE_TEXT, re.ASCII), True: re.compile(_BARE_TEXT)}
_PARENTHESES = re.compile(r"([()\\])")
_BLANK = re.compile(r"[ \t\r\n]+")
# Comments in comments, and escapes, are rare.
_BLANK_OR_COMMENT = re.compile(r"(?:[ \t\r\n]+|\([^()\\]*\))+")
_WORD = re.compile(r"""[^ \t\r\n;=("]+""")
_VALUE_PART = re.compile(r"""[^ \t\r\n;("]+""")
_SEMICOLONS = re.compile(r"[ \t\r\n;]+")
_SECTION_PART = re.compile(r'(?:[^;"(]+|"(?:[^"\\]|\\.)*")+', re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_COMMENT_PART = re.compile(r"(?:[^()\\]+|\\.)+", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_PTYPES = frozenset({"smtp", "header", "body", "policy", "dns"})


def quote(text: str, *, always: bool = False, smtputf8: bool = False) -> str:
    """Return text as a value in a structured header field: bare where that is safe, else as a quoted-string.

    Args:
        text: Any text.  In ASCII the domain of an address becomes A-labels and what else is not ASCII ``?``.
        always: Never bare.
        smtputf8: The field is for SMTPUTF8 mail and may hold UTF-8.

    Source: RFC 8601 section 2.2 (pvalue); RFC 5322 section 3.2.4; RFC 6532 section 3.2.
    """
    if not text.isascii():
        text = visible(text if smtputf8 else _with_a_labels(text), smtputf8=smtputf8)
    if not always and len(text) <= MAX_SHOWN and _BARE[smtputf8].fullmatch(text):
        return text
    return '"' + visible(text, smtputf8=smtputf8).replace("\\", "\\\\").replace('"', '\\"') + '"'


def comment(text: str, *, smtputf8: bool = False) -> str:
    """Return text as a comment of a structured header field, parentheses escaped.

    Source: RFC 5322 section 3.2.2; RFC 6532 section 3.2.
    """
    shown = visible(text, smtputf8=smtputf8)
    # Most have none, and to put a group in is done in Python.
    return "(" + (_PARENTHESES.sub(r"\\\1", shown) if _PARENTHESES.search(shown) else shown) + ")"


def _with_a_labels(text: str) -> str:
    """Return an address or a domain with A-labels in place of U-labels, and any other text as it is."""
    local, at, domain = text.rpartition("@")
    if "." not in domain or _BLANK.search(text):
        return text
    return local + at + (ascii_name(domain) or domain)


class Reader:
    """A position in a structured field value; every method moves on, or returns something false.

    Attributes:
        open: What stands behind a parenthesis or quote that is never closed, itself included; "" if all are.
    """

    def __init__(self, text: str) -> None:
        self.at = 0
        self.open = ""
        self._text = text

    def ended(self) -> bool:
        """Whether nothing but blanks and comments is left of the field."""
        self._skip()
        return self.at >= len(self._text)

    def at_end_of_section(self) -> bool:
        """Whether only a semicolon can follow, blanks and comments aside."""
        return self.ended() or self._text.startswith(";", self.at)

    def since(self, at: int) -> str:
        """Return what was read since a position, without what is never closed."""
        return self._text[at : min(self.at, len(self._text) - len(self.open))].strip()

    def word(self) -> str:
        self._skip()
        return self._match(_WORD)

    def words_around(self, sign: str) -> str:
        """Read a word, and those which it is joined to by a sign that may stand between blanks and comments."""
        text = self.word()
        for _ in range(_MAX_PIECES):
            at = self.at
            more = self.word()
            if not text or not more or not (text.endswith(sign) or more.startswith(sign)):
                self.at = at
                break
            text += more
        return text

    def name(self) -> str:
        """Read the name of a host: parts of it may be quoted, dots may stand between blanks and comments."""
        text = self.value(_WORD) or ""
        for _ in range(_MAX_PIECES):
            if not text or self.at_end_of_section() or not (text.endswith(".") or self._text.startswith(".", self.at)):
                break
            text += self.value(_WORD) or ""
        return text

    def value(self, part: re.Pattern[str] = _VALUE_PART) -> str | None:
        """Read what may be quoted, in whole or in part; None if a quote is never closed."""
        at = self.at
        self._skip()
        if self.at > at and self._at_property():
            # The value was left out.
            return ""
        parts = []
        while True:
            if self._text.startswith('"', self.at):
                quoted = _QUOTED.match(self._text, self.at)
                if quoted is None:
                    self._leave_open()
                    return None
                self.at = quoted.end()
                parts.append(_ESCAPE.sub(r"\1", quoted[1]))
            elif found := self._match(part):
                parts.append(found)
            else:
                return "".join(parts)

    def take(self, sign: str) -> bool:
        self._skip()
        if not self._text.startswith(sign, self.at):
            return False
        self.at += 1
        return True

    def take_number(self) -> bool:
        """Step over a word of digits."""
        self._skip()
        found = _WORD.match(self._text, self.at)
        if found is None or not (found[0].isascii() and found[0].isdigit()):
            return False
        self.at = found.end()
        return True

    def skip_semicolons(self) -> None:
        """Go to the next section that is not empty."""
        self._match(_SEMICOLONS)

    def skip_section(self) -> None:
        """Go to the next semicolon that is not part of a comment or quoted-string, or to the end."""
        while not self.at_end_of_section():
            if not self._match(_SECTION_PART):
                self.value()

    def rest(self) -> str:
        """Return all that is left."""
        begin, self.at = self.at, len(self._text)
        return self.since(begin)

    def _at_property(self) -> bool:
        at = self.at
        found = self.words_around(".").partition(".")[0].lower() in _PTYPES and self.take("=")
        self.at = at
        return found

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def _skip(self) -> None:
        while self._match(_BLANK_OR_COMMENT) or self._comment():
            pass

    def _comment(self) -> bool:
        if not self._text.startswith("(", self.at):
            return False
        at = self.at
        depth = 0
        while self.at < len(self._text):
            character = self._text[self.at]
            if character in "()":
                depth += 1 if character == "(" else -1
                self.at += 1
                if depth == 0:
                    return True
                if depth > _MAX_DEPTH:
                    break
            elif not self._match(_COMMENT_PART):
                break
        # Never closed, or nested for its own sake: whatever follows is not to be trusted with a meaning.
        self.at = at
        self._leave_open()
        return True

    def _leave_open(self) -> None:
        # No quoted-string begins after one that is never closed, either, and looking for one again would be quadratic.
        self.open = self._text[self.at :]
        self.at = len(self._text)
