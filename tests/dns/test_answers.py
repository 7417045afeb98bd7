from ipaddress import ip_address

from aiomilter.dns import MX, Answer


def test_an_answer_gives_its_records_by_kind() -> None:
    records = (ip_address("192.0.2.1"), ip_address("2001:db8::1"), MX(20, "b"), MX(10, "a"), "name.example", b"text")

    answer = Answer("example", "A", records)

    assert answer.addresses == records[:2]
    assert answer.exchanges == (MX(10, "a"), MX(20, "b"))
    assert answer.names == ("name.example",)
    assert answer.texts == (b"text",)


def test_an_answer_without_records_is_false() -> None:
    assert not Answer("example", "A")
    assert Answer("example", "TXT", (b"",))
