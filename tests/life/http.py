"""Asking a daemon's HTTP listener, at the path of a socket."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.patience import PATIENCE

__all__ = ["ask", "metrics", "until"]


async def ask(path: Path, page: str) -> tuple[int, str]:
    """Return status and text of a page; 0 where nobody answers."""
    request = f"GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(request.encode())
        answer = await reader.read()
        writer.close()
    except OSError:
        return 0, ""
    head, _, body = answer.decode().partition("\r\n\r\n")
    return (int(head.split()[1]), body) if head else (0, "")


async def metrics(path: Path) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return all values, by name and labels."""
    _, text = await ask(path, "/metrics")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def until(path: Path, page: str, wanted: Callable[[int, str], bool]) -> tuple[int, str]:
    """Ask for a page until it is as wanted, and return it."""
    answer: tuple[int, str] = (0, "")
    try:
        async with asyncio.timeout(PATIENCE):
            while not wanted(*(answer := await ask(path, page))):
                await asyncio.sleep(0.05)  # what is awaited is another process
    except TimeoutError:
        raise AssertionError(f"{page} stays {answer}") from None
    return answer
