"""The result for a message that an SMTP client sent, and a directory of such messages."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiomilter import mta
from aiomilter.wire.events import Mail, Rcpt

__all__ = ["Outcome", "store"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for a message that an SMTP client sent.

    Args:
        queue_id: Its name here.
        client: Address of the SMTP client.
        helo: What it said in EHLO or HELO; "" if nothing.
        result: The filter's answer, its modifications, and the message as delivered; None there if it was refused or dropped.
        reply: The SMTP reply, lines separated by CRLF.
        original: The message as the client sent it.
    """

    queue_id: str
    client: str
    helo: str
    result: mta.MessageResult
    reply: str
    original: bytes = b""


def store(directory: str | os.PathLike[str]) -> Callable[[Outcome], None]:
    """Return a function that puts messages into a directory: ``ID.eml``, its octets, and ``ID.json``, its envelope.

    The JSON file comes last: once it is there, both are whole.  Nothing is kept of a message that was refused or dropped, or
    that could not be written as a whole.

    Args:
        directory: Is made if it is not there.

    Raises:
        OSError: It cannot be made.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)

    def put(outcome: Outcome) -> None:
        message = outcome.result.delivered
        if message is None:
            return
        envelope = {
            "queue_id": outcome.queue_id,
            "client": outcome.client,
            "helo": outcome.helo,
            "sender": _envelope(message.sender),
            "recipients": [_envelope(rcpt) for rcpt in message.recipients],
            "quarantine": message.quarantine,
        }
        content = folder / f"{outcome.queue_id}.eml"
        _write(content, message.octets)
        try:
            _write(folder / f"{outcome.queue_id}.json", json.dumps(envelope, indent=2).encode("ascii") + b"\n")
        except BaseException:
            content.unlink()
            raise

    return put


def _envelope(who: Mail | Rcpt) -> dict[str, Any]:
    return {"path": who.path, "address": who.address, "params": who.params}


def _write(path: Path, octets: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(octets)
        part.replace(path)
    except BaseException:
        # On a full disk it would hold what room there is.
        part.unlink(missing_ok=True)
        raise
