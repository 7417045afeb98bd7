"""DKIM: verify and sign while a message comes, asking DNS without blocking, keeping no body.

* :class:`Verifier` and :func:`verify` say what the signatures of a message are worth, as :class:`Signature`; a
  :class:`Policy` says what counts.

Needs the library cryptography: ``pip install 'aiomilter[dkim]'``.  Without, what needs it raises ImportError when it is made.
"""

from aiomilter.auth.dkim._checking import Policy
from aiomilter.auth.dkim._signature import Result, Signature, method_results
from aiomilter.auth.dkim._verifier import Verifier, verify

__all__ = ["Policy", "Result", "Signature", "Verifier", "method_results", "verify"]
