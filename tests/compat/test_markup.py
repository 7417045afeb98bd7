"""HTML cut into tokens: none of it gets lost, pieces make no difference, and a filter sees the tags that it asks for."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiomilter.compat.modules.markup import Markup, Token, attributes
from aiomilter.compat.modules.mime import HTMLScriptFilter
from aiomilter.compat.modules.sgmllib import SGMLParser
from tests.compat.plays import play
from tests.compat.rigs import pymilter
from tests.compat.rigs.calls import Pymilter
from tests.compat.test_modules_like_pymilter import ours
from tests.programs import need

FRAGMENTS = [
    "<p>", "</p>", "<P\n", "<b/>", "<script>", "</script>", "<SCRIPT", "</script ", "<script/>", "<style>", "</style>",
    "<style", "<a", "<a/b", " href='x'", "='", '="', "= '", "==", "<a b='>'", "'", '"', "=", ">", "/", "</", "<", " ", "\n",
    "\0", "\x0b", "\xa0", "<!--", "-->", "--", "-- >", "<!-", "<!DOCTYPE", "<![CDATA[", "]]>", "<?", "?>", "<!", "&", "&amp;",
    "&#65;", "&#x", "&#", "&#12a", "&a-", ";", "x", "script", "\xe4", "\U0001f600",
]  # fmt: skip
DOCUMENTS = st.lists(st.sampled_from(FRAGMENTS), max_size=20).map("".join)


def tokens(pieces: list[str], only: tuple[str, ...] | None = None) -> list[Token]:
    """Return the tokens; what of a text follows another text belongs to it."""
    markup = Markup(only)
    found: list[Token] = []
    for piece in (*pieces, None):
        for kind, source, value in markup.close() if piece is None else markup.feed(piece):
            if kind == "text" and found and found[-1][0] == "text":
                found[-1] = ("text", found[-1][1] + source, "")
            else:
                found.append((kind, source, value))
    return found


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS)
def test_tokens_together_are_the_document(document: str) -> None:
    assert "".join(source for _, source, _ in tokens([document])) == document


@settings(max_examples=200, deadline=None)
@example("<<</script>", 1, None)
@example("<!-- - -- >x", 1, None)
@example("<script></scr\n</script\n>", 1, None)
@example("<a b='>'>'<a ='>'c", 1, None)
@example("'<!DOCTYPE\0<script>zz</script>q", 20, ("script",))
@given(DOCUMENTS, st.integers(1, 20), st.sampled_from([None, (), ("script",)]))
def test_a_document_in_pieces_is_the_same(document: str, size: int, only: tuple[str, ...] | None) -> None:
    pieces = [document[start : start + size] for start in range(0, len(document), size)]
    assert tokens(pieces, only) == tokens([document], only)


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS)
def test_the_tags_that_are_asked_for_are_where_they_are_among_all(document: str) -> None:
    found = tokens([document], ("script",))
    rest = [token if token[2] == "script" and token[0] in ("start", "end") else ("text", token[1], "")
            for token in tokens([document])]  # fmt: skip
    together: list[Token] = []
    for token in rest:
        if token[0] == "text" and together and together[-1][0] == "text":
            token = ("text", together.pop()[1] + token[1], "")
        together.append(token)
    assert found == together


TOKENS = {
    "a<P\nClass=x>b</P >": [("text", "a"), ("start", "p"), ("text", "b"), ("end", "p")],
    "<a b='>' c=\">\">x": [("start", "a"), ("text", "x")],
    "<a b=c/>d</a/b>": [("start", "a"), ("text", "d"), ("end", "a")],
    "<a b= '>c": [("start", "a"), ("text", "c")],
    "<a b=='>c": [("start", "a"), ("text", "c")],
    "<a b='>c": [("text", "<a b='>c")],
    "<a\0b><a'\0b>": [("text", "<a\0b>"), ("start", "a'")],
    "<script><p></style></script >x": [("start", "script"), ("text", "<p></style>"), ("end", "script"), ("text", "x")],
    "<script/><p>": [("start", "script"), ("start", "p")],
    "<style><script></style>": [("start", "style"), ("text", "<script>"), ("end", "style")],
    "<script></script": [("start", "script"), ("text", "</script")],
    "<!-- > --\n>x": [("comment", " > "), ("text", "x")],
    "<!--><p>": [("text", "<!-->"), ("start", "p")],
    "<!DocType x><!x><!><![x]>": [("decl", "DocType x"), ("comment", "x"), ("comment", ""), ("decl", "[x]")],
    "<?x?></?><//>": [("pi", "x?"), ("comment", "?"), ("comment", "/")],
    "&amp;&#65;&#x41 &a-b;": [
        ("entityref", "amp"),
        ("charref", "65"),
        ("charref", "x41"),
        ("text", " "),
        ("entityref", "a-b"),
    ],
    "&#<p>&#12a<p>&": [("text", "&#"), ("start", "p"), ("text", "&#12a"), ("start", "p"), ("text", "&")],
}  # fmt: skip


@pytest.mark.parametrize("document", TOKENS)
def test_tokens(document: str) -> None:
    found = [(kind, source if kind == "text" else value) for kind, source, value in tokens([document])]
    assert found == TOKENS[document]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("<a>", []),
        ("<a B c=D e='f' g=\"h\"/>", [("b", "b"), ("c", "D"), ("e", "f"), ("g", "h")]),
        ("<a\n/b = c=>", [("b", "c=")]),
        ("<a b= >", [("b", "")]),
        ("<a b= 'c>", [("b", ""), ("'c", "'c")]),
        ("<a b=='c>", [("b", "='c")]),
        ("<a b ='c>", [("b", "b"), ("='c", "='c")]),
        ("<a'b'=c>", []),
        ("<a b='&lt;&#65;&#x41'>", [("b", "<AA")]),
        (f"<a b=&#{'0' * 5000}65;>", [("b", "A")]),
        (f"<a b=&#{'9' * 5000};>", [("b", "\ufffd")]),
    ],
)
def test_attributes(tag: str, expected: list[tuple[str, str]]) -> None:
    assert attributes(tag) == expected


def cleaned(*pieces: str) -> str:
    out = io.StringIO(newline="")
    parser = HTMLScriptFilter(out)
    for piece in pieces:
        parser.feed(piece)
    parser.close()
    return out.getvalue()


GONE = HTMLScriptFilter.msg


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("&#<script>x</script>y", f"&#{GONE}y"),
        ("&#12a<script>x</script>y", f"&#12a{GONE}y"),
        ("</><script>x</script></>y", f"</>{GONE}</>y"),
        ("<script/><script/><script>x</b></script>y", f"{GONE}y"),
        (f"<script a='&#{'1' * 5000}'>x</script>y", f"{GONE}y"),
        ("<a <b>x</script>y", "<a <b>xy"),
    ],
)
def test_scripts_are_taken_out(document: str, expected: str) -> None:
    assert cleaned(document) == cleaned(*document) == expected


def test_a_class_that_is_derived_sees_all_that_there_is() -> None:
    class Images(HTMLScriptFilter):
        def do_img(self, attrs: list[tuple[str, str]]) -> None:
            self.handle_data(dict(attrs)["alt"])

    out = io.StringIO(newline="")
    parser = Images(out)
    parser.feed("<p><img src=x alt='y&amp;z'><script>x</script>")
    parser.close()
    assert out.getvalue() == f"<p>y&z{GONE}"


def test_the_stack_of_open_tags_is_the_programs_as_well() -> None:
    class Parser(SGMLParser):
        def start_a(self, attrs: object) -> None: ...
        def start_b(self, attrs: object) -> None: ...
        def end_a(self) -> None: ...
        def end_b(self) -> None: ...

    parser = Parser()
    parser.feed("<a><b><a><b>")
    assert parser.stack == ["a", "b", "a", "b"]
    parser.feed("</b><b></c>")
    assert parser.stack == ["a", "b"]
    parser.stack.pop()
    parser.feed("<a></b>")
    assert parser.stack == ["a", "a"]
    parser.feed("</a></a>")
    assert parser.stack == []


def test_numbers_of_any_length_are_references() -> None:
    unknown: list[str] = []

    class Parser(SGMLParser):
        def unknown_charref(self, ref: str) -> None:
            unknown.append(ref)

        def handle_data(self, data: str) -> None:
            unknown.append(data)

    parser = Parser()
    parser.feed(f"&#{'1' * 5000};&#{'0' * 5000}65;&#0;")
    assert unknown == ["1" * 5000, "A", "\0"]


# Against pymilter


@pytest.fixture(scope="module")
def theirs() -> Iterator[Pymilter]:
    need(pymilter.missing())
    with Pymilter(pymilter.PYTHON) as process:
        yield process


# Where references, empty elements, declarations of Word and broken tags are not.
ALIKE = [
    "<p>", "</p>", "<P>", "<a href='x'>", '<a href="y" b=c>', "<br>", "text", "\n", "&amp;", "&lt; ", "a & b ", "<!-- x -->",
    "<script>x</script>", "<SCRIPT src='x'></SCRIPT>", "<script>x < y</script >", "<!DOCTYPE html>", "\xe4", "1 < 2", "3 > 2",
]  # fmt: skip


@pytest.mark.interop
@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(ALIKE), max_size=12).map("".join))
def test_scripts_are_taken_out_as_by_pymilter(theirs: Pymilter, document: str) -> None:
    assert play(ours, "html", [document]) == theirs.play("html", [document])
