"""A filter that a configuration file sets up, behind a real Postfix: it delivers, reloads, and keeps what it has."""

import signal
from pathlib import Path
from typing import Final

import pytest

from tests.interop.client import accepted
from tests.interop.scene import Scene
from tests.life.daemon import running

pytestmark = pytest.mark.interop

FILTER: Final = """\
from dataclasses import dataclass

from aiomilter import EndOfMessageContext, Milter
from aiomilter.secret import Secret


@dataclass(frozen=True, kw_only=True)
class Settings:
    tag: str
    key: Secret


class Tag(Milter):
    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Tag", f"{self.settings.tag} {len(self.settings.key.value)} {self.settings.key}")
"""
CONFIGURATION: Final = """\
filter = "tag.py"
listen = ["{socket}"]
workers = {workers}

[limits]
max_recipients = 100
max_memory = "64 MiB"

[failure]
on_error = "tempfail"

[socket]
mode = "0666"

[settings]
tag = {tag}
key = {{ file = "key" }}
"""
SEVERAL: Final = """\
[[filter]]
use = "tag.py"
name = "first"
settings = { tag = "first", key = { file = "key" } }
[[filter]]
use = "tag.py:Tag"
name = "second"
settings = { tag = "second", key = { file = "key" } }
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("postfix", ["postfix"], indirect=True)
async def test_postfix_delivers_through_a_filter_that_a_file_sets_up(
    postfix: Scene, workers: int, tmp_path: Path
) -> None:
    (socket,) = postfix.sockets

    def configure(tag: str) -> None:
        (tmp_path / "gateway.toml").write_text(CONFIGURATION.format(socket=socket, workers=workers, tag=tag))

    (tmp_path / "tag.py").write_text(FILTER)
    (tmp_path / "key").write_text("geheim\n")
    (tmp_path / "key").chmod(0o600)
    configure('"one"')
    async with running("--config", f"{tmp_path.name}/gateway.toml", directory=tmp_path.parent) as daemon:
        await daemon.logged(r"workers? .*serve|listening on")
        await send(postfix)

        configure("2")
        daemon.send(signal.SIGHUP)
        failed = await daemon.logged("cannot reload: .*")
        assert failed[0].endswith(
            f"{tmp_path.name}/gateway.toml:16: [settings] tag: expected a text in quotes, found 2; nothing has changed"
        )
        await send(postfix)

        configure('"three"')
        daemon.send(signal.SIGHUP)
        await daemon.logged("reloaded")
        await send(postfix)

        text = CONFIGURATION.format(socket=socket, workers=workers, tag="")
        one, _, _ = text.replace('filter = "tag.py"\n', "").partition("[settings]")
        (tmp_path / "gateway.toml").write_text(one + SEVERAL)
        daemon.send(signal.SIGHUP)
        await daemon.logged("reloaded", 2)
        await send(postfix)
    assert [sorted(each.values("X-Tag")) for each in await postfix.deliveries()] == [
        [" one 6 ***"],
        [" one 6 ***"],
        [" three 6 ***"],
        [" first 6 ***", " second 6 ***"],
    ]


async def send(postfix: Scene) -> None:
    async with postfix.connect() as client:
        assert accepted((await client.send())["."])
    await postfix.deliveries()
