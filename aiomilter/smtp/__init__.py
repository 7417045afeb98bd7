"""The embedded SMTP front: a small SMTP server that plays the MTA, so that a filter can be tried without one.

It asks a filter at each stage, answers the SMTP client as Postfix would, applies the edits and hands out the result.  It
listens where it is told, loopback being the sensible place; it relays nothing, knows no users, and says so in its banner.

``front`` listens, ``session`` is the conversation with one SMTP client, ``outcome`` what became of a message.
"""

from aiomilter.smtp.front import Front, front, split_address
from aiomilter.smtp.outcome import Outcome, store

__all__ = ["Front", "Outcome", "front", "split_address", "store"]
