"""Private keys to sign with, and the names they sign for.

Source: RFC 6376 section 3.6.1; RFC 8301 section 3.2; RFC 8463 section 4.
"""

import os
import stat
import warnings
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final, Self

from aiomilter.auth.dkim._crypto import PrivateKey, load_private, require
from aiomilter.auth.dkim._signature import domain_name, is_below

__all__ = ["LEAST_BITS", "RECOMMENDED_BITS", "Key"]

LEAST_BITS: Final = 1_024
"""Of an RSA key that may sign at all: fewer MUST NOT count as valid (RFC 8301 section 3.2)."""
RECOMMENDED_BITS: Final = 2_048
"""Of an RSA key (RFC 8301 section 3.2)."""
_MAX_FILE: Final = 65_536


@dataclass(frozen=True, slots=True)
class Key:
    """A private key, with the domain and the selector that its public key is found by.

    Args:
        domain: The signing domain, written to ``d=`` as it stands here.
        selector: Its selector, written to ``s=`` as it stands here.
        identity: The agent or user to name in ``i=``: an address at the domain or below it; "" for none.
    Raises:
        ValueError: Domain or selector is not a name, or the identity is not the domain's.
    """

    domain: str
    selector: str
    _private: PrivateKey = field(repr=False)
    identity: str = ""

    def __post_init__(self) -> None:
        require()
        for what, name in (("domain", self.domain), ("selector", self.selector)):
            if domain_name(name) is None or not name.isascii():
                raise ValueError(f"{what}: expected a domain name in ASCII, found {name!r}")
        if self.identity and not serves(self.identity, self.domain):
            raise ValueError(f"identity: expected an address at {self.domain} or below, found {self.identity!r}")

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, domain: str, selector: str, identity: str = "", allow_weak: bool = False
    ) -> Self:
        """Read a key from a file.

        A file that everybody may read gives a warning.

        Args:
            path: The file: PEM, PKCS#1 or PKCS#8, without password.
            domain: The signing domain.
            selector: Its selector.
            identity: See :class:`Key`.
            allow_weak: Whether an RSA key of 1,024 bits is taken.
        Raises:
            OSError: The file cannot be read.
            ValueError: It holds no such key, or a weak one.
        """
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            octets = file.read(_MAX_FILE + 1)
        if mode & stat.S_IRWXO:
            warnings.warn(f"everybody may read the private key {os.fspath(path)!r}; chmod 640", stacklevel=2)
        try:
            return cls.from_pem(octets, domain=domain, selector=selector, identity=identity, allow_weak=allow_weak)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None

    @classmethod
    def from_pem(
        cls, octets: bytes, *, domain: str, selector: str, identity: str = "", allow_weak: bool = False
    ) -> Self:
        """Read a key from the octets of a file; see :meth:`load`.

        Raises:
            ValueError: They hold no such key, or a weak one.
        """
        if len(octets) > _MAX_FILE:
            raise ValueError(f"expected a private key, found more than {_MAX_FILE} octets")
        private = load_private(octets)
        if private.type == "rsa" and private.bits <= LEAST_BITS and not (allow_weak and private.bits == LEAST_BITS):
            hint = "; allow_weak takes it" if private.bits == LEAST_BITS else ""
            raise ValueError(f"expected an RSA key of {RECOMMENDED_BITS} bits, found {private.bits}{hint}")
        return cls(domain, selector, private, identity)

    @property
    def algorithm(self) -> str:
        """What it signs with: ``"rsa-sha256"`` or ``"ed25519-sha256"``."""
        return f"{self._private.type}-sha256"

    @property
    def bits(self) -> int:
        """Its size; 256 for Ed25519."""
        return self._private.bits

    @property
    def name(self) -> str:
        """The name in DNS that its record stands at."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def private(self) -> PrivateKey:
        """The key itself, for those who sign."""
        return self._private

    def record(self) -> str:
        """Return the text of its record in DNS."""
        return f"v=DKIM1; k={self._private.type}; p={b64encode(self._private.public()).decode()}"


def serves(identity: str, domain: str) -> bool:
    """Whether an identity may stand in a signature of a domain."""
    _, at, name = identity.rpartition("@")
    found, own = domain_name(name), domain_name(domain)
    return bool(at) and found is not None and own is not None and is_below(found, own)
