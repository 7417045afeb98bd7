"""What a log shows of mail addresses and logins: all, the domain, a hash, or nothing."""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias, get_args

from aiomilter.observe.events import AnswerSent, MessageEnded
from aiomilter.observe.messages import Edit, RefusedRecipient
from aiomilter.observe.shadow import ShadowOutcome

__all__ = ["AddressPolicy", "Shown"]

Shown: TypeAlias = Literal["full", "domain", "hash", "none"]
"""``domain``: ``***@example.org``; ``hash``: ``#`` and 16 digits, the same for the same address; ``none``: ``***``."""

_HIDDEN: Final = "***"
_SHORTEST_KEY: Final = 16
_HASH_DIGITS: Final = 16
# A quoted local part, or a plain one, and a domain or an address literal.
_IN_TEXT: Final = re.compile(
    r'(?:"[^"\r\n]{0,256}"|[^\s"<>()\[\],;:\'@]{1,256})@(?:\[[^\]\s]{0,256}\]|[^\s"<>()\[\],;:\'@]{1,256})'
)
_QUOTED: Final = re.compile(r"(no recipient )(['\"])(.*)\2", re.DOTALL)
"""The end of our sentence on an address that may hold anything."""
_OF_ADDRESSES: Final = ("add_recipient ", "delete_recipient ", "change_sender ")


class AddressPolicy:
    """Shows addresses and logins in the events that a log gets.

    Texts of the filter's own are left as they are: that of a reply, a quarantine or an exception, and its own records.  In our
    sentences that quote such a text, addresses are shown as others where they can be told from the rest.

    Args:
        shown: How; see :data:`Shown`.
        key: Secret that hashes are made with, 16 octets or more; for "hash" only.

    Raises:
        ValueError: There is no such word, or "hash" has no key, or a short one.
    """

    def __init__(self, shown: Shown = "full", key: bytes = b"") -> None:
        if shown not in get_args(Shown):
            raise ValueError(f"addresses: expected one of {', '.join(get_args(Shown))}, found {shown!r}")
        if shown == "hash" and len(key) < _SHORTEST_KEY:
            raise ValueError(f"addresses: hash needs a key of {_SHORTEST_KEY} octets or more, found {len(key)}")
        self.shown: Final[Shown] = shown
        self._key = key
        ways: dict[str, Callable[[str], str]] = {
            "full": str,
            "domain": _domain,
            "hash": self._hash,
            "none": lambda _: _HIDDEN,
        }
        self._show = ways[shown]

    def __repr__(self) -> str:
        return f"AddressPolicy({self.shown!r})"

    def _hash(self, address: str) -> str:
        octets = address.lower().encode("utf-8", "surrogatepass")
        return f"#{hmac.digest(self._key, octets, hashlib.sha256).hex()[:_HASH_DIGITS]}"

    def address(self, address: str) -> str:
        """Return an address or a login as it is shown; the null sender, "", is none."""
        return self._show(address) if address else address

    def text(self, text: str) -> str:
        """Return a text with the addresses in it as they are shown."""
        if self.shown == "full":
            return text
        text = _QUOTED.sub(lambda found: f"{found[1]}{found[2]}{self.address(found[3])}{found[2]}", text)
        return _IN_TEXT.sub(lambda found: self.address(found[0]), text) if "@" in text else text

    def event(self, event: Any) -> Any:
        """Return an event with its addresses as they are shown."""
        if self.shown == "full":
            return event
        if isinstance(event, MessageEnded):
            return self._message(event)
        if isinstance(event, AnswerSent):
            answer = event.answer
            kind = next((kind for kind in _OF_ADDRESSES if answer.startswith(kind)), None)
            return event if kind is None else replace(event, answer=f"{kind}{_HIDDEN!r}")
        what = getattr(event, "what", None)
        # Sentences on the server name sockets, inet:8890@127.0.0.1, and no one's mail.
        return replace(event, what=self.text(what)) if what is not None and event.where.connection else event

    def _message(self, event: MessageEnded) -> MessageEnded:
        recipients, sender = event.recipients, event.sender
        return replace(
            event,
            helo=self.text(event.helo),
            sender=None if sender is None else self.address(sender),
            recipients=None if recipients is None else tuple(map(self.address, recipients)),
            refused=tuple(self._refused(each) for each in event.refused),
            edits=tuple(self._edit(each) for each in event.edits),
            macro=partial(self._macro, event.macro),
            shadow=tuple(self._outcome(each) for each in event.shadow),
        )

    def _outcome(self, outcome: ShadowOutcome) -> ShadowOutcome:
        return replace(
            outcome,
            refused=tuple(map(self.address, outcome.refused)),
            accepted=tuple(map(self.address, outcome.accepted)),
            edits=tuple(map(self._named_edit, outcome.edits)),
        )

    def _named_edit(self, edit: str) -> str:
        kind, space, name = edit.partition(" ")
        return f"{kind} {self.address(name)}" if f"{kind}{space}" in _OF_ADDRESSES else edit

    def _refused(self, refused: RefusedRecipient) -> RefusedRecipient:
        return refused._replace(address=self.address(refused.address))

    def _edit(self, edit: Edit) -> Edit:
        return edit._replace(name=self.address(edit.name)) if f"{edit.kind} " in _OF_ADDRESSES else edit

    def _macro(self, macro: Callable[[str], str | None], name: str) -> str | None:
        value = macro(name)
        if value is None:
            return None
        return self.address(value) if name == "auth_authen" else self.text(value)


def _domain(address: str) -> str:
    _, at, domain = address.rpartition("@")
    return f"{_HIDDEN}@{domain}" if at else _HIDDEN
