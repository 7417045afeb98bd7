"""DKIM signatures, made while a message comes.

Source: RFC 6376 section 5.
"""

import asyncio
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiomilter.auth.dkim._body import BodyDigest, BodyHashes
from aiomilter.auth.dkim._canonical import Form
from aiomilter.auth.dkim._checking import CanonicalHeader
from aiomilter.auth.dkim._crypto import PrivateKey, in_thread, require
from aiomilter.auth.dkim._incoming import Incoming
from aiomilter.auth.dkim._key import Key
from aiomilter.auth.dkim._layout import Layout
from aiomilter.auth.dkim._problems import Problems
from aiomilter.auth.dkim._signature import MAX_NAMES, canonical_forms
from aiomilter.auth.dkim._tags import quoted_printable
from aiomilter.mail.headers import MAX_FIELDS, MAX_SIZE, Field, HeaderSection, split_message

__all__ = ["OVERSIGN", "SIGN", "Options", "Signer", "Signing", "names_to_sign", "sign"]

_SIGN: Final = (
    "From Reply-To Subject Date To Cc Resent-Date Resent-From Resent-Sender Resent-To Resent-Cc Resent-Message-ID "
    "Resent-Reply-To In-Reply-To References MIME-Version Content-Type Content-Transfer-Encoding Content-ID "
    "Content-Description Message-ID List-Id List-Help List-Unsubscribe List-Unsubscribe-Post List-Subscribe List-Post "
    "List-Owner List-Archive Sender Autocrypt"
)
_OVERSIGN: Final = "From To Cc Subject Reply-To Content-Type MIME-Version Content-Transfer-Encoding"
_CHANGING: Final = (
    "return-path received comments keywords bcc resent-bcc dkim-signature authentication-results received-spf "
    "delivered-to"
)

SIGN: Final = tuple(_SIGN.split())
"""Names of the fields to sign, where a message has them (RFC 6376 section 5.4.1; RFC 8058 section 4)."""
OVERSIGN: Final = tuple(_OVERSIGN.split())
"""Names of the fields that must not be added later: a signature is broken by one more of them, or by the first."""

_NEVER: Final = frozenset(_CHANGING.split())
_NEVER_BEGINNING: Final = ("arc-", "x-spam-")
_NAME: Final = "DKIM-Signature"
# RSA takes long: so many signatures at once, of at most so many bits, before others have their turn.
_INLINE_BITS: Final = 2_048
_INLINE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is signed of a message, and how.

    Args:
        canonicalization: Of header and body: ``relaxed`` or ``simple``, a slash between.
        headers: Names of the fields to sign where a message has them; each as often as it is there.
        oversign: Names of the fields to name once more than they are there: one that is added later breaks the signature.
        expire: Seconds that the signature holds, > 0; None for ever.
    Raises:
        ValueError: One of these is not what it should be, From is not signed, or a field that changes on its way is.

    Source: RFC 6376 sections 3.5, 5.4 and 5.4.2.
    """

    canonicalization: str = "relaxed/relaxed"
    headers: Sequence[str] = SIGN
    oversign: Sequence[str] = OVERSIGN
    expire: int | None = None

    def __post_init__(self) -> None:
        if canonical_forms(self.canonicalization) is None:
            raise ValueError(f"canonicalization: expected simple or relaxed, twice, found {self.canonicalization!r}")
        if self.expire is not None and self.expire <= 0:
            raise ValueError(f"expire: expected seconds above 0, found {self.expire}")
        names = [name.lower() for name in (*self.headers, *self.oversign)]
        if "from" not in names:
            raise ValueError("headers: From has to be signed")
        for name in names:
            if name in _NEVER or name.startswith(_NEVER_BEGINNING):
                raise ValueError(f"headers: {name} changes on its way, and cannot be signed")
            Field.made(name, "")

    @property
    def forms(self) -> tuple[Form, Form]:
        """Canonicalisation of header and body."""
        forms = canonical_forms(self.canonicalization)
        assert forms is not None
        return forms


_DEFAULT: Final = Options()


class Signer:
    """Signs messages with one or more keys: one for the process.

    Args:
        keys: The keys; each makes a signature of its own.
        options: What is signed, and how.
    Raises:
        ImportError: The library cryptography is not installed.
        ValueError: There is no key.

    Source: RFC 6376 section 5.
    """

    def __init__(self, keys: Key | Sequence[Key], options: Options = _DEFAULT) -> None:
        require()
        self.keys: tuple[Key, ...] = (keys,) if isinstance(keys, Key) else tuple(keys)
        """The keys, in the order of the signatures."""
        self.options: Options = options
        """What is signed, and how."""
        if not self.keys:
            raise ValueError("expected a key to sign with")

    def start(
        self,
        *,
        now: float | None = None,
        leading_space: bool = True,
        max_fields: int = MAX_FIELDS,
        max_header_size: int = MAX_SIZE,
    ) -> "Signing":
        """Begin with a message.

        Args:
            now: Seconds since 1970; None is the time at its end.
            leading_space: Whether fields come with exactly the blanks that followed their colon.  Without, the header is
                signed relaxed whatever the options say: its octets are not known.
            max_fields: Header fields that are kept at most.
            max_header_size: Octets of header that are kept at most; a message with more is not signed.
        """
        section = HeaderSection(max_fields=max_fields, max_size=max_header_size)
        return Signing(self.keys, self.options, section, now=now, leading_space=leading_space)


class Signing(Incoming):
    """One message that is being signed: takes its header, then its body in chunks, and keeps no body."""

    def __init__(
        self,
        keys: Sequence[Key],
        options: Options,
        section: HeaderSection,
        *,
        now: float | None,
        leading_space: bool,
    ) -> None:
        super().__init__(section, BodyHashes(1))
        self._keys = keys
        self._options = options
        self._now = now
        self._header_form, self._body_form = options.forms
        self._problems = Problems()
        if self._header_form == "simple" and not leading_space:
            self._header_form = "relaxed"
            self._problems.add("the header's octets are not known exactly: it is signed relaxed")
        self._digest: BodyDigest | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What may break the signatures on their way, or has kept them from being made; complete after :meth:`finish`."""
        return self._problems.found()

    def end_of_headers(self) -> None:
        """Take it that the header has ended."""
        super().end_of_headers()
        self._digest = self._hashes.want("sha256", self._body_form)
        self._problems.header(self.headers)

    def body(self, chunk: bytes) -> None:
        """Take the next octets of the body, cut anywhere; line ends are CRLF.

        Raises:
            RuntimeError: The header has not ended.
        """
        super().body(chunk)
        self._problems.body(chunk)

    async def finish(self) -> list[str]:
        """Return the values of the DKIM-Signature fields, one for each key; once.

        Folds are LF and a space, as :meth:`aiomilter.EndOfMessageContext.insert_header` takes them.  The field is this value
        behind ``DKIM-Signature:`` and one space.

        Returns:
            The values; none if the header was too large to be kept.
        Raises:
            RuntimeError: The header has not ended.
        """
        self._expect_ended("finish")
        if not self.headers.complete:
            return []
        self._hashes.finish()
        names = names_to_sign(self.headers, self._options.headers, self._options.oversign)
        if len(names) > MAX_NAMES:
            names = names[:MAX_NAMES]
            self._problems.add(f"more than {MAX_NAMES} fields to sign: the others are not signed")
        header = CanonicalHeader(self.headers)
        now = int(time.time() if self._now is None else self._now)
        assert self._digest is not None
        bh = self._digest.digest()
        return [await self._value(key, names, header, now, bh) for key in self._keys]

    async def _value(self, key: Key, names: Sequence[str], header: CanonicalHeader, now: int, digest: bytes) -> str:
        layout = Layout(_NAME)
        layout.word("v=1;")
        layout.word(f"a={key.algorithm};")
        layout.word(f"c={self._header_form}/{self._body_form};")
        layout.word(f"d={key.domain};")
        layout.word(f"s={key.selector};")
        if key.identity:
            local, _, domain = key.identity.rpartition("@")
            layout.word(f"i={quoted_printable(local)}@{domain};")
        layout.word(f"t={now};")
        if self._options.expire is not None:
            layout.word(f"x={now + self._options.expire};")
        layout.names("h", names)
        layout.word(f"bh={b64encode(digest).decode()};")
        layout.word("b=")
        field = Field.made(_NAME, str(layout))
        signature = await signed(key.private, await header.digest("sha256", names, field, self._header_form))
        layout.base64(b64encode(signature).decode())
        return str(layout)


def names_to_sign(section: HeaderSection, headers: Sequence[str], oversign: Sequence[str]) -> list[str]:
    """Return the names for ``h=``: of each field as often as it is there, and once more where none may be added.

    Args:
        section: The header.
        headers: Names to sign where they are there.
        oversign: Names to sign once more.

    Source: RFC 6376 section 5.4.2.
    """
    once_more = {name.lower() for name in oversign}
    spelled = {name.lower(): name for name in reversed((*headers, *oversign))}
    names = []
    for key in dict.fromkeys(name.lower() for name in (*headers, *oversign)):
        names += [spelled[key]] * (len(section.get_all(key)) + (key in once_more))
    return names


_at_once: dict[asyncio.AbstractEventLoop, int] = {}
"""RSA signatures that were made in this turn of a loop."""


async def signed(private: PrivateKey, digest: bytes) -> bytes:
    """Return a signature, made here if that is soon done, else in a thread."""
    if private.type == "rsa":
        loop = asyncio.get_running_loop()
        made = _at_once.get(loop, 0)
        if private.bits > _INLINE_BITS or made >= _INLINE:
            return await in_thread(lambda: private.sign(digest))
        if not made:
            loop.call_soon(_at_once.pop, loop)
        _at_once[loop] = made + 1
    return private.sign(digest)


async def sign(
    message: bytes, keys: Key | Sequence[Key], *, options: Options = _DEFAULT, now: float | None = None
) -> bytes:
    """Return the DKIM-Signature fields of a message at hand, one for each key, to stand above it.

    Args:
        message: All of it, line ends as CRLF.
        keys: What to sign with.
        options: What is signed, and how.
        now: Seconds since 1970; None is now.
    Returns:
        Whole fields with CRLF; nothing if the header is too large.
    Raises:
        ImportError: The library cryptography is not installed.
        ValueError: There is no key.

    Source: RFC 6376 section 5.
    """
    signer = Signer(keys, options)
    section, begin = split_message(message)
    signing = Signing(signer.keys, options, section, now=now, leading_space=True)
    await signing._take(section, message, begin)
    return b"".join([Field.made(_NAME, value).raw for value in await signing.finish()])
