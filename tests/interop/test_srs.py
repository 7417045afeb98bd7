"""A real Postfix asks ``aiomilter srs serve`` what to rewrite, beside postsrsd; and rewrites only what leaves."""

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import aiomilter
from aiomilter.mail.srs import Rewriter
from tests.interop.client import MESSAGE, accepted, connect
from tests.interop.rigs.mta import free_port
from tests.interop.rigs.postfix import Postfix
from tests.interop.rigs.sink import Delivery
from tests.interop.rigs.srs import Postsrsd, SrsCommand
from tests.programs import need

pytestmark = pytest.mark.interop

TABLES = """\
%NAME% unix n - n - 0 cleanup
  -o sender_canonical_maps=%FORWARD% -o sender_canonical_classes=envelope_sender
  -o recipient_canonical_maps=%REVERSE% -o recipient_canonical_classes=envelope_recipient
"""
PAGE = (Path(aiomilter.__file__).parent / "help" / "srs.rst").read_text()
DOMAIN = "example.test"
SECRET = "a secret of sixteen octets and more"


class Site(NamedTuple):
    """A Postfix, and what makes addresses as its tables do."""

    rig: Postfix
    rewriter: Rewriter

    async def send(self, port: str, sender: str, recipients: Sequence[str]) -> dict[str, str]:
        async with connect(self.rig.ports[port], "EHLO client.test") as client:
            return await client.send(MESSAGE, sender, recipients)

    async def delivered(self, port: str, sender: str, *recipients: str) -> list[tuple[str, list[str]]]:
        """Send a message, and return senders and recipients of what comes out."""
        before = len(self.rig.deliveries)
        replies = await self.send(port, sender, recipients)
        assert accepted(replies.get(".", "")), (replies, self.rig.tail())
        await self.rig.settled()
        return sorted(map(_envelope, self.rig.deliveries[before:]))


def _envelope(delivery: Delivery) -> tuple[str, list[str]]:
    return delivery.sender, list(delivery.recipients)


def shown(beginning: str) -> str:
    """Return the configuration on the help page that begins so."""
    block = re.search(rf"^    {re.escape(beginning)}.*\n(?:    .*\n|\n)*", PAGE, re.MULTILINE)
    assert block is not None
    return re.sub("^    ", "", block[0], flags=re.MULTILINE)


def filled(text: str, **values: object) -> str:
    for name, value in values.items():
        text = text.replace(f"%{name}%", str(value))
    return text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One Postfix: port ``outgoing`` rewrites what leaves; ``ours`` and ``theirs`` all mail, asking us and postsrsd."""
    need(Postfix.missing())
    need(Postsrsd.missing())
    secrets: Path = tmp_path_factory.mktemp("srs") / "secrets"
    secrets.write_text(f"{SECRET}\nan older secret of 16 octets\n")
    rig = Postfix()
    rig.ask({"outgoing": (), "ours": (), "theirs": ()})
    out = free_port()
    with SrsCommand(DOMAIN, secrets) as ours, Postsrsd(DOMAIN, secrets) as theirs:
        maps = {name.upper(): ours.map(name) for name in ("forward", "reverse")}
        # The page as it is, but for ports, and with the test's next hop instead of the world.
        of_the_test = {":10003": f":{ours.port}", ":10026": f":{out}", "filter=smtp:": "filter=smtp:$relayhost"}
        main_cf, master_cf = shown("default_transport"), shown("127.0.0.1:10026 inet")
        for of_the_page, of_ours in of_the_test.items():
            main_cf, master_cf = main_cf.replace(of_the_page, of_ours), master_cf.replace(of_the_page, of_ours)
        rig.settings = f"{main_cf}virtual_alias_maps = inline:{{\n {ALIASES} }}\n"
        rig.smtpd = {
            "ours": "-o cleanup_service_name=ours -o smtpd_recipient_restrictions=",
            "theirs": "-o cleanup_service_name=theirs -o smtpd_recipient_restrictions=",
        }
        tables = {"FORWARD": f"tcp:127.0.0.1:{theirs.forward}", "REVERSE": f"tcp:127.0.0.1:{theirs.reverse}"}
        rig.services = master_cf + filled(TABLES, NAME="ours", **maps) + filled(TABLES, NAME="theirs", **tables)
        try:
            rig.start()
            yield Site(rig, Rewriter([SECRET], DOMAIN))
        finally:
            rig.stop()


ALIASES = f"{{forwarded@{DOMAIN} = outside@elsewhere.test}}, {{both@{DOMAIN} = inside@{DOMAIN} outside@elsewhere.test}}"


def today() -> int:
    return int(time.time() // 86400)


async def test_only_mail_that_leaves_for_elsewhere_is_rewritten(site: Site) -> None:
    """S-010: an alias leads outside; its other recipient here gets the message from the sender."""
    rewritten = site.rewriter.forward("alice@sender.test")
    found = await site.delivered("outgoing", "alice@sender.test", f"both@{DOMAIN}", f"local@{DOMAIN}")

    local, left = sorted(found, key=lambda each: each[0] != "alice@sender.test")
    assert local == ("alice@sender.test", [f"inside@{DOMAIN}", f"local@{DOMAIN}"])
    assert left == (rewritten, ["outside@elsewhere.test"])


@pytest.mark.parametrize("sender", [f"bob@{DOMAIN}", ""])
async def test_our_own_senders_and_bounces_leave_as_they_are(site: Site, sender: str) -> None:
    """S-009."""
    assert await site.delivered("outgoing", sender, f"forwarded@{DOMAIN}") == [(sender, ["outside@elsewhere.test"])]


async def test_a_bounce_finds_its_way_back(site: Site) -> None:
    """S-010."""
    address = site.rewriter.forward("alice@sender.test")

    assert await site.delivered("outgoing", "", address) == [("", ["alice@sender.test"])]


async def test_a_rewritten_address_takes_bounces_only(site: Site) -> None:
    """S-010."""
    address = site.rewriter.forward("alice@sender.test")
    replies = await site.send("outgoing", "spammer@sender.test", [address])

    assert replies[address].startswith("550 5.7.1 "), replies


@pytest.mark.parametrize(
    ("change", "why"), [(("alice", "victim"), "forged"), (("sender.test=alice", "x"), "malformed")]
)
async def test_an_address_that_was_not_made_here_is_refused(site: Site, change: tuple[str, str], why: str) -> None:
    """S-010."""
    address = site.rewriter.forward("alice@sender.test").replace(*change)
    replies = await site.send("outgoing", "", [address])

    assert replies[address].startswith("550 5.7.1 "), replies
    assert why in replies[address]


SENDERS = [
    "alice@sender.test",
    "Alice.Smith@Sender.Test",
    "list-bounces+bob=x.example@lists.sender.test",
    f"bob@{DOMAIN}",
    "",
    "SRS0=abcd=G3=origin.test=alice@first.test",
    "SRS1=abcd=first.test==abcd=G3=origin.test=alice@second.test",
    "SRS0+abcd=G3=origin.test=alice@first.test",
]


async def test_the_same_mail_through_postsrsd_is_the_same(site: Site) -> None:
    """Forwarded, and the bounces to what it makes."""
    day = -1
    while day != today():  # else midnight came in between
        day = today()
        made = {}
        for port in ("ours", "theirs"):
            made[port] = [await site.delivered(port, sender, "bob@elsewhere.example.test") for sender in SENDERS]
    assert made["ours"] == made["theirs"]
    rewritten = [sender for [(sender, _)] in made["ours"] if sender.startswith("SRS")]
    assert len(rewritten) == 6

    bounces = [*rewritten, rewritten[0].lower(), rewritten[0].replace("alice", "eve"), f"bob@{DOMAIN}"]
    back = {port: [await site.delivered(port, "", address) for address in bounces] for port in ("ours", "theirs")}
    assert back["ours"] == back["theirs"]
    assert back["ours"][0] == [("", ["alice@sender.test"])]
    assert back["ours"][-2] == [("", [bounces[-2]])]
