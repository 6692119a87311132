"""Serve another build again: an earlier one, or after that a later one."""

import os

import click

from bought_together.cli import lake_path_option, program

TIMEOUT_SECONDS = 30.0


@program
@click.argument("build", required=False, envvar="BUILD")
@click.option(
    "--keep-hours",
    type=click.IntRange(1, 24 * 365),
    default=48,
    help="How long Redis keeps the build that is left.",
)
@lake_path_option
def main(build: str | None, keep_hours: int, lake_path: str) -> None:
    """Point readers at BUILD, by default at the build before the current one.

    Moves the pointer of the Redis at REDIS_URL where that is set, otherwise the lake's. BUILD may
    be older or newer than the current one. Exit status: 0 done; 2 it could not.
    """
    from bought_together.export import redis_url
    from bought_together.export.redis_versions import roll_back_redis
    from bought_together.storage.builds import roll_back

    if url := os.environ.get("REDIS_URL"):
        client = redis_url.connect(
            url, socket_connect_timeout=redis_url.CONNECT_SECONDS, socket_timeout=TIMEOUT_SECONDS
        )
        with redis_url.explained(url):
            left, current = roll_back_redis(client, keep_hours * 3600, build or None)
    else:
        left, current = roll_back(lake_path, build or None)
    click.echo(f"rolled back from {left} to {current}")


if __name__ == "__main__":
    main()
