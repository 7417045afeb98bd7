"""The embedded SMTP front: a small SMTP server that plays the MTA, so that a filter can be tried without one.

It asks a filter at each stage, answers the SMTP client as Postfix would, applies the edits and hands out the result.  It
listens on the loopback unless told otherwise; it relays nothing, knows no users, and its banner says so.

``front`` listens, ``session`` is the conversation with one SMTP client; it reads by ``input`` and ``syntax``, and asks by
``asked``.  ``client`` is the SMTP client as the filter is shown it, which XCLIENT may change; ``outcome`` is the result for one
message, and storing it.
"""

from aiomilter.smtp.front import Front, front, split_address
from aiomilter.smtp.outcome import Outcome, store

__all__ = ["Front", "Outcome", "front", "split_address", "store"]
