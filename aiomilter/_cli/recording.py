"""What the commands that record are asked for."""

from pathlib import Path
from typing import cast

from aiomilter._cli.options import RunOptions
from aiomilter._cli.trouble import FAILED, Trouble
from aiomilter.recording.directory import RecordDirectory
from aiomilter.recording.format import ContentKind
from aiomilter.recording.recorder import RecordSettings
from aiomilter.recording.redaction import Redaction, read_key

__all__ = ["record_into"]


def record_into(path: str, options: RunOptions, name: str) -> tuple[RecordSettings, RecordDirectory]:
    """Return what is recorded, and where.

    Args:
        path: Of the directory, absolute.
        options: Those of the command.
        name: What files call the filter.

    Raises:
        Trouble: The directory cannot be used.
    """
    try:
        directory = RecordDirectory(path, options.record_size)
        redaction = Redaction(read_key(Path(path)), keep_domains=options.record_domains)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Trouble(f"cannot record into {path!r}: {reason}", status=FAILED) from None
    content = cast(ContentKind, options.record_content)
    return RecordSettings(name, content, frozenset(options.record_when or ()), redaction), directory
