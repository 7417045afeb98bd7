"""One connection with an MTA, from its first packet to its end.

In reading order: ``served`` is a connection as its server sees it; ``transport`` takes octets from the event loop and writes
answers; ``driver`` calls the callbacks, by the tables of ``dispatch``, and leaves other events to ``event_handling``;
``session`` has the state, with ``recipients`` for messages with many of them and ``reports`` for observers (``sent`` names
packets for them).  ``answering`` declares what a session needs: ``native`` applies the answers of native filters, with the
values of ``answers``, and ``body`` sends a new body.  ``tasks``, ``suspension`` and ``deadlines`` take over once a callback
waits for something, ``writing`` when an MTA does not read its answers; ``acknowledging`` has TCP acknowledge octets that get no
answer yet; ``stack`` finds the connection of a callback that blocks the event loop.
"""
