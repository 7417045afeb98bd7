"""A store in Redis or Valkey, for several machines: a step is one script, and time is the server's.

Source: aiomilter/help/stores.rst.
"""

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import (
    Connection,
    ConnectionPool,
    Redis,
    Sentinel,
    SentinelConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from aiomilter.exceptions import StoreError
from aiomilter.policy.stores.moving import Row
from aiomilter.policy.stores.operations import SECOND, Op, State

__all__ = ["RedisStore"]

# The operations as aiomilter.policy.stores.operations has them.  ARGV: time or 0, operation, keys of a subject, mode, and the
# operation's own.  A state is "EXPIRY A B C", with three numbers; Lua's are exact up to 2^53.  Redis removes a state a minute
# after its end.
SCRIPT: Final = """\
local now, op, each, mode = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local CAP = 2147483647
local floor, max, min = math.floor, math.max, math.min
local args = {}
for i = 5, #ARGV do args[i - 4] = tonumber(ARGV[i]) end
local found, places = {}, {}
local subjects = #KEYS / each
for s = 1, subjects do
  found[s], places[s] = false, 0
  for k = (s - 1) * each + 1, s * each do
    local text = redis.call('GET', KEYS[k])
    if text and not found[s] then
      local e, a, b, c = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
      if e and tonumber(e) > now then
        found[s] = {tonumber(e), tonumber(a), tonumber(b), tonumber(c)}
        places[s] = k
      end
    end
  end
end
local made, answer = {}, {}
if op == 0 then
  local cost, wait, before, after = args[1], nil, {}, {}
  for s = 1, subjects do
    before[s] = found[s] and max(now, found[s][2]) or now
    after[s] = before[s] + cost * args[2 * s]
    local over = after[s] - args[2 * s + 1] - now
    wait = wait and max(wait, over) or over
  end
  local left, remaining = wait <= 0 and after or before, nil
  for s = 1, subjects do
    local one = floor((args[2 * s + 1] - (left[s] - now)) / args[2 * s])
    remaining = remaining and min(remaining, one) or one
    made[s] = wait <= 0 and {after[s], after[s], 0, 0} or found[s]
  end
  answer = {wait > 0 and 1 or 0, max(wait, 0), max(remaining, 0)}
elseif op == 1 then
  local half, keep, good, bad = args[1], args[2], args[3], args[4]
  local seconds, a, b = floor(now / 1000000), 0, 0
  if found[1] then
    local passed = max(0, seconds - found[1][4])
    local times, rest = 2 ^ min(floor(passed / half), 40), passed % half
    a, b = floor(found[1][2] / times), floor(found[1][3] / times)
    a, b = a - floor(a * rest / (2 * half)), b - floor(b * rest / (2 * half))
  end
  a, b = min(a + good, CAP), min(b + bad, CAP)
  made[1] = {now + keep, a, b, seconds}
  answer = {a, b}
elseif op == 2 then
  for s = 1, subjects do
    local times = found[s] and found[s][2] or 0
    made[s] = {now + args[1], min(times + 1, CAP), 0, 0}
    answer[s] = times
  end
else
  local delay, window, keep, often, number = args[1], args[2], args[3], args[4], args[5]
  local client = subjects > number
  local passes = client and found[number + 1] and found[number + 1][2] or 0
  local known, any, first, wait, most = client and passes >= often, false, nil, nil, 0
  local ripe = {}
  for s = 1, number do
    local way = found[s] or {now + window, now, 0, 0}
    made[s] = way
    ripe[s] = way[3] > 0 or now - way[2] >= delay
    any = any or ripe[s]
    first = first and min(first, way[2]) or way[2]
    local one = way[2] + delay - now
    wait = wait and min(wait, one) or one
  end
  if client then made[number + 1] = found[number + 1] end
  if known or any then
    for s = 1, number do
      if ripe[s] then made[s] = {now + keep, made[s][2], min(made[s][3] + 1, CAP), 0} end
      most = max(most, made[s][3])
    end
    if client then made[number + 1] = {now + keep, min(passes + 1, CAP), 0, 0} end
    answer = {known and 2 or 1, 0, first, most}
  else
    answer = {0, wait, first, 0}
  end
end
for s = 1, subjects do
  local newest = (s - 1) * each + 1
  if mode == 2 then
    for k = newest, s * each do redis.call('DEL', KEYS[k]) end
  elseif mode == 1 and made[s] and made[s] ~= found[s] then
    local m = made[s]
    local ttl = max(0, floor((m[1] - now) / 1000)) + 60000
    redis.call('SET', KEYS[newest], string.format('%.0f %.0f %.0f %.0f', m[1], m[2], m[3], m[4]),
      'PX', string.format('%.0f', ttl))
    if places[s] ~= 0 and places[s] ~= newest then redis.call('DEL', KEYS[places[s]]) end
  end
end
return answer
"""
_SHA: Final = hashlib.sha1(SCRIPT.encode("ascii")).hexdigest()
"""The name that Redis has for it."""
_LOAD: Final = """\
local time, written = redis.call('TIME'), 0
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
for s = 1, #KEYS do
  local e = tonumber(ARGV[4 * s - 3])
  local text = redis.call('GET', KEYS[s])
  local there = text and tonumber(string.match(text, '^(%d+) ') or '0') or 0
  if e > now and e > there then
    redis.call('SET', KEYS[s], table.concat({ARGV[4 * s - 3], ARGV[4 * s - 2], ARGV[4 * s - 1], ARGV[4 * s]}, ' '),
      'PX', string.format('%.0f', math.floor((e - now) / 1000) + 60000))
    written = written + 1
  end
end
return written
"""
_NAME: Final = re.compile(rb"([a-z][a-z0-9_]{0,31}:)([0-9a-f]{32})")
_STATE: Final = re.compile(rb"(\d{1,19}) (\d{1,19}) (\d{1,19}) (\d{1,19})")
_CLOSED: Final = RedisError("the store is closed")
_WAITING: Final = 10_000
"""Commands that wait for a connection; more fail at once."""
_TOGETHER: Final = 100
"""Commands that are sent at once; each costs a third of what it would alone."""


class RedisStore:
    """Keeps states in Redis, under keys such as ``gate:rate_user:9f86...``.

    Args:
        hosts: Host and port of the server; of sentinels, if ``service`` is given.
        path: Of a UNIX-domain socket, instead of hosts.
        database: Its number.
        username: Of the ACL; None for the default user.
        password: None for none.
        tls: Whether to speak TLS, with a server that has a certificate for its name.
        authorities: A file with those that may have issued it; None for the system's.
        service: What the sentinels call the primary.
        prefix: What its keys begin with.
        timeout: Seconds that connecting, and an answer, may take.
        max_connections: At most; steps of the same turn of the loop share one, and more wait for one.
        clock: Replaces the server's time; microseconds since 1970.
    """

    def __init__(
        self,
        hosts: Sequence[tuple[str, int]] = (),
        *,
        path: str | None = None,
        database: int = 0,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        authorities: str | None = None,
        service: str | None = None,
        prefix: str = "",
        timeout: float = 0.5,
        max_connections: int = 20,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._prefix = prefix.encode("utf-8")
        self._clock = clock
        self._sentinel: Sentinel | None = None
        options: dict[str, Any] = {
            "db": database,
            "username": username,
            "password": password,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            # No HELLO and no CLIENT SETINFO, for which a user would need more rights.
            "protocol": 2,
            "driver_info": None,
            # It would wait, and ask again, for longer than a mail server has patience.
            "retry": Retry(NoBackoff(), 0),
        }
        if tls:
            options["ssl_ca_certs"] = authorities
        pool: ConnectionPool
        if service is not None:
            settings = {
                "socket_timeout": timeout / 2,
                "socket_connect_timeout": timeout / 2,
                "retry": Retry(NoBackoff(), 0),
            }
            self._sentinel = Sentinel(list(hosts), sentinel_kwargs=settings)  # type: ignore[no-untyped-call]  # redis-py has no types here
            options["ssl"] = tls
            pool = SentinelConnectionPool(service, self._sentinel, max_connections=max_connections, **options)  # type: ignore[no-untyped-call]  # nor here
        elif path is not None:
            pool = ConnectionPool(connection_class=UnixDomainSocketConnection, path=path, **options)
        else:
            ((host, port),) = hosts
            pool = ConnectionPool(
                connection_class=SSLConnection if tls else Connection,
                host=host,
                port=port,
                **options,
            )
        self._client = Redis.from_pool(pool)
        self._max_batches = max_connections
        self._jobs: deque[_Job] = deque()
        self._batches: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._closed = False

    async def step(self, op: Op, keys: Sequence[bytes], args: Sequence[int]) -> Sequence[int]:
        """Do one step.

        Raises:
            StoreError: The server cannot be reached, or says why not.
        """
        names = [self._name(key) for key in keys]
        now = 0 if self._clock is None else self._clock()
        given = (len(names), *names, now, int(op), *map(int, args))  # the client writes an IntEnum by its name
        answer = await self._command("EVALSHA", _SHA, *given)
        if isinstance(answer, NoScriptError):
            answer = await self._command("EVAL", SCRIPT, *given)
        if isinstance(answer, BaseException):
            raise StoreError(_text(answer))
        return cast("list[int]", answer)

    async def _command(self, *command: Any) -> Any:
        """Return the answer to a command, or the error; those of one turn of the loop go together.

        Who is cancelled waits no longer, whatever the client still does.
        """
        if self._closed:
            return _CLOSED
        if len(self._jobs) >= _WAITING:
            return RedisError(f"{_WAITING} steps wait already")
        loop = asyncio.get_running_loop()
        job = _Job(command, loop.create_future())
        self._jobs.append(job)
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._send)
        return await job.done

    def _send(self) -> None:
        """Have what waits sent, over one more connection if there may be one."""
        self._is_due = False
        while self._jobs and len(self._batches) < self._max_batches:
            jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), _TOGETHER))]
            if wanted := [job for job in jobs if not job.done.done()]:
                task = asyncio.create_task(self._do(wanted))
                self._batches.add(task)
                task.add_done_callback(partial(self._ended, wanted))

    def _ended(self, jobs: Sequence["_Job"], task: "asyncio.Task[None]") -> None:
        self._batches.discard(task)
        for job in jobs:
            job.answer(_CLOSED)  # those of a batch that was cancelled, perhaps before it began
        self._send()

    async def _do(self, jobs: Sequence["_Job"]) -> None:
        try:
            answers: Sequence[Any] = await self._exchange([job.command for job in jobs])
        except Exception as error:  # noqa: BLE001  # it raises all kinds where a server speaks something else
            answers = [error] * len(jobs)
        for job, answer in zip(jobs, answers, strict=True):
            job.answer(answer)

    async def _exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands over one connection, and return the answers, of which some may be errors."""
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def ready(self) -> str | None:
        """Return what keeps it from working; None if nothing does."""
        # Of a password that is missing the server says so to a short command alone.
        answer = await self._command("GET", self._prefix)
        if isinstance(answer, BaseException):
            return _text(answer)
        try:
            await self.step(Op.PAIR, (), (1, 0, 0))
        except StoreError as error:
            return str(error)
        return None

    async def fetch(self, keys: Sequence[bytes]) -> list[State | None]:
        """Return the states of some keys."""
        (seconds, more), *found = await asyncio.gather(
            self._value_of("TIME"), *(self._value_of("GET", self._name(key)) for key in keys)
        )
        now, states = int(seconds) * SECOND + int(more), [self._state(text) for text in found]
        return [state if state is not None and state.expiry > now else None for state in states]

    async def rows(self) -> AsyncIterator[list[Row]]:
        """Yield all that is kept, some at a time; the user needs the right to SCAN."""
        pattern, cursor = (
            b"".join(b"[%c]" % octet if octet in b"*?[^" else b"%c" % octet for octet in self._prefix),
            b"0",
        )
        while True:
            cursor, names = await self._value_of("SCAN", cursor, "MATCH", pattern + b"*", "COUNT", _TOGETHER)
            keys = [key for name in names if (key := self._key(name)) is not None]
            states = await self.fetch(keys)
            yield [Row(key, state) for key, state in zip(keys, states, strict=True) if state is not None]
            if int(cursor) == 0:
                return

    async def load(self, rows: Sequence[Row]) -> int:
        """Write rows, unless what is there has a later expiry, and return how many were written."""
        given = [number for row in rows for number in row.state]
        written = await self._value_of("EVAL", _LOAD, len(rows), *(self._name(row.key) for row in rows), *given)
        return cast(int, written)

    async def _value_of(self, *command: Any) -> Any:
        answer = await self._command(*command)
        if isinstance(answer, BaseException):
            raise StoreError(_text(answer))
        return answer

    def _name(self, key: bytes) -> bytes:
        """Return what a key is called in Redis."""
        return self._prefix + key[:-16] + key[-16:].hex().encode("ascii")

    def _key(self, name: bytes) -> bytes | None:
        """Return the key that is called so; None if there is none."""
        found = _NAME.fullmatch(name[len(self._prefix) :]) if name.startswith(self._prefix) else None
        return None if found is None else found[1] + bytes.fromhex(found[2].decode("ascii"))

    @staticmethod
    def _state(text: bytes | None) -> State | None:
        found = _STATE.fullmatch(text or b"")
        return None if found is None else State(*map(int, found.groups()))

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        for job in self._jobs:
            job.answer(_CLOSED)
        self._jobs.clear()
        for task in self._batches:
            task.cancel()
        if self._batches:
            await asyncio.wait(self._batches)
        await self._client.aclose(close_connection_pool=True)
        for sentinel in self._sentinel.sentinels if self._sentinel is not None else ():
            await sentinel.aclose(close_connection_pool=True)


class _Job(NamedTuple):
    """A command, and who waits for its answer."""

    command: tuple[Any, ...]
    done: "asyncio.Future[Any]"

    def answer(self, answer: Any) -> None:
        """Let the waiter go on; an error is an answer, since one that is not read would be logged."""
        if not self.done.done():
            self.done.set_result(answer)


def _text(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(f"Redis: {error or type(error).__name__}".split())[:300]
