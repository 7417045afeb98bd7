"""The pages and values of the inspector, as an aiohttp application."""

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from importlib import resources
from typing import Any, Final

from aiomilter._serving.status import web
from aiomilter.inspector.access import COOKIE, HEADERS, Access, Refused
from aiomilter.inspector.inspector import Inspector

__all__ = ["application"]

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_MOST_POSTED: Final = 16_777_216
"""Octets of a request: a message to play, as JSON."""
_MOST_STREAMS: Final = 32
"""Pages that are shown the list live, at once."""
_PAUSE: Final = 0.1
"""Seconds between two events of a stream: a burst of messages is one event."""
_KEEP_ALIVE: Final = 1.0
"""Seconds without a message until measured values are sent, or a comment, so that a page that has gone is noticed."""
_JSON: Final = "application/json"
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(inspector: Inspector, access: Access) -> web.Application:
    """Return the application.

    Args:
        inspector: Has what is shown.
        access: Says who may ask.
    """
    pages = _Pages(inspector, access)
    app = web.Application(middlewares=[pages.guard], client_max_size=_MOST_POSTED)
    app.on_shutdown.append(pages.end)
    app.router.add_get("/", pages.page)
    app.router.add_get("/page/{name}", pages.page)
    app.router.add_get("/api/about", pages.about)
    app.router.add_get("/api/messages", pages.messages)
    app.router.add_get("/api/messages/{id}", pages.message)
    app.router.add_get("/api/charts", pages.charts)
    app.router.add_get("/api/events", pages.events)
    app.router.add_post("/api/login", pages.login)
    app.router.add_post("/api/play", pages.play)
    app.router.add_post("/api/messages/{id}/replay", pages.replay)
    return app


def _read_page() -> dict[str, tuple[bytes, str]]:
    """Return the files of the page, with their types; they are small, and never change while we run."""
    folder = resources.files("aiomilter.inspector").joinpath("page")
    found = {}
    for each in folder.iterdir():
        kind = _TYPES.get(each.name.rpartition(".")[2])
        if kind is not None:
            found[each.name] = each.read_bytes(), kind
    return found


def _answer(value: object, status: int = 200) -> web.Response:
    # As ASCII: what stands for octets that are not UTF-8 is no UTF-8 either.
    return web.Response(body=json.dumps(value).encode("ascii"), content_type=_JSON, status=status)


class _Pages:
    """The handlers of requests."""

    def __init__(self, inspector: Inspector, access: Access) -> None:
        self._inspector = inspector
        self._access = access
        self._files = _read_page()
        self._streams = 0

    @property
    def guard(self) -> Any:
        """The middleware that all requests pass."""

        @web.middleware
        async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
            try:
                self._check(request)
                response = await handler(request)
            except Refused as refused:
                response = _answer({"error": refused.why}, refused.status)
            except web.HTTPException as error:
                response = _answer({"error": error.reason}, error.status)
            if not response.prepared:
                response.headers.update(HEADERS)
            return response

        return guard

    async def end(self, _: web.Application) -> None:
        """End what would never end by itself."""
        self._inspector.end()

    def _check(self, request: web.Request) -> None:
        access = self._access
        access.check_host(request.headers.get("Host", ""))
        if request.method == "POST":
            access.check_post(request.headers)
        if request.path.startswith("/api/"):
            access.check_site(request.headers)
            if request.path != "/api/login":
                access.check_cookie(request.cookies.get(COOKIE, ""))

    # ---------------------------------------------------------------------------------------------------------- reading

    async def page(self, request: web.Request) -> web.Response:
        """Return a file of the page; there is nothing secret in any."""
        found = self._files.get(request.match_info.get("name", "index.html"))
        if found is None:
            raise Refused(404, "there is no such file")
        return web.Response(body=found[0], content_type=found[1], charset="utf-8")

    async def about(self, request: web.Request) -> web.Response:
        """Return what is inspected, and what may be done."""
        return _answer(self._inspector.about())

    async def messages(self, request: web.Request) -> web.Response:
        """Return the list."""
        return _answer({"messages": self._inspector.after(0)})

    async def message(self, request: web.Request) -> web.Response:
        """Return a message."""
        found = await self._inspector.message(request.match_info["id"])
        if found is None:
            raise Refused(404, "this message is not kept any more")
        return _answer(found)

    async def charts(self, request: web.Request) -> web.Response:
        """Return the values of the charts."""
        return _answer(self._inspector.charts())

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Stream messages as they come, and the values of the charts as they are measured."""
        if self._streams >= _MOST_STREAMS:
            raise Refused(503, "too many pages are open")
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        self._streams += 1
        try:
            await response.prepare(request)
            async with aclosing(self._inspector.news(_last(request), _PAUSE, _KEEP_ALIVE)) as news:
                async for event in news:
                    await response.write(b": still here\n\n" if event is None else _event(*event))
        except ConnectionError:
            pass
        finally:
            self._streams -= 1
        return response

    # ---------------------------------------------------------------------------------------------------------- changing

    async def login(self, request: web.Request) -> web.Response:
        """Take the token, and give a cookie for it."""
        posted = await _posted(request)
        self._access.check_token(posted.get("token"))
        response = _answer({})
        response.set_cookie(
            COOKIE, self._access.cookie, httponly=True, samesite="Strict", secure=request.secure, path="/"
        )
        return response

    async def play(self, request: web.Request) -> web.Response:
        """Play a message to a filter of its own."""
        return await self._played(self._inspector.play(await _posted(request)))

    async def replay(self, request: web.Request) -> web.Response:
        """Play a message of the list again."""
        await _posted(request)
        return await self._played(self._inspector.replay(request.match_info["id"]))

    async def _played(self, play: Awaitable[dict[str, Any]]) -> web.Response:
        try:
            return _answer(await play)
        except LookupError as error:
            raise Refused(404, str(error.args[0])) from None
        except ValueError as error:
            raise Refused(400, str(error)) from None


def _event(name: str, value: Any) -> bytes:
    number = f"id: {value[-1]['id']}\n" if name == "messages" else ""
    return f"event: {name}\n{number}data: {json.dumps(value)}\n\n".encode("ascii")


def _last(request: web.Request) -> int:
    given = request.headers.get("Last-Event-ID") or request.query.get("after", "0")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 16 else 0


async def _posted(request: web.Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.text())
    except (ValueError, LookupError, RecursionError):  # there may be no such charset
        found = None
    if not isinstance(found, dict):
        raise Refused(400, "expected a JSON object, found something else")
    return found
