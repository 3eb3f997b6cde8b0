"""PostgreSQL: the pool, the transaction and the migrations.

The only file that imports asyncpg. A transaction here never waits for ever: locks, idle time and
statements are bounded below Kafka's session time-out, because a stopped process keeps its locks
(platform.md, decision 7), and a taker that meets a lock for the second time ends the session that
holds it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
from alembic import op
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.errors import Fatal, Transient

LOCK_TIMEOUT_SECONDS = 3.0
IDLE_TIMEOUT_SECONDS = 5.0
STATEMENT_TIMEOUT_SECONDS = 30.0

T = TypeVar("T")

_SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MIGRATIONS = Path(__file__).parent / "migrations"
_COMMON_SCHEMA = "bridge"
# One number that all migrations of one database queue up for: "mirakl" in ASCII.
_MIGRATION_LOCK = 0x6D6972616B6C


class Conflict(Transient):
    """A serialisation failure or deadlock: the same transaction succeeds when it is run again."""


class Locked(Transient):
    """A lock was not to be had in time; the next attempt ends the session that holds it."""


class Disconnected(Transient):
    """The connection is gone, or PostgreSQL is not up; whether a commit got through is unknown."""


class Rows:
    """A transaction as a projector sees it: rows in, rows out, and no effect on anybody else."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def execute(self, sql: str, *values: object) -> int:
        """Run a statement; the number of rows that it touched."""
        with _sorted_errors():
            status: str = await self._connection.execute(sql, *values)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def fetch(self, sql: str, *values: object) -> Sequence[Mapping[str, Any]]:
        """All rows."""
        with _sorted_errors():
            rows: Sequence[Mapping[str, Any]] = await self._connection.fetch(sql, *values)
        return rows

    async def fetchrow(self, sql: str, *values: object) -> Mapping[str, Any] | None:
        """The first row, or nothing."""
        with _sorted_errors():
            row: Mapping[str, Any] | None = await self._connection.fetchrow(sql, *values)
        return row

    async def fetchval(self, sql: str, *values: object) -> Any:
        """The first column of the first row, or nothing."""
        with _sorted_errors():
            return await self._connection.fetchval(sql, *values)

    async def copy(self, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
        """Insert many rows by COPY: the driver encodes them at a third of what arrays cost it."""
        with _sorted_errors():
            await self._connection.copy_records_to_table(table, columns=columns, records=rows)


class Database:
    """A pool of connections into one service's schema."""

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool = pool
        self.schema = schema

    @classmethod
    async def connect(
        cls,
        url: str,
        schema: str,
        *,
        application: str,
        connections: int = 4,
        password: Callable[[], str] | None = None,
    ) -> Self:
        """Open a pool of exactly `connections`, so that `bridge check` can add them up.

        `password` is asked for every new connection, where the one in the URL may be an old one.

        Raises:
            Fatal: the schema's name is none.
            Disconnected: PostgreSQL does not answer.
        """
        if not _SCHEMA.fullmatch(schema):
            raise Fatal(f"schema {schema!r}: use lower-case letters, digits and underscores, e.g. order_ingestor")
        try:
            with _sorted_errors():
                pool = await asyncpg.create_pool(
                    url,
                    password=password,
                    min_size=1,
                    max_size=connections,
                    command_timeout=STATEMENT_TIMEOUT_SECONDS,
                    timeout=10.0,
                    max_inactive_connection_lifetime=0,
                    server_settings={
                        "application_name": application,
                        "search_path": schema,
                        "timezone": "UTC",
                        "lock_timeout": f"{int(LOCK_TIMEOUT_SECONDS * 1000)}ms",
                        "idle_in_transaction_session_timeout": f"{int(IDLE_TIMEOUT_SECONDS * 1000)}ms",
                        "statement_timeout": f"{int(STATEMENT_TIMEOUT_SECONDS * 1000)}ms",
                    },
                )
        except Disconnected as error:
            host = urlsplit(url).netloc.rpartition("@")[2]
            raise Disconnected(
                f"{error} at {host}: start it, or give its address as postgres.url or DATABASE_URL"
            ) from error
        return cls(pool, schema)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; those that do not close in time are cut."""
        try:
            async with asyncio.timeout(3):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def transaction(self, *, end_blockers: bool = False) -> AsyncIterator[Rows]:
        """One transaction, committed when the block ends well.

        With `end_blockers`, sessions of our own role that keep this one waiting are terminated: after a
        `Locked`, the second attempt asks for it. A process that was stopped in the middle of a
        statement is not idle for PostgreSQL, and no time-out would ever free its locks.

        Raises:
            Conflict, Locked, Disconnected: see there; what the block itself raises passes as it is.
        """
        with _sorted_errors():
            connection = await self._pool.acquire(timeout=10.0)
        watch = asyncio.create_task(self._end_blockers(connection.get_server_pid())) if end_blockers else None
        try:
            transaction = connection.transaction()
            with _sorted_errors():
                await transaction.start()
            try:
                yield Rows(connection)
            except BaseException:
                with suppress(Transient), _sorted_errors():
                    await transaction.rollback()
                raise
            with _sorted_errors():
                await transaction.commit()
        finally:
            if watch is not None:
                watch.cancel()
            with suppress(Transient), _sorted_errors():
                await self._pool.release(connection)

    async def _end_blockers(self, pid: int) -> None:
        """While session `pid` waits for a lock, end the sessions of our role that hold it."""
        while True:
            await asyncio.sleep(LOCK_TIMEOUT_SECONDS / 6)
            async with self._pool.acquire(timeout=10.0) as connection:
                await connection.execute(
                    """SELECT pg_terminate_backend(blocker.pid)
                       FROM unnest(pg_blocking_pids($1)) AS b(pid)
                       JOIN pg_stat_activity AS blocker ON blocker.pid = b.pid
                       WHERE blocker.usename = current_user""",
                    pid,
                )

    async def fetch(self, sql: str, *values: object) -> Sequence[Mapping[str, Any]]:
        """All rows of one statement outside any transaction of the caller."""
        with _sorted_errors():
            rows: Sequence[Mapping[str, Any]] = await self._pool.fetch(sql, *values, timeout=10.0)
            return rows

    async def fetchrow(self, sql: str, *values: object) -> Mapping[str, Any] | None:
        """The first row of one statement."""
        return next(iter(await self.fetch(sql, *values)), None)

    async def fetchval(self, sql: str, *values: object) -> Any:
        """The first column of the first row of one statement."""
        row = await self.fetchrow(sql, *values)
        return None if row is None else next(iter(row.values()))

    async def execute(self, sql: str, *values: object) -> None:
        """One statement in a transaction of its own."""
        with _sorted_errors():
            await self._pool.execute(sql, *values, timeout=10.0)


class _sorted_errors:
    """asyncpg's errors as ours, sorted by what must happen next."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        match error:
            case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError():
                raise Conflict(type(error).__name__) from error
            case asyncpg.LockNotAvailableError():
                raise Locked(f"a lock was not to be had within {LOCK_TIMEOUT_SECONDS:g} s") from error
            case asyncpg.QueryCanceledError():
                raise Locked("a statement took too long and was cancelled") from error
            case asyncpg.TooManyConnectionsError():
                raise Disconnected("PostgreSQL has no connection left: add up the pools with `bridge check`") from error
            case (
                asyncpg.PostgresConnectionError()
                | asyncpg.IdleInTransactionSessionTimeoutError()
                | asyncpg.OperatorInterventionError()
                | asyncpg.InternalClientError()
                | asyncpg.InterfaceError()
                | ConnectionError()
                | TimeoutError()
                | OSError()
            ):
                raise Disconnected(f"PostgreSQL: {type(error).__name__}") from error


async def patiently(
    attempt: Callable[[bool], Coroutine[Any, Any, T]], *, attempts: int = 8, pause_seconds: float = 0.05
) -> T:
    """Run one transaction until it gets through: conflicts are repeated, locks taken the second time.

    `attempt` is called with whether blockers are to be ended. A lost connection is not repeated here:
    the caller must first see whether its commit got through.

    Raises:
        Conflict, Locked: still after `attempts`.
    """
    end_blockers = False
    for count in range(1, attempts + 1):
        try:
            return await attempt(end_blockers)
        except (Conflict, Locked) as error:
            if count == attempts:
                raise
            end_blockers = end_blockers or isinstance(error, Locked)
            await asyncio.sleep(pause_seconds * count)
    raise AssertionError("unreachable")


async def ping(url: str) -> None:
    """One query, as proof that PostgreSQL answers.

    Raises:
        Disconnected: it does not.
    """
    with _sorted_errors():
        connection = await asyncpg.connect(url, timeout=2.0)
        try:
            await connection.fetchval("SELECT 1", timeout=2.0)
        finally:
            await connection.close(timeout=2.0)


async def create_database(server_url: str, name: str) -> str:
    """Create an empty database beside the one `server_url` names; its URL."""
    if not _SCHEMA.fullmatch(name):
        raise Fatal(f"database {name!r}: use lower-case letters, digits and underscores")
    with _sorted_errors():
        connection = await asyncpg.connect(server_url, timeout=10.0)
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
    parts = urlsplit(server_url)
    return urlunsplit(parts._replace(path="/" + quote(name)))


async def migrate(url: str, schema: str, own: Path | None = None) -> None:
    """Bring one service's schema up to date: what all share, the mechanism's tables, the service's `own` folder.

    Safe to run from many processes at once: they queue for one advisory lock, and each revision is
    applied in one transaction with the note that it was.

    Raises:
        Fatal: the schema's name is none.
        Disconnected: PostgreSQL does not answer.
    """
    if not _SCHEMA.fullmatch(schema):
        raise Fatal(f"schema {schema!r}: use lower-case letters, digits and underscores, e.g. order_ingestor")
    # The driver reads the URL itself: SQLAlchemy would not know sslmode and its like.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        async_creator=lambda: asyncpg.connect(url, server_settings={"search_path": schema, "timezone": "UTC"}),
    )
    try:
        with _sorted_errors():
            async with engine.connect() as connection:
                await connection.execute(text(f"SELECT pg_advisory_lock({_MIGRATION_LOCK})"))
                for name in (_COMMON_SCHEMA, schema):
                    await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{name}"'))
                await connection.commit()
                try:
                    await connection.run_sync(_upgrade, _COMMON_SCHEMA, _MIGRATIONS / "common", "common_version")
                    await connection.run_sync(_upgrade, schema, _MIGRATIONS / "service", "mechanism_version")
                    if own is not None:
                        await connection.run_sync(_upgrade, schema, own, "service_version")
                finally:
                    await connection.execute(text(f"SELECT pg_advisory_unlock({_MIGRATION_LOCK})"))
                    await connection.commit()
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, schema: str, folder: Path, version_table: str) -> None:
    script = ScriptDirectory(str(folder))
    with EnvironmentContext(Config(), script, fn=lambda rev, _: script._upgrade_revs("head", rev)) as environment:
        environment.configure(
            connection=connection,
            version_table=version_table,
            version_table_schema=schema,
            transaction_per_migration=True,
        )
        with environment.begin_transaction():
            environment.run_migrations()
    connection.commit()


def apply_sql_beside(revision_file: str) -> None:
    """Run the `.sql` file of the same name as a revision's `.py`, inside alembic's transaction."""
    sql = Path(revision_file).with_suffix(".sql").read_text()
    connection = op.get_bind()
    # A statement through the adapter opens the transaction that the script then runs in; the script
    # itself has many statements, which only the driver's own simple protocol takes.
    connection.execute(text("SELECT 1"))
    connection.connection.dbapi_connection.run_async(lambda driver: driver.execute(sql))  # type: ignore[union-attr]
