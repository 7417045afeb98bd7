"""The milter protocol without I/O: same octets in, same events out.

In reading order: ``constants`` has the codes, stages and limits; ``events`` the packets of the MTA, which callbacks get, with
the ``macros`` that come before them; ``replies`` and ``modifications`` the packets of a filter.  ``framing`` parts octets
into frames, ``text`` converts their strings.  ``state`` has the order of a conversation as tables, ``negotiation`` the
agreement at its start, ``connection`` applies both, and ``reader`` makes events of all octets that have arrived.  ``foreign``
recognizes other protocols.

The rules are in ``aiomilter help protocol``.
"""
