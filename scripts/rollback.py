"""Serve another build again: an earlier one, or after that a later one."""

import os

import click
import redis

from bought_together.errors import CANNOT_RUN, CannotRun, run, stop
from bought_together.export import redis_url
from bought_together.export.redis_versions import roll_back_redis
from bought_together.storage.builds import roll_back

TIMEOUT_SECONDS = 30.0


@click.command()
@click.argument("build", required=False, envvar="BUILD")
@click.option(
    "--keep-hours",
    type=click.IntRange(1, 24 * 365),
    default=48,
    show_default=True,
    help="How long Redis keeps the build that is left.",
)
@click.option(
    "--lake-path",
    envvar="LAKE_PATH",
    default="data/lake",
    show_envvar=True,
    show_default=True,
    help="Folder of the lake that `dbt build` published to; unused with REDIS_URL.",
)
def main(build: str | None, keep_hours: int, lake_path: str) -> None:
    """Point readers at BUILD, by default at the build before the current one.

    Moves the pointer of the Redis at REDIS_URL where that is set, otherwise the lake's. BUILD may
    be older or newer than the current one. Exit status: 0 done; 2 it could not.
    """
    url = os.environ.get("REDIS_URL", "")
    try:
        if url:
            client = redis_url.connect(
                url,
                socket_connect_timeout=redis_url.CONNECT_SECONDS,
                socket_timeout=TIMEOUT_SECONDS,
            )
            try:
                left, current = roll_back_redis(client, keep_hours * 3600, build or None)
            except redis.RedisError as error:
                raise CannotRun(redis_url.explain(url, error)) from error
        else:
            left, current = roll_back(lake_path, build or None)
    except CannotRun as error:
        stop(str(error), CANNOT_RUN)
    click.echo(f"rolled back from {left} to {current}")


if __name__ == "__main__":
    run(main)
