"""A configuration file to start from, for the mail server that this machine has."""

import os
import re
from pathlib import Path
from typing import Any, Final

from aiomilter._cli.trouble import Trouble
from aiomilter._config.table import keys
from aiomilter._config.written import commented

__all__ = ["begin", "write_new"]

_HEAD: Final = """\
# Configuration of a mail filter: aiomilter run --config FILE
# 'aiomilter help configuration' explains it, 'aiomilter config check FILE' finds every mistake.
# Every key is here, with its default; take the # away to set it.  Paths are relative to this file.

# The filter: the path of a file, with :NAME if it has several, or MODULE:NAME.
filter = "filter.py"

"""
_POSTFIX: Final = """\
# Postfix is installed here.  In {main_cf}:
#     smtpd_milters = unix:aiomilter/filter.sock
#     non_smtpd_milters = unix:aiomilter/filter.sock
# and once, with the user that the filter runs as:
#     install -d -o USER -g postfix -m 2750 {directory}
listen = ["unix:{directory}/filter.sock"]
"""
_OTHER: Final = """\
# Postfix finds it with   smtpd_milters = inet:127.0.0.1:8890
# Sendmail finds it with  INPUT_MAIL_FILTER(`filter', `S=inet:8890@127.0.0.1, F=T')
listen = ["inet:8890@127.0.0.1"]
"""
_TAIL: Final = """
# What the filter itself is set by: the fields of the class that its factory takes.
# A password stands in a file of its own: password = { file = "password" }; under systemd { credential = "NAME" }.
#[settings]
"""
_QUEUE: Final = re.compile(r"(?m)^\s*queue_directory\s*=\s*(\S+)\s*$")
_MAX_SIZE: Final = 1_048_576


def begin(postfix: Path, *tables: type[Any]) -> str:
    """Return the text of a file to start from.

    Args:
        postfix: Where Postfix has its configuration, if it is installed.
        tables: Of the options.
    """
    known = [key for key in keys(*tables) if key.path != ("listen",)]
    queue = _queue_directory(postfix / "main.cf")
    if queue is None:
        return _HEAD + _OTHER + "\n" + "\n".join(commented(known)) + "\n" + _TAIL
    given = {"socket.mode": '"0660"', "socket.group": '"postfix"'}
    # Most services of Postfix run in a chroot of this directory; a path below it is right with and without.
    head = _POSTFIX.format(main_cf=postfix / "main.cf", directory=f"{queue}/aiomilter")
    return _HEAD + head + "\n" + "\n".join(commented(known, given)) + "\n" + _TAIL


def _queue_directory(main_cf: Path) -> str | None:
    """Return the directory of Postfix's queues; None if there is no Postfix."""
    try:
        with main_cf.open(encoding="utf-8", errors="replace") as file:
            given = _QUEUE.findall(file.read(_MAX_SIZE))
    except OSError:
        return None
    return given[-1] if given else "/var/spool/postfix"


def write_new(path: str, text: str) -> None:
    """Write a file that is not there yet.

    Raises:
        Trouble: It is, or cannot be written.
    """
    try:
        # For a secret that is written into it later.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Trouble(f"{path!r} exists, and is left as it is; name another file") from None
    except OSError as error:
        raise Trouble(f"cannot write {path!r}: {error.strerror}") from None
