"""HTML that comes in pieces, cut into text, tags, references and the rest.

However a document is cut into pieces and whatever is in it, each character is looked at a bounded number of times: a
construct that is not whole is looked at again once a character is there that may end it, and from where the last look ended.
A construct that the document leaves open is text up to its first ``>``.

What is a tag, a comment or a reference, and where it ends, is as :class:`html.parser.HTMLParser` of Python 3.11.7 has it
(later versions differ from it and from each other), with one exception: there, ``&#`` without a number turns the rest of the
document into text.
"""

import re
from collections.abc import Callable, Collection, Iterator
from functools import cache
from html import unescape
from typing import Final, Literal, TypeAlias, cast

__all__ = ["Attributes", "Kind", "Markup", "Token", "attributes"]

Kind: TypeAlias = Literal["text", "start", "end", "charref", "entityref", "comment", "decl", "pi"]
Token: TypeAlias = tuple[Kind, str, str]
"""Its kind, its source, and its name (in lower case) or content."""
Attributes: TypeAlias = list[tuple[str, str]]

_Construct: TypeAlias = tuple[int, Kind | None, str]
"""The end of a construct, its kind (None: text), and its name or content."""
_OPEN: Final[_Construct] = (-1, None, "")
"""A construct whose end may be still to come."""
_Skip: TypeAlias = Callable[[str, int], re.Match[str]]

_RAW: Final = ("script", "style")
"""Elements whose content is text up to their own end tag."""
_TAGS: Final = ("start", "end")
_WORTHWHILE: Final = 4096
"""So many characters that were read are let go of."""

_NAME: Final = r"[a-zA-Z][^\t\n\r\f />\x00]*+"
# A NUL behind the name makes text of a start tag.
_NOT_BROKEN: Final = r"""(?!(?<!['"\s])\x00)"""
# Between attributes.  The slash of "/>" is not part of it.
_GAP: Final = r"(?:\s|/(?!>))*+"
_ATTRIBUTE_NAME: Final = r"[^\s/>][^\s/=>]*+"
_BARE: Final = r"[^>\s]*+"


def _attributes(not_quoted: str = "") -> str:
    """Return a pattern for attributes with the gaps around them; it ends before one whose quote does not end.

    Args:
        not_quoted: Characters that may not be between quotes.
    """
    value = rf"""'[^'{not_quoted}]*+'|"[^"{not_quoted}]*+"|(?!['"]){_BARE}"""
    return rf"""{_GAP}(?:(?<=['"\s/]){_ATTRIBUTE_NAME}(?:\s*+=++\s*+(?:{value})|(?!\s*+=)){_GAP})*+"""


def _start(not_quoted: str = "") -> str:
    """Return a pattern for a start tag without its ``<``; where it has no quotes it ends at the first ``>``."""
    return rf"""({_NAME}){_NOT_BROKEN}(?:[^>'"]*+|{_attributes(not_quoted)}/?+)>"""


# Text, and the tag without attributes that may follow it.
_PLAIN_TAG: Final = "(?:<(/?)([a-zA-Z][a-zA-Z0-9]*+)(/?)>)?"
_NO_TAG: Final = cast(_Skip, re.compile(f"([^<]*+){_PLAIN_TAG}").match)
_NO_REFERENCE: Final = cast(_Skip, re.compile(f"([^<&]*+){_PLAIN_TAG}").match)
_START: Final = re.compile(f"<{_start()}")
_SHORT_BEGINNING: Final = re.compile(rf"<{_NAME}(?:((?<!['\"\s])(?=\x00))|{_attributes('>')})")
_SHORT_ATTRIBUTES: Final = re.compile(_attributes(">"))
_QUOTED: Final = re.compile(rf"""({_ATTRIBUTE_NAME})(\s*+)(=++)(\s*+)(['"])""")
_BARE_VALUE: Final = re.compile(_BARE)
_START_NAME: Final = re.compile(f"<({_NAME})")
_BROKEN_START: Final = re.compile(rf"<{_NAME}(?<!['\"\s])(?=\x00)")
_END: Final = re.compile(r"</\s*+([a-zA-Z][-.a-zA-Z0-9:_]*+)\s*+>")
_END_NAME: Final = re.compile(f"</({_NAME})")
_COMMENT_END: Final = re.compile(r"--\s*+>")
# What more text may make an end of.
_OPEN_COMMENT_END: Final = re.compile(r"-|--\s*+")
_OPEN_RAW_END: Final = re.compile(r"<|</\s*+[a-zA-Z]*+\s*+")
_REFERENCE: Final = re.compile(
    r"&(?:#([0-9]++(?![0-9a-fA-F])|[xX][0-9a-fA-F]++)|([a-zA-Z][-.a-zA-Z0-9]*+))(?:;|(?!\Z))"
)
_OPEN_REFERENCE: Final = re.compile(r"&(?:#(?:[0-9]*+|[xX][0-9a-fA-F]*+)|[a-zA-Z][-.a-zA-Z0-9]*+)?\Z")
# An attribute of a whole tag: name and value.  A quote that nothing closes is a character like others.
_NAME_AND_VALUE: Final = re.compile(
    rf"""(?<=['"\s/])({_ATTRIBUTE_NAME})"""
    rf"""(?:\s*+=++\s*+('[^']*+'|"[^"]*+"|(?!['"]){_BARE})|\s*+=++\s++()|\s*+=+(=['"]{_BARE}))?{_GAP}"""
)
# Of a number with more digits than characters have, unescape() may raise.
_LEADING_ZEROS: Final = re.compile("&#0++(?=[0-9])")
_LARGE_NUMBER: Final = re.compile("&#[0-9]{8,}+;?")

_MAY_END: Final = re.compile(">").search
_MAY_END_QUOTED: Final = {quote: re.compile(quote).search for quote in "'\""}
_MAY_END_REFERENCE: Final = re.compile(r"[^-.a-zA-Z0-9#]").search


class Markup:
    """Cuts a document into tokens.

    Args:
        only: Names of the tags that matter: everything else is text then, references and comments as well.  None for all.
    """

    __slots__ = (
        "_at",
        "_awaited",
        "_closed",
        "_comments",
        "_failed",
        "_gt",
        "_only",
        "_pattern",
        "_raw",
        "_resume",
        "_skip",
        "_text",
        "_tries",
    )

    def __init__(self, only: Collection[str] | None = None) -> None:
        self._only = None if only is None else tuple(only)
        self._text = ""
        # Where the first construct begins that was not read.
        self._at = 0
        # Finds in a new piece what may end that construct; and how many of its characters need no second look.
        self._awaited: Callable[[str], object] | None = None
        self._resume = 0
        # The element that is being read, where its content is text.
        self._raw = ""
        # Whether comments end: None as long as none has begun.  Whether tags are tried whole: not after one that did not end,
        # or each that follows might be looked through in vain up to the end of the document.
        self._comments: bool | None = None
        self._tries = True
        # What goes over text, and over other constructs where they count as text.
        self._pattern = _NO_REFERENCE if only is None else _NO_TAG
        self._skip = self._skipping()
        # The first ">" from where constructs are looked for, the size of the text where there was none.
        self._gt = -1
        # Whether there is no more to come; and then where attributes begin that no end of a tag follows.
        self._closed = False
        self._failed: set[int] = set()

    def feed(self, data: str) -> Iterator[Token]:
        """Take more of the document; return its complete constructs."""
        # Nothing else refers to the text now, so that it grows in place.
        text, self._text = self._text, ""
        if self._at >= max(_WORTHWHILE, len(text) // 2):
            text = text[self._at :]
            self._gt, self._at = self._gt - self._at, 0
        text += data
        self._text = text
        return self._read() if self._awaited is None or self._awaited(data) is not None else iter(())

    def close(self) -> Iterator[Token]:
        """Return the rest, at the end of the document."""
        self._closed = True
        return self._read()

    def _read(self) -> Iterator[Token]:
        text, at, only = self._text, self._at, self._only
        begun = at
        self._awaited = None
        if not text.startswith(">", self._gt):
            self._gt = self._first_gt(max(at, self._gt))
        kind: Kind | None
        while at < len(text):
            name = None
            if not self._raw and not self._resume:
                if self._gt < at:
                    self._gt = self._first_gt(at)
                match = (self._skip if self._gt < len(text) else self._pattern)(text, at)
                at, name = match.end(1), match[3]
            if name:
                stop, kind, value = match.end(), "end" if match[2] else "start", name.lower()
                if value in _RAW and not (match[2] or match[4]):
                    self._raw = value
            elif at == len(text):
                break
            elif self._raw:
                at, stop, kind, value = self._end_of_raw(at)
            else:
                stop, kind, value = self._construct(at)
            if stop < 0:
                break
            self._resume = 0
            if kind is not None and (only is None or (value in only and kind in _TAGS)):
                if begun < at:
                    self._at = at
                    yield "text", text[begun:at], ""
                self._at = begun = stop
                yield kind, text[at:stop], value
            at = stop
        if self._closed:
            at = len(text)
        self._at = at
        if begun < at:
            yield "text", text[begun:at], ""

    def _first_gt(self, at: int) -> int:
        gt = self._text.find(">", at)
        return gt if gt >= 0 else len(self._text)

    def _skipping(self) -> _Skip:
        return self._pattern if self._only is None else _others(self._only, self._comments, self._tries)

    def _end_of_raw(self, at: int) -> tuple[int, int, Kind | None, str]:
        """Return the end tag of the element whose content is text."""
        text, name, begin = self._text, self._raw, at + self._resume
        match = _raw_end(name).search(text, begin)
        if match is None:
            return at, *self._open_at(_open_end(text, begin, _OPEN_RAW_END, "<") - at)
        self._raw = ""
        return match.start(), match.end(), "end", name

    def _open_at(self, resume: int, awaited: Callable[[str], object] = _MAY_END) -> _Construct:
        self._resume, self._awaited = resume, awaited
        return _OPEN

    def _construct(self, at: int) -> _Construct:
        text = self._text
        if text[at] == "&":
            return self._reference(at)
        following = text[at + 1 : at + 2]
        tag = following.isascii() and following.isalpha()
        if not tag and following not in "/!?":
            return at + 1, None, ""
        if self._gt < at:
            self._gt = self._first_gt(at)
        if not following or self._gt == len(text):
            return self._endless(at)
        if not tag:
            return self._declaration(at, following)
        match = _START.match(text, at) if self._tries and not self._resume else None
        if match is None or text.startswith("/", match.end() - 2):
            return self._quoted_start(at)
        return self._begun(match.end(), match[1])

    def _endless(self, at: int) -> _Construct:
        """Return what begins where nothing ends: it waits, or is text up to where the last such begins."""
        if not self._closed:
            return self._open_at(self._resume) if at + 1 < len(self._text) else _OPEN
        broken = _BROKEN_START.match(self._text, at)
        return self._text.rfind("<") + 1 if broken is None else broken.end(), None, ""

    def _begun(self, stop: int, name: str) -> _Construct:
        """Return a start tag that is not empty."""
        name = name.lower()
        self._raw = name if name in _RAW else ""
        return stop, "start", name

    def _quoted_start(self, at: int) -> _Construct:
        """Return a start tag after a look at what is quoted in it, and where."""
        text, failed = self._text, self._failed
        position = at + self._resume
        passed = []
        match = (_SHORT_ATTRIBUTES if self._resume else _SHORT_BEGINNING).match(text, position)
        while match is not None:
            stop = match.end()
            following = text[stop : stop + 1]
            if match.lastindex:
                return stop, None, ""  # broken
            if following == ">" or (following == "/" and text.startswith("/>", stop)):
                name = _match(_START_NAME, text, at)[1]
                # HTML knows no empty elements, but these have no content that is text.
                return (stop + 2, "start", name.lower()) if following == "/" else self._begun(stop + 1, name)
            quoted = _QUOTED.match(text, stop)
            if quoted is None:
                if not self._closed:
                    # From the beginning, where there is but a name yet: there may be more of it.
                    return self._wait_in_start(position - at, _MAY_END)
                break
            close = text.find(quoted[5], quoted.end())
            if close >= 0:
                position = close + 1
                if position in failed:
                    break
                passed.append(position)
            elif not self._closed:
                return self._wait_in_start(stop - at, _MAY_END_QUOTED[quoted[5]])
            elif (position := _behind_open_quote(text, quoted)) < 0:
                break
            match = _SHORT_ATTRIBUTES.match(text, position)
        self._give_up_trying()
        if passed:
            # What comes to one of these later goes on from there as this did.
            failed.update(passed)
        return text.index(">", at) + 1, None, ""

    def _wait_in_start(self, resume: int, awaited: Callable[[str], object]) -> _Construct:
        self._give_up_trying()
        return self._open_at(resume, awaited)

    def _give_up_trying(self) -> None:
        if self._tries:
            self._tries = False
            self._skip = self._skipping()

    def _reference(self, at: int) -> _Construct:
        match = _REFERENCE.match(self._text, at)
        if match is not None:
            return (match.end(), "charref", match[1]) if match[1] else (match.end(), "entityref", match[2])
        if not self._closed and _OPEN_REFERENCE.match(self._text, at) is not None:
            self._awaited = _MAY_END_REFERENCE
            return _OPEN
        return at + 1, None, ""

    def _declaration(self, at: int, following: str) -> _Construct:
        """Return an end tag, a comment, a declaration or a processing instruction."""
        text = self._text
        if text.startswith("<!--", at):
            return self._comment(at)
        end = text.find(">", at + max(2, self._resume))
        if end < 0:
            return self._open_at(len(text) - at)
        stop, content = end + 1, text[at + 2 : end]
        if following == "?":
            return stop, "pi", content
        if following == "/":
            match = _END.match(text, at) or _END_NAME.match(text, at)
            if match is not None:
                return stop, "end", match[1].lower()
            return stop, "comment" if content else None, content
        return stop, "decl" if content[:1] == "[" or content[:7].lower() == "doctype" else "comment", content

    def _comment(self, at: int) -> _Construct:
        text, begin = self._text, at + max(4, self._resume)
        match = None if self._comments is False else _COMMENT_END.search(text, begin)
        if match is None and not self._closed:
            return self._open_at(_open_end(text, begin, _OPEN_COMMENT_END, "-", twice=True) - at)
        if self._comments is not (match is not None):
            self._comments = match is not None
            self._skip = self._skipping()
        if match is None:
            return text.index(">", at) + 1, None, ""
        return match.end(), "comment", text[at + 4 : match.start()]


def _match(pattern: re.Pattern[str], text: str, position: int) -> re.Match[str]:
    match = pattern.match(text, position)
    assert match is not None
    return match


def _behind_open_quote(text: str, quoted: re.Match[str]) -> int:
    """Return where the next attribute begins after one whose quote nothing closes; -1 where none can begin."""
    name, blank, equals, gap, _ = quoted.groups()
    if gap:
        return quoted.end() - 1  # a name that begins with the quote
    if len(equals) > 1:
        return _match(_BARE_VALUE, text, quoted.end(3) - 1).end()  # a value that begins with "="
    if blank or name[-1] in "'\"":
        return quoted.start(3)  # a name that begins with "="
    return -1


def _open_end(text: str, begin: int, end: re.Pattern[str], character: str, twice: bool = False) -> int:
    """Return where an end begins that more text may complete, the length of the text if none does.

    Args:
        text: Holds no whole end from ``begin`` on.
        begin: From where to look.
        end: Matches what may be the beginning of an end.
        character: The first character of an end.
        twice: Whether with two of them.
    """
    position = text.rfind(character, begin)
    if position < 0:
        return len(text)
    if twice and position > begin and text[position - 1] == character:
        position -= 1
    return position if end.fullmatch(text, position) is not None else len(text)


@cache
def _raw_end(name: str) -> re.Pattern[str]:
    """Return the pattern of the end tag of an element."""
    return re.compile(rf"</\s*+{_any_case(name)}\s*+>")


@cache
def _others(only: tuple[str, ...], comments: bool | None, tries: bool) -> _Skip:
    """Return the pattern of text and whole constructs, except some tags, and elements whose content is text.

    Args:
        only: Names of the tags.
        comments: Whether comments end; None takes none, since that is not known.
        tries: Whether all tags are looked at, or those only that cannot take long.
    """
    starts = "|".join(map(_any_case, (*only, *_RAW)))
    ends = "|".join(map(_any_case, only)) or "(?!)"
    comment = {None: "(?!--)", True: r"(?:--[^-]*+(?:-(?!-\s*+>)[^-]*+)*+--\s*+(?=>)|(?!--))", False: ""}[comments]
    start = _start("" if tries else ">").replace(f"({_NAME})", _NAME)
    construct = rf"(?=[^a-zA-Z/!?])|(?!{starts}){start}|/(?!\s*+(?:{ends}))[^>]*+>|!{comment}[^>]*+>|\?[^>]*+>"
    return cast(_Skip, re.compile(f"((?:[^<]++|<(?:{construct}))*+){_PLAIN_TAG}").match)


def _any_case(name: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" for letter in name)


def attributes(tag: str) -> Attributes:
    """Return the attributes of a start tag, names in lower case, references in values decoded.

    An attribute without a value has its name for one.

    Args:
        tag: Its source, brackets and all.
    """
    found = []
    for match in _NAME_AND_VALUE.finditer(tag, _match(_START_NAME, tag, 0).end()):
        name = value = match[1].lower()
        if match.lastindex is not None and match.lastindex > 1:
            value = match[match.lastindex]
            value = _unescaped(value[1:-1] if value[:1] in ("'", '"') else value)
        found.append((name, value))
    return found


def _unescaped(value: str) -> str:
    if "&" not in value:
        return value
    return unescape(_LARGE_NUMBER.sub("\ufffd", _LEADING_ZEROS.sub("&#", value)))
