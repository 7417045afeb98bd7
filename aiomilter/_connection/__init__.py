"""One connection with an MTA, from its first packet to its end.

In reading order: ``transport`` takes octets from the event loop and writes answers; ``driver`` calls the callbacks; ``session``
knows what each event and each answer does; ``tasks`` and ``deadlines`` take over once a callback waits for something.
"""
