"""Look up what is bought together with a product, from the table that `dbt build` exported."""

import sys
from collections.abc import Callable

import click

from bought_together.errors import CANNOT_RUN, CannotRun, run, stop
from bought_together.export.lookup import answer_text
from bought_together.export.read import names_of, read_published, recommendations_of


def ask(reply: Callable[[str], str]) -> None:
    """Answer product ids from standard input until it ends."""
    sys.stdin.reconfigure(errors="replace")  # bytes that are no text are no product either
    prompt = "product id (Ctrl-D leaves): " if sys.stdin.isatty() else ""
    while True:
        try:
            product_id = input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        if product_id:
            click.echo(reply(product_id))


@click.command()
@click.argument("product_ids", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option(
    "--lake-path",
    envvar="LAKE_PATH",
    default="data/lake",
    show_envvar=True,
    show_default=True,
    help="Folder of the lake that `dbt build` published to.",
)
def main(product_ids: tuple[str, ...], as_json: bool, lake_path: str) -> None:
    """Print the products most often bought together with PRODUCT_IDS.

    Without PRODUCT_IDS it asks for them, one a line. An unknown product has no recommendations,
    which is no error. Exit status: 0 answered; 2 there is no table to answer from.
    """
    try:
        published = read_published(lake_path, product_ids)
    except CannotRun as error:
        stop(str(error), CANNOT_RUN)
    recommendations, names = dict(recommendations_of(published)), names_of(published)

    def reply(product_id: str) -> str:
        rows = recommendations.get(product_id, [])
        return answer_text(product_id, names.get(product_id), rows, as_json)

    if not product_ids:
        ask(reply)
    for product_id in product_ids:
        click.echo(reply(product_id))


if __name__ == "__main__":
    run(main)
