"""What to think of a client before it has said much: DNS lists and the like.

Each module serves any asyncio program and knows nothing of milters; import the one you need.
"""
