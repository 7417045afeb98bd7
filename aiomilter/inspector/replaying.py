"""A recorded message as a scenario to be played again."""

from base64 import b64encode
from typing import Any

from aiomilter.inspector.conversation import read
from aiomilter.inspector.recording import Recorded

__all__ = ["scenario_of"]


def scenario_of(recorded: Recorded) -> dict[str, Any]:
    """Return what to play, in the form that the page sends.

    Raises:
        ValueError: The message was not kept as a whole, or the filter has not seen all of it.
    """
    found = read(recorded)
    octets = recorded.original
    if octets is None:
        if recorded.cut:
            raise ValueError("this message is too large to be kept as a whole, so it cannot be replayed")
        octets = b"".join([*(header.raw for header in found.headers), b"\r\n", *found.body])
    refused = [stage.what for stage in found.stages if stage.stage.name == "RCPT" and stage.reply[:1] in ("4", "5")]
    connect, mail = found.connect, found.mail
    return {
        "mta": found.style,
        "client": "" if connect is None else connect.raw_address,
        "hostname": "" if connect is None else connect.hostname,
        "helo": found.helo,
        "sender": "<>" if mail is None else " ".join((mail.path, *mail.params)),
        "recipients": [*(" ".join((rcpt.path, *rcpt.params)) for rcpt in found.recipients), *refused],
        "macros": {stage: dict(values) for stage, values in found.macros.items()},
        "octets": b64encode(octets).decode("ascii"),
    }
