"""Serve another build again: an earlier one, or after that a later one."""

import os
from typing import TYPE_CHECKING

import click

from bought_together.cli import lake_path_option, program, redis_prefix_option
from bought_together.errors import CannotRun

if TYPE_CHECKING:
    import redis

    from bought_together.export.redis_versions import Keys

TIMEOUT_SECONDS = 30.0


def roll_back_in_redis(
    client: "redis.Redis", keys: "Keys", lake_path: str, keep_seconds: int, build: str | None
) -> tuple[str, str]:
    """Return the build that was left and the one that is current.

    A build that is named and no longer in Redis is published again from the lake.
    """
    from bought_together.export.answers import encode_answers
    from bought_together.export.read import read_build
    from bought_together.export.redis_versions import (
        NotInRedis,
        current_id,
        publish,
        roll_back_redis,
        version_of,
    )

    try:
        return roll_back_redis(client, keys, keep_seconds, build)
    except NotInRedis as missing:
        if build is None:
            raise
        try:
            export = read_build(lake_path, build)
        except CannotRun as error:
            raise CannotRun(f"{missing}; {error}") from error
    left = version_of(current_id(client, keys))
    publish(client, keys, export, encode_answers(export), keep_seconds, is_rollback=True)
    return left, export.version


@program
@click.argument("build", required=False, envvar="BUILD")
@click.option(
    "--keep-hours",
    type=click.IntRange(1, 24 * 365),
    default=48,
    help="How long Redis keeps the build that is left.",
)
@redis_prefix_option
@lake_path_option
def main(build: str | None, keep_hours: int, redis_prefix: str, lake_path: str) -> None:
    """Point readers at BUILD, by default at the build before the current one.

    Moves the pointer of the Redis at REDIS_URL where that is set, otherwise the lake's. BUILD may
    be older or newer than the current one. If Redis no longer holds it and the lake does, it is
    published again from there. Exit status: 0 done; 2 it could not.
    """
    from bought_together.export import redis_url
    from bought_together.export.redis_versions import Keys
    from bought_together.storage.builds import roll_back

    if url := os.environ.get("REDIS_URL"):
        keys = Keys(redis_prefix)
        client = redis_url.connect(
            url, socket_connect_timeout=redis_url.CONNECT_SECONDS, socket_timeout=TIMEOUT_SECONDS
        )
        with redis_url.explained(url):
            left, current = roll_back_in_redis(
                client, keys, lake_path, keep_hours * 3600, build or None
            )
    else:
        left, current = roll_back(lake_path, build or None)
    click.echo(f"rolled back from {left} to {current}")


if __name__ == "__main__":
    main()
