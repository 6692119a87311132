"""Ask a running service for recommendations, and compare its answers with what the lake holds."""

import time

import click

from bought_together.cli import lake_path_option, program


@program
@click.option(
    "--url",
    envvar="SERVICE_URL",
    default="http://127.0.0.1:8000",
    show_envvar=True,
    help="Address of the service.",
)
@lake_path_option
@click.option(
    "--products",
    type=click.IntRange(min=1),
    default=1000,
    help="Number of products to compare, evenly spread over all.",
)
@click.option(
    "--wait",
    type=click.IntRange(min=0),
    default=60,
    help="Seconds that the service has to take up what was published.",
)
def main(url: str, lake_path: str, products: int, wait: int) -> None:
    """Check that a service serves what the lake holds.

    Exit status: 0 it does; 1 an answer differs; 2 it does not answer, or from another version.
    """
    from bought_together.service.smoke import compare, expected_answers

    deadline = time.monotonic() + wait
    version, expected = expected_answers(lake_path, products)
    compare(url, version, expected, deadline)
    click.echo(f"served     {version}: {len(expected):,} products as in the lake")


if __name__ == "__main__":
    main()
