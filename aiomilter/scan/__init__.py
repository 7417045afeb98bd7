"""Scanners: ask clamd, spamd and rspamd about a message, without blocking, and get a result whatever happens.

:class:`Clamd`, :class:`Spamd` and :class:`Rspamd` have one shape: ``await scanner.scan(octets)`` streams the message to the
scanner and returns a :class:`Result`.  A scanner that is down, slow or confused is a ``problem`` of the result, never an
exception; what becomes of the message then is for the caller to say.  They know no milter and serve any asyncio program.  See
``aiomilter help scanners``.

In reading order: :mod:`~aiomilter.scan.scanner` has what all scanners share, limits, deadlines and the order of things;
:mod:`~aiomilter.scan.clamd`, :mod:`~aiomilter.scan.spamd` and :mod:`~aiomilter.scan.rspamd` one protocol each;
:mod:`~aiomilter.scan.envelope` what a scanner may know besides the message.  Below them, ``_exchange`` sends a message and
reads the answer at the same time, ``_http`` and ``_json`` read what rspamd writes, ``_fields`` makes values of requests,
``_breaker`` leaves a scanner alone that does not work, and ``_trouble`` names what may go wrong.
"""

from aiomilter.scan.clamd import Clamd, ClamdResult
from aiomilter.scan.envelope import Envelope
from aiomilter.scan.rspamd import AddedHeader, HeaderChanges, RemovedHeader, Rspamd, RspamdResult, Symbol
from aiomilter.scan.scanner import Result, Scanner
from aiomilter.scan.spamd import Spamd, SpamdResult

__all__ = [
    "AddedHeader",
    "Clamd",
    "ClamdResult",
    "Envelope",
    "HeaderChanges",
    "RemovedHeader",
    "Result",
    "Rspamd",
    "RspamdResult",
    "Scanner",
    "Spamd",
    "SpamdResult",
    "Symbol",
]
