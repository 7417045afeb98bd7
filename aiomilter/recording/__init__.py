"""Recorded sessions of a filter: the file format, the files, and what is kept private in them.

``aiomilter run --record DIR`` and ``aiomilter record`` write such files, ``aiomilter replay`` and
:func:`aiomilter.testing.replay` play them to a filter.  See ``aiomilter help recording``.

In reading order: ``format`` has the lines of a file as values, ``reading`` reads them within bounds; ``capture`` makes packets
of the octets of both sides.
"""

from aiomilter.recording.errors import RecordingError
from aiomilter.recording.format import CLOSED, FILTER, MTA, REMARK, Head, Packet, Recording
from aiomilter.recording.reading import read

__all__ = ["CLOSED", "FILTER", "MTA", "REMARK", "Head", "Packet", "Recording", "RecordingError", "read"]
