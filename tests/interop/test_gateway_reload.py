"""A whole gateway that is reloaded while mail comes in: no message is lost, and a file that is broken changes nothing."""

import re
import signal
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.auth.dkim.made import key
from tests.interop.client import connect
from tests.interop.rigs.sink import Delivery
from tests.interop.scene import Scene
from tests.interop.traffic import Traffic, flowing
from tests.life.daemon import Daemon, running

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SESSIONS: Final = 3
MESSAGE: Final = (
    b"X-Number: %d\r\nFrom: a@corp.example\r\nTo: bob@example.test\r\nSubject: x\r\n"
    b"Date: Mon, 30 Nov 2026 10:00:00 +0000\r\n\r\nHello\r\n"
)
HEAD: Final = """\
listen = {{ mx = "{socket}" }}
hostname = "mx.corp.example"
own_domains = ["corp.example", "example.test"]

[socket]
mode = "0666"

[networks]
internal = ["{internal}"]

[state]
store = "sqlite:state/state.db"

[[filter]]
use = "access"
rules = [{{ header = "Subject", words = ["rolex"] }}]

[[filter]]
use = "traps"
addresses = ["trap@example.test"]

[[filter]]
use = "rates"
client = "{rate}"

[[filter]]
use = "attachments"
extensions = ["exe"]

[[filter]]
use = "banner"
text = "{banner}.txt"
"""
# Clients are internal: nothing asks DNS.
AUTHENTICATED: Final = """
[[filter]]
use = "authenticate"

[[filter]]
use = "known_senders"

[[filter]]
use = "greylist"
unless = ["internal", "known_sender"]

[[filter]]
use = "sign"
when = "internal"
keys = "keys.toml"

[[filter]]
use = "seal"
unless = "internal"
keys = "keys.toml"
domain = "corp.example"
"""
RATE: Final = 6
LATER: Final = r"450 4\.7\.1 (<bob@example\.test>\.\.\. )?Too many recipients"
"""Sendmail puts the address before the text."""


class Numbered(Traffic):
    """Messages with a number each, and what was said to each."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[int, str] = {}
        self._begun = 0

    async def bring(self, port: int) -> None:
        self._begun += 1
        number = self._begun
        async with connect(port) as client:
            replies = await client.send(MESSAGE % number, "a@corp.example", ["bob@example.test"])
        self.answers[number] = [*replies.values()][-1]

    def told(self, pattern: str) -> list[int]:
        """Return the numbers of messages whose last reply begins so."""
        return [number for number, reply in self.answers.items() if re.match(pattern, reply)]

    async def more(self, pattern: str, count: int = 4) -> None:
        """Wait until so many that begin from now on are told this."""
        begun = self._begun
        await self.until(lambda: sum(number > begun for number in self.told(pattern)) >= count)


@pytest.fixture(params=["postfix", "sendmail"])
def either(request: pytest.FixtureRequest) -> Scene:
    """Postfix over TCP, Sendmail over a UNIX-domain socket."""
    found: Scene = request.getfixturevalue(request.param)
    return found


class Site:
    """The files of a gateway."""

    def __init__(self, directory: Path, socket: str) -> None:
        self.directory = directory
        self.socket = socket
        (directory / "s1.pem").touch(0o600)
        (directory / "s1.pem").write_bytes(key(domain="corp.example").private.pem())
        (directory / "keys.toml").write_text('[keys."corp.example"]\nselector = "s1"\nkey = "s1.pem"\n')
        for banner in ("first", "second", "third", "fourth"):
            (directory / f"{banner}.txt").write_text(f"The {banner} banner.\n")
        (directory / "state").mkdir()

    def write(self, banner: str, *, rate: str, internal: str, more: str = "") -> None:
        """Have the configuration say this."""
        text = HEAD.format(socket=self.socket, banner=banner, rate=rate, internal=internal)
        (self.directory / "gateway.toml").write_text(text + more)


async def refused(daemon: Daemon, pattern: str, count: int) -> None:
    """Reload, and see that the daemon says in one line why it does not."""
    daemon.send(signal.SIGHUP)
    said = await daemon.logged("cannot reload: .*", count)
    assert re.search(pattern, said[0]), said[0]
    assert said[0].endswith("nothing has changed")


def marks(delivery: Delivery) -> tuple[str, bool]:
    """Return the banner of a message, and whether it is signed."""
    (banner,) = re.findall(rb"The (\w+) banner", delivery.content)
    return banner.decode(), bool(delivery.values("DKIM-Signature"))


async def test_a_gateway_reloaded_under_load_loses_no_message(either: Scene, tmp_path: Path) -> None:
    site = Site(tmp_path, either.sockets[0])
    site.write("first", rate="100000/h", internal="127.0.0.0/8", more=AUTHENTICATED)
    async with running("--config", "gateway.toml", directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        async with flowing(Numbered(), either, SESSIONS) as mail:
            await mail.more("250")
            (tmp_path / "s1.pem").unlink()
            await refused(daemon, r"s1\.pem", 1)
            await mail.more("250")
            # Other settings; the clients are not internal now, and what signs is gone.
            site.write("second", rate=f"{RATE}/h", internal="192.0.2.0/24")
            daemon.send(signal.SIGHUP)
            await daemon.logged("INFO aiomilter: reloaded")
            await mail.more(LATER)
            site.write("third", rate="many", internal="127.0.0.0/8")
            await refused(daemon, r"gateway\.toml:\d+: \[filter\[3\]\] client: expected a rate", 2)
            await mail.more(LATER)
            (tmp_path / "state").rename(tmp_path / "away")
            site.write("fourth", rate=f"{RATE}/h", internal="192.0.2.0/24")
            await refused(daemon, r"gateway\.toml cannot be started: .*state\.db\.key: No such file", 3)
            await mail.more(LATER)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    delivered = await either.deliveries()
    taken = mail.told("250")

    assert sorted(int(each.values("X-Number")[0]) for each in delivered) == sorted(taken)
    assert len(taken) + len(mail.told(LATER)) == len(mail.answers)
    found = Counter(marks(each) for each in delivered)
    assert found.keys() == {("first", True), ("second", False)}
    assert found["second", False] == RATE
    assert len([line for line in daemon.log if "cannot reload" in line]) == 3
