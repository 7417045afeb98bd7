"""Who may ask: each rule with a request that breaks it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from aiohttp.test_utils import TestClient, TestServer

from aiomilter.inspector.access import COOKIE, Access, Refused, read_token
from aiomilter.inspector.inspector import Inspector
from aiomilter.inspector.store import Store
from aiomilter.inspector.web import application

TOKEN = "correct-horse-battery"
Client: TypeAlias = TestClient[Any, Any]


async def client_of(access: Access) -> Client:
    inspector = Inspector(Store(), "mine.py", content=True)
    client: Client = TestClient(TestServer(application(inspector, access)))
    await client.start_server()
    return client


@pytest.fixture
async def open_page() -> AsyncIterator[Client]:
    client = await client_of(Access(None))
    yield client
    await client.close()


@pytest.fixture
async def locked() -> AsyncIterator[Client]:
    client = await client_of(Access(TOKEN))
    yield client
    await client.close()


def own(client: Client, **others: str) -> dict[str, str]:
    return {"Origin": f"http://127.0.0.1:{client.port}", "Content-Type": "application/json", **others}


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "attacker.example:80",
        "127.0.0.1.attacker.example",
        "localhost.attacker.example",
        "a@127.0.0.1",
        "",
    ],
)
async def test_a_name_that_was_made_to_point_here_is_refused(open_page: Client, host: str) -> None:
    for path in ("/", "/api/about", "/page/app.js"):
        response = await open_page.get(path, headers={"Host": host})
        assert response.status == 421, path


@pytest.mark.parametrize("host", ["localhost", "localhost:8025", "127.0.0.1:8025", "[::1]:8025", "192.0.2.1"])
async def test_addresses_and_localhost_are_no_names_that_can_be_made_to_point_here(
    open_page: Client, host: str
) -> None:
    assert (await open_page.get("/api/about", headers={"Host": host})).status == 200


def test_the_name_that_is_listened_on_may_be_asked_for() -> None:
    Access(TOKEN, "filter.example.org").check_host("filter.example.org:8025")
    with pytest.raises(Refused):
        Access(TOKEN, "filter.example.org").check_host("other.example.org:8025")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"Origin": "http://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data"}, 415),
        ({"Content-Type": "application/json; charset=no-such"}, 400),
    ],
)
async def test_only_our_own_page_can_post(open_page: Client, headers: Mapping[str, str], status: int) -> None:
    response = await open_page.post("/api/play", data=b"{}", headers={**own(open_page), **headers})
    assert response.status == status


async def test_a_post_without_an_origin_is_refused(open_page: Client) -> None:
    response = await open_page.post("/api/play", data=b"{}", headers={"Content-Type": "application/json"})
    assert response.status == 403


async def test_another_name_in_a_proxy_does_when_the_browser_says_it_is_the_same_site(open_page: Client) -> None:
    headers = own(open_page, Origin="https://inspector.example.org") | {"Sec-Fetch-Site": "same-origin"}
    assert (await open_page.post("/api/play", data=b"{}", headers=headers)).status == 404


@pytest.mark.parametrize("path", ["/api/play", "/api/login", "/api/messages/1/replay"])
async def test_nothing_is_changed_by_get(open_page: Client, path: str) -> None:
    assert (await open_page.get(path)).status == 405


@pytest.mark.parametrize("path", ["/api/about", "/api/messages", "/api/messages/1", "/api/charts", "/api/events"])
async def test_nothing_is_shown_without_the_token(locked: Client, path: str) -> None:
    for cookie in ("", "wrong", TOKEN):
        response = await locked.get(path, cookies={COOKIE: cookie})
        assert response.status == 401
        assert TOKEN not in await response.text()


async def test_a_cookie_that_is_no_utf8_is_a_wrong_one(locked: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", locked.port)
    cookie = COOKIE.encode() + b"=\xff"
    writer.write(b"GET /api/about HTTP/1.1\r\nHost: localhost\r\nCookie: " + cookie + b"\r\nConnection: close\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()
    await writer.wait_closed()


async def test_other_pages_of_the_browser_get_nothing_though_it_has_the_cookie(open_page: Client) -> None:
    response = await open_page.get("/api/messages", headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status == 403


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", None, 5, ["x"], "\ud800"])
async def test_a_wrong_token_gives_no_cookie(locked: Client, token: object) -> None:
    response = await locked.post("/api/login", json={"token": token}, headers=own(locked))
    assert response.status == 403
    assert "Set-Cookie" not in response.headers


async def test_the_token_gives_a_cookie_that_no_script_and_no_other_site_has(locked: Client) -> None:
    response = await locked.post("/api/login", json={"token": TOKEN}, headers=own(locked))
    cookie = response.headers["Set-Cookie"]
    assert response.status == 200
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    value = response.cookies[COOKIE].value
    assert (await locked.get("/api/about", cookies={COOKIE: value})).status == 200


async def test_a_cookie_is_worth_nothing_for_another_process() -> None:
    with pytest.raises(Refused):
        Access(TOKEN).check_cookie(Access(TOKEN).cookie)


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/api/about", "/nowhere", "/page/..%2f..%2fsecret.py"])
async def test_every_response_has_a_strict_policy(open_page: Client, path: str) -> None:
    headers = (await open_page.get(path)).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ["../web.py", "..%2fweb.py", "%2e%2e/web.py", "__init__.py", "", "app.js/x"])
async def test_only_the_files_of_the_page_are_served(open_page: Client, name: str) -> None:
    response = await open_page.get(f"/page/{name}")
    assert response.status in (404, 200)
    assert b"aiohttp" not in await response.read()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"[" * 100_000, b"\xff"])
async def test_what_is_not_an_object_is_refused(open_page: Client, body: bytes) -> None:
    response = await open_page.post("/api/play", data=body, headers=own(open_page))
    assert response.status == 400


@pytest.mark.parametrize("number", ["0", "-1", "1e9", "9" * 5000, "%00", "x"])
async def test_a_message_that_is_not_there_is_not_found(open_page: Client, number: str) -> None:
    assert (await open_page.get(f"/api/messages/{number}")).status in (400, 404)


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"short", "16"),
        (b"x" * 2000, "1024"),
        (b"two words of a token", "printable"),
        ("schöner-geheimer-satz".encode(), "printable"),
        (b"line-one-of-two\nline-two-of-two", "printable"),
    ],
)
def test_a_token_is_one_word_that_is_long_enough(octets: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read_token(octets)


def test_a_token_may_end_in_a_line_end() -> None:
    assert read_token(b"correct-horse-battery\r\n") == TOKEN


def test_the_page_is_small_and_asks_nobody_else() -> None:
    files = [*(Path(__file__).parents[2] / "aiomilter/inspector/page").iterdir()]
    assert sum(path.stat().st_size for path in files) <= 60 * 1024
    for path in files:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name
        assert not any(
            word in text for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
        )
