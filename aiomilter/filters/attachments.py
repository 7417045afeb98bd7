"""``attachments``: what is done with files by their name, their type, and by what is in zip files."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final, Literal, TypeAlias

from aiomilter.context import Context
from aiomilter.filters.domains import covering, key
from aiomilter.filters.ready import ReadyEdit
from aiomilter.filters.site import Site
from aiomilter.mail.display import visible
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.envelope import local_part
from aiomilter.message import Message, MessageMilter, Part, ProtectedError, StructureError
from aiomilter.wire.replies import Reply, Response

__all__ = ["Attachments", "SenderRules"]

FileAction: TypeAlias = Literal["note", "remove", "rename", "quarantine", "reject"]
_Refusing: TypeAlias = Literal["note", "quarantine", "reject"]
_SHOWN: Final = 100


@dataclass(frozen=True, kw_only=True)
class SenderRules:
    """What is set for some senders; None where nothing is."""

    action: FileAction | None = None
    subdomains: bool = True


@dataclass(frozen=True, kw_only=True)
class Attachments(ReadyEdit):
    """Take dangerous files out of mail, or refuse it: by name, by type, and by the names in zip files.

    Of several readings of a name the most dangerous one counts.

    Args:
        extensions: What follows the last dot of a name, without it.
        types: Content types, as application/x-msdownload.
        zip: Look into zip files, and zip files in these.
        nested: Look into attached messages.
        action: remove: put a notice in its place; rename: append .txt to its name; quarantine: have the MTA hold the message;
            reject; note: let it pass.
        on_unreadable: What is done where not all files can be known: too many parts, a broken zip file, two readings.
        on_encrypted: What is done with zip files that need a password, or are too large to be looked into.
        domains: Other actions by envelope sender: address, domain (with those below, unless ``subdomains = false``), or
            ``.domain`` for those below alone.
        notice: The text in place of a file; NAME in it is the name.
    """

    name: ClassVar[str] = "attachments"
    reasons: ClassVar[Mapping[str, str]] = {
        "attachment": "there is a file of a kind that is not wanted",
        "unreadable": "not all files can be known",
        "encrypted_zip": "a zip file cannot be looked into",
    }
    example: ClassVar[str] = (
        '[[filter]]\nuse = "attachments"\nextensions = ["exe", "scr", "js", "vbs", "lnk"]\naction = "remove"\n'
    )

    extensions: Collection[str] = ()
    types: Collection[str] = ()
    zip: bool = True
    nested: bool = True
    action: FileAction = "remove"
    on_unreadable: _Refusing = "reject"
    on_encrypted: _Refusing = "note"
    domains: Mapping[str, SenderRules] = field(default_factory=dict)
    notice: str = "NAME was removed: files of this kind are not accepted here."

    def __post_init__(self) -> None:
        if not self.extensions and not self.types:
            raise ValueError("expected extensions, types or both")
        for name in ("extensions", "types"):
            given = getattr(self, name)
            if isinstance(given, str) or not all(isinstance(each, str) and each.strip(". ") for each in given):
                raise ValueError(f'{name}: expected a list of texts, as in ["exe"]')
        try:
            self.by_sender()
        except ValueError as error:
            raise ValueError(f"domains: {error}") from None

    def by_sender(self) -> dict[str, SenderRules]:
        """Return ``domains`` by their keys.

        Raises:
            ValueError: One cannot be a key.
        """
        return {key(name): rules for name, rules in self.domains.items()}

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], MessageMilter]]:
        """Read the settings."""
        yield partial(_Attachments, self)


class _Attachments(MessageMilter):
    def __init__(self, settings: Attachments) -> None:
        self.settings = settings
        self.extensions = frozenset(each.lower().lstrip(".") for each in settings.extensions)
        self.types = frozenset(each.lower() for each in settings.types)
        self.by_sender = settings.by_sender()

    async def message(self, ctx: Context, message: Message) -> Response | None:
        settings, action = self.settings, self._action(ctx)
        unreadable, encrypted, found = not message.complete or message.ambiguous, False, []
        for part in message.parts():
            if not settings.nested and _is_nested(part):
                continue
            names = tuple(part.filenames)
            if settings.zip and part.is_zip:
                names += await part.zip_names()
                encrypted = encrypted or part.zip_problem == "encrypted"
                unreadable = unreadable or part.zip_problem not in ("", "encrypted")
            if part.content_type in self.types or any(self._is_unwanted(name) for name in names):
                found.append(part)
        for part in found:
            if action == "reject" or (action in ("remove", "rename") and not self._take_out(part, action)):
                return Reply(550, "5.7.1", "This attachment is not accepted here", reason="attachment")
        if found and action == "quarantine":
            ctx.reason("attachment")
            message.quarantine(f"attachment {_shown(found[0])}")
        if unreadable and (answer := _refused(ctx, message, settings.on_unreadable, "unreadable")):
            return answer
        return _refused(ctx, message, settings.on_encrypted, "encrypted_zip") if encrypted else None

    def _action(self, ctx: Context) -> FileAction:
        sender = ctx.sender.address if ctx.sender is not None else ""
        for each, is_above in covering(local_part(sender), domain_of(sender)) if self.by_sender else ():
            rules = self.by_sender.get(each)
            if rules is not None and rules.action is not None and (rules.subdomains or not is_above):
                return rules.action
        return self.settings.action

    def _is_unwanted(self, name: str) -> bool:
        return name.rstrip(". ").rpartition(".")[2].lower() in self.extensions

    def _take_out(self, part: Part, action: FileAction) -> bool:
        """Take a file out, or give it another name; return whether that can be done safely."""
        shown = _shown(part)
        try:
            if action == "rename":
                part.rename(f"{shown}.txt")
            else:
                part.replace(self.settings.notice.replace("NAME", shown) + "\r\n", content_type="text/plain")
        except (StructureError, ProtectedError):
            return False
        return True


def _is_nested(part: Part) -> bool:
    above = part.parent
    while above is not None and above.content_type != "message/rfc822":
        above = above.parent
    return above is not None


def _shown(part: Part) -> str:
    return visible(part.filename.rpartition("/")[2], _SHOWN) or part.content_type


def _refused(ctx: Context, message: Message, action: _Refusing, reason: str) -> Reply | None:
    """Do what is set for a message that cannot be looked into, and return the refusal if it is one."""
    text = "not all files of this message can be checked"
    if action == "quarantine":
        ctx.reason(reason)
        message.quarantine(text)
    return Reply(550, "5.7.1", text, reason=reason) if action == "reject" else None
