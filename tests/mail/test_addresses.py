import pytest

from aiomilter.mail.addresses import addresses

VALUES = [
    ("a@x.example", ["a@x.example"]),
    ("A <a@x.example>", ["a@x.example"]),
    ('"Last, First" <a@x.example>, b@x.example', ["a@x.example", "b@x.example"]),
    ("a@x.example (comment, c@x.example)", ["a@x.example"]),
    ("(nested (comment)) a@x.example", ["a@x.example"]),
    ('B (6" tall) <b@x.example>, c@x.example', ["b@x.example", "c@x.example"]),
    ("(<) a@x.example", ["a@x.example"]),
    ("(escaped \\) c@x.example) a@x.example", ["a@x.example"]),
    ('"(" <a@x.example>, b@x.example', ["a@x.example", "b@x.example"]),
    ("group: a@x.example, B <b@x.example>;, c@x.example", ["a@x.example", "b@x.example", "c@x.example"]),
    ("<@relay.example:a@x.example>", ["a@x.example"]),
    ('"a b"@x.example', ['"a b"@x.example']),
    ('"a@x.example"', []),
    ("a@x.example,\r\n b@x.example,\n\tc@x.example", ["a@x.example", "b@x.example", "c@x.example"]),
    ("<a@x.example", ["a@x.example"]),
    ('"unclosed <a@x.example>', []),
    ("undisclosed-recipients:;", []),
    ("", []),
    (",,;:<>()", []),
]


@pytest.mark.parametrize(("value", "found"), VALUES)
def test_mailboxes_are_found(value: str, found: list[str]) -> None:
    assert list(addresses(value)) == found


@pytest.mark.parametrize(
    "piece", ["(", ")", "<", ">", '"', '\\"', ",", ":", "<a", "a@b,", '"a', " ", "\\", '"\\"', "(<", '("']
)
def test_no_value_takes_long(piece: str) -> None:
    """With work for each pair of characters this would not end."""
    assert len(addresses(piece * 300_000)) <= 10_000
