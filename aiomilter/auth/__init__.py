"""Checks of who sent a message, and the header fields with their results.

:mod:`~aiomilter.auth.spf` is RFC 7208, :mod:`~aiomilter.auth.iprev` checks the reverse name of the client,
:mod:`~aiomilter.auth.results` writes and reads Authentication-Results.

Each module serves any asyncio program and knows nothing of milters; import the one you need.
"""
