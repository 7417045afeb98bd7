"""``aiomilter run --metrics``: the sums of all workers, and whether they are well."""

import asyncio
import os
import random
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from aiomilter.mta import connect
from tests.patience import PATIENCE

from .daemon import Daemon, running
from .http import ask, metrics, until

pytestmark = pytest.mark.slow

FILTER = """\
import asyncio, os
from aiomilter import REJECT, TEMPFAIL, Milter, Refusal, Reply

class Judge(Milter):
    async def ready(self):
        return "the database is down" if os.path.exists("down") else None

    async def envrcpt(self, ctx, rcpt):
        if rcpt.local_part == "nobody":
            return Reply(550, "5.1.1", "no such mailbox", reason="unknown")

    async def eom(self, ctx):
        if os.path.exists("block"):
            import time; time.sleep(1000)
        match ctx.sender.local_part:
            case "edited":
                ctx.add_header("X-One", "1")
                ctx.add_header("X-Two", "2")
            case "spam":
                return Reply(550, "5.7.1", "no", reason="spam")
            case "later":
                return TEMPFAIL
            case "fails":
                raise ValueError("on purpose")
            case "waits":
                await asyncio.sleep(0.002)
"""
SENDERS = ("plain", "edited", "spam", "later", "fails", "waits")
LINE = re.compile(
    r" (\w+): (accept|continue|reject|tempfail|discard|abort|[45]\d\d) ?(?:.*?)(?: reason=(\w+))? edits=(\S+)"
)


async def send(address: str, sender: str, nobodies: int) -> None:
    """Deliver a message, as an SMTP client of its own; what a worker that is killed loses is no matter."""
    try:
        async with connect(address, timeout=PATIENCE) as session:
            await session.connect()
            await session.helo()
            await session.mail(f"<{sender}@x.example>")
            for _ in range(nobodies):
                await session.rcpt("<nobody@x.example>")
            await session.rcpt("<b@x.example>")
            await session.message(b"Subject: s\r\n\r\nbody\r\n")
    except Exception as error:
        raise AssertionError(f"{sender}: {error!r}") from error


def expected(daemon: Daemon) -> dict[tuple[str, ...], int]:
    """Return what the log has of messages, refusals and edits."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in daemon.log:
        if " helo=" not in line or (match := LINE.search(line)) is None:
            continue
        stage, answer, reason, edits = match.groups()
        kind = {"5": "reject", "4": "tempfail"}.get(answer[0], answer)
        found["messages", kind, stage] += 1
        if kind in ("reject", "tempfail"):
            code = answer if answer.isdigit() else {"reject": "550", "tempfail": "451"}[kind]
            found["replies", code, reason or ""] += 1
        if refused := re.search(r"refused=\[(.*?)\]", line):
            number = refused[1].count("550")
            found[("refused",)] += number
            found["replies", "550", "unknown"] += number
        if edits != "none":
            count = edits.partition("*")[2]
            found[("edits",)] += int(count or 1)
    return dict(found)


async def shown(path: Path) -> dict[tuple[str, ...], int]:
    """Return the same of the metrics."""
    found: Counter[tuple[str, ...]] = Counter()
    for (name, pairs), value in (await metrics(path)).items():
        labels = dict(pairs)
        if name == "aiomilter_messages_total":
            assert labels["filter"].endswith("Judge")
            found["messages", labels["answer"], labels["stage"]] += int(value)
        elif name == "aiomilter_replies_total":
            found["replies", labels["code"], labels["reason"]] += int(value)
        elif name == "aiomilter_recipients_refused_total":
            found[("refused",)] += int(value)
        elif name == "aiomilter_edits_total":
            assert labels["kind"] == "add_header"
            found[("edits",)] += int(value)
    return dict(found)


async def agree(daemon: Daemon, path: Path, messages: int) -> dict[tuple[str, ...], int]:
    """Wait until log and metrics have so many messages, and say the same."""
    log: dict[tuple[str, ...], int] = {}
    metrics: dict[tuple[str, ...], int] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while log != metrics or sum(n for key, n in log.items() if key[0] == "messages") < messages:
                await asyncio.sleep(0.05)  # what is awaited is another process
                log, metrics = expected(daemon), await shown(path)
    except TimeoutError:
        raise AssertionError(f"log {log}, metrics {metrics}") from None
    return log


@pytest.mark.parametrize("number", [60, pytest.param(1000, marks=pytest.mark.long)])
async def test_the_sums_of_workers_are_what_the_log_says_although_some_die(tmp_path: Path, number: int) -> None:
    (tmp_path / "f.py").write_text(FILTER)
    http, milter = tmp_path / "http", tmp_path / "s"
    numbers = random.Random(17)
    at_once = asyncio.Semaphore(6)

    async def play() -> None:
        async with at_once:
            await send(str(milter), numbers.choice(SENDERS), numbers.randrange(3))

    options = ("--listen", str(milter), "--metrics", f"unix:{http}", "--workers", "3")
    async with running("f.py", *options, directory=tmp_path) as daemon:
        await daemon.logged("listening on unix:.*http for HTTP")
        await daemon.logged("serve new connections")
        await asyncio.gather(*(play() for _ in range(number // 3)))
        await agree(daemon, http, number // 3)
        # One that serves, and then the one that shows it all.
        worker = await daemon.logged(r"workers (\d+), \d+, \d+ serve")
        os.kill(int(worker[1]), signal.SIGKILL)
        await daemon.logged("worker .* serves")
        await asyncio.gather(*(play() for _ in range(number // 3)))
        await agree(daemon, http, number // 3 * 2)
        listener = await daemon.logged(r"aiomilter\[(\d+)\]: listening on unix:.*http for HTTP")
        os.kill(int(listener[1]), signal.SIGKILL)
        await daemon.logged("the HTTP listener was ended by signal 9; another takes its place")
        await asyncio.gather(*(play() for _ in range(number // 3)))
        total = await agree(daemon, http, number // 3 * 3)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert not http.exists()
    assert {key[0] for key in total} == {"messages", "replies", "refused", "edits"}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_it_says_whether_it_can_do_its_work(tmp_path: Path, workers: str) -> None:
    (tmp_path / "f.py").write_text(FILTER)
    http, milter = tmp_path / "http", tmp_path / "s"
    options = ("--listen", str(milter), "--metrics", f"unix:{http}", "--workers", workers)
    async with running("f.py", *options, directory=tmp_path) as daemon:
        assert await until(http, "/readyz", lambda status, _: status == 200) == (200, "ok\n")
        assert await ask(http, "/healthz") == (200, "ok\n")
        (tmp_path / "down").touch()
        _, text = await until(http, "/readyz", lambda status, _: status == 503)
        assert re.fullmatch(r"process \d+: the database is down\n", text)
        assert await ask(http, "/healthz") == (200, "ok\n")
        (tmp_path / "down").unlink()
        await until(http, "/readyz", lambda status, _: status == 200)
        # An SMTP session that is open keeps it from ending.
        async with connect(str(milter), timeout=PATIENCE) as session:
            await session.connect()
            daemon.send(signal.SIGTERM)
            assert (await until(http, "/readyz", lambda status, _: status == 503))[1] == "draining\n"
            assert await ask(http, "/healthz") == (200, "ok\n")
        assert await daemon.ended() == 0
    assert (await ask(http, "/healthz"))[0] == 0


async def test_a_worker_whose_loop_does_not_turn_is_named(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(FILTER)
    http, milter = tmp_path / "http", tmp_path / "s"
    options = ("--listen", str(milter), "--metrics", f"unix:{http}", "--workers", "2")
    async with running("f.py", *options, directory=tmp_path) as daemon:
        await until(http, "/healthz", lambda status, _: status == 200)
        worker = await daemon.logged(r"workers (\d+), \d+ serve")
        os.kill(int(worker[1]), signal.SIGSTOP)
        _, text = await until(http, "/healthz", lambda status, _: status == 503)
        assert re.fullmatch(rf"process {worker[1]}: its event loop has not turned for \d+ s\n", text)
        os.kill(int(worker[1]), signal.SIGCONT)
        await until(http, "/healthz", lambda status, _: status == 200)


async def test_a_reload_counts_and_sums_go_on(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(FILTER)
    http, milter = tmp_path / "http", tmp_path / "s"

    for workers in ("1", "2"):
        options = ("--listen", str(milter), "--metrics", f"unix:{http}", "--workers", workers)
        async with running("f.py", *options, directory=tmp_path) as daemon:
            await until(http, "/readyz", lambda status, _: status == 200)
            await send(str(milter), "plain", 1)
            daemon.send(signal.SIGHUP)
            await daemon.logged("reloaded")
            await until(http, "/metrics", lambda _, text: "\naiomilter_generation 2.0\n" in text)
            await send(str(milter), "plain", 1)
            await agree(daemon, http, 2)
            daemon.send(signal.SIGTERM)
            assert await daemon.ended() == 0
