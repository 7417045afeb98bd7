"""ARC: verify the chain of a message that was forwarded, and seal one that is forwarded.

* :class:`Verifier` and :func:`verify` say what the chain is worth, as :class:`Chain` of :class:`ChainSet`; whom to trust is
  the caller's to say (:meth:`Chain.trusted_by`).
* :class:`Sealer` and :func:`seal` make the ARC set of a message that leaves again, with a :class:`aiomilter.auth.dkim.Key`.

ARC is experimental (RFC 8617), and nothing else here needs this package.  It needs the library cryptography:
``pip install 'aiomilter[dkim]'``.  Without, what needs it raises ImportError when it is made.
"""

from aiomilter.auth.arc._chain import Chain, ChainSet, Result
from aiomilter.auth.arc._sealer import SIGN, Sealer, Sealing, seal
from aiomilter.auth.arc._verifier import Verifier, verify

__all__ = ["SIGN", "Chain", "ChainSet", "Result", "Sealer", "Sealing", "Verifier", "seal", "verify"]
