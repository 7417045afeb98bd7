import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.auth.results import AuthenticationResults, MethodResult, Property, comment, parse, quote, visible


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
    with pytest.raises(ValueError, match="expected a keyword"):
        MethodResult("spf", "pass", (Property("smtp", word, "x"),))


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
        ("x" * 300, '"' + "x" * 253 + '..."'),
    ],
)
def test_a_value_is_quoted_where_it_must_be(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_a_comment_cannot_be_left() -> None:
    assert comment("a) b=c; (\\") == "(a\\) b=c; \\(\\\\)"


def test_visible_text_is_cut() -> None:
    assert visible("x" * 20, 10) == "x" * 7 + "..."
    assert visible("x" * 10, 10) == "x" * 10


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
                    "spf", "pass", (Property("smtp", "mailfrom", "a b@example.com"),), reason="because; (not)"
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


@pytest.mark.parametrize("value", ["", ";", "(never closed", "(" * 17 + ")" * 17 + "mx.example", '"', "x" * 70_000])
def test_what_has_no_authserv_id_is_nothing(value: str) -> None:
    assert parse(value) is None


def test_a_quoted_authserv_id_is_read() -> None:
    parsed = parse('"mx.\\example.net" ; none')

    assert parsed is not None
    assert parsed.authserv_id == "mx.example.net"


def test_comments_may_be_nested_but_not_without_end() -> None:
    assert parse("(" * 16 + ")" * 16 + "mx.example; spf=pass") is not None
    deep = parse("mx.example; " + "(" * 1000 + "; spf=pass")

    assert deep == AuthenticationResults("mx.example")


TEXT = st.text(max_size=60)


@given(TEXT, TEXT, TEXT, TEXT)
@settings(deadline=None)
def test_no_value_injects_a_header_a_comment_or_a_result(
    authserv_id: str, value: str, reason: str, remark: str
) -> None:
    results = AuthenticationResults(
        authserv_id or "x", (MethodResult("spf", "fail", (Property("smtp", "mailfrom", value),), reason, remark),)
    )

    written = str(results)
    read = parse(written)

    assert all(" " <= character <= "~" for line in written.split("\n\t") for character in line)
    assert read is not None
    assert read.authserv_id == visible(authserv_id or "x")
    assert read.results == (
        MethodResult("spf", "fail", (Property("smtp", "mailfrom", visible(value)),), visible(reason)),
    )


@given(st.text(alphabet='ab.=;()"\\/@ \t\r\n\0ü', max_size=80))
@settings(deadline=None)
def test_any_text_is_read_or_not_and_never_raises(text: str) -> None:
    parsed = parse(text)

    assert parsed is None or parsed.authserv_id


@pytest.mark.parametrize(
    "text", ["(" * 16_000, "()" * 8000, '"' * 16_000, 'a="' * 5000, ";" * 16_000, "a=b;" * 4000, "a=" * 8000]
)
def test_a_field_made_to_keep_us_busy_is_read_in_bounded_time(text: str) -> None:
    started = time.process_time()

    parse("mx.example; " + text)

    assert time.process_time() - started < 1
