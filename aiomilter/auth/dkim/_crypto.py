"""RSA and Ed25519 for signatures: the one module that needs the library cryptography (the extra ``dkim``).

Source: RFC 6376 section 3.3; RFC 8301; RFC 8463.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    _THERE = True
except ImportError:
    _THERE = False

__all__ = [
    "KeyType",
    "PrivateKey",
    "PublicKey",
    "digest_of",
    "generate",
    "in_thread",
    "load_private",
    "load_public",
    "new_hash",
    "require",
]

KeyType: TypeAlias = Literal["rsa", "ed25519"]
"""As ``k=`` of a key record names them."""

MAX_BITS: Final = 8_192
"""Of a modulus: what a larger one costs is not the sender's to choose."""
_MAX_EXPONENT_BITS: Final = 64
_ED25519_SIZE: Final = 32
# Of keys that were checked when they were first read, so that reading them again costs little.
_MAX_CHECKED: Final = 100_000
_checked: "OrderedDict[bytes, None]" = OrderedDict()
_Returned = TypeVar("_Returned")


def require() -> None:
    """Say what is missing.

    Raises:
        ImportError: The library cryptography is not installed.
    """
    if not _THERE:
        raise ImportError("DKIM needs the package cryptography: pip install 'aiomilter[dkim]'", name="cryptography")


async def in_thread(function: Callable[[], _Returned]) -> _Returned:
    """Call a function in a thread: it takes longer than the event loop can wait, and releases the GIL."""
    return await asyncio.to_thread(function)


def new_hash(algorithm: str) -> "hashlib._Hash":
    """Return a hash of nothing so far, by the name of its algorithm: sha256 or sha1."""
    # hashlib.new looks for the algorithm each time, which costs as much again as the rest.
    return hashlib.sha1(usedforsecurity=False) if algorithm == "sha1" else hashlib.sha256(usedforsecurity=False)


def digest_of(algorithm: str, octets: bytes) -> bytes:
    """Return the hash of octets, by the name of its algorithm."""
    made = new_hash(algorithm)
    made.update(octets)
    return made.digest()


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key.

    Args:
        type: Its type.
        bits: Its size; 256 for Ed25519.
    """

    type: KeyType
    bits: int
    _key: "RSAPublicKey | Ed25519PublicKey"

    def octets(self) -> bytes:
        """Return it as a key record holds it, a bare RSAPublicKey as SubjectPublicKeyInfo."""
        if isinstance(self._key, Ed25519PublicKey):
            return self._key.public_bytes_raw()
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_bytes(encoding, form)

    def verify(self, signature: bytes, digest: bytes, algorithm: str) -> bool:
        """Whether a signature was made with this key.

        Args:
            signature: The signature.
            digest: The hash of what was signed.
            algorithm: What the hash was made with.
        """
        try:
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(signature, digest)
            else:
                prehashed = Prehashed(hashes.SHA1() if algorithm == "sha1" else hashes.SHA256())
                self._key.verify(signature, digest, padding.PKCS1v15(), prehashed)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False
        return True


def load_public(key_type: KeyType, octets: bytes) -> PublicKey | str:
    """Return the public key that a key record holds, or why it holds none.

    Source: RFC 6376 section 3.6.1 (SubjectPublicKeyInfo; the bare RSAPublicKey is in zones as well); RFC 8463 section 4.
    """
    if key_type == "ed25519":
        if len(octets) != _ED25519_SIZE:
            return f"expected an Ed25519 key of {_ED25519_SIZE} octets, found {len(octets)}"
        try:
            return PublicKey("ed25519", 256, Ed25519PublicKey.from_public_bytes(octets))
        except (ValueError, UnsupportedAlgorithm):
            return "not an Ed25519 key"
    try:
        key = serialization.load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        return "not an RSA key"
    if not isinstance(key, RSAPublicKey):
        return "not an RSA key"
    if key.key_size > MAX_BITS:
        return f"an RSA key of {key.key_size} bits, more than {MAX_BITS}"
    exponent = key.public_numbers().e
    if exponent < 3 or exponent % 2 == 0 or exponent.bit_length() > _MAX_EXPONENT_BITS:
        return "an RSA key whose exponent is even, below 3 or over 64 bits"
    return PublicKey("rsa", key.key_size, key)


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key; shows nothing of itself.

    Args:
        type: Its type.
        bits: Its size; 256 for Ed25519.
    """

    type: KeyType
    bits: int
    _key: "RSAPrivateKey | Ed25519PrivateKey"

    def __repr__(self) -> str:
        """Show type and size."""
        return f"<{self.type} private key of {self.bits} bits>"

    def sign(self, digest: bytes) -> bytes:
        """Return the signature of a SHA-256 hash."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(digest)
        return self._key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))

    def public(self) -> bytes:
        """Return the public key, as a key record holds it."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.public_key().public_bytes_raw()
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(encoding, form)

    def pem(self) -> bytes:
        """Return the key as a file holds it (PKCS#8, not encrypted)."""
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self._key.private_bytes(encoding, form, serialization.NoEncryption())


def load_private(octets: bytes) -> PrivateKey:
    """Return the private key that a file holds: PEM, or DER without its lines.

    Raises:
        ValueError: It holds none, one that needs a password, or one of another type.
    """
    require()
    # The checks of an RSA key take 70 ms, and a key that is read again has passed them.
    digest = hashlib.sha256(octets).digest()
    known = digest in _checked
    load = serialization.load_pem_private_key if b"-----BEGIN" in octets else serialization.load_der_private_key
    try:
        key = load(octets, None, unsafe_skip_rsa_key_validation=known)
    except TypeError:
        raise ValueError("the private key is encrypted; expected one without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("expected a private key in PEM (PKCS#1 or PKCS#8), RSA or Ed25519") from None
    _checked[digest] = None
    while len(_checked) > _MAX_CHECKED:
        _checked.popitem(last=False)
    match key:
        case Ed25519PrivateKey():
            return PrivateKey("ed25519", 256, key)
        case RSAPrivateKey():
            return PrivateKey("rsa", key.key_size, key)
        case _:
            raise ValueError("expected an RSA or Ed25519 key, found one of another type")


def generate(key_type: KeyType, bits: int = 2_048) -> PrivateKey:
    """Make a new key."""
    require()
    if key_type == "ed25519":
        return PrivateKey("ed25519", 256, Ed25519PrivateKey.generate())
    return PrivateKey("rsa", bits, generate_private_key(65_537, bits))
