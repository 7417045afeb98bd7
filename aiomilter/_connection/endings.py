"""The ends of messages and connections for which the filter cleans up: ``abort`` and ``close``."""

from aiomilter._connection.session import Session

__all__ = ["abort", "end_connection", "finish"]


async def abort(session: Session) -> None:
    """Call ``abort`` and end the message without an answer."""
    await session.answering.call_last("abort")
    session.callback = "abort"
    session.end_message(None)
    session.wire.end_message()


async def end_connection(session: Session) -> None:
    """Call ``abort`` if a message is open, then ``close``; nothing if no SMTP connection is open."""
    if session.handler is None:
        return
    if session.wire.message_open:
        await abort(session)
    await session.answering.call_last("close")
    session.leave()


async def finish(session: Session) -> None:
    """End the connection: write the answers, call ``abort`` and ``close``, and close the transport."""
    session.over = True
    session.channel.flush()
    await end_connection(session)
    session.channel.close()
    session.stop_clock()
