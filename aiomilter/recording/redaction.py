"""Keyed tokens in place of what could tell who wrote to whom, and what: equal words get equal tokens of equal length.

A token keeps what a parser looks at: letters stay letters, in lower or upper case, digits stay digits, addresses of networks
stay such addresses, and all other characters stay as they are.  Without the key a word cannot be told from its token; with the
key, words can be tried.
"""

import contextlib
import hashlib
import hmac
import os
import re
from collections.abc import Set
from pathlib import Path
from typing import Final

__all__ = ["KEY", "Redaction", "is_charset", "read_key"]

KEY: Final = "key"
"""The name of the file with the key of a directory of recorded sessions."""
_KEY_SIZE: Final = 32
_KEY_MODE: Final = 0o600
_NOTHING: Final[Set[bytes]] = frozenset()
_ENCODED_WORD: Final = rb"=\?[A-Za-z0-9*_-]{1,60}\?[QqBb]\?[!->@-~]{0,400}\?="
_IPV4: Final = rb"(?<![\w.])[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![\w.])"
_IPV6: Final = rb"(?<![\w:])(?:IPv6:)?[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])"
# A longer word becomes several tokens.
_WORD: Final = rb"[0-9A-Za-z\x80-\xff]{1,256}"
_DOMAIN: Final = rb"@[0-9A-Za-z-]{1,63}(?:\.[0-9A-Za-z-]{1,63}){1,20}"
_ANY: Final = re.compile(rb"(?P<e>%b)|(?P<d>%b)|(?P<f>%b)|(?P<s>%b)|%b" % (_ENCODED_WORD, _DOMAIN, _IPV4, _IPV6, _WORD))
_IN_WORD: Final = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}|[\x00-\xff]")
_HEX: Final = re.compile(rb"=[0-9A-Fa-f]{2}")
_LOCAL: Final = (b"127.", b"0.0.0.0")


class Redaction:
    """Makes tokens.

    Args:
        key: At least 16 octets; the same key makes the same tokens.
        keep_domains: Whether domains of addresses, and names of hosts, stay as they are.
    """

    def __init__(self, key: bytes, *, keep_domains: bool = False) -> None:
        if len(key) < 16:
            raise ValueError("key: expected 16 octets or more, found fewer")
        self._key = key
        self.keep_domains: Final = keep_domains

    def hash(self) -> "hmac.HMAC":
        """Return a keyed hash to be fed, for whole bodies."""
        return hmac.new(self._key, b"body\0", hashlib.sha256)

    def token(self, word: bytes) -> bytes:
        """Return the token of a word; that of another spelling in upper and lower case is spelt so, too."""
        stream = self._stream(word.lower(), len(word))
        made = bytearray()
        for match in _IN_WORD.finditer(word):
            character = match[0]
            made += _alike(character, stream[len(made)])
        return bytes(made)

    def _stream(self, word: bytes, size: int) -> bytes:
        made = hmac.digest(self._key, b"word\0" + word, "sha256")
        for number in range(1, -(-size // 32)):
            made += hmac.digest(self._key, b"%d\0" % number + word, "sha256")
        return made

    def text(self, octets: bytes, kept: Set[bytes] = _NOTHING) -> bytes:
        """Return a text with a token in place of each word.

        Args:
            octets: The text.
            kept: Words, in lower case, that stay.
        """

        def replaced(match: "re.Match[bytes]") -> bytes:
            found = match[0]
            if match["e"] is not None:
                return self._encoded_word(found)
            if match["d"] is not None:
                return found if self.keep_domains else b"@" + self.words(found[1:])
            if match["f"] is not None:
                return self._ipv4(found)
            if match["s"] is not None:
                return self._ipv6(found)
            return found if found.lower() in kept else self.token(found)

        return _ANY.sub(replaced, octets)

    def words(self, octets: bytes) -> bytes:
        """Return a text with a token in place of each run of letters and digits, whatever it means."""
        return re.sub(_WORD, lambda match: self.token(match[0]), octets)

    def host(self, octets: bytes) -> bytes:
        """Return the name of a host, or its token."""
        return octets if self.keep_domains else self.text(octets)

    def _encoded_word(self, found: bytes) -> bytes:
        charset, kind, text = found[2:-2].split(b"?", 2)
        # An octet that is written in hexadecimal becomes one that may be.
        pieces = _HEX.split(text) if kind in b"Qq" else [text]
        text = b"=3D".join(map(self.words, pieces))
        return b"=?" + (charset if is_charset(charset) else self.words(charset)) + b"?" + kind + b"?" + text + b"?="

    def _ipv4(self, found: bytes) -> bytes:
        if found.startswith(_LOCAL):
            return found
        stream = self._stream(found, 4)
        return b".".join(map(_octet_alike, found.split(b"."), stream))

    def _ipv6(self, found: bytes) -> bytes:
        prefix = found[:5] if found.startswith(b"IPv6:") else b""
        address = found.removeprefix(prefix)
        if address in (b"::", b"::1", b"0:0:0:0:0:0:0:1"):
            return found
        return prefix + bytes(map(_hex_alike, address, self._stream(address.lower(), len(address))))


def _alike(character: bytes, octet: int) -> bytes:
    """Return another character of the same kind and length."""
    if len(character) == 1:
        if character.isdigit():
            return bytes([0x30 + octet % 10])
        if character.isupper():
            return bytes([0x41 + octet % 26])
        if character.islower():
            return bytes([0x61 + octet % 26])
        return bytes([0xE0 + octet % 23])  # a letter in Latin-1
    if len(character) == 2:
        return bytes([0xC3, 0xA0 + octet % 23])
    if len(character) == 3:
        return bytes([0xE4, 0xB8, 0x80 + octet % 64])
    return bytes([0xF0, 0x9F, 0x98, 0x80 + octet % 64])


def _octet_alike(digits: bytes, octet: int) -> bytes:
    """Return another part of an IPv4 address with as many digits."""
    if len(digits) == 1:
        return b"%d" % (1 + octet % 9)
    return b"%d" % (10 + octet % 90) if len(digits) == 2 else b"%d" % (100 + octet % 124)


def _hex_alike(character: int, octet: int) -> int:
    if 0x30 <= character <= 0x39:
        return 0x30 + octet % 10
    return character if character == 0x3A else (character & 0x20) + 0x41 + octet % 6


_CHARSETS: Final = re.compile(
    rb"(?i)utf-?(?:7|8|16|32)(?:le|be)?|us-ascii|ascii|iso-8859-\d{1,2}(?:-[ei])?|windows-(?:874|125\d)|cp(?:437|85\d|125\d)"
    rb"|koi8-[ru]|gb2312|gbk|gb18030|big5(?:-hkscs)?|euc-(?:kr|jp|tw)|shift_?jis|iso-2022-(?:jp|kr|cn)|hz-gb-2312|tis-620|macintosh"
)


def is_charset(name: bytes) -> bool:
    """Return whether a name is that of a charset in use; RFC 2231 may put a language behind it."""
    return _CHARSETS.fullmatch(name.partition(b"*")[0]) is not None


def read_key(directory: Path) -> bytes:
    """Return the key of a directory of recorded sessions; made if it has none.

    Raises:
        OSError: It cannot be read or made.
        ValueError: The file holds something else.
    """
    path = directory / KEY
    made = directory / f"key.{os.getpid()}"
    with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _KEY_MODE), "wb") as file:
        file.write(os.urandom(_KEY_SIZE))
    # Another worker may do so at this moment: the first one's is everybody's, and it is there as a whole.
    with contextlib.suppress(FileExistsError):
        os.link(made, path)
    made.unlink()
    key = path.read_bytes()
    if len(key) != _KEY_SIZE:
        raise ValueError(f"{path}: expected {_KEY_SIZE} octets, found {len(key)}")
    return key
