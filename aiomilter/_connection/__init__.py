"""One connection with an MTA, from its first packet to its end.

In reading order: ``transport`` takes octets from the event loop and writes answers; ``driver`` calls the callbacks, by the
tables of ``dispatch``, and leaves other events to ``event_handling``; ``session`` has the state, with ``recipients`` for
messages with many of them and ``reports`` for observers (``sent`` names packets for them).  ``answering`` is what a session
needs of others: ``native`` says what answers mean, by ``answers``, and ``body`` sends a new body.  ``tasks``, ``suspension``
and ``deadlines`` take over once a callback waits for something, ``writing`` when an MTA does not read its answers;
``acknowledging`` has TCP confirm octets that get no answer yet; ``stack`` finds the connection of a callback that blocks the
event loop.
"""
