"""Checks of a client before it has sent much: DNS lists.

:mod:`~aiomilter.policy.dnsbl` asks lists of addresses and of domains, all at once; see ``examples/dnsbl_milter.py``.

Each module serves any asyncio program and knows nothing of milters; import the one you need.
"""
