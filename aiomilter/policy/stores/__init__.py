"""Where policies keep what outlives a message: in memory, in an sqlite file, in Redis or Valkey, in PostgreSQL.

In reading order: ``operations`` says what a store does, as functions; ``memory``, ``sqlite``, ``redis`` and ``postgresql`` do
it; ``keys`` makes keys, in which no address can be read; ``guarded`` gives up in time.  A client library is imported when a
store that needs it is opened.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiomilter._worker_count import worker_count
from aiomilter.exceptions import StoreSettingsError
from aiomilter.policy.stores import urls
from aiomilter.policy.stores.guarded import GuardedStore
from aiomilter.policy.stores.keys import Keys, read_keys
from aiomilter.policy.stores.memory import MemoryStore
from aiomilter.policy.stores.operations import Mode, Op, Store
from aiomilter.policy.stores.urls import StoreUrl

__all__ = ["GuardedStore", "Mode", "Op", "Store", "open_store", "read_keys"]

_KEY_SIZE: Final = 32


@asynccontextmanager
async def open_store(
    where: str | Store,
    *,
    prefix: str = "aiomilter:",
    username: str | None = None,
    password: str | None = None,
    keys: Iterable[bytes] = (),
    timeout: float = 0.5,
    max_connections: int = 20,
    on_change: Callable[[str], object] | None = None,
) -> AsyncIterator[GuardedStore]:
    """Open a store: ``async with open_store("sqlite:/var/lib/filter/state.db") as store``.

    A server need not be up: each step says in time that it is not.  ``await store.ready()`` says so at the start.

    Args:
        where: ``memory:``, for one worker, with ``?max_keys=N`` if 100,000 are too few or too many; with more than one it is
            refused, since each would count alone, unless ``?per_worker`` says so.  ``sqlite:PATH``, for the workers of a
            machine.  ``redis://HOST:PORT/NUMBER`` for Redis or Valkey, ``rediss://`` with TLS, ``?ca=FILE`` for
            authorities that the system does not know; ``redis+unix:PATH``; ``redis://HOST,HOST/NUMBER?sentinel=NAME`` asks
            sentinels for the primary called NAME.  ``postgresql://HOST:PORT/DATABASE``, for TLS with ``?sslmode=verify-full``,
            ``?ca=FILE`` or both; ``aiomilter help stores`` lists the modes.  Or a store of your own.
        prefix: What keys in Redis begin with, so that others can live there.
        username: For a server; before what the URL says.
        password: The same.
        keys: Secrets of 16 octets or more that keys are made with.  The first one makes, all find: change it by adding another
            in front.  Without any, one is made: for ``memory:`` each time, for ``sqlite:`` once, in the file PATH.key.
        timeout: Seconds that a step may take.
        max_connections: To a server, at once.
        on_change: Told in a sentence when the store is found to be down, is back, or has lost what it kept; called in the loop.

    Raises:
        ImportError: The client library is not installed; the message names the extra.
        StoreSettingsError: The URL or the keys are not as described, or the secret of an sqlite file cannot be read or written;
            ``aiomilter run`` says so in one line.
        ValueError: Another argument is not as described.
    """
    url = urls.parse(where) if isinstance(where, str) else None
    if not timeout > 0 or max_connections < 1:
        raise ValueError("expected a timeout and max_connections above 0")
    given = tuple(keys)
    if url is None:
        assert not isinstance(where, str)
        store = where
    else:
        try:
            given = given or (_made_secret(url),)
        except OSError as error:
            raise StoreSettingsError(f"cannot make or read the secret {url.path}.key: {error.strerror}") from None
        access = (username or url.username or None, password or url.password or None)
        if not all(map(urls.is_text, filter(None, access))):
            raise StoreSettingsError(
                f"{url.scheme}: expected a username and password in UTF-8 without control characters"
            )
        store = _opened(url, prefix, access, timeout, max_connections, _in_loop(on_change or _nothing))
    waits = url is None or url.scheme != "memory"
    guarded = GuardedStore(store, Keys(given), timeout=timeout if waits else None, on_change=on_change)
    try:
        yield guarded
    finally:
        await guarded.aclose()


def _nothing(what: str) -> None:
    """Tell nobody."""


def _in_loop(notify: Callable[[str], object]) -> Callable[[str], None]:
    """Return what has the running loop tell, and may be called in a thread, which an error of the other would end."""
    loop = asyncio.get_running_loop()

    def tell(what: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
            loop.call_soon_threadsafe(notify, what)

    return tell


def _opened(
    url: StoreUrl,
    prefix: str,
    access: tuple[str | None, str | None],
    timeout: float,
    max_connections: int,
    notify: Callable[[str], object],
) -> Store:
    username, password = access
    match url.scheme:
        case "memory":
            text = url.query.get("max_keys", "100000")
            if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
                raise StoreSettingsError(f"memory: expected a number for max_keys, found {text[:20]!r}")
            if worker_count() > 1 and "per_worker" not in url.query:
                what = "each worker would count alone: use sqlite:PATH, or memory:?per_worker if that is meant"
                raise StoreSettingsError(f"memory: {what}")
            return MemoryStore(max_keys=int(text))
        case "sqlite":
            from aiomilter.policy.stores.sqlite import SqliteStore

            return SqliteStore(url.path, notify=notify)
        case "postgresql":
            try:
                from aiomilter.policy.stores import tls
                from aiomilter.policy.stores.postgresql import PostgresqlStore
            except ModuleNotFoundError as error:
                raise ImportError("a store in PostgreSQL needs asyncpg: pip install 'aiomilter[postgresql]'") from error
            ((host, port),) = url.hosts
            return PostgresqlStore(
                host,
                port,
                database=url.path,
                username=username,
                password=password,
                tls=tls.postgresql(url.query),
                prefix=prefix,
                timeout=timeout,
                max_connections=max_connections,
            )
        case _:
            try:
                from aiomilter.policy.stores import tls
                from aiomilter.policy.stores.redis import RedisStore
            except ModuleNotFoundError as error:
                raise ImportError("a store in Redis needs redis: pip install 'aiomilter[redis]'") from error
            return RedisStore(
                url.hosts,
                path=url.path if url.scheme == "redis+unix" else None,
                database=0 if url.scheme == "redis+unix" else int(url.path or "0"),
                username=username,
                password=password,
                tls=url.scheme == "rediss",
                authorities=tls.readable(url.query.get("ca")),
                service=url.query.get("sentinel"),
                prefix=prefix,
                timeout=timeout,
                max_connections=max_connections,
            )


def _made_secret(url: StoreUrl) -> bytes:
    """Return a secret for keys where none is given.

    Raises:
        OSError: It cannot be read or written.
        StoreSettingsError: The store is for several machines, which would make different ones.
    """
    if url.scheme == "memory":
        return secrets.token_bytes(_KEY_SIZE)
    if url.scheme != "sqlite":
        raise StoreSettingsError(f"{url.scheme}: expected keys=, since all machines have to make the same keys")
    path = f"{url.path}.key"
    made = f"{path}.{os.getpid()}"
    if not os.path.exists(path):
        # Whole before it has its name: another worker may make one, too, and the first one wins.
        with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_SIZE))
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
        os.unlink(made)
    with open(path, "rb") as file:
        return file.read(1024)
