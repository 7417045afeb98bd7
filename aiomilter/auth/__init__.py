"""Who sent this message: SPF, the reverse name of the client, and how results are written down.

Each module serves any asyncio program and knows nothing of milters; import the one you need.
"""
