"""The published versions in Redis: each is complete, and a pointer names the current one.

    bought-together:current         the id of the current version: version, dot, random part
    bought-together:<id>:manifest   JSON: version, run, built_at, products, previous (an id or null)
    bought-together:<id>:answers    hash: product id -> the encoded answer
    bought-together:<id>:products   the catalogue, as Parquet

A version that is being written, or is no longer current, has a time to live; the current one has
none. Each publish writes to its own keys, so that no other publish can damage them.
"""

import json
import secrets
from collections.abc import Iterable
from datetime import datetime
from glob import escape as escape_pattern
from io import BytesIO
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import redis

from bought_together.errors import CannotRun
from bought_together.export.answers import CATALOGUE
from bought_together.export.read import Export
from bought_together.storage.builds import age

CURRENT_KEY = "bought-together:current"
PARTS = ("manifest", "answers", "products")
# The keys of a killed publish expire this long after its last batch.
UNFINISHED_KEPT_SECONDS = 3600


def key(published_id: str, part: str) -> str:
    return f"bought-together:{published_id}:{part}"


def version_of(published_id: str) -> str:
    return published_id.split(".")[0]


def publish(
    client: redis.Redis, export: Export, batches: Iterable[pa.RecordBatch], keep_seconds: int
) -> int:
    """Write a build beside the others, check it, move the pointer, and return its product count.

    `batches` are the export's answers (ANSWERS). Redis keeps the replaced version for
    `keep_seconds`. Raises CannotRun when answers are missing in Redis or a newer build is current,
    and redis.RedisError. In both cases the pointer stays.
    """
    published_id = f"{export.version}.{secrets.token_hex(4)}"
    answers_key = key(published_id, "answers")
    products = []
    for batch in batches:
        products.append(batch.select(CATALOGUE.names))
        ids, answers = (batch[name].to_pylist() for name in ("product_id", "answer"))
        fields = dict(zip(ids, answers, strict=True))
        with client.pipeline(transaction=True) as pipe:
            if fields:
                pipe.hset(answers_key, mapping=fields)
            pipe.expire(answers_key, UNFINISHED_KEPT_SECONDS)
            pipe.execute()
    table = pa.Table.from_batches(products, CATALOGUE)
    client.set(key(published_id, "products"), as_parquet(table), ex=UNFINISHED_KEPT_SECONDS)
    if (arrived := client.hlen(answers_key)) != table.num_rows:
        raise CannotRun(
            f"only {arrived:,} of {table.num_rows:,} answers arrived in Redis: publish again"
        )
    manifest = {
        "version": export.version,
        "run": export.run,
        "built_at": export.built_at.isoformat(),
        "products": table.num_rows,
    }
    move_pointer(client, published_id, keep_seconds, manifest)
    return table.num_rows


def as_parquet(table: pa.Table) -> bytes:
    file = BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def move_pointer(
    client: redis.Redis,
    published_id: str,
    keep_seconds: int,
    manifest: dict[str, Any] | None = None,
) -> None:
    """Make a version current, and set its time to live and the replaced one's in the same step.

    With a `manifest` the version is new and must not be older than the current one. Without, it
    was published before.
    """

    def move(pipe: redis.client.Pipeline) -> None:
        current = cast("bytes | None", pipe.get(CURRENT_KEY))
        previous = current.decode() if current else None
        if previous and manifest and (replaced := pipe.get(key(previous, "manifest"))):
            refuse_older(manifest, json.loads(cast("bytes", replaced)))
        pipe.multi()
        if manifest:
            content = json.dumps(manifest | {"previous": previous})
            pipe.set(key(published_id, "manifest"), content)
        for part in PARTS:
            if previous:
                pipe.expire(key(previous, part), keep_seconds)
            pipe.persist(key(published_id, part))
        pipe.set(CURRENT_KEY, published_id)

    client.transaction(move, CURRENT_KEY)


def refuse_older(manifest: dict[str, Any], current: dict[str, Any]) -> None:
    """Raise CannotRun when a build is older than the current one."""
    if age(current) > age(manifest):
        raise CannotRun(
            f"Redis serves {current['version']}, which is newer than {manifest['version']}:"
            " to serve an older build again, use `make rollback`"
        )


def roll_back_redis(
    client: redis.Redis, keep_seconds: int, version: str | None = None
) -> tuple[str, str]:
    """Point readers to `version`, by default the previous one; return (left, current).

    Raises CannotRun when Redis no longer has that version, and redis.RedisError.
    """
    left = read_current_id(client)
    target = find_id(client, version) if version else read_manifest(client, left)["previous"]
    if target is None:
        raise CannotRun(f"nothing was published before {version_of(left)}: nothing to go back to")
    if client.exists(*(key(target, part) for part in PARTS)) < len(PARTS):
        raise CannotRun(f"{version_of(target)} has expired in Redis: name another with BUILD=<id>")
    move_pointer(client, target, keep_seconds)
    return version_of(left), version_of(target)


def find_id(client: redis.Redis, version: str) -> str:
    """Return the id of a published version; raises CannotRun when Redis does not have it."""
    start, end = key("", "manifest").split("::")
    pattern = f"{start}:{escape_pattern(version)}.*:{end}"
    for found in client.scan_iter(pattern):
        return found.decode().removeprefix(f"{start}:").removesuffix(f":{end}")
    raise CannotRun(f"{version} is not in Redis: it has expired, or was never published")


def read_current_id(client: redis.Redis) -> str:
    """Return the id of the current version; raises CannotRun when there is none."""
    current = cast("bytes | None", client.get(CURRENT_KEY))
    if current is None:
        raise CannotRun("nothing is published to Redis yet: run `make publish` first")
    return current.decode()


def read_manifest(client: redis.Redis, published_id: str) -> dict[str, Any]:
    """Return the manifest of a published version; raises CannotRun when it is missing."""
    manifest = client.get(key(published_id, "manifest"))
    if manifest is None:
        raise CannotRun(f"{version_of(published_id)} is incomplete in Redis: publish a new build")
    return json.loads(manifest)


def is_whole(client: redis.Redis, published_id: str, version: str) -> bool:
    """Return whether the id is of this version, and no part of it is missing."""
    try:
        read_version(client, published_id)
    except CannotRun:
        return False
    return version_of(published_id) == version


def read_version(client: redis.Redis, published_id: str) -> tuple[datetime, pa.Table]:
    """Return the build time and catalogue of a version; raises CannotRun when a part is missing."""
    manifest = read_manifest(client, published_id)
    products = cast("bytes | None", client.get(key(published_id, "products")))
    if products is None or client.hlen(key(published_id, "answers")) != manifest["products"]:
        raise CannotRun(f"{version_of(published_id)} is incomplete in Redis: publish a new build")
    return datetime.fromisoformat(manifest["built_at"]), pq.read_table(BytesIO(products))
