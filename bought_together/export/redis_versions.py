"""The published versions in Redis: each is complete, and a pointer names the current one.

    <prefix>:current         the id of the current version: version, dot, random part, hash tag
    <prefix>:<id>:manifest   JSON: version, run, built_at, newest_ordered_at, products
    <prefix>:<id>:answers    hash: product id -> the encoded answer
    <prefix>:<id>:products   the catalogue, as Parquet

A version that is being written, or is no longer current, has a time to live; the current one has
none. Each publish writes to its own keys, so that no other publish can damage them.
"""

import json
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import redis

from bought_together.errors import CannotRun
from bought_together.export.answers import CATALOGUE
from bought_together.export.read import Export
from bought_together.storage.builds import Manifest, age

PARTS = ("manifest", "answers", "products")
# As earlier releases published it: without basket counts.
EARLIER_CATALOGUE = CATALOGUE.remove(CATALOGUE.get_field_index("basket_count"))
# The keys of a killed publish expire this long after its last batch.
UNFINISHED_KEPT_SECONDS = 3600


class NotInRedis(CannotRun):
    """Redis does not hold the version, or only a part of it."""


@dataclass(frozen=True)
class Keys:
    """The names of the keys of one shop; shops that share a Redis differ in their prefix.

    Raises CannotRun for a prefix with other characters than letters, digits and `:._-`.
    """

    prefix: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9:._-]+", self.prefix):
            raise CannotRun("REDIS_PREFIX may have letters, digits and the characters : . _ -")

    @property
    def current(self) -> str:
        return f"{self.prefix}:current"

    def part(self, published_id: str, part: str) -> str:
        return f"{self.prefix}:{published_id}:{part}"

    def parts(self, published_id: str) -> list[str]:
        return [self.part(published_id, part) for part in PARTS]

    def new_id(self, version: str) -> str:
        """Return a new id for a version.

        Redis Cluster hashes only the text between braces, so all keys are in the hash slot of the
        pointer, and one transaction can change them.
        """
        return f"{version}.{secrets.token_hex(4)}{{{self.current}}}"

    def id_of(self, manifest_key: str) -> str | None:
        """Return the id in the name of a manifest; None for one of a longer prefix."""
        published_id = manifest_key.removeprefix(f"{self.prefix}:").removesuffix(":manifest")
        return None if ":" in version_of(published_id) else published_id


def version_of(published_id: str) -> str:
    return published_id.split(".")[0]


def publish(
    client: redis.Redis,
    keys: Keys,
    export: Export,
    batches: Iterable[pa.RecordBatch],
    keep_seconds: int,
    is_rollback: bool = False,
) -> int:
    """Write a build beside the others, check it, move the pointer, and return its product count.

    `batches` are the export's answers (ANSWERS). Redis keeps the replaced version for
    `keep_seconds`. Raises CannotRun when answers are missing in Redis or, except for a rollback, a
    newer build is current, and redis.RedisError. In both cases the pointer stays.
    """
    published_id = keys.new_id(export.version)
    answers_key = keys.part(published_id, "answers")
    products = []
    for batch in batches:
        products.append(batch.select(CATALOGUE.names))
        if fields := encoded_by_id(batch):
            with client.pipeline(transaction=True) as pipe:
                pipe.hset(answers_key, mapping=cast("dict[Any, Any]", fields))
                pipe.expire(answers_key, UNFINISHED_KEPT_SECONDS)
                pipe.execute()
    table = pa.Table.from_batches(products, CATALOGUE)
    products_key = keys.part(published_id, "products")
    client.set(products_key, as_parquet(table), ex=UNFINISHED_KEPT_SECONDS)
    if (arrived := client.hlen(answers_key)) != table.num_rows:
        raise CannotRun(
            f"only {arrived:,} of {table.num_rows:,} answers arrived in Redis: publish again"
        )
    manifest = manifest_of(export, table.num_rows)
    move_current(client, keys, published_id, keep_seconds, manifest, is_rollback)
    return table.num_rows


def encoded_by_id(batch: pa.RecordBatch) -> dict[str, bytes]:
    ids, answers = (batch[name].to_pylist() for name in ("product_id", "answer"))
    return dict(zip(ids, answers, strict=True))


def manifest_of(export: Export, products: int) -> Manifest:
    newest = export.newest_ordered_at
    return {
        "version": export.version,
        "run": export.run,
        "built_at": export.built_at.isoformat(),
        "newest_ordered_at": newest.isoformat() if newest else None,
        "products": products,
    }


def manifest_json(manifest: Manifest) -> bytes:
    return json.dumps(manifest).encode()


def as_parquet(table: pa.Table) -> bytes:
    file = BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def move_current(
    client: redis.Redis,
    keys: Keys,
    published_id: str,
    keep_seconds: int,
    manifest: Manifest | None,
    is_rollback: bool,
) -> None:
    """Make a version current, and set its time to live and the replaced one's in the same step.

    With a `manifest` the version is new; without, it was published before. Raises CannotRun when a
    newer one is current, except for a rollback, and NotInRedis when a part has expired.
    """
    parts = keys.parts(published_id)

    def move(pipe: redis.client.Pipeline) -> None:
        previous = read_current_id(pipe, keys)
        replaced = read_manifest(pipe, keys, previous) if previous else None
        if manifest and replaced and not is_rollback:
            refuse_older(manifest, replaced)
        if manifest is None and whole(pipe, keys, published_id) is None:
            raise NotInRedis(f"{version_of(published_id)} has expired in Redis")
        left = [part for part in keys.parts(previous) if pipe.exists(part)] if previous else []
        pipe.multi()
        for part in left:
            pipe.expire(part, keep_seconds)
        if manifest:
            pipe.set(keys.part(published_id, "manifest"), manifest_json(manifest))
        for part in parts:
            pipe.persist(part)
        pipe.set(keys.current, published_id)

    client.transaction(move, keys.current, *parts)


def refuse_older(manifest: Manifest, current: Manifest) -> None:
    """Raise CannotRun when a build is older than the current one."""
    if age(current) > age(manifest):
        raise CannotRun(
            f"Redis serves {current['version']}, which is newer than {manifest['version']}:"
            " to serve an older build again, use `make rollback`"
        )


def roll_back_redis(
    client: redis.Redis, keys: Keys, keep_seconds: int, version: str | None = None
) -> tuple[str, str]:
    """Point readers to `version`, by default the one before the current; return (left, current).

    Raises NotInRedis when Redis does not hold that version, CannotRun when nothing is current, and
    redis.RedisError.
    """
    left = current_id(client, keys)
    found = {one: whole(client, keys, one) for one in held_ids(client, keys)}
    held = {one: manifest for one, manifest in found.items() if manifest}
    if version is None:
        current = read_manifest(client, keys, left)
        if current is None:
            raise NotInRedis(f"{incomplete(left)}, or name a build with BUILD=<id>")
        before = [one for one in held if age(held[one]) < age(current)]
        if not before:
            raise NotInRedis(
                f"Redis holds no build before {version_of(left)}: nothing to go back to;"
                " BUILD=<id> publishes any build that the lake holds"
            )
        target = max(before, key=lambda one: age(held[one]))
    else:
        named = [one for one in held if held[one]["version"] == version]
        if not named:
            raise NotInRedis(f"{version} is not in Redis: it has expired, or was never published")
        target = left if left in named else named[0]
    move_current(client, keys, target, keep_seconds, None, is_rollback=True)
    return version_of(left), version_of(target)


def held_ids(client: redis.Redis, keys: Keys) -> set[str]:
    """Return the ids of all versions that have a manifest."""
    names = client.scan_iter(f"{keys.prefix}:*:manifest")
    return {found for name in names if (found := keys.id_of(name.decode(errors="replace")))}


def read_current_id(client: redis.Redis, keys: Keys) -> str | None:
    """Return the id of the current version, None when there is none."""
    with wrong_type_is_missing():
        current = cast("bytes | None", client.get(keys.current))
        return current.decode(errors="replace") if current else None
    return None


def current_id(client: redis.Redis, keys: Keys) -> str:
    """Return the id of the current version; raises CannotRun when there is none."""
    if current := read_current_id(client, keys):
        return current
    raise CannotRun("nothing is published to Redis yet: run `make publish` first")


def read_manifest(client: redis.Redis, keys: Keys, published_id: str) -> Manifest | None:
    """Return the manifest of a version, None when it is missing or damaged."""
    with wrong_type_is_missing(), suppress(ValueError, KeyError, TypeError):
        content = cast("bytes | None", client.get(keys.part(published_id, "manifest")))
        manifest = json.loads(content or b"null")
        names = ("version", "run", "built_at", "products")
        return {name: manifest[name] for name in names} | {
            "newest_ordered_at": manifest.get("newest_ordered_at")
        }
    return None


def whole(client: redis.Redis, keys: Keys, published_id: str) -> Manifest | None:
    """Return the manifest of a version that has all its parts, None for any other."""
    with wrong_type_is_missing():
        manifest = read_manifest(client, keys, published_id)
        if (
            manifest
            and client.exists(keys.part(published_id, "products"))
            and client.hlen(keys.part(published_id, "answers")) == manifest["products"]
        ):
            return manifest
    return None


def read_version(client: redis.Redis, keys: Keys, published_id: str) -> tuple[Manifest, pa.Table]:
    """Return the manifest and catalogue of a version; raises CannotRun when a part is missing.

    The catalogue of a version that an earlier release published has no basket counts.
    """
    with wrong_type_is_missing(), suppress(pa.ArrowException):
        if manifest := whole(client, keys, published_id):
            content = cast("bytes | None", client.get(keys.part(published_id, "products")))
            products = pq.read_table(BytesIO(content or b""))
            is_known = products.schema in (CATALOGUE, EARLIER_CATALOGUE)
            if is_known and products.num_rows == manifest["products"]:
                return manifest, products
    raise CannotRun(incomplete(published_id))


def incomplete(published_id: str) -> str:
    return f"{version_of(published_id)} is incomplete in Redis: publish again"


def is_published(
    client: redis.Redis, keys: Keys, export: Export, batches: Iterable[pa.RecordBatch]
) -> bool:
    """Return whether the current version is this export, with every part as it was written.

    Reads and compares all of it: a repeated publish mends whatever Redis has lost.
    """
    published_id = read_current_id(client, keys)
    if published_id is None or version_of(published_id) != export.version:
        return False
    with wrong_type_is_missing():
        products = []
        for batch in batches:
            products.append(batch.select(CATALOGUE.names))
            answers = encoded_by_id(batch)
            answers_key = keys.part(published_id, "answers")
            if answers and client.hmget(answers_key, list(answers)) != list(answers.values()):
                return False
        table = pa.Table.from_batches(products, CATALOGUE)
        manifest = manifest_json(manifest_of(export, table.num_rows))
        stays = all(client.ttl(part) == -1 for part in keys.parts(published_id))
        return (
            (stays or not table.num_rows)  # Redis keeps no empty hash
            and client.hlen(keys.part(published_id, "answers")) == table.num_rows
            and client.get(keys.part(published_id, "products")) == as_parquet(table)
            and client.get(keys.part(published_id, "manifest")) == manifest
        )
    return False


@contextmanager
def wrong_type_is_missing() -> Iterator[None]:
    """Suppress the error of a key that holds another type of value."""
    try:
        yield
    except redis.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
