"""Publish the recommendations to Redis, where any number of service processes read them."""

import os
import time
from typing import TYPE_CHECKING, cast

import click

from bought_together.cli import lake_path_option, program
from bought_together.errors import CannotRun

if TYPE_CHECKING:
    import redis

TIMEOUT_SECONDS = 30.0


def publish_lake(client: "redis.Redis", lake_path: str, keep_seconds: int) -> None:
    from bought_together.export.answers import encode_answers
    from bought_together.export.read import read_published
    from bought_together.export.redis_versions import CURRENT, publish, version_of

    began = time.monotonic()
    published = read_published(lake_path)
    current = cast("bytes | None", client.get(CURRENT))
    if current and version_of(current.decode()) == published.version:
        click.echo(f"published  {published.version} already: nothing to do")
        return
    products = publish(
        client,
        published.version,
        published.built_at,
        encode_answers(published),
        keep_seconds,
    )
    seconds = time.monotonic() - began
    click.echo(f"published  {published.version}: {products:,} products in {seconds:.1f} s")


@program
@click.option("--rollback", is_flag=True, help="Serve the version before the current one again.")
@click.option(
    "--keep-hours",
    type=click.IntRange(1, 24 * 365),
    default=48,
    help="How long the version that is replaced can be rolled back to.",
)
@lake_path_option
def main(rollback: bool, keep_hours: int, lake_path: str) -> None:
    """Write the current recommendations to the Redis at REDIS_URL, whole or not at all.

    REDIS_URL comes from the environment, so that its password is in no list of processes. Exit
    status: 0 published; 2 it could not, and the old version keeps serving.
    """
    from bought_together.export import redis_url
    from bought_together.export.redis_versions import roll_back

    url = os.environ.get("REDIS_URL")
    if not url:
        raise CannotRun("REDIS_URL is not set, e.g. REDIS_URL=redis://127.0.0.1:6379/0")
    client = redis_url.connect(
        url, socket_connect_timeout=redis_url.CONNECT_SECONDS, socket_timeout=TIMEOUT_SECONDS
    )
    with redis_url.explained(url):
        if rollback:
            left, current = roll_back(client, keep_hours * 3600)
            click.echo(f"rolled back from {left} to {current}")
        else:
            publish_lake(client, lake_path, keep_hours * 3600)


if __name__ == "__main__":
    main()
