"""A real Sendmail asks ``aiomilter srs serve`` by its socket map, as the help page says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import aiomilter
from aiomilter.mail.srs import Rewriter
from tests.interop.client import MESSAGE, accepted, connect
from tests.interop.rigs.sendmail import Sendmail
from tests.interop.rigs.srs import SrsCommand
from tests.programs import need

pytestmark = pytest.mark.interop

PAGE = (Path(aiomilter.__file__).parent / "help" / "srs.rst").read_text()
DOMAIN = "fwd.example.org"
OWN = "own.example.org"
SECRET = "a secret of sixteen octets and more"


class Site(NamedTuple):
    """A Sendmail, and what makes addresses as its maps do."""

    rig: Sendmail
    rewriter: Rewriter

    async def delivered(self, sender: str, recipient: str) -> tuple[str, tuple[str, ...]]:
        """Send a message, and return sender and recipients of what comes out."""
        before = len(self.rig.deliveries)
        async with connect(self.rig.ports["plain"], "EHLO client.test") as client:
            replies = await client.send(MESSAGE, sender, [recipient])
        assert accepted(replies.get(".", "")), (replies, self.rig.tail())
        await self.rig.settled()
        (delivery,) = self.rig.deliveries[before:]
        return delivery.sender, tuple(delivery.recipients)


def shown() -> str:
    """Return the lines of the help page, with tabs between the sides of rules."""
    block = re.search(r"^    LOCAL_CONFIG\n(?:    .*\n)*", PAGE, re.MULTILINE)
    assert block is not None
    return re.sub(r"(?<=\S) {2,}(?=\S)", "\t", re.sub("^    ", "", block[0], flags=re.MULTILINE))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    need(Sendmail.missing())
    secrets: Path = tmp_path_factory.mktemp("srs") / "secrets"
    secrets.write_text(f"{SECRET}\n")
    secrets.chmod(0o600)
    rig = Sendmail()
    rig.ask({"plain": ()})
    with SrsCommand(DOMAIN, secrets, f"--own-domain={OWN}") as ours:
        rig.settings = shown().replace(":10003@", f":{ours.port}@")
        try:
            rig.start()
            yield Site(rig, Rewriter([SECRET], DOMAIN))
        finally:
            rig.stop()


@pytest.mark.parametrize(
    "sender",
    [
        "alice@sender.test",
        "Alice.Smith@Sender.Test",
        "list-bounces+bob=x.example@lists.sender.test",
        "SRS0=abcd=G3=origin.test=alice@first.test",
    ],
)
async def test_the_sender_of_what_leaves_is_rewritten_and_a_bounce_finds_its_way_back(site: Site, sender: str) -> None:
    """S-010."""
    rewritten = site.rewriter.forward(sender)

    assert await site.delivered(sender, "bob@elsewhere.test") == (rewritten, ("bob@elsewhere.test",))
    back = site.rewriter.reverse(rewritten)
    assert await site.delivered("", rewritten) == ("", (back,))


@pytest.mark.parametrize("sender", [f"bob@{OWN}", ""])
async def test_our_own_senders_and_bounces_leave_as_they_are(site: Site, sender: str) -> None:
    """S-009."""
    assert await site.delivered(sender, "bob@elsewhere.test") == (sender, ("bob@elsewhere.test",))


async def test_an_address_that_was_not_made_here_stays_as_it_is(site: Site) -> None:
    """S-006."""
    forged = site.rewriter.forward("alice@sender.test").replace("alice", "victim")

    assert await site.delivered("", forged) == ("", (forged,))
    assert await site.delivered("", f"postmaster@{DOMAIN}") == ("", (f"postmaster@{DOMAIN}",))
