"""The two backends of the service: the lake's export in memory, and Redis.

A backend has one current version, which it replaces as a whole. A request uses a single version,
so that no answer mixes two.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, cast

import pyarrow as pa
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from bought_together.errors import storage_errors
from bought_together.export import redis_url
from bought_together.export.answers import ANSWERS, CATALOGUE, encode_answers
from bought_together.export.read import moment, read_export, read_published
from bought_together.export.redis_versions import Keys, current_id, read_version, version_of
from bought_together.service.catalogue import Catalogue
from bought_together.storage.builds import read_report

# The shop's page waits for an answer: two tries, the second on a new connection.
REDIS_SECONDS = 1.0
REDIS_CONNECTIONS = 64
AWAY = "Redis is unavailable"  # the log has the reason, with the address


class Unavailable(Exception):
    """There is no answer now, but there may be one soon; clients get the message, one line."""


class Version(Protocol):
    """One version of all answers."""

    @property
    def name(self) -> str: ...

    @property
    def built_at(self) -> datetime: ...

    @property
    def newest_ordered_at(self) -> datetime | None: ...

    @property
    def catalogue(self) -> Catalogue: ...

    async def answers(self, product_ids: list[str]) -> list[bytes | None]:
        """Return the encoded answer of each product, None for an unknown one.

        Raises Unavailable.
        """


class Backend(Protocol):
    """A place that versions come from."""

    @property
    def current(self) -> Version | None: ...

    async def refresh(self) -> None:
        """Load the newest version unless it is current; raises CannotRun."""

    async def report(self, version: Version) -> str | None:
        """Return the report on a version, an HTML page; None where there is none.

        Raises Unavailable.
        """

    async def check(self) -> None:
        """Raise Unavailable when the current version cannot answer."""

    async def close(self) -> None:
        """Close all connections."""


@dataclass(frozen=True)
class VersionInMemory:
    name: str
    built_at: datetime
    newest_ordered_at: datetime | None
    catalogue: Catalogue
    encoded: pa.ChunkedArray  # an answer for each row of the catalogue

    async def answers(self, product_ids: list[str]) -> list[bytes | None]:
        rows = map(self.catalogue.rows.get, product_ids)
        return [None if row is None else self.encoded[row].as_py() for row in rows]


class LakeBackend:
    """The published build of a lake, loaded into memory whenever it changes."""

    def __init__(self, lake_path: str) -> None:
        self.lake_path = lake_path
        self.current: VersionInMemory | None = None

    async def refresh(self) -> None:
        published = await asyncio.to_thread(read_published, self.lake_path)
        if self.current is None or published["build"] != self.current.name:
            self.current = await asyncio.to_thread(load, self.lake_path)
            await asyncio.to_thread(pa.default_memory_pool().release_unused)  # the old version

    async def report(self, version: Version) -> str | None:
        """Read it whenever it is asked for: people write it after the build, and few read it."""
        try:
            return await asyncio.to_thread(read_report, self.lake_path, version.name)
        except storage_errors(UnicodeDecodeError) as error:
            raise Unavailable("the report cannot be read") from error

    async def check(self) -> None:
        """A version in memory can always answer."""

    async def close(self) -> None:
        """There are no connections."""


def load(lake_path: str) -> VersionInMemory:
    """Return the published version of a lake; raises CannotRun."""
    export = read_export(lake_path)
    answers = pa.Table.from_batches(encode_answers(export), ANSWERS)
    catalogue = Catalogue(answers.select(CATALOGUE.names))
    return VersionInMemory(
        export.version, export.built_at, export.newest_ordered_at, catalogue, answers["answer"]
    )


@dataclass(frozen=True)
class VersionInRedis:
    name: str
    built_at: datetime
    newest_ordered_at: datetime | None
    catalogue: Catalogue
    client: redis.asyncio.Redis
    answers_key: str

    async def answers(self, product_ids: list[str]) -> list[bytes | None]:
        """Send one request to Redis, for any number of products."""
        try:
            if len(product_ids) == 1:
                found = [await self.client.hget(self.answers_key, product_ids[0])]
            else:
                found = await self.client.hmget(self.answers_key, product_ids)
        except redis_url.ERRORS as error:
            raise Unavailable(AWAY) from error
        for product_id, answer in zip(product_ids, found, strict=True):
            if answer is None and product_id in self.catalogue.rows:
                raise Unavailable(f"{self.name} is incomplete in Redis")
        return cast("list[bytes | None]", found)  # the client decodes nothing

    async def check(self) -> None:
        try:
            found = await self.client.hlen(self.answers_key)
        except redis_url.ERRORS as error:
            raise Unavailable(AWAY) from error
        if found != len(self.catalogue):
            raise Unavailable(f"{self.name} is incomplete in Redis")


class RedisBackend:
    """The versions in Redis, whose pointer names the current one."""

    def __init__(self, address: str, prefix: str) -> None:
        self.address = address
        self.keys = Keys(prefix)
        self.current: VersionInRedis | None = None
        self.timeouts = {"socket_connect_timeout": REDIS_SECONDS, "socket_timeout": REDIS_SECONDS}
        self.client = redis_url.connect_async(
            address, REDIS_CONNECTIONS, retry=AsyncRetry(NoBackoff(), 1), **self.timeouts
        )
        self.refresh_client: redis.Redis | None = None

    async def refresh(self) -> None:
        with redis_url.explained(self.address):
            self.current = await asyncio.to_thread(self.read_current)

    def read_current(self) -> VersionInRedis:
        """Return the current version in Redis; raises CannotRun when it is incomplete."""
        if self.refresh_client is None:
            self.refresh_client = redis_url.connect(
                self.address, retry=Retry(NoBackoff(), 1), **self.timeouts
            )
        published_id = current_id(self.refresh_client, self.keys)
        answers_key = self.keys.part(published_id, "answers")
        if self.current and self.current.answers_key == answers_key:
            return self.current
        manifest, products = read_version(self.refresh_client, self.keys, published_id)
        return VersionInRedis(
            version_of(published_id),
            datetime.fromisoformat(manifest["built_at"]),
            moment(manifest["newest_ordered_at"]),
            Catalogue(products),
            self.client,
            answers_key,
        )

    async def report(self, version: Version) -> str | None:
        """Redis holds no report, and the service reads no lake beside it."""
        return None

    async def check(self) -> None:
        if self.current:
            await self.current.check()

    async def close(self) -> None:
        if self.refresh_client:
            self.refresh_client.close()
        await self.client.aclose()
