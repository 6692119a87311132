"""Publish the recommendations to Redis, where any number of service processes read them."""

import os
import time
from typing import TYPE_CHECKING

import click

from bought_together.cli import lake_path_option, program, redis_prefix_option
from bought_together.errors import CannotRun

if TYPE_CHECKING:
    import redis

    from bought_together.export.redis_versions import Keys

TIMEOUT_SECONDS = 30.0


def publish_lake(client: "redis.Redis", keys: "Keys", lake_path: str, keep_seconds: int) -> None:
    from bought_together.export.answers import encode_answers
    from bought_together.export.read import read_export
    from bought_together.export.redis_versions import is_published, publish

    began = time.monotonic()
    export = read_export(lake_path)
    if is_published(client, keys, export, encode_answers(export)):
        click.echo(f"published  {export.version} already: nothing to do")
        return
    products = publish(client, keys, export, encode_answers(export), keep_seconds)
    seconds = time.monotonic() - began
    click.echo(f"published  {export.version}: {products:,} products in {seconds:.1f} s")


@program
@click.option(
    "--keep-hours",
    type=click.IntRange(1, 24 * 365),
    default=48,
    help="How long the version that is replaced can be rolled back to.",
)
@redis_prefix_option
@lake_path_option
def main(keep_hours: int, redis_prefix: str, lake_path: str) -> None:
    """Write the current recommendations to the Redis at REDIS_URL, whole or not at all.

    REDIS_URL comes from the environment, so that its password is in no list of processes. Exit
    status: 0 published; 2 it could not, and the old version keeps serving.
    """
    from bought_together.export import redis_url
    from bought_together.export.redis_versions import Keys

    keys = Keys(redis_prefix)
    url = os.environ.get("REDIS_URL")
    if not url:
        raise CannotRun("REDIS_URL is not set, e.g. REDIS_URL=redis://127.0.0.1:6379/0")
    client = redis_url.connect(
        url, socket_connect_timeout=redis_url.CONNECT_SECONDS, socket_timeout=TIMEOUT_SECONDS
    )
    with redis_url.explained(url):
        publish_lake(client, keys, lake_path, keep_hours * 3600)


if __name__ == "__main__":
    main()
