"""Text that is safe to print on a terminal, and filters that cannot prompt on one."""

import contextlib
import getpass
import os
import re
import sys
from collections.abc import Iterator
from typing import Final, NoReturn

__all__ = ["safe", "safe_octets", "without_prompts"]

_SURROGATE: Final = re.compile(r"[\udc80-\udcff]")


def safe(text: str, *, also: str = "") -> str:
    r"""Return ``text`` with everything that does not print as itself written as ``\x1b`` or ``\u202e``.

    Args:
        text: From anywhere; surrogates stand for octets that are not UTF-8, and are written as such: ``\xff``.
        also: Characters to leave as they are: ``"\t"``, ``"\n\t"``.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in also else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if _SURROGATE.match(character):
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def safe_octets(octets: bytes) -> str:
    """Return a line of a message, tabs kept."""
    return safe(octets.decode("utf-8", "surrogateescape"), also="\t")


@contextlib.contextmanager
def without_prompts() -> Iterator[None]:
    """Have ``input()`` and ``getpass()`` raise EOFError at once: a daemon has no terminal, and mail must not wait for one."""
    before, ask = sys.stdin, getpass.getpass
    with open(os.devnull) as nothing:
        sys.stdin, getpass.getpass = nothing, _refuse_to_ask
        try:
            yield
        finally:
            sys.stdin, getpass.getpass = before, ask


def _refuse_to_ask(*_: object, **__: object) -> NoReturn:
    raise EOFError("a daemon cannot ask for a password")
