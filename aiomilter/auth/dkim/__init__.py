"""DKIM: verify and sign while a message comes, asking DNS without blocking, keeping no body.

* :class:`Verifier` and :func:`verify` say what the signatures of a message are worth, as :class:`Signature`; a
  :class:`Policy` says what counts.
* :class:`Signer` and :func:`sign` make signatures with one :class:`Key` or more; :class:`Options` say of what.
  :class:`BodyHashes` hash a body that comes before it is known who signs it.
* :class:`KeyRing` is who knows which keys sign a message; :func:`load_keys` reads one from a file, or OpenDKIM's tables.

Needs the library cryptography: ``pip install 'aiomilter[dkim]'``.  Without, what needs it raises ImportError when it is made.
"""

from aiomilter.auth.dkim._body import BodyHashes
from aiomilter.auth.dkim._checking import Policy
from aiomilter.auth.dkim._key import Key
from aiomilter.auth.dkim._key_ring import KeyFile, KeyRing, load_keys
from aiomilter.auth.dkim._signature import Result, Signature, method_results
from aiomilter.auth.dkim._signer import OVERSIGN, SIGN, Options, Signer, Signing, sign
from aiomilter.auth.dkim._verifier import Verifier, verify

__all__ = [
    "OVERSIGN",
    "SIGN",
    "BodyHashes",
    "Key",
    "KeyFile",
    "KeyRing",
    "Options",
    "Policy",
    "Result",
    "Signature",
    "Signer",
    "Signing",
    "Verifier",
    "load_keys",
    "method_results",
    "sign",
    "verify",
]
