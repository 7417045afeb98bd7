"""``srs``: which senders are rewritten, where bounces go, and which are refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from aiomilter import filters
from aiomilter.compose import check, compose
from aiomilter.secret import Secret
from aiomilter.testing import session
from aiomilter.wire.modifications import AddRecipient, ChangeSender, DeleteRecipient
from tests.filters.ready.played import MESSAGE, PASS, Reasons, Timed, answers, site

MADE: Final = "SRS0=PGkz=G3=example.com=alice@fwd.example.net"
FORGED: Final = "SRS0=AAAA=G3=example.com=alice@fwd.example.net"
NO_SUCH: Final = ["550 5.7.1 This is not an address that we have sent from: forged"]


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Set the day."""
    clock = SimpleNamespace(seconds=1_700_000_000)
    monkeypatch.setattr("aiomilter.filters.srs.time", SimpleNamespace(time=lambda: clock.seconds))
    return clock


def srs(**settings: Any) -> filters.Srs:
    given: dict[str, Any] = {"domain": "fwd.example.net", "secrets": [Secret("tops3cr3t")]}
    return filters.Srs(**given | settings)


async def edits(
    member: Any, sender: str, *recipients: str, client: str = "192.0.2.1", login: str = ""
) -> tuple[str | None, set[str], set[str]]:
    """Return the new sender, if there is one, and the recipients that are removed and added."""
    macros = {"auth_authen": login, "auth_type": "PLAIN"} if login else {}
    async with session(compose(member, site=site()), client=client, macros=macros) as s:
        found = (await s.send(MESSAGE, sender, list(recipients))).modifications
    new = next((each.address.strip("<>") for each in found if isinstance(each, ChangeSender)), None)
    removed = {each.address.strip("<>") for each in found if isinstance(each, DeleteRecipient)}
    return new, removed, {each.address.strip("<>") for each in found if isinstance(each, AddRecipient)}


@pytest.mark.parametrize(
    ("settings", "sender", "recipients", "expected"),
    [
        ({}, "alice@example.com", ("bob@mailbox.example",), MADE),
        ({}, "alice@example.com", ("u@corp.example",), None),
        ({}, "alice@example.com", ("u@shop.corp.example",), None),
        ({}, "alice@example.com", ("u@corp.example", "bob@mailbox.example"), MADE),
        ({"mixed": "keep"}, "alice@example.com", ("u@corp.example", "bob@mailbox.example"), None),
        ({"mixed": "keep"}, "alice@example.com", ("bob@mailbox.example",), MADE),
        ({}, "u@corp.example", ("bob@mailbox.example",), None),
        ({}, "", ("bob@mailbox.example",), None),
        ({}, MADE, ("bob@mailbox.example",), None),
        ({"local_domains": ["example.com"]}, "alice@example.com", ("u@corp.example",), None),
        ({"local_domains": ["mailbox.example"]}, "alice@example.com", ("u@corp.example",), MADE),
        ({"sign_domains": ["example.com"]}, "alice@example.com", ("bob@mailbox.example",), MADE),
        ({"sign_domains": ["corp.example"]}, "u@corp.example", ("v@corp.example",), None),
    ],
)
async def test_a_sender_is_rewritten_when_mail_leaves(
    settings: dict[str, Any], sender: str, recipients: tuple[str, ...], expected: str | None
) -> None:
    assert await edits(srs(**settings), sender, *recipients) == (expected, set(), set())


async def test_our_own_senders_are_signed_where_that_is_set_and_their_bounces_come_back() -> None:
    member = srs(sign_domains=["corp.example"])
    new, _, _ = await edits(member, "u@corp.example", "bob@mailbox.example", login="u")
    assert new is not None
    assert new.endswith("=corp.example=u@fwd.example.net")
    assert await edits(member, "", new) == (None, {new}, {"u@corp.example"})


@pytest.mark.parametrize(
    ("recipient", "leaves"),
    [("sent.on@corp.example", True), ("Any@gone.corp.example", True), ("u@corp.example", False)],
)
async def test_what_aliases_send_on_stands_in_a_file(tmp_path: Path, recipient: str, leaves: bool) -> None:
    (tmp_path / "forwards").write_text("# ours\nSent.On@corp.example  # to the other office\n\n@gone.corp.example\n")
    found = await edits(srs(forwards=tmp_path / "forwards"), "alice@example.com", recipient)
    assert found[0] == (MADE if leaves else None)


async def test_a_bounce_finds_its_way_back() -> None:
    mixed = MADE.replace("example.com=alice", "Example.COM=Alice")
    assert await edits(srs(), "", mixed) == (None, {mixed}, {"Alice@Example.COM"})
    assert await edits(srs(), "", MADE, "alice@example.com") == (None, {MADE}, set())
    assert await edits(srs(), "bounce@x.example", MADE) == (None, set(), set())
    assert (await edits(srs(bounce_senders=["Bounce"]), "bounce@x.example", MADE))[2] == {"alice@example.com"}


@pytest.mark.parametrize(
    ("settings", "given", "expected", "reason"),
    [
        ({}, {}, NO_SUCH, "srs_forged"),
        ({"forged": "accept"}, {}, PASS, ""),
        ({}, {"client": "198.51.100.1"}, PASS, ""),
        ({}, {"client": "203.0.113.7"}, PASS, ""),
        ({}, {"login": "u"}, PASS, ""),
        ({}, {"sender": "a@x.example"}, PASS, ""),
        (
            {},
            {"recipients": ("SRS0=PGkz@fwd.example.net",)},
            [NO_SUCH[0].replace("forged", "malformed")],
            "srs_malformed",
        ),
        ({}, {"recipients": (FORGED, "u@corp.example")}, [*NO_SUCH, *PASS], "srs_forged"),
        ({"secrets": [Secret("new"), Secret("tops3cr3t")]}, {"recipients": (MADE,)}, PASS, ""),
        ({"secrets": [Secret("new")]}, {"recipients": (MADE,)}, NO_SUCH, "srs_forged"),
        ({"hash_length": 8}, {"recipients": (MADE,)}, NO_SUCH, "srs_forged"),
        ({}, {"recipients": ("SRS0=AAAA=G3=example.com=alice@elsewhere.example",)}, PASS, ""),
    ],
)
async def test_a_bounce_to_an_address_that_we_have_not_made_is_refused(
    settings: dict[str, Any], given: dict[str, Any], expected: list[str], reason: str
) -> None:
    bounce: dict[str, Any] = {"sender": "", "recipients": (FORGED,)}
    reasons = Reasons()
    assert await answers(Timed(), srs(**settings), reasons=reasons, **bounce | given) == expected
    assert reasons.found == ({reason} if reason else set())


@pytest.mark.parametrize(("days", "taken"), [(21, True), (22, False)])
async def test_an_address_grows_old(now: SimpleNamespace, days: int, taken: bool) -> None:
    now.seconds += days * 86_400
    found = await answers(Timed(), srs(), sender="", recipients=(MADE,))
    assert found == (PASS if taken else [NO_SUCH[0].replace("forged", "stale")])


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({}, True),
        ({"recipients": ("postmaster@corp.example",)}, False),
        ({"recipients": ("u@other.example",)}, False),
        ({"client": "203.0.113.7"}, False),
        ({"sender": "a@x.example"}, False),
    ],
)
async def test_bounces_of_mail_that_was_never_sent_are_refused_where_that_is_set(
    given: dict[str, Any], refused: bool
) -> None:
    bounce: dict[str, Any] = {"sender": "", "recipients": ("u@corp.example",)}
    member = srs(sign_domains=["corp.example"], unsigned_bounce="reject")
    found = await answers(Timed(), member, **bounce | given)
    assert found == (["550 5.7.1 We have not sent what this is a bounce of"] if refused else PASS)


async def test_a_shadow_changes_nothing() -> None:
    shadow = check(srs(), shadow=True)
    assert await edits(shadow, "alice@example.com", "bob@mailbox.example") == (None, set(), set())
    assert await answers(Timed(), shadow, sender="", recipients=(FORGED,)) == PASS


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"secrets": []}, "secrets: expected 1 to"),
        ({"domain": "a b"}, "'a b': expected a domain"),
        ({"hash_length": 3}, "hash_length: expected"),
        ({"max_age": "1 h"}, "max_age: expected 1 d to 1000 d"),
        ({"sign_domains": ["a b"]}, "sign_domains: expected domain names"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValueError, match=f"^{mistake}"):
        srs(**settings)


def test_what_is_not_there_is_found_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "forwards").write_text("u@corp.example\nnobody\n")
    with pytest.raises(ValueError, match=r"^forwards: line 2: expected an address"):
        srs(forwards=tmp_path / "forwards").check(site())
    with pytest.raises(ValueError, match=r"^forwards: .*none.* cannot be read"):
        srs(forwards=tmp_path / "none").check(site())
    with pytest.raises(ValueError, match=r"^local_domains: expected domains whose mail stays here"):
        srs().check(filters.Site())
