"""SIGHUP: new connections get the new filter, open ones keep the old, and whatever goes wrong changes nothing."""

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from aiomilter.mta import connect
from tests.patience import PATIENCE

from .daemon import CACHING, ENDS, HANGS, LOOPS, Load, deliver, marks, running, write_at_once, write_filter

pytestmark = pytest.mark.slow
RELOADED = "INFO aiomilter: reloaded"


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_reload_under_load_loses_nothing(loop: str, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    write_filter(file, "0")
    async with running("f.py", "--listen", "inet:0@127.0.0.1", loop, directory=tmp_path) as daemon:
        address = (await daemon.logged(r"listening on (inet:\S+)"))[1]
        async with Load(address) as load:
            for number in range(1, 5):
                await load.more(10, str(number - 1))
                write_filter(file, str(number))
                daemon.send(signal.SIGHUP)
                await daemon.logged(RELOADED, number)
            await load.more(10, "4")
        assert load.lost == []
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert daemon.out == [
        "opened 0", *(line for number in range(1, 5) for line in (f"opened {number}", f"closed {number - 1}")), "closed 4"
    ]  # fmt: skip
    assert [line for line in daemon.log if re.search(r" (WARNING|ERROR) aiomilter", line)] == []


async def test_an_open_session_keeps_what_it_began_with(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    write_filter(file, "old")
    async with running("f.py", "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        async with connect(str(tmp_path / "s")) as session:
            await session.connect()
            write_filter(file, "new")
            daemon.send(signal.SIGHUP)
            await daemon.logged(RELOADED)
            assert (await deliver(str(tmp_path / "s")))[0] == "new"
            await session.mail("<a@x>")
            await session.rcpt("<b@x>")
            assert marks((await session.message(b"A: b\r\n\r\n")).delivered)[0] == "old"
            assert "closed old" not in daemon.out
        await daemon.printed("closed old")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def broken(:\n", r"cannot reload: .*f\.py:1: invalid syntax; nothing has changed"),
        ("raise ValueError('no')\n", r"cannot reload: f\.py cannot be imported: ValueError: no; nothing has changed"),
        ("import sys; sys.exit(3)\n", r"cannot reload: f\.py ended the program while it was imported"),
        ("x = 1\n", r"cannot reload: f\.py has no filter"),
        (
            "def milter():\n    raise OSError('no database')\n",
            r"cannot reload: f\.py cannot be started: OSError: no data",
        ),
        (
            "def milter():\n    raise SystemExit(1)\n",
            r"cannot reload: f\.py cannot be started: RuntimeError: factory: it ca",
        ),
        (None, r"cannot reload: there is no file 'f\.py'"),
    ],
)
async def test_a_reload_that_fails_changes_nothing_and_is_one_record(
    code: str | None, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "f.py"
    write_filter(file, "old")
    async with running("f.py", "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        before = len(daemon.log)
        file.unlink()
        if code is not None:
            file.write_text(code)
        daemon.send(signal.SIGHUP)
        await daemon.logged(f"ERROR aiomilter: {why}")
        assert (await deliver(str(tmp_path / "s")))[0] == "old"
        records = [line for line in daemon.log[before:] if re.search(" aiomilter: (?!.*(client=|may connect))", line)]
        assert records[0].endswith("INFO aiomilter: reloading")
        assert records[1:] == [line for line in daemon.log if "cannot reload" in line]
        assert not any(re.match(r'\s*File ".*/_cli/', line) for line in daemon.log)
        write_filter(file, "new")
        daemon.send(signal.SIGHUP)
        await daemon.logged(RELOADED)
        assert (await deliver(str(tmp_path / "s")))[0] == "new"


async def test_what_lies_beside_the_file_is_loaded_anew_and_put_back_if_that_fails(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    write_at_once(tmp_path / "pkg" / "settings.py", "MARK = 'a'\n")
    (tmp_path / "f.py").write_text(
        "import json\nfrom pkg.settings import MARK\nfrom aiomilter import Milter\njson.seen = getattr(json, 'seen', 0) + 1\n"
        "class F(Milter):\n    async def eom(self, ctx):\n        import pkg.settings\n"
        "        ctx.add_header('X-Version', f'{MARK}{pkg.settings.MARK}{json.seen}')\n"
        "        ctx.add_header('X-Process', '')\n"
    )
    async with running("f.py", "--listen", str(tmp_path / "s"), directory=tmp_path, environment=CACHING) as daemon:
        await daemon.logged("listening on")
        assert (await deliver(str(tmp_path / "s")))[0] == "aa1"
        write_at_once(tmp_path / "pkg" / "settings.py", "MARK = 'b'\n")
        daemon.send(signal.SIGHUP)
        await daemon.logged(RELOADED)
        assert (await deliver(str(tmp_path / "s")))[0] == "bb2"
        (tmp_path / "pkg" / "settings.py").write_text("MARK = c\n")
        daemon.send(signal.SIGHUP)
        await daemon.logged("cannot reload: f.py cannot be imported: NameError")
        await daemon.logged(r'File ".*settings\.py", line 1')
        assert (await deliver(str(tmp_path / "s")))[0] == "bb2"


async def test_what_was_written_in_the_same_second_is_served_after_a_restart(tmp_path: Path) -> None:
    for version in ("0", "1"):
        write_filter(tmp_path / "made.py", version)
        write_at_once(tmp_path / "f.py", (tmp_path / "made.py").read_text())
        async with running("f.py", "--listen", str(tmp_path / "s"), directory=tmp_path, environment=CACHING) as daemon:
            await daemon.logged("listening on")
            assert (await deliver(str(tmp_path / "s")))[0] == version
            daemon.send(signal.SIGTERM)
            assert await daemon.ended() == 0


async def test_a_module_is_loaded_anew_with_its_package(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    write_filter(tmp_path / "pkg" / "f.py", "old")
    async with running("pkg.f:milter", "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        write_filter(tmp_path / "pkg" / "f.py", "new")
        daemon.send(signal.SIGHUP)
        await daemon.logged(RELOADED)
        assert (await deliver(str(tmp_path / "s")))[0] == "new"


async def test_signals_to_reload_that_come_at_once_are_all_heeded(tmp_path: Path) -> None:
    """The last one is: a reload that began before it may have read what was there before."""
    file = tmp_path / "f.py"
    write_filter(file, "0")
    async with running("f.py", "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        (tmp_path / "go").touch()
        os.mkfifo(tmp_path / "hold")
        file.write_text("open('hold').read()\n" + file.read_text())
        daemon.send(signal.SIGHUP)
        writer = await asyncio.to_thread(open, tmp_path / "hold", "w")  # opens once the reload has begun to read
        write_filter(file, "2")
        daemon.send(signal.SIGHUP)
        writer.close()
        await daemon.logged("INFO aiomilter: reloading", 2)
        async with asyncio.timeout(PATIENCE):
            while (await deliver(str(tmp_path / "s")))[0] != "2":
                pass
    # The first was either through already, or given up for the second.
    assert len([line for line in daemon.log if RELOADED in line or "reload cancelled" in line]) == 2


async def test_a_reload_that_hangs_is_given_up_for_the_next(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    write_filter(file, "0")
    async with running("f.py", "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        file.write_text(HANGS)
        daemon.send(signal.SIGHUP)
        await daemon.logged("INFO aiomilter: reloading")
        await daemon.printed("opening")
        assert (await deliver(str(tmp_path / "s")))[0] == "0"
        write_filter(file, "1")
        daemon.send(signal.SIGHUP)
        await daemon.logged("WARNING aiomilter: reload cancelled: another was requested")
        await daemon.logged(RELOADED)
        assert (await deliver(str(tmp_path / "s")))[0] == "1"


async def test_a_signal_to_stop_ends_a_reload_under_way(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    write_filter(file, "0")
    async with running("f.py", "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        file.write_text(HANGS)
        daemon.send(signal.SIGHUP)
        await daemon.printed("opening")
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert daemon.out == ["opened 0", "opening", "closed 0"]


PROGRAM = """
import os, sys
from contextlib import asynccontextmanager
import logging
from aiomilter import Milter, run

class Version(Milter):
    number = 0
    async def eom(self, ctx):
        ctx.add_header("X-Version", str(self.number))
        ctx.add_header("X-Process", str(os.getpid()))

@asynccontextmanager
async def milter():
    Version.number += 1
    number = Version.number
    if number == 2:
        raise RuntimeError("not yet")
    print("opened", number, flush=True)
    yield type("Version", (Version,), {"number": number})
    print("closed", number, flush=True)

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
run(milter, sys.argv[1])
print("returned")
"""


async def test_a_factory_that_ends_while_it_is_in_use_ends_the_command(tmp_path: Path) -> None:
    """With one record, which has the traceback, and one line."""
    (tmp_path / "f.py").write_text(ENDS)
    async with running("f.py", "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        (tmp_path / "end").touch()
        assert await daemon.ended() == 1
    assert len([line for line in daemon.log if " ERROR aiomilter: the factory f.milter ended while it" in line]) == 1
    assert len([line for line in daemon.log if "no map" in line]) == 2  # source and exception
    assert daemon.log[-1].startswith("aiomilter: f.py: f.milter ended while it was in use: ExceptionGroup: ")
    assert not (tmp_path / "s").exists()


async def test_run_enters_the_factory_again(tmp_path: Path) -> None:
    async with running(str(tmp_path / "s"), command=("-c", PROGRAM), directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        assert (await deliver(str(tmp_path / "s")))[0] == "1"
        daemon.send(signal.SIGHUP)
        await daemon.logged("ERROR aiomilter: cannot reload: RuntimeError: not yet; nothing has changed")
        assert (await deliver(str(tmp_path / "s")))[0] == "1"
        daemon.send(signal.SIGHUP)
        await daemon.logged(RELOADED)
        assert (await deliver(str(tmp_path / "s")))[0] == "3"
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert daemon.out == ["opened 1", "opened 3", "closed 1", "closed 3", "returned"]
