"""Postfix and Sendmail take the settings that README and the manual show, and do what is said of them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from aiomilter import EndOfMessageContext, Milter
from tests.help.pages import literal
from tests.interop.client import accepted, connect
from tests.interop.rigs.mta import Rig, free_port
from tests.interop.rigs.postfix import Postfix
from tests.interop.rigs.sendmail import Sendmail
from tests.interop.scene import Scene, serve
from tests.programs import need, needed

pytestmark = pytest.mark.interop


def shown(setting: str, *pages: str) -> list[str]:
    """Return what these pages show with this setting, each block once."""
    found = {page: [block.text for block in literal(page) if setting in block.text] for page in pages}
    assert all(found.values()), found
    return list(dict.fromkeys(text for texts in found.values() for text in texts))


MAIN_CF: Final = shown("smtpd_milters", "README", "postfix")
SENDMAIL_MC: Final = shown("INPUT_MAIL_FILTER", "README", "sendmail")


class Stamp(Milter):
    """Marks what it has seen."""

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Seen", "yes")


@contextmanager
def running(rig: Rig) -> Iterator[Scene]:
    try:
        rig.start()
        yield Scene(rig, "shown")
    finally:
        rig.stop()


async def sent(scene: Scene) -> dict[str, str]:
    async with connect(scene.port) as client:
        return await client.send()


async def check(scene: Scene, filter_port: int, *, passes_without: bool) -> None:
    """See that mail passes the filter, and what becomes of it while the filter is down."""
    async with serve(Stamp, f"inet:{filter_port}@127.0.0.1"):
        assert accepted((await sent(scene))["."])
    [stamped] = await scene.deliveries()
    assert b"X-Seen: yes\r\n" in stamped.content
    without = await sent(scene)
    if passes_without:
        assert accepted(without["."])
    else:
        assert without["MAIL"].startswith("451 ")


@pytest.mark.parametrize("text", MAIN_CF)
async def test_postfix_takes_what_the_pages_show(text: str) -> None:
    need(Postfix.missing())
    rig, port = Postfix(), free_port()
    rig.ask({"shown": ()})
    rig.settings = text.replace(":8890", f":{port}")
    [rig.smtpd["shown"]] = [
        f"-o {{ {line} }}" for line in rig.settings.splitlines() if line.startswith("smtpd_milters")
    ]
    with running(rig) as scene:
        asked = [needed("postconf", "postfix"), "-c", str(rig.etc), "-n"]
        assert subprocess.run(asked, capture_output=True, check=True).stderr == b""
        await check(scene, port, passes_without="default_action=accept" in text)


@pytest.mark.parametrize("text", SENDMAIL_MC)
async def test_sendmail_takes_what_the_pages_show(text: str) -> None:
    need(Sendmail.missing())
    rig, port = Sendmail(), free_port()
    rig.ask({"shown": ()})
    rig.settings = text.replace(":8890", f":{port}")
    with running(rig) as scene:
        assert "warning" not in (rig.directory / "start.log").read_text().lower()
        await check(scene, port, passes_without="F=T" not in text)
