"""A filter with its page, in a thread with an event loop: tests drive a browser meanwhile, which waits."""

import asyncio
import smtplib
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from email.message import EmailMessage
from itertools import count
from typing import Any, Self, TypeVar

from aiomilter._cli.inspect_play import InspectedFilter
from aiomilter._serving.feed import Feed
from aiomilter._serving.status import StatusListener
from aiomilter._serving.status_address import bind_status
from aiomilter.inspector.access import Access
from aiomilter.inspector.charts import Charts
from aiomilter.inspector.inspector import Inspector
from aiomilter.inspector.store import Store
from aiomilter.inspector.web import application
from aiomilter.observe.guard import Guard
from aiomilter.options import Options
from aiomilter.server import Factory, Server
from aiomilter.smtp import Front, Outcome, front
from tests.patience import PATIENCE

__all__ = ["Site", "mail"]

_T = TypeVar("_T")


class Site:
    """Serves a filter by SMTP, and its page."""

    def __init__(self, factory: Factory, *, content: bool = True, token: str | None = None) -> None:
        self._factory = factory
        self._content = content
        self._access = Access(token)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="site")
        self._stack = AsyncExitStack()
        self.store = Store()
        self.smtp: Front
        self.url = ""
        self.inspector: Inspector

    def __enter__(self) -> Self:
        self._thread.start()
        self.call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the event loop of the site."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def _start(self) -> None:
        options = Options(observer=self.store)
        server = Server(self._factory, ["inet:0@127.0.0.1"], options, connection_factory=self.store.connection_factory)
        await self._stack.enter_async_context(server)

        def take(outcome: Outcome) -> None:
            self.store.add_original(outcome.queue_id, outcome.original)

        observer = Guard(self.store)
        self.smtp = front("127.0.0.1:0", server.addresses[0], on_message=take, observer=self.store)
        await self._stack.enter_async_context(self.smtp)
        player = InspectedFilter(lambda: (self._factory, options))
        # Each measurement is five seconds after the last.
        charts = Charts(self.store, clock=count(1796000000, 5).__next__)
        self.inspector = Inspector(self.store, "mine.py:gateway", content=self._content, player=player, charts=charts)
        bound = bind_status("127.0.0.1:0", None)
        listener = StatusListener(bound, lambda _: application(self.inspector, self._access), Feed(), observer.tell)
        await listener.start()
        self._stack.push_async_callback(listener.close)
        self._stack.enter_context(self.store.log_records())
        self.url = f"http://127.0.0.1:{bound[0].socket.getsockname()[1]}/"

    def measure(self) -> None:
        """Measure for the charts, as happens every few seconds."""

        async def measure() -> None:
            self.inspector.measured.measure()

        self.call(measure())

    def send(self, octets: bytes, sender: str = "alice@example.org", *recipients: str) -> str:
        """Send a message, and return the last reply."""
        with smtplib.SMTP("127.0.0.1", self.smtp.port) as client:
            try:
                client.sendmail(sender, list(recipients) or ["bob@example.net"], octets)
            except smtplib.SMTPResponseException as error:
                return str(error.smtp_code)
            except smtplib.SMTPRecipientsRefused:
                return "refused"
        return "250"


def mail(subject: str, text: str = "Hello Bob,\n\nsee you tomorrow.\n\nAlice\n", **fields: str) -> EmailMessage:
    """Return a message."""
    message = EmailMessage()
    message["From"] = "Alice Example <alice@example.org>"
    message["To"] = "Bob <bob@example.net>"
    message["Subject"] = subject
    message["Date"] = "Mon, 30 Nov 2026 10:00:00 +0000"
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message
