"""The message of a filter's unit test: the test looks at it, and the filter changes it."""

import re
from io import BytesIO
from typing import Any, ClassVar, Final

from aiomilter.compat.lowlevel import M_EOM
from aiomilter.compat.modules.mime import MimeMessage

__all__ = ["NEGOTIATING", "TestMessage"]

NEGOTIATING: Final = -1
"""The stage in which macros can be asked for."""
_STAGES: Final = 7


class TestMessage:
    """Records the changes that a filter requests.

    ``_msg`` is the message with its headers changed, ``_body`` a file of the message as it became, ``_bodyreplaced``,
    ``_headerschanged`` and ``_envfromchanged`` tell what changed, ``_sender``, ``_addrcpt`` and ``_delrcpt`` the envelope,
    ``_reply`` the arguments of setreply.  A test may set any of them.  The next message leaves ``_addrcpt``, ``_delrcpt`` and
    ``_envfromchanged`` as they are.

    Source: observed of pymilter 1.0.5.
    """

    __test__: ClassVar[bool] = False

    def __init__(self) -> None:
        self._macros: dict[str, str] = {}
        self._symlist: list[str | None] = [None] * _STAGES
        self._stage: int | None = None
        self._msg: MimeMessage | None = None
        self._body: BytesIO | None = None
        self._new_body = bytearray()
        self._reply: tuple[Any, ...] | None = None
        self._sender: str | None = None
        self._addrcpt: list[Any] = []
        self._delrcpt: list[str] = []
        self._bodyreplaced = self._headerschanged = self._envfromchanged = False

    def _begin_message(self) -> None:
        self._body = self._reply = None
        self._bodyreplaced = self._headerschanged = False

    def getsymval(self, name: str) -> str | None:
        """Return a macro, as far as the stage's ``setsymlist`` asked for it."""
        if self._stage is not None and self._stage >= 0:
            names = self._symlist[self._stage]
            if names is not None and name not in re.split("[ ,]+", names):
                return None
        return self._macros.get(name)

    def _setsymval(self, name: str, val: str) -> None:
        """Set a macro, as the MTA does."""
        self._macros[name] = val

    def setreply(self, rcode: str, xcode: str | None, *msg: str) -> None:
        """Remember a reply."""
        self._reply = (rcode, xcode, *msg)

    def setsymlist(self, stage: int, macros: str) -> None:
        """Ask for the macros of a stage.

        Raises:
            RuntimeError: The filter is not negotiating.
        """
        if self._stage != NEGOTIATING:
            raise RuntimeError("setsymlist may only be called from negotiate")
        self._symlist[stage] = macros

    def addheader(self, field: str, value: str, idx: int = -1) -> None:
        """Add a header, at an index if it is not negative."""
        headers = self._changed()
        headers.insert(idx if idx >= 0 else len(headers), (field, value))

    def chgheader(self, field: str, idx: int, value: str | None) -> None:
        """Change an occurrence of a header, or delete it; one that is not there is added."""
        headers = self._changed()
        same = [place for place, (name, _) in enumerate(headers) if name.lower() == field.lower()]
        place = same[max(idx, 1) - 1] if len(same) >= max(idx, 1) else None
        if place is None:
            if value:
                headers.append((field, value))
        elif value:
            headers[place] = (headers[place][0], value)
        else:
            del headers[place]

    def _changed(self) -> list[tuple[str, Any]]:
        self._at_end("headers")
        assert self._msg is not None
        self._headerschanged = True
        return self._msg._headers

    def _at_end(self, what: str) -> None:
        if self._stage != M_EOM or self._msg is None:
            raise OSError(f"{what}: only at the end of a message")

    def addrcpt(self, rcpt: str, params: str | None = None) -> None:
        """Remember an added recipient."""
        self._at_end("addrcpt")
        self._addrcpt.append((rcpt, params))

    def delrcpt(self, rcpt: str) -> None:
        """Remember a deleted recipient."""
        self._at_end("delrcpt")
        self._delrcpt.append(rcpt)

    def replacebody(self, chunk: bytes | str) -> None:
        """Replace the body; further calls add to it."""
        self._at_end("replacebody")
        octets = chunk.encode() if isinstance(chunk, str) else chunk
        if not self._bodyreplaced:
            self._bodyreplaced = True
            self._new_body = bytearray()
        self._new_body += octets

    def chgfrom(self, sender: str, params: str | None = None) -> None:
        """Change the envelope sender."""
        self._at_end("chgfrom")
        self._sender = sender
        self._envfromchanged = True

    def quarantine(self, reason: str) -> None:
        """Remember why the message is held, as ``_quarantined``."""
        self._at_end("quarantine")
        self._quarantined = reason

    def progress(self) -> None:
        """Do nothing."""

    def _became(self) -> bytes:
        if self._msg is None:
            return b""
        if not self._bodyreplaced:
            return self._msg.as_bytes()
        head = "".join(f"{name}: {value}\n" for name, value in self._msg.raw_items())
        return head.encode("utf-8", "surrogateescape") + b"\n" + self._new_body
