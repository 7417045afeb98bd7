"""What all scanners share: whatever the other side does, there is a result, in time, and nothing is left."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.exceptions import AddressError
from aiomilter.scan import Clamd, ClamdResult, Rspamd, Spamd, scanner
from aiomilter.scan._breaker import FAILURES, PAUSE
from tests.clock import on_clock
from tests.interop.rigs.mta import free_port
from tests.message.made import made
from tests.patience import PATIENCE
from tests.scan.server import CLEAN, KINDS, Reader, Serve, Writer, answering, serving, whole_request

MESSAGE: Final = b"Subject: hello\r\n\r\nHello\r\n"
EACH: Final = pytest.mark.parametrize("kind", KINDS)


def descriptors() -> set[str]:
    """What each open one leads to: a test looks at the new ones, since those of tests before it may close at any time."""
    leads: set[str] = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that read the directory
            leads.add(os.readlink(f"/proc/self/fd/{number}"))
    return leads


async def endless() -> AsyncIterator[bytes]:
    """A message that does not end."""
    while True:
        yield b"x" * 100_000


# ------------------------------------------------------------------------------------------------- what goes well


@EACH
@pytest.mark.parametrize("pieces", [[MESSAGE], [MESSAGE[:1], b"", MESSAGE[1:]], [MESSAGE, b"x" * 300_000]])
@pytest.mark.parametrize("sized", [False, True])
async def test_every_octet_arrives_in_order(kind: str, pieces: list[bytes], sized: bool) -> None:
    async def octets() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    requests: list[bytes] = []
    async with serving(answering(kind, CLEAN[kind], requests)) as address, KINDS[kind](address) as client:
        result = await client.scan(octets(), sum(map(len, pieces)) if sized else None)

    assert result.problem == ""
    assert requests[0].endswith(b"".join(pieces))


@EACH
async def test_octets_may_be_given_at_once(kind: str) -> None:
    requests: list[bytes] = []
    async with serving(answering(kind, CLEAN[kind], requests)) as address:
        assert (await KINDS[kind](address).scan(MESSAGE)).problem == ""
    assert requests[0].endswith(MESSAGE)


async def test_a_path_is_an_address(tmp_path: Path) -> None:
    server = await asyncio.start_unix_server(_clean, tmp_path / "s")
    async with server:
        assert await Clamd(f"unix:{tmp_path}/s").scan(MESSAGE) == ClamdResult()


async def _clean(reader: Reader, writer: Writer) -> None:
    await answering("clamd", CLEAN["clamd"])(reader, writer)
    writer.close()


# ----------------------------------------------------------------------------------------------------- trouble


def closing(kind: str, when: str) -> Serve:
    """Return what hangs up at one place of the exchange."""

    async def serve(reader: Reader, writer: Writer) -> None:
        match when:
            case "at once":
                return
            case "in the request":
                await reader.readexactly(3)
            case "after the request":
                await whole_request(kind, reader)
            case "in the answer":
                await whole_request(kind, reader)
                writer.write(CLEAN[kind][:-1])
            case "before the end of the message":
                await reader.readexactly(3)
                writer.write(CLEAN[kind])
                await writer.drain()
                await reader.read()

    return serve


CLOSED: Final = (
    "at once",
    "in the request",
    "after the request",
    "in the answer",
    "before the end of the message",
)


@EACH
@pytest.mark.parametrize("when", CLOSED)
async def test_a_connection_that_is_closed_is_a_problem(kind: str, when: str) -> None:
    """So is a verdict on a message that was not read: none of it is "nothing was found"."""
    message = [MESSAGE] if when in ("after the request", "in the answer") else [MESSAGE, b"x" * 4_000_000]

    async def octets() -> AsyncIterator[bytes]:
        for piece in message:
            yield piece

    async with serving(closing(kind, when)) as address:
        result = await KINDS[kind](address, max_size=10_000_000).scan(octets())

    assert result.problem.startswith(f"{kind} at {address}: ")
    assert not result.too_large


@EACH
async def test_nobody_there_is_a_problem(kind: str) -> None:
    address = f"inet:{free_port()}@127.0.0.1"
    result = await KINDS[kind](address).scan(MESSAGE)
    assert result.problem == f"{kind} at {address}: connection refused"


async def test_a_name_that_is_none_of_a_host_is_a_problem() -> None:
    result = await Clamd("inet:3310@a..b").scan(MESSAGE)
    assert result.problem.startswith("clamd at inet:3310@a..b: ")


async def test_no_descriptor_for_a_connection_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    result = await Clamd("inet:3310@127.0.0.1").scan(MESSAGE)
    assert result.problem == "clamd at inet:3310@127.0.0.1: too many open files"


async def test_a_path_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    result = await Clamd(f"unix:{tmp_path}/s").scan(MESSAGE)
    assert result.problem == f"clamd at unix:{tmp_path}/s: no such file or directory"


@EACH
def test_silence_is_a_problem_after_the_time_out(kind: str) -> None:
    async def silent(reader: Reader, writer: Writer) -> None:
        await asyncio.Event().wait()

    @on_clock
    async def test() -> None:
        began = asyncio.get_running_loop().time()
        async with serving(silent) as address:
            result = await KINDS[kind](address).scan(MESSAGE)
            assert result.problem.endswith(": no answer in 30 s")
            assert asyncio.get_running_loop().time() - began == pytest.approx(30, abs=0.1)

    test()


@EACH
def test_an_octet_a_second_is_no_answer(kind: str) -> None:
    async def slow(reader: Reader, writer: Writer) -> None:
        await whole_request(kind, reader)
        for octet in CLEAN[kind]:
            writer.write(bytes([octet]))
            await asyncio.sleep(1)

    @on_clock
    async def test() -> None:
        async with serving(slow) as address:
            result = await KINDS[kind](address, timeout=2.5).scan(MESSAGE)
            assert result.problem.endswith(": no answer in 2.5 s")

    test()


def test_a_server_that_does_not_read_is_a_problem_after_the_time_out() -> None:
    async def slow(reader: Reader, writer: Writer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
        await asyncio.Event().wait()

    @on_clock
    async def test() -> None:
        async with serving(slow) as address:
            result = await Clamd(address, timeout=2.5).scan(endless())
            assert result.problem.endswith(": no answer in 2.5 s")

    test()


def full_queue(path: Path, opened: ExitStack) -> str:
    """Return the address of a server that accepts nobody, and has no room for another connection."""
    server = opened.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(str(path))
    server.listen(0)
    while True:
        waiting = opened.enter_context(socket.socket(socket.AF_UNIX))
        waiting.setblocking(False)
        try:
            waiting.connect(str(path))
        except BlockingIOError:
            return f"unix:{path}"


def test_a_server_that_accepts_no_connection_is_a_problem_after_its_time_out(tmp_path: Path) -> None:
    @on_clock
    async def test() -> None:
        with ExitStack() as opened:
            address = full_queue(tmp_path / "s", opened)
            before = descriptors()
            assert (await Clamd(address).scan(MESSAGE)).problem == f"clamd at {address}: no connection in 3 s"
            assert descriptors() <= before

    test()


async def test_a_server_that_accepts_late_is_asked(tmp_path: Path) -> None:
    with ExitStack() as opened:
        address = full_queue(tmp_path / "s", opened)
        scanning = asyncio.create_task(Clamd(address).scan(MESSAGE))
        await asyncio.sleep(0)
        (tmp_path / "s").unlink()
        async with await asyncio.start_unix_server(_clean, tmp_path / "s"):
            assert await scanning == ClamdResult()


async def test_cancellation_while_connecting_leaves_no_descriptor(tmp_path: Path) -> None:
    with ExitStack() as opened:
        address = full_queue(tmp_path / "s", opened)
        before = descriptors()
        scanning = asyncio.create_task(Clamd(address).scan(MESSAGE))
        await asyncio.sleep(0)
        assert len(descriptors() - before) == 1
        scanning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scanning
        assert descriptors() <= before


@EACH
async def test_an_answer_without_end_is_a_problem(kind: str) -> None:
    sent = 0

    async def babbling(reader: Reader, writer: Writer) -> None:
        nonlocal sent
        await whole_request(kind, reader)
        writer.write(CLEAN[kind][:10])
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    async with serving(babbling) as address:
        result = await KINDS[kind](address).scan(MESSAGE)

    assert " answered more than " in result.problem
    assert sent < 20_000_000


@EACH
async def test_a_message_that_is_too_large_is_a_problem_of_its_own(kind: str) -> None:
    """Another try would not help, and the scanner is not at fault."""
    async with serving(answering(kind, CLEAN[kind])) as address, KINDS[kind](address, max_size=1_000_000) as client:
        results = [await client.scan(endless()) for _ in range(FAILURES)]
        for result in [*results, await client.scan(MESSAGE, 1_000_001)]:
            assert result.too_large
            assert result.problem.endswith(": the message has more than 1,000,000 octets")
        assert (await client.scan(MESSAGE)).problem == ""


@EACH
@pytest.mark.parametrize("size", [0, 1, len(MESSAGE) - 1, len(MESSAGE) + 1])
async def test_a_size_that_is_wrong_is_an_error_of_the_caller(kind: str, size: int) -> None:
    async with serving(answering(kind, CLEAN[kind])) as address:
        with pytest.raises(ValueError, match=f"expected a message of {size} octets as size says, found (?:more|only)"):
            await KINDS[kind](address).scan(MESSAGE, size)


@EACH
async def test_no_octets_are_an_error_of_the_caller(kind: str) -> None:
    """Those of an iterator that was read before: nothing would be found in them."""

    async def octets() -> AsyncIterator[bytes]:
        yield MESSAGE

    once = octets()
    async with serving(answering(kind, CLEAN[kind])) as address, KINDS[kind](address) as client:
        assert (await client.scan(once)).problem == ""
        with pytest.raises(ValueError, match="found none"):
            await client.scan(once)


@EACH
@pytest.mark.parametrize("error", [OSError("disk"), TimeoutError("disk"), ValueError("other")])
async def test_what_the_message_raises_is_raised_and_counts_for_nothing(kind: str, error: Exception) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield MESSAGE
        raise error

    async with serving(answering(kind, CLEAN[kind])) as address, KINDS[kind](address) as client:
        for _ in range(FAILURES + 1):
            with pytest.raises(type(error), match=str(error)):
                await client.scan(broken())
        assert (await client.scan(MESSAGE)).problem == ""


@pytest.mark.slow
@EACH
def test_a_server_that_does_anything_at_any_time_makes_a_result(kind: str) -> None:
    """It reads as much as it likes, writes what it likes, and hangs up or stays silent."""
    answers = st.binary(max_size=60) | st.sampled_from([CLEAN[kind], CLEAN[kind][:-1]])
    acts = st.lists(st.tuples(st.sampled_from(["read", "write", "wait"]), st.integers(0, 300), answers), max_size=4)

    @given(acts, st.booleans())
    def test(acts: list[tuple[str, int, bytes]], silent: bool) -> None:
        ours, theirs = socket.socketpair()

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            for act, number, octets in acts:
                match act:
                    case "read":
                        await loop.sock_recv(theirs, number + 1)
                    case "write":
                        await loop.sock_sendall(theirs, octets)
                    case "wait":
                        await asyncio.sleep(number / 100_000)
            if not silent:
                theirs.close()

        async def connected(*_: object) -> socket.socket:
            return ours

        async def main() -> None:
            tasks = asyncio.all_tasks()
            server = asyncio.create_task(serve())
            result = await KINDS[kind]("inet:1@127.0.0.1", timeout=0.005).scan(MESSAGE * 20)
            assert result.problem == "" or result.problem.startswith(f"{kind} at inet:1@127.0.0.1: ")
            server.cancel()
            await asyncio.wait([server])
            if not server.cancelled():
                server.exception()  # the client has gone
            assert asyncio.all_tasks() == tasks
            assert ours.fileno() == -1

        with theirs, pytest.MonkeyPatch.context() as patch:
            theirs.setblocking(False)
            ours.setblocking(False)
            patch.setattr(scanner, "connect", connected)
            asyncio.run(main())

    test()


# ---------------------------------------------------------------------------------------------------- the breaker


def test_after_five_failures_it_is_not_asked_for_ten_seconds() -> None:
    connections = 0

    async def down(reader: Reader, writer: Writer) -> None:
        nonlocal connections
        connections += 1

    @on_clock
    async def test() -> None:
        async with serving(down) as address, Clamd(address) as clamd:
            for _ in range(FAILURES + 3):
                result = await clamd.scan(MESSAGE)
            assert connections == FAILURES
            assert "not asked again yet after 5 failures in a row: " in result.problem
            await asyncio.sleep(PAUSE)
            results = await asyncio.gather(*[clamd.scan(MESSAGE) for _ in range(3)])
            assert connections == FAILURES + 1  # one tries
            assert all(result.problem for result in results)
            await asyncio.sleep(PAUSE - 1)
            assert "not asked" in (await clamd.scan(MESSAGE)).problem

    test()


def test_a_scanner_that_is_back_is_asked_by_all() -> None:
    works = False

    async def serve(reader: Reader, writer: Writer) -> None:
        if works:
            await answering("clamd", CLEAN["clamd"])(reader, writer)

    @on_clock
    async def test() -> None:
        nonlocal works
        async with serving(serve) as address, Clamd(address) as clamd:
            for _ in range(FAILURES):
                await clamd.scan(MESSAGE)
            works = True
            assert (await clamd.scan(MESSAGE)).problem
            await asyncio.sleep(PAUSE)
            for _ in range(2):
                results = await asyncio.gather(*[clamd.scan(MESSAGE) for _ in range(1)])
                assert [result.problem for result in results] == [""]

    test()


@pytest.mark.slow
def test_the_one_that_tries_may_be_cancelled() -> None:
    async def silent(reader: Reader, writer: Writer) -> None:
        await asyncio.Event().wait()

    @on_clock
    async def test() -> None:
        async with serving(silent) as address, Clamd(address, timeout=1) as clamd:
            for _ in range(FAILURES):
                await clamd.scan(MESSAGE)
            await asyncio.sleep(PAUSE)
            trying = asyncio.create_task(clamd.scan(MESSAGE))
            await asyncio.sleep(0.5)
            assert "not asked" in (await clamd.scan(MESSAGE)).problem
            trying.cancel()
            await asyncio.wait([trying])
            assert (await clamd.scan(MESSAGE)).problem.endswith("127.0.0.1: no answer in 1 s")

    test()


@pytest.mark.slow
def test_what_was_under_way_does_not_make_the_pause_longer() -> None:
    connections = 0

    async def silent(reader: Reader, writer: Writer) -> None:
        nonlocal connections
        connections += 1
        await asyncio.Event().wait()

    @on_clock
    async def test() -> None:
        async with serving(silent) as address, Clamd(address, timeout=4) as clamd:
            scans = [asyncio.create_task(clamd.scan(MESSAGE)) for _ in range(FAILURES)]
            await asyncio.sleep(3)
            scans.append(asyncio.create_task(clamd.scan(MESSAGE)))
            await asyncio.wait(scans)
            assert connections == FAILURES + 1
            await asyncio.sleep(PAUSE - 2)  # the last one has failed 3 s after the others
            await clamd.scan(MESSAGE)
            assert connections == FAILURES + 2

    test()


async def test_an_answer_that_declines_is_not_a_failure() -> None:
    async with serving(answering("clamd", b"stream: Can't allocate memory ERROR\0")) as address:
        clamd = Clamd(address)
        problems = {(await clamd.scan(MESSAGE)).problem for _ in range(FAILURES + 1)}
    assert problems == {f"clamd at {address}: answered stream: Can't allocate memory ERROR"}


# ------------------------------------------------------------------------------------------------ several at once


async def test_more_scans_than_may_run_at_once_wait() -> None:
    running, most = 0, 0

    async def serve(reader: Reader, writer: Writer) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await whole_request("clamd", reader)
        running -= 1
        writer.write(CLEAN["clamd"])

    async with serving(serve) as address, Clamd(address, concurrency=3) as clamd:
        results = await asyncio.gather(*[clamd.scan(MESSAGE) for _ in range(20)])

    assert {result.problem for result in results} == {""}
    assert most <= 3


def test_the_wait_for_others_is_part_of_the_time() -> None:
    async def silent(reader: Reader, writer: Writer) -> None:
        await asyncio.Event().wait()

    @on_clock
    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with serving(silent) as address, Clamd(address, concurrency=1, timeout=2) as clamd:
            began = loop.time()
            results = await asyncio.gather(*[clamd.scan(MESSAGE) for _ in range(3)])
            assert loop.time() - began == pytest.approx(2, abs=0.1)
        assert [result.problem.rpartition(": ")[2] for result in results] == [
            "no answer in 2 s",
            "waited 2 s for other scans",
            "waited 2 s for other scans",
        ]

    test()


async def test_a_closed_scanner_is_a_problem() -> None:
    async with Clamd("inet:1@127.0.0.1") as clamd:
        pass
    assert (await clamd.scan(MESSAGE)).problem == "clamd at inet:1@127.0.0.1: closed"


# ---------------------------------------------------------------------------------------------------- cancellation


@EACH
@pytest.mark.parametrize("when", ["sending", "waiting", "in the answer"])
async def test_cancellation_leaves_no_task_and_no_descriptor(kind: str, when: str) -> None:
    there, gone, ended = asyncio.Event(), asyncio.Event(), False

    async def serve(reader: Reader, writer: Writer) -> None:
        if when == "sending":
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
        else:
            await whole_request(kind, reader)
        if when == "in the answer":
            writer.write(CLEAN[kind][:-1])
            await writer.drain()
        there.set()
        await gone.wait()

    async def octets() -> AsyncIterator[bytes]:
        nonlocal ended
        try:
            while True:
                yield b"x" * 10_000
                if when != "sending":
                    return
        finally:
            ended = True

    async with serving(serve) as address:
        before, tasks = descriptors(), asyncio.all_tasks()
        scanning = asyncio.create_task(KINDS[kind](address, max_size=10**9).scan(octets()))
        await asyncio.wait_for(there.wait(), PATIENCE)
        for _ in range(20):
            await asyncio.sleep(0)
        mine = asyncio.all_tasks() - tasks
        scanning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scanning
        assert ended
        # The server's side of the connection is still there.
        assert len(descriptors() - before) == 1
        assert [task for task in mine if not task.done() and "serving" not in repr(task)] == []
        gone.set()


async def test_a_message_of_a_filter_leaves_no_task_either() -> None:
    """Its octets come from one generator inside another: each is closed by the one around it."""
    message = made(b"Subject: hello\r\n\r\n" + b"x" * 4_000_000)
    async with serving(closing("clamd", "in the request")) as address:
        tasks = asyncio.all_tasks()
        assert (await Clamd(address).scan(message.octets())).problem
        await asyncio.sleep(0)
        assert [task for task in asyncio.all_tasks() - tasks if "serving" not in repr(task)] == []


async def test_cancellation_while_waiting_for_others_gives_the_place_to_the_next() -> None:
    go = asyncio.Event()

    async def serve(reader: Reader, writer: Writer) -> None:
        await whole_request("clamd", reader)
        await go.wait()
        writer.write(CLEAN["clamd"])

    async with serving(serve) as address, Clamd(address, concurrency=1) as clamd:
        first, second, third = [asyncio.create_task(clamd.scan(MESSAGE)) for _ in range(3)]
        await asyncio.sleep(0)
        second.cancel()
        go.set()
        assert await first == await third == ClamdResult()
        assert second.cancelled()


# ------------------------------------------------------------------------------------------------------ arguments


@EACH
@pytest.mark.parametrize("address", ["fd:3", "127.0.0.1:3310", "", "unix:relative"])
def test_an_address_that_cannot_be_connected_to_is_refused(kind: str, address: str) -> None:
    with pytest.raises(AddressError):
        KINDS[kind](address)


@EACH
@pytest.mark.parametrize("name", ["connect_timeout", "timeout", "max_size", "concurrency"])
def test_numbers_are_above_zero(kind: str, name: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        KINDS[kind]("inet:1@127.0.0.1", **{name: 0})


@pytest.mark.parametrize("text", ["a b", "a\r\nX: y", "\u00e9", "x" * 500])
def test_names_in_requests_are_printable(text: str) -> None:
    with pytest.raises(ValueError, match="expected the"):
        Spamd("inet:1@127.0.0.1", user=text)
    with pytest.raises(ValueError, match="expected the"):
        Rspamd("inet:1@127.0.0.1", settings_id=text)
