from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.auth._structured import comment
from aiomilter.auth.results import AuthenticationResults, MethodResult, Property, parse, quote, visible
from tests.auth.fields import SHAPES
from tests.auth.steps import steps


def test_results_are_written_one_a_line() -> None:
    results = AuthenticationResults(
        "mx.example.net",
        (
            MethodResult("spf", "pass", (Property("smtp", "mailfrom", "alice@example.com"),), comment="a (nice) one"),
            MethodResult("iprev", "fail", (Property("policy", "iprev", "192.0.2.1"),), reason='no "name"'),
        ),
    )

    assert str(results) == (
        "mx.example.net;\n\tspf=pass (a \\(nice\\) one) smtp.mailfrom=alice@example.com;\n\t"
        'iprev=fail reason="no \\"name\\"" policy.iprev=192.0.2.1'
    )


def test_no_results_are_none() -> None:
    assert str(AuthenticationResults("mx.example.net")) == "mx.example.net; none"


@pytest.mark.parametrize("word", ["", "a b", "a;b", "a\n", "-a", "a=", "ü"])
def test_methods_results_and_names_are_keywords(word: str) -> None:
    for arguments in ((word, "pass"), ("spf", word)):
        with pytest.raises(ValueError, match="expected a keyword"):
            MethodResult(*arguments)
    for item in (Property("smtp", word, "x"), Property("", word, "x"), Property(word or "a b", "mailfrom", "x")):
        with pytest.raises(ValueError, match="expected a keyword"):
            MethodResult("spf", "pass", (item,))


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("example.com", "example.com"),
        ("alice+tag@example.com", "alice+tag@example.com"),
        ("@example.com", "@example.com"),
        ("", '""'),
        ("a b", '"a b"'),
        ("2001:db8::1", '"2001:db8::1"'),
        ('a"\\b', '"a\\"\\\\b"'),
        ("a;b", '"a;b"'),
        ("a(b)", '"a(b)"'),
        ("a\r\nX: y\0", '"a?X: y?"'),
        ("ü", '"?"'),
        ("ü@example.com", "?@example.com"),
        ("użytkownik@dömäne.example", "u?ytkownik@xn--dmne-moa0i.example"),
        ("dömäne.example", "xn--dmne-moa0i.example"),
        ("\u2028.example", '"?.example"'),
        ("ü ö.example", '"? ?.example"'),
        ("\udcff@example.com", "?@example.com"),
        ("x" * 300, '"' + "x" * 253 + '..."'),
    ],
)
def test_a_value_is_quoted_where_it_must_be(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("użytkownik@dömäne.example", "użytkownik@dömäne.example"),
        ("dömäne.example", '"dömäne.example"'),
        ("用户@例え.example", "用户@例え.example"),
        ("a b@dömäne.example", '"a b@dömäne.example"'),
        ("ü\u00a0x", '"ü\u00a0x"'),
        ("ü\r\nX: y\0", '"ü?X: y?"'),
        ("ü\udcff\u2028\u202e\x85\ufeff", '"ü?"'),
        ("ü" * 300, '"' + "ü" * 126 + '..."'),
        ("\U0001f600" * 300, '"' + "\U0001f600" * 63 + '..."'),
        ("alice@example.com", "alice@example.com"),
    ],
)
def test_smtputf8_mail_holds_a_value_as_it_is(text: str, quoted: str) -> None:
    assert quote(text, smtputf8=True) == quoted


def test_a_comment_cannot_be_left() -> None:
    assert comment("a) b=c; (\\") == "(a\\) b=c; \\(\\\\)"
    assert comment("ü)", smtputf8=True) == "(ü\\))"


@pytest.mark.parametrize(
    ("value", "results"),
    [
        ("mx.example.net; none", ()),
        ("mx.example.net 1;\r\n\tnone", ()),
        ("mx.example.net", ()),
        ("mx.example.net;", ()),
        (
            "mx.example.net; spf=pass smtp.mailfrom=a@example.com",
            (MethodResult("spf", "pass", (Property("smtp", "mailfrom", "a@example.com"),)),),
        ),
        (
            '(c (d)) mx.example.net (e) 1 ; (f) SPF/1 (g) = (h) Pass (i) reason = "because; (not)" '
            'smtp . mailfrom=x smtp.mailfrom (j) = "a b"@example.com ; dkim=fail',
            (
                MethodResult(
                    "spf",
                    "pass",
                    (Property("smtp", "mailfrom", "x"), Property("smtp", "mailfrom", "a b@example.com")),
                    reason="because; (not)",
                ),
                MethodResult("dkim", "fail"),
            ),
        ),
        (
            "mx.example.net; dkim=pass header.d=example.com header.b=ab+/c= header.i=@example.com",
            (
                MethodResult(
                    "dkim",
                    "pass",
                    (
                        Property("header", "d", "example.com"),
                        Property("header", "b", "ab+/c="),
                        Property("header", "i", "@example.com"),
                    ),
                ),
            ),
        ),
        ("mx.example.net; nonsense; =; spf=; ;; dkim=none", (MethodResult("dkim", "none"),)),
    ],
)
def test_results_of_others_are_read_leniently(value: str, results: tuple[MethodResult, ...]) -> None:
    assert parse(value) == AuthenticationResults("mx.example.net", results)


NO_HOST = [
    ("spf=pass smtp.mailfrom=example.com; dkim=pass header.d=example.com", ["spf", "dkim"]),
    ("spf=pass (sender IP is 192.0.2.1)\r\n smtp.mailfrom=example.com; dmarc=pass action=none", ["spf", "dmarc"]),
    ("compauth=pass reason=000", ["compauth"]),
    ("auth=pass smtp.auth=sendonly smtp.mailfrom=alice@example.com", ["auth"]),
    ("SPF (x) / 1 = pass; dkim=none", ["spf", "dkim"]),
    ("; spf=pass", ["spf"]),
    ('""; spf=pass', ["spf"]),
    ("none; spf=pass", ["spf"]),
    ("mx.example.net is mine; spf=pass", ["spf"]),
    ("spf pass; dkim=pass", ["dkim"]),
]


@pytest.mark.parametrize(("value", "methods"), NO_HOST)
def test_a_field_without_a_host_names_none_and_loses_no_result(value: str, methods: list[str]) -> None:
    parsed = parse(value)

    assert parsed is not None
    assert parsed.authserv_id == ""
    assert [result.method for result in parsed.results] == methods


@pytest.mark.parametrize("value", ["none", "None (x)", "; none", '""; none', "none;"])
def test_none_is_no_host(value: str) -> None:
    assert parse(value) == AuthenticationResults("")


@pytest.mark.parametrize("name", ["mx@example.net", "=@0", "a=b", "a;b", "i=1", "a b", "mx.example.net/7"])
def test_a_host_that_is_no_token_is_quoted(name: str) -> None:
    written = str(AuthenticationResults(name))

    assert written == f'"{name}"; none'
    assert parse(written) == AuthenticationResults(name)


def test_no_host_is_written_as_an_empty_name() -> None:
    parsed = parse("spf=pass smtp.mailfrom=example.com")

    assert str(parsed) == '"";\n\tspf=pass smtp.mailfrom=example.com'
    assert parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "value", ["", ";", "(never closed", "(" * 17 + ")" * 17 + "mx.example", '"', '""', "x" * 70_000]
)
def test_what_has_no_authserv_id_and_no_result_is_nothing(value: str) -> None:
    assert parse(value) is None


@pytest.mark.parametrize(
    "host",
    [
        '"mx.\\example.net"',
        '"mx".example.net',
        "mx . (x) example\r\n .net",
        "mx.example.net 1",
        "mx.example.net (x) 1 (y)",
        "i=1; mx.example.net",
        "i (x) = 12;\r\n mx.example.net",
    ],
)
def test_a_host_is_read_in_pieces_and_without_its_version_and_instance(host: str) -> None:
    for value in (f"{host} ; none", f"{host};spf=pass", f"{host} spf=pass smtp.helo=x"):
        parsed = parse(value)
        assert parsed is not None
        assert (parsed.authserv_id, parsed.unread) == ("mx.example.net", ())
        assert len(parsed.results) == ("spf" in value)


UNREAD = [
    ("nonsense; =; spf=; ;; dkim=none", ["dkim"], ("nonsense", "=", "spf=")),
    ("spf=pass foo smtp.mailfrom=x", ["spf"], ("foo",)),
    ("spf=pass a.b.=x smtp.mailfrom=x", ["spf"], ("a.b.=x",)),
    ('spf=pass "foo" = x', ["spf"], ('"foo"', "= x")),
    ('spf=pass reason="never closed; dkim=pass', ["spf"], ("reason=", '"never closed; dkim=pass')),
    ("spf=pass (never closed; dkim=pass", ["spf"], ("(never closed; dkim=pass",)),
    ("spf= smtp.mailfrom=x; dkim=pass", ["dkim"], ("spf= smtp.mailfrom=x",)),
    ("spf=pa\u00dfs; dkim=pass", ["dkim"], ("spf=pa\u00dfs",)),
    ("\x1b[2J\udcff; dkim=pass", ["dkim"], ("?[2J\ufffd",)),
    ("x" * 300 + "; dkim=pass", ["dkim"], ("x" * 253 + "...",)),
]


@pytest.mark.parametrize(("results", "methods", "unread"), UNREAD)
def test_what_cannot_be_read_is_told(results: str, methods: list[str], unread: tuple[str, ...]) -> None:
    parsed = parse("mx.example.net; " + results)

    assert parsed is not None
    assert [result.method for result in parsed.results] == methods
    assert parsed.unread == unread
    assert parsed.omitted == 0
    assert "".join(parsed.unread).isprintable()


def test_what_is_unread_before_the_results_is_told() -> None:
    parsed = parse("mx.example.net is mine; spf=pass")

    assert parsed is not None
    assert parsed.unread == ("mx.example.net is mine",)


def test_no_property_is_lost() -> None:
    parsed = parse(
        "mx.example.net; dmarc=pass reason=a reason=b action=none smtp.mailfrom= smtp . helo (x) = c (y) header.d=\r\n d"
    )

    assert parsed is not None
    (result,) = parsed.results
    assert result.reason == "a"
    assert result.properties == (
        Property("", "reason", "b"),
        Property("", "action", "none"),
        Property("smtp", "mailfrom", ""),
        Property("smtp", "helo", "c"),
        Property("header", "d", "d"),
    )
    assert parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("results", "kept", "omitted"),
    [
        ("; spf=pass" * 300, (256, 0, 0), 44),
        ("; spf=pass" + " smtp.helo=x" * 100, (1, 64, 0), 36),
        ("; foo" * 40, (0, 0, 32), 8),
        ("; spf=pass" + " foo" * 40, (1, 0, 32), 8),
        ("; spf=pass" + " smtp.helo=x" * 64 + " foo; dkim=pass", (2, 64, 0), 1),
    ],
)
def test_what_is_more_than_anybody_needs_is_counted(results: str, kept: tuple[int, int, int], omitted: int) -> None:
    parsed = parse("mx.example.net" + results)

    assert parsed is not None
    properties = sum(len(result.properties) for result in parsed.results)
    assert (len(parsed.results), properties, len(parsed.unread)) == kept
    assert parsed.omitted == omitted


def test_comments_may_be_nested_but_not_without_end() -> None:
    assert parse("(" * 16 + ")" * 16 + "mx.example; spf=pass") is not None
    deep = parse("mx.example; " + "(" * 1000 + "; spf=pass")

    assert deep == AuthenticationResults("mx.example")
    assert deep is not None
    assert deep.unread == ("(" * 253 + "...",)


def test_internationalized_values_are_read_and_written() -> None:
    """RFC 8601 section 2.2, RFC 6532: UTF-8 in SMTPUTF8 mail, else A-labels and question marks."""
    field = 'mx.dömäne.example; spf=pass (ż) smtp.mailfrom=użytkownik@dömäne.example reason="ż"'
    parsed = parse(field)

    assert parsed is not None
    assert parsed.results == (
        MethodResult("spf", "pass", (Property("smtp", "mailfrom", "użytkownik@dömäne.example"),), "ż"),
    )
    written = parsed.value(smtputf8=True)
    assert written == ('"mx.dömäne.example";\n\tspf=pass reason="ż" smtp.mailfrom=użytkownik@dömäne.example')
    assert parse(written) == parsed
    assert str(parsed) == (
        'mx.xn--dmne-moa0i.example;\n\tspf=pass reason="?" smtp.mailfrom=u?ytkownik@xn--dmne-moa0i.example'
    )


def test_octets_that_are_not_utf8_never_leave_as_text() -> None:
    parsed = parse("mx.example.net; spf=pass smtp.mailfrom=a\udcff@example.com \udc80")

    assert parsed is not None
    assert parsed.results[0].properties == (Property("smtp", "mailfrom", "a\ufffd@example.com"),)
    own = AuthenticationResults(
        "\ud800.x", (MethodResult("spf", "pass", parsed.results[0].properties, "\udcff", "\udcff"),)
    )
    for text in (*parsed.unread, own.value(), own.value(smtputf8=True)):
        text.encode()


TEXT = st.text(max_size=60)


@given(TEXT, TEXT, TEXT, TEXT, st.booleans())
@settings(deadline=None)
def test_no_value_injects_a_header_a_comment_or_a_result(
    authserv_id: str, value: str, reason: str, remark: str, smtputf8: bool
) -> None:
    results = AuthenticationResults(
        authserv_id or "x", (MethodResult("spf", "fail", (Property("smtp", "mailfrom", value),), reason, remark),)
    )

    written = results.value(smtputf8=smtputf8)
    read = parse(written)

    assert all(line == visible(line, 4 * len(line), smtputf8=smtputf8) for line in written.split("\n\t"))
    assert read is not None
    assert read.unread == ()
    assert len(read.results) == 1
    assert read.results[0].method == "spf"
    assert len(read.results[0].properties) == 1
    if smtputf8 or (authserv_id + value + reason).isascii():
        shown = [visible(text, smtputf8=smtputf8) for text in (authserv_id or "x", value, reason)]
        assert [read.authserv_id, read.results[0].properties[0].value, read.results[0].reason] == shown


KEYWORDS = st.from_regex(r"[a-z][a-z0-9_-]{0,8}[a-z0-9]", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
METHOD_RESULTS = st.builds(
    MethodResult,
    KEYWORDS,
    KEYWORDS,
    st.lists(
        st.builds(Property, KEYWORDS | st.just(""), KEYWORDS.filter(lambda name: name != "reason"), VALUES), max_size=4
    ).map(tuple),
    VALUES,
)


@given(VALUES.filter(lambda name: name.lower() != "none"), st.lists(METHOD_RESULTS, max_size=3).map(tuple))
@settings(deadline=None, max_examples=50)
def test_what_is_written_is_read_again(authserv_id: str, results: tuple[MethodResult, ...]) -> None:
    value = AuthenticationResults(authserv_id, results)

    assert parse(str(value)) == value
    assert parse(value.value(smtputf8=True)) == value


@given(st.text(alphabet='ab.=;()"\\/@ \t\r\n\0ü\udcff', max_size=80))
@settings(deadline=None)
def test_any_text_is_read_or_not_and_never_raises(text: str) -> None:
    parsed = parse(text)

    assert parsed is None or parse(str(parsed)) is not None


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_a_field_made_to_keep_us_busy_is_read_in_bounded_steps(shape: str) -> None:
    """A few for each of the things that are kept, however many there are."""
    for begin in ("", "mx.example;", "mx.example; spf=pass "):
        few, many = (steps(partial(parse, (begin + shape * size)[:size])) for size in (8_000, 16_000))
        assert many < 2.1 * few + 1000
        assert many < 60_000
        assert parse((begin + shape * 20_000)[:16_385]) is None


def test_a_short_field_is_read_in_few_steps() -> None:
    assert steps(partial(parse, "mx.example.org; spf=pass smtp.mailfrom=alice@example.com; dkim=none")) < 1_000
