"""A share of the mail: the same clients or domains, whatever happens, and as many as were asked for."""

from typing import Any

import pytest

from aiomilter import Connect, Family, Rcpt
from aiomilter.compose import MailShare, check
from tests.compose.test_shadow import Passes


def client(address: str) -> Connect:
    return Connect("h", Family.INET6 if ":" in address else Family.INET, 25, address)


@pytest.mark.parametrize("part", [0, 0.05, 0.5, 1])
def test_a_share_has_about_as_much_as_it_says(part: float) -> None:
    share = MailShare(part)
    found = sum(share.has("new", f"10.{number // 256}.{number % 256}.0/24") for number in range(10_000))
    assert abs(found - 10_000 * part) < 400


def test_a_share_is_the_same_wherever_name_and_key_are() -> None:
    networks = [f"10.0.{number}.0/24" for number in range(256)]
    chosen = [[MailShare(0.5, key=key).has(name, each) for each in networks] for key in (b"", b"a") for name in "xy"]
    assert [MailShare(0.5, key=b"a").has("y", each) for each in networks] == chosen[3]
    assert len({tuple(each) for each in chosen}) == 4
    smaller = [MailShare(0.1).has("x", each) for each in networks]
    assert all(large for small, large in zip(smaller, chosen[0], strict=True) if small)
    # The choice of all versions: another one would ask about other mail after an upgrade.
    assert [number for number in range(30) if smaller[number]] == CHOSEN


CHOSEN = [6, 17]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.250", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:1:100::1", "2001:db8:1:1ff::1", True),
        ("2001:db8:1:100::1", "2001:db8:1:200::1", False),
        ("::ffff:192.0.2.1", "192.0.2.9", True),
    ],
)
def test_clients_of_one_network_are_in_it_together(one: str, other: str, same: bool) -> None:
    taken = [
        [MailShare(0.5).takes(str(number), each, ()) for number in range(100)] for each in (client(one), client(other))
    ]
    assert (taken[0] == taken[1]) is same


def test_the_domain_of_the_first_recipient_decides_as_soon_as_there_is_one() -> None:
    share = MailShare(0.5, by="recipient_domain")
    assert share.takes("new", client("192.0.2.1"), ()) is None
    a, b = ([Rcpt(f"<x@{domain}>"), Rcpt("<y@z.example>")] for domain in ("a.example", "A.EXAMPLE"))
    assert [share.takes(str(n), client("192.0.2.1"), a) for n in range(50)] == [
        share.takes(str(n), client("192.0.2.7"), b) for n in range(50)
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"part": 1.5},
        {"part": -0.1},
        {"part": float("nan")},
        {"part": "0.5"},
        {"part": True},
        {"part": 0.5, "by": "sender"},
        {"part": 0.5, "key": "text"},
        {"part": 0.5, "key": b"x" * 65},
    ],
)
def test_a_wrong_share_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="share: expected"):
        MailShare(**wrong)


def test_only_a_shadow_has_a_share() -> None:
    with pytest.raises(ValueError, match="share: expected shadow=True"):
        check(Passes, share=0.5)
    with pytest.raises(TypeError, match="shadow: expected True or False"):
        check(Passes, shadow=1)  # type: ignore[arg-type]
    assert "secret" not in repr(MailShare(0.5, key=b"secret"))
