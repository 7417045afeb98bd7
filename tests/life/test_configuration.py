"""A configuration file that changes while a daemon serves: all of it is taken over, or nothing, and the log says what."""

import os
import signal
from pathlib import Path

import pytest

from aiomilter import CONTINUE
from aiomilter.mta import connect
from tests.life.daemon import running, write_filter
from tests.patience import PATIENCE

ASKED = "\nclass Version(Version):\n    async def envrcpt(self, ctx, rcpt):\n        pass\n"
"""The MTA waits for the answer to each recipient."""
FILE = """\
filter = "{filter}"
listen = ["unix:{socket}"]
workers = {workers}

[limits]
max_recipients = {recipients}
"""


async def recipients_taken(socket: Path) -> int:
    """Return how many of three recipients a new session takes."""
    async with connect(f"unix:{socket}", timeout=PATIENCE) as session:
        await session.connect()
        await session.helo()
        await session.mail("<a@x.example>")
        answers = [await session.rcpt(f"<b{number}@x.example>") for number in range(3)]
    return answers.count(CONTINUE)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_reload_takes_all_of_a_file_over_or_nothing(workers: int, tmp_path: Path) -> None:
    socket = tmp_path / "s"

    def write(recipients: str, *, filter_: str = "one.py", more: str = "") -> None:
        text = FILE.format(filter=filter_, socket=socket, workers=workers, recipients=recipients)
        (tmp_path / "x.toml").write_text(text + more)

    write_filter(tmp_path / "one.py", "one", ASKED)
    (tmp_path / "other").mkdir()
    write_filter(tmp_path / "other" / "two.py", "two", ASKED)
    write("1")
    async with running("--config", "x.toml", directory=tmp_path) as daemon:
        await daemon.logged("serve new connections" if workers > 1 else "listening on")
        assert await recipients_taken(socket) == 1

        write("2", more="max_edit = 5\n[socket]\nmode = 5\n")
        daemon.send(signal.SIGHUP)
        failed = await daemon.logged("cannot reload: .*")
        assert failed[0] == (
            "cannot reload: x.toml:7: [limits] max_edit: unknown, did you mean max_edits?; "
            'x.toml:9: [socket] mode: expected permissions in quotes, as in "0660", found 5; nothing has changed'
        )
        assert await recipients_taken(socket) == 1

        write("2", filter_="other/two.py", more='[socket]\nmode = "0600"\n')
        daemon.send(signal.SIGHUP)
        await daemon.logged("reloaded")
        warned = await daemon.logged("WARNING .*restart")
        assert warned[0].endswith(": [socket] mode: changed; that takes effect at a restart")
        await daemon.printed("opened two", workers)
        assert await recipients_taken(socket) == 2

        write("3", filter_="other/none.py")
        daemon.send(signal.SIGHUP)
        await daemon.logged("cannot reload: there is no file 'other/none.py'")
        assert await recipients_taken(socket) == 2

        write_filter(tmp_path / "other" / "two.py", "three", ASKED)
        write("3", filter_="other/two.py")
        daemon.send(signal.SIGHUP)
        await daemon.printed("opened three", workers)
        await daemon.logged("reloaded", 2)
        assert await recipients_taken(socket) == 3
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0


@pytest.mark.slow
async def test_a_worker_that_is_replaced_has_the_configuration_in_force(tmp_path: Path) -> None:
    """Although the file is one that a reload has refused."""
    socket = tmp_path / "s"
    write_filter(tmp_path / "one.py", "one", ASKED)
    text = FILE.format(filter="one.py", socket=socket, workers=2, recipients=1)
    (tmp_path / "x.toml").write_text(text)
    async with running("--config", "x.toml", directory=tmp_path) as daemon:
        first = int((await daemon.logged(r"workers (\d+), \d+ serve"))[1])
        (tmp_path / "x.toml").write_text(text + "max_edit = 5\n")
        daemon.send(signal.SIGHUP)
        await daemon.logged("cannot reload")
        os.kill(first, signal.SIGKILL)
        await daemon.logged(r"worker \d+ serves")
        assert await recipients_taken(socket) == 1
