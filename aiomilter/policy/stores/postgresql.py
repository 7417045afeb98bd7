"""A store in PostgreSQL, for several machines: a step is one function of the server, and time is the server's.

Source: aiomilter/help/stores.rst.
"""

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, cast

import asyncpg  # type: ignore[import-untyped]  # it has no types; _Connection has those of what is used

from aiomilter.exceptions import StoreError
from aiomilter.policy.stores.moving import Row, is_key
from aiomilter.policy.stores.operations import Op, State

__all__ = ["PostgresqlStore"]

_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_SWEEP: Final = 60.0
_SWEPT: Final = 1000
_RATES, _STATE = "aiomilter_rates_1", "aiomilter_state_1"

_TABLE: Final = """\
create {unlogged} table if not exists {table}(
    key bytea primary key, expiry bigint not null, a bigint not null, b bigint not null, c bigint not null);
create index if not exists {table}_expiry on {table}(expiry);
"""
# The operations as aiomilter.policy.stores.operations has them; AT is the time, or 0.  Rows are there before they are read, so
# that two steps never both find none; and they are locked in the order of their keys, so that no two wait for each other.
_FUNCTION: Final = """\
create or replace function {table}_step(op int, ks bytea[], args bigint[], at bigint) returns bigint[] language plpgsql as $$
#variable_conflict use_variable
declare
  cap constant bigint := 2147483647;
  now_ bigint := case when at > 0 then at else (extract(epoch from clock_timestamp()) * 1000000)::bigint end;
  each int := args[1]; mode int := args[2]; subjects int := coalesce(array_length(ks, 1), 0) / each;
  fe bigint[]; fa bigint[]; fb bigint[]; fc bigint[]; places int[];
  me bigint[]; ma bigint[]; mb bigint[]; mc bigint[]; changed boolean[] := array_fill(false, array[subjects]);
  before bigint[]; after bigint[]; ripe boolean[]; answer bigint[];
  s int; k int; got int; wanted int; wait_ bigint; remaining bigint; first_ bigint; most bigint := 0; times bigint; rest bigint;
  x bigint; y bigint; number int; passes bigint := 0; one record; client boolean; known boolean; any_ boolean := false;
begin
  if mode <> 0 and subjects > 0 then
    select count(distinct u) into wanted from unnest(ks) u;
    loop
      insert into {table} select distinct u, 0, 0, 0, 0 from unnest(ks) u order by u on conflict do nothing;
      select count(*) into got from (select 1 from {table} t where t.key = any(ks) order by t.key for update) locked;
      exit when got = wanted;
    end loop;
  end if;
  for s in 1 .. subjects loop
    places[s] := 0;
    for k in (s - 1) * each + 1 .. s * each loop
      select * into one from {table} t where t.key = ks[k] and t.expiry > now_;
      if found then
        fe[s] := one.expiry; fa[s] := one.a; fb[s] := one.b; fc[s] := one.c; places[s] := k;
        exit;
      end if;
    end loop;
  end loop;
  me := fe; ma := fa; mb := fb; mc := fc;
  if op = 0 then
    for s in 1 .. subjects loop
      before[s] := case when places[s] > 0 then greatest(now_, fa[s]) else now_ end;
      after[s] := before[s] + args[3] * args[2 * s + 2];
      wait_ := greatest(coalesce(wait_, after[s] - args[2 * s + 3] - now_), after[s] - args[2 * s + 3] - now_);
    end loop;
    for s in 1 .. subjects loop
      x := (args[2 * s + 3] - (case when wait_ <= 0 then after[s] else before[s] end - now_)) / args[2 * s + 2];
      remaining := least(coalesce(remaining, x), x);
      if wait_ <= 0 then
        me[s] := after[s]; ma[s] := after[s]; mb[s] := 0; mc[s] := 0; changed[s] := true;
      end if;
    end loop;
    answer := array[case when wait_ > 0 then 1 else 0 end, greatest(wait_, 0), greatest(remaining, 0)];
  elsif op = 1 then
    x := 0; y := 0;
    if places[1] > 0 then
      times := greatest(0, now_ / 1000000 - fc[1]) / args[3];
      rest := greatest(0, now_ / 1000000 - fc[1]) % args[3];
      x := fa[1] >> least(times, 40)::int; y := fb[1] >> least(times, 40)::int;
      x := x - x * rest / (2 * args[3]); y := y - y * rest / (2 * args[3]);
    end if;
    x := least(x + args[5], cap); y := least(y + args[6], cap);
    me[1] := now_ + args[4]; ma[1] := x; mb[1] := y; mc[1] := now_ / 1000000; changed[1] := true;
    answer := array[x, y];
  elsif op = 2 then
    answer := array[]::bigint[];
    for s in 1 .. subjects loop
      x := case when places[s] > 0 then fa[s] else 0 end;
      me[s] := now_ + args[3]; ma[s] := least(x + 1, cap); mb[s] := 0; mc[s] := 0; changed[s] := true;
      answer := answer || x;
    end loop;
  else
    number := args[7]; client := subjects > number;
    if client and places[number + 1] > 0 then passes := fa[number + 1]; end if;
    known := client and passes >= args[6];
    for s in 1 .. number loop
      if places[s] = 0 then
        me[s] := now_ + args[4]; ma[s] := now_; mb[s] := 0; mc[s] := 0; changed[s] := true;
      end if;
      ripe[s] := mb[s] > 0 or now_ - ma[s] >= args[3];
      any_ := any_ or ripe[s];
      first_ := least(coalesce(first_, ma[s]), ma[s]);
      wait_ := least(coalesce(wait_, ma[s] + args[3] - now_), ma[s] + args[3] - now_);
    end loop;
    if known or any_ then
      for s in 1 .. number loop
        if ripe[s] then
          me[s] := now_ + args[5]; mb[s] := least(mb[s] + 1, cap); changed[s] := true;
        end if;
        most := greatest(most, mb[s]);
      end loop;
      if client then
        s := number + 1;
        me[s] := now_ + args[5]; ma[s] := least(passes + 1, cap); mb[s] := 0; mc[s] := 0; changed[s] := true;
      end if;
      answer := array[case when known then 2 else 1 end, 0, first_, most];
    else
      answer := array[0, wait_, first_, 0];
    end if;
  end if;
  if mode = 2 then
    delete from {table} t where t.key = any(ks);
  elsif mode = 1 then
    for s in 1 .. subjects loop
      if changed[s] then
        k := (s - 1) * each + 1;
        update {table} t set expiry = me[s], a = ma[s], b = mb[s], c = mc[s] where t.key = ks[k];
        if places[s] > 0 and places[s] <> k then delete from {table} t where t.key = ks[places[s]]; end if;
      end if;
    end loop;
  end if;
  return answer;
end $$;
"""
_MAKE: Final = "select pg_advisory_xact_lock(5321);" + "".join(
    part.format(table=table, unlogged=unlogged)
    for table, unlogged in ((_RATES, "unlogged"), (_STATE, ""))
    for part in (_TABLE, _FUNCTION)
)
_NOW: Final = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
_OLD: Final = f"""\
delete from {{table}} where key in (select key from {{table}}
    where expiry <= {_NOW} limit {_SWEPT} for update skip locked)
"""


class _Connection(Protocol):
    """What is used of asyncpg's connections."""

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the one value of a query."""

    async def fetch(self, query: str, *args: Any) -> Sequence[tuple[Any, ...]]:
        """Return the rows of a query."""

    async def execute(self, query: str) -> str:
        """Do some statements, and return what the last one says of itself."""

    def terminate(self) -> None:
        """Close it at once."""

    def is_closed(self) -> bool:
        """Return whether it is closed."""


class PostgresqlStore:
    """Keeps states in two tables, which it makes: rates in one that is not logged, everything else in one that is.

    Args:
        host: Of the server.
        port: Of the server.
        database: Its name; the user's if "".
        username: None for that of the process.
        password: None for none.
        tls: A context; False for none; "prefer" for TLS with a server that has it, whoever that is; None for what the variable
            PGSSLMODE says, which is "prefer" where it is not set.
        prefix: What its keys begin with.
        timeout: Seconds that connecting may take.
        max_connections: Steps at once; more wait for a connection.
        clock: Replaces the server's time; microseconds since 1970.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        database: str = "",
        username: str | None = None,
        password: str | None = None,
        tls: "ssl.SSLContext | bool | str | None" = None,
        prefix: str = "",
        timeout: float = 0.5,
        max_connections: int = 20,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._where: dict[str, Any] = {
            "host": host,
            "port": port,
            "database": database or None,
            "user": username,
            "password": password,
            "ssl": tls,
            "timeout": timeout,
        }
        self._prefix = prefix.encode("utf-8")
        self._clock = clock
        # Not asyncpg's own pool: a step that is cancelled waits there for a server that hangs.
        self._idle: list[_Connection] = []
        self._room = asyncio.Semaphore(max_connections)
        self._closed = False
        self._swept = dict.fromkeys((_RATES, _STATE), time.monotonic())

    async def step(self, op: Op, keys: Sequence[bytes], args: Sequence[int]) -> Sequence[int]:
        """Do one step.

        Raises:
            StoreError: The server cannot be reached, or says why not.
        """
        table = _RATES if op is Op.GCRA else _STATE
        names = [self._prefix + key for key in keys]
        given = (int(op), names, [*map(int, args)], 0 if self._clock is None else self._clock())
        query = f"select {table}_step($1, $2, $3, $4)"
        async with self._connected() as connection:
            try:
                answer: list[int] = await connection.fetchval(query, *given)
            except asyncpg.UndefinedFunctionError:
                await connection.execute(_MAKE)
                answer = await connection.fetchval(query, *given)
            if time.monotonic() > self._swept[table] + _SWEEP:
                self._swept[table] = time.monotonic()
                if await connection.execute(_OLD.format(table=table)) == f"DELETE {_SWEPT}":
                    # There may be more: the next step goes on, so that they go as fast as they come.
                    self._swept[table] = -math.inf
        return answer

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Connection]:
        """Lend a connection, which is closed if what it was for was not done to its end.

        Raises:
            StoreError: There is none, or what it was for failed.
        """
        try:
            async with self._room:
                connection, done = await self._connection(), False
                try:
                    yield connection
                    done = True
                finally:
                    if done and not self._closed:
                        self._idle.append(connection)
                    else:
                        connection.terminate()
        except _ERRORS as error:
            raise StoreError(_text(error)) from None

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        try:
            return cast(_Connection, await asyncpg.connect(**self._where))
        except Exception as error:  # noqa: BLE001  # it raises all kinds where a server speaks something else
            raise StoreError(_text(error)) from None

    async def ready(self) -> str | None:
        """Return what keeps it from working; None if nothing does."""
        try:
            await self.step(Op.PAIR, (), (1, 0, 0))
        except StoreError as error:
            return str(error)
        return None

    async def fetch(self, keys: Sequence[bytes]) -> list[State | None]:
        """Return the states of some keys."""
        names = [self._prefix + key for key in keys]
        found = {
            bytes(key): State(*more)
            for table in (_RATES, _STATE)
            for key, *more in await self._rows_of(
                f"select * from {table} where key = any($1) and expiry > {_NOW}", names
            )
        }
        return [found.get(name) for name in names]

    async def rows(self) -> AsyncIterator[list[Row]]:
        """Yield all that is kept, some at a time."""
        size = len(self._prefix)
        for table in (_RATES, _STATE):
            last = self._prefix
            query = (
                f"select * from {table} where key > $1 and substr(key, 1, $2) = $3 and expiry > {_NOW} "
                f"order by key limit {_SWEPT}"
            )
            while found := await self._rows_of(query, last, size, self._prefix):
                rows = [Row(bytes(key)[size:], State(*more)) for key, *more in found]
                yield [row for row in rows if is_key(row.key)]
                last = bytes(found[-1][0])

    async def load(self, rows: Sequence[Row]) -> int:
        """Write rows, unless what is there has a later expiry, and return how many were written."""
        written = 0
        for table in (_RATES, _STATE):
            ours = [row for row in rows if row.key.startswith(b"rate_") is (table is _RATES)]
            columns = ", ".join(f"{name} = excluded.{name}" for name in State._fields)
            query = (
                f"insert into {table} select * from unnest($1::bytea[], {', '.join(f'${n}::bigint[]' for n in range(2, 6))}) "
                f"on conflict (key) do update set {columns} where excluded.expiry > {table}.expiry returning 1"
            )
            by_column = [[*column] for column in zip(*(row.state for row in ours), strict=True)] or [[]] * 4
            written += len(await self._rows_of(query, [self._prefix + row.key for row in ours], *by_column))
        return written

    async def _rows_of(self, query: str, *args: Any) -> Sequence[tuple[Any, ...]]:
        """Return what a query finds, the tables made if they are not there."""
        if problem := await self.ready():
            raise StoreError(problem)
        async with self._connected() as connection:
            return await connection.fetch(query, *args)

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()


def _text(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(f"PostgreSQL: {error or type(error).__name__}".split())[:300]
