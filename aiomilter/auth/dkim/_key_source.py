"""Where a private key is, before it is loaded.

Source: RFC 6376 section 3.6; opendkim.conf(5), KeyTable.
"""

import binascii
from dataclasses import dataclass

from aiomilter.auth.dkim._key import Key, serves

__all__ = ["KeySource"]


@dataclass(frozen=True, slots=True)
class KeySource:
    """A key that has not been loaded.

    Args:
        domain: Its signing domain.
        selector: Its selector.
        path: Its file; None if the key itself is in ``data``.
        data: A key in base64 (DER).
        identity: What to name in ``i=``, if it is the domain's; else nothing is named.
        allow_weak: Whether an RSA key of 1,024 bits is taken.
        optional: Whether its file may be missing: then there is no key.
        place: Where it is configured, for messages.
    """

    domain: str
    selector: str
    path: str | None
    data: str = ""
    identity: str = ""
    allow_weak: bool = False
    optional: bool = False
    place: str = ""

    def load(self) -> Key | None:
        """Read the key; None if it is optional and missing.

        Raises:
            OSError: Its file cannot be read.
            ValueError: It is not a key to sign with.
        """
        identity = self.identity if self.identity and serves(self.identity, self.domain) else ""
        names = {"domain": self.domain, "selector": self.selector, "identity": identity}
        if self.path is None:
            try:
                octets = binascii.a2b_base64(self.data, strict_mode=True)
            except (binascii.Error, ValueError):
                raise ValueError(f"{self.place}: expected a path or a key in base64") from None
            return Key.from_pem(octets, **names, allow_weak=self.allow_weak)
        try:
            return Key.load(self.path, **names, allow_weak=self.allow_weak)
        except (FileNotFoundError, NotADirectoryError):
            if self.optional:
                return None
            raise
