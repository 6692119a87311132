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
@click.option(
    "--max-data-age",
    type=click.IntRange(min=1),
    show_default=False,
    help="Refuse data whose newest date is older than so many hours.",
)
def main(url: str, lake_path: str, products: int, wait: int, max_data_age: int | None) -> None:
    """Check that a service serves what the lake holds.

    Exit status: 0 it does; 1 an answer differs, or the data are too old; 2 it does not answer, or
    from another version.
    """
    from bought_together.export.read import data_age_in_words
    from bought_together.service.smoke import compare, expected_answers, refuse_old_data

    deadline = time.monotonic() + wait
    export, expected = expected_answers(lake_path, products)
    compare(url, export.version, expected, deadline)
    age = data_age_in_words(export.newest_ordered_at)
    click.echo(f"served     {export.version}: {len(expected):,} products as in the lake, {age}")
    if max_data_age is not None:
        refuse_old_data(export, max_data_age)


if __name__ == "__main__":
    main()
