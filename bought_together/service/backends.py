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
from redis.backoff import NoBackoff
from redis.retry import Retry

from bought_together.export import redis_url
from bought_together.export.answers import ANSWERS, CATALOGUE, encode_answers
from bought_together.export.read import read_export, read_published
from bought_together.export.redis_versions import key, read_current_id, read_version, version_of
from bought_together.service.catalogue import Catalogue

# The shop's page waits for an answer: two tries, the second on a new connection.
REDIS_SECONDS = 1.0
REDIS_CONNECTIONS = 64


class Unavailable(Exception):
    """There is no answer now, but there may be one soon; the message is the reason, in one line."""


class Version(Protocol):
    """One version of all answers."""

    @property
    def name(self) -> str: ...

    @property
    def built_at(self) -> datetime: ...

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
        """Load the newest version unless it is current; raises CannotRun and Unavailable."""

    async def check(self) -> None:
        """Raise Unavailable when the current version cannot answer."""

    async def close(self) -> None:
        """Close all connections."""


@dataclass(frozen=True)
class VersionInMemory:
    name: str
    built_at: datetime
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

    async def check(self) -> None:
        """A version in memory can always answer."""

    async def close(self) -> None:
        """There are no connections."""


def load(lake_path: str) -> VersionInMemory:
    """Return the published version of a lake; raises CannotRun."""
    export = read_export(lake_path)
    answers = pa.Table.from_batches(encode_answers(export), ANSWERS)
    catalogue = Catalogue(answers.select(CATALOGUE.names))
    return VersionInMemory(export.version, export.built_at, catalogue, answers["answer"])


@dataclass(frozen=True)
class VersionInRedis:
    name: str
    built_at: datetime
    catalogue: Catalogue
    client: redis.asyncio.Redis
    published_id: str
    address: str

    async def answers(self, product_ids: list[str]) -> list[bytes | None]:
        """Send one request to Redis, for any number of products."""
        answers_key = key(self.published_id, "answers")
        try:
            if len(product_ids) == 1:
                found = [await self.client.hget(answers_key, product_ids[0])]
            else:
                found = await self.client.hmget(answers_key, product_ids)
        except (redis.RedisError, OSError) as error:
            raise Unavailable(redis_url.explain(self.address, error)) from error
        for product_id, answer in zip(product_ids, found, strict=True):
            if answer is None and product_id in self.catalogue.rows:
                raise Unavailable(f"{self.name} is incomplete in Redis")
        return cast("list[bytes | None]", found)  # the client decodes nothing


class RedisBackend:
    """The versions in Redis, whose pointer names the current one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.current: VersionInRedis | None = None
        timeouts = {"socket_connect_timeout": REDIS_SECONDS, "socket_timeout": REDIS_SECONDS}
        pool = redis_url.connect(
            address,
            redis.asyncio.BlockingConnectionPool,
            max_connections=REDIS_CONNECTIONS,
            timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 1),
            **timeouts,
        )
        self.client = redis.asyncio.Redis.from_pool(pool)
        self.refresh_client: redis.Redis = redis_url.connect(address, **timeouts)

    async def refresh(self) -> None:
        try:
            self.current = await asyncio.to_thread(self.read_current)
        except (redis.RedisError, OSError) as error:
            raise Unavailable(redis_url.explain(self.address, error)) from error

    def read_current(self) -> VersionInRedis:
        """Return the current version in Redis; raises CannotRun when it is incomplete."""
        published_id = read_current_id(self.refresh_client)
        if self.current and self.current.published_id == published_id:
            return self.current
        built_at, products = read_version(self.refresh_client, published_id)
        return VersionInRedis(
            version_of(published_id),
            built_at,
            Catalogue(products),
            self.client,
            published_id,
            self.address,
        )

    async def check(self) -> None:
        try:
            if self.current:
                found = await self.client.hlen(key(self.current.published_id, "answers"))
                if found != len(self.current.catalogue):
                    raise Unavailable(f"{self.current.name} is incomplete in Redis")
        except (redis.RedisError, OSError) as error:
            raise Unavailable(redis_url.explain(self.address, error)) from error

    async def close(self) -> None:
        self.refresh_client.close()
        await self.client.aclose()
