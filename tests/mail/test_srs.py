"""Addresses rewritten for forwarding, and back: the published vectors, and the rules that they do not reach."""

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.mail.srs import Rewriter, SrsError, read_secrets

ROOT: Final = Path(__file__).parent.parent
VECTORS: Final = json.loads((ROOT / "conformance" / "srs" / "srs-vectors.json").read_text())
NOW: Final = 1_700_000_000
DAY: Final = 86400
OURS: Final = "forward.example"
ALICE: Final = "SRS0=PGkz=G3=example.com=alice@forward.example"


def rewriter(*secrets: str, **options: Any) -> Rewriter:
    """Return one with the secret of the vectors, at their time."""
    return Rewriter(secrets or ("tops3cr3t",), options.pop("domain", OURS), **{"clock": lambda: NOW, **options})


def reason(rewrite: Callable[[str], str], address: str) -> str:
    """Return why an address cannot be rewritten."""
    with pytest.raises(SrsError) as caught:
        rewrite(address)
    return caught.value.reason


def test_all_vectors_are_rewritten_as_mail_srs_rewrites_them() -> None:
    """S-001, S-003, S-005, S-007."""
    wrong = []
    for row in VECTORS:
        made = rewriter(
            *row["secrets"], domain=row.get("alias") or OURS, any_domain=True, clock=lambda row=row: row["now"]
        )
        try:
            found = getattr(made, row["do"])(row["address"])
        except SrsError:
            found = None
        if found != row["expect"]:
            wrong.append((row, found))

    assert len(VECTORS) == 115
    assert wrong == []


@pytest.mark.parametrize("separator", "=+-")
def test_the_first_separator_is_ours_to_choose_and_any_is_read(separator: str) -> None:
    """S-002."""
    made = rewriter(separator=separator).forward("a=b@example.com")

    assert made == f"SRS0{separator}64aN=G3=example.com=a=b@forward.example"
    assert all(rewriter(separator=other).reverse(made) == "a=b@example.com" for other in "=+-")


@pytest.mark.parametrize(
    ("days", "found"), [(0, ""), (21, ""), (22, "stale"), (-1, "stale"), (1023, "stale"), (1024, "")]
)
def test_an_address_is_good_for_21_days(days: int, found: str) -> None:
    """S-004: a stamp of the future is an old one."""
    later = rewriter(clock=lambda: NOW + days * DAY)

    assert (reason(later.reverse, ALICE) if found else later.reverse(ALICE)) == (found or "alice@example.com")


def test_how_long_an_address_is_good_can_be_chosen() -> None:
    assert rewriter(max_age=0).reverse(ALICE) == "alice@example.com"
    assert reason(rewriter(max_age=0, clock=lambda: NOW + DAY).reverse, ALICE) == "stale"
    assert rewriter(max_age=1023, clock=lambda: NOW - DAY).reverse(ALICE) == "alice@example.com"


def test_a_hash_shorter_than_ours_is_refused_and_a_longer_one_read() -> None:
    """S-005."""
    made = {length: rewriter(hash_length=length).forward("alice@example.com") for length in (4, 8, 20)}

    assert [len(made[length].split("=")[1]) for length in made] == [4, 8, 20]
    assert all(rewriter(hash_length=4).reverse(address) == "alice@example.com" for address in made.values())
    assert reason(rewriter(hash_length=8).reverse, made[4]) == "forged"
    assert rewriter(hash_length=8, min_hash_length=4).reverse(made[4]) == "alice@example.com"


@pytest.mark.parametrize("change", [str.lower, str.upper, str.swapcase])
def test_letter_case_that_is_lost_on_the_way_does_no_harm(change: Callable[[str], str]) -> None:
    """S-006."""
    assert rewriter().reverse(change(ALICE)).lower() == "alice@example.com"


def test_a_changed_character_is_forged() -> None:
    """S-006: each of the hash, the stamp, the host and the local part."""
    local, _, host = ALICE.rpartition("@")
    for place in range(len("SRS0="), len(local)):
        if local[place] != "=":
            changed = f"{local[:place]}{'y' if local[place] != 'y' else 'x'}{local[place + 1 :]}@{host}"
            assert reason(rewriter().reverse, changed) == "forged", changed


def test_each_further_forwarder_keeps_the_length() -> None:
    """S-007."""
    address, lengths = "alice@example.com", []
    for number in range(5):
        address = rewriter(f"secret {number}", domain=f"fwd{number}.example").forward(address)
        lengths.append(len(address))

    assert lengths[1:] == [lengths[1]] * 4
    assert rewriter("secret 4", domain="fwd4.example").reverse(address).endswith("=alice@fwd0.example")


def test_the_first_secret_makes_and_all_verify() -> None:
    """S-008."""
    old, new = rewriter("old"), rewriter("new", "old")

    assert new.reverse(old.forward("alice@example.com")) == "alice@example.com"
    assert new.forward("alice@example.com") == rewriter("new").forward("alice@example.com")
    assert reason(old.reverse, new.forward("alice@example.com")) == "forged"


def test_secrets_are_texts_or_octets_and_are_not_shown() -> None:
    """S-008."""
    assert rewriter().forward("a@b.example") == Rewriter([b"tops3cr3t"], OURS, clock=lambda: NOW).forward("a@b.example")
    assert "tops3cr3t" not in repr(rewriter())


@pytest.mark.parametrize(
    "sender",
    ["", "bob@forward.example", "bob@FORWARD.example.", "bob@corp.example", "bob@b\u00fccher.example", ALICE],
)
def test_what_is_ours_is_left_as_it_is(sender: str) -> None:
    """S-009."""
    ours = rewriter(own_domains=["corp.example", "xn--bcher-kva.example"])

    assert ours.forward(sender) == sender


def test_only_addresses_in_our_domains_are_rewritten_back() -> None:
    """S-009."""
    elsewhere = ALICE.replace(OURS, "corp.example")

    assert reason(rewriter().reverse, elsewhere) == "not ours"
    assert rewriter(own_domains=["corp.example"]).reverse(elsewhere) == "alice@example.com"
    assert rewriter(any_domain=True).reverse(elsewhere) == "alice@example.com"
    assert rewriter().reverse(ALICE.replace(OURS, "Forward.Example.")) == "alice@example.com"


@pytest.mark.parametrize("address", ["a" * 50 + "@example.com", "a@" + "b." * 110 + "example"])
def test_an_address_over_the_limits_of_smtp_is_left_or_refused(address: str) -> None:
    """S-009."""
    assert rewriter().forward(address) == address
    assert reason(rewriter(too_long="refuse").forward, address) == "too long"
    assert rewriter(too_long="rewrite").forward(address).endswith(f"={address.partition('@')[0]}@{OURS}")


def test_an_address_may_be_too_long_for_its_domain() -> None:
    """S-009."""
    long = rewriter(domain=f"{'b.' * 110}example", too_long="refuse")

    assert reason(long.forward, "alice@example.com") == "too long"


def test_quotes_stand_round_the_whole_local_part() -> None:
    """S-011."""
    made = rewriter().forward('"a b"@example.com')

    assert re.fullmatch(r'"SRS0=..../?=G3=example\.com=a b"@forward\.example', made)
    assert rewriter().reverse(made) == '"a b"@example.com'
    assert rewriter().reverse(rewriter().forward('"alice"@example.com')) == "alice@example.com"
    assert rewriter().reverse(rewriter().forward(r'"a\"\\b@c"@example.com')) == r'"a\"\\b@c"@example.com'
    assert rewriter().reverse(rewriter().forward("alice@[IPv6:2001:db8::1]")) == "alice@[IPv6:2001:db8::1]"


def test_brackets_and_a_route_are_no_part_of_an_address() -> None:
    assert rewriter().forward("<@relay.example:alice@example.com>") == ALICE
    assert rewriter().reverse(f"<{ALICE}>") == "alice@example.com"


@pytest.mark.parametrize(
    "address",
    [
        "alice", "@example.com", "alice@", "alice@exa=mple.com", "alice@exam ple.com", "a\r\nb@example.com",
        "a\0@example.com", "a@b\n", "SRS1=AAAA=x.example@y.example", "SRS1=AAAA@y.example", "SRS1=@y.example",
        "SRS1=AAAA==x@y.example", "SRS1=AAAA=x.example=b=c@y.example", "a b@example.com", "a@b@example.com", "a,b@x.example",
        "a\ud800@example.com", "a" * 3000 + "@example.com", f"a@{'b' * 300}",
    ],
)  # fmt: skip
def test_what_is_no_address_is_not_rewritten(address: str) -> None:
    assert reason(rewriter().forward, address) == "malformed"


@pytest.mark.parametrize(
    ("local", "found"),
    [
        ("alice", "not ours"), ("", "not ours"), ("SRS0", "not ours"), ("SRS2=a=b=c=d", "not ours"),
        ("SRS0=", "malformed"), ("SRS0=a", "malformed"), ("SRS0=PGkz=G3=example.com", "malformed"),
        ("SRS0==G3=example.com=alice", "malformed"), ("SRS1=AAAA=x.example", "malformed"), ("SRS1=A==B", "malformed"),
        ("SRS0=AAAA=G3=example.com=alice", "forged"), ("SRS0=\u00e4\u00f6\u00fc\u00df=G3=example.com=alice", "forged"),
        (f"SRS0={'A' * 28}=G3=example.com=alice", "forged"), ("SRS0=AAAA=1!=example.com=alice", "forged"),
        ("SRS1=AAAA=x.example==AAAA=G3=example.com=alice", "forged"),
    ],
)  # fmt: skip
def test_what_was_not_made_by_us_is_not_rewritten_back(local: str, found: str) -> None:
    assert reason(rewriter().reverse, f"{local}@{OURS}") == found


def test_an_srs_address_without_a_domain_is_malformed() -> None:
    assert reason(rewriter().reverse, ALICE.partition("@")[0]) == "malformed"


@given(st.text(st.characters(exclude_categories=[]), max_size=60), st.text(max_size=30))
def test_whatever_is_rewritten_comes_back_or_is_refused(local: str, host: str) -> None:
    made = rewriter()
    try:
        there = made.forward(f"{local}@{host}")
    except SrsError:
        return
    assert not re.search("[\r\n\0]", there)
    if there.rpartition("@")[2] != OURS:
        return
    back = made.reverse(there)
    again = made.forward(back)
    assert again == there or "SRS0" in back.upper()


@given(st.text(max_size=80))
def test_nothing_but_an_srs_error_is_raised(text: str) -> None:
    made = rewriter()
    for address in (text, f"SRS0={text}@{OURS}", f"SRS1={text}@{OURS}", f"SRS0=PGkz=G3={text}@{OURS}"):
        for rewrite in (made.forward, made.reverse):
            with contextlib.suppress(SrsError):
                rewrite(address)


@pytest.mark.parametrize(
    "wrong",
    [
        {"secrets": []}, {"secrets": "secret"}, {"secrets": b"secret"}, {"secrets": [""]}, {"secrets": [b""]},
        {"secrets": [1]}, {"secrets": ["x"] * 101}, {"domain": ""}, {"domain": "a b"}, {"domain": "a..b"},
        {"domain": "a@b"}, {"domain": "-x-"}, {"domain": "b" * 254}, {"own_domains": "x.example"},
        {"own_domains": ["@"]}, {"max_age": -1}, {"max_age": 1024}, {"hash_length": 3}, {"hash_length": 21},
        {"hash_length": 6, "min_hash_length": 7}, {"min_hash_length": 3}, {"separator": "."}, {"separator": ""},
        {"too_long": "drop"}, {"max_age": "21"},
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Rewriter(**{"secrets": ["x"], "domain": OURS, **wrong})


def test_secrets_come_from_a_file_one_a_line(tmp_path: Path) -> None:
    """S-008: as postsrsd keeps them."""
    file = tmp_path / "secrets"
    file.write_bytes(b"newest\n\n  older \r\noldest")

    assert read_secrets(file) == (b"newest", b"older", b"oldest")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"x\n" * 101, b"x" * 65537])
def test_a_file_without_secrets_or_with_too_many_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secrets"
    file.write_bytes(content)

    with pytest.raises(ValueError, match="expected"):
        read_secrets(file)
