"""Look up what is bought together with a product, from the table that `dbt build` exported."""

import sys
from collections.abc import Callable
from io import TextIOWrapper

import click

from bought_together.cli import lake_path_option, program


def ask(reply: Callable[[str], str]) -> None:
    """Answer product ids from standard input until it ends."""
    if isinstance(sys.stdin, TextIOWrapper):
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


@program
@click.argument("product_ids", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option(
    "--basket", "is_basket", is_flag=True, help="Print what to add to all PRODUCT_IDS together."
)
@lake_path_option
def main(product_ids: tuple[str, ...], as_json: bool, is_basket: bool, lake_path: str) -> None:
    """Print the products most often bought together with PRODUCT_IDS.

    Without PRODUCT_IDS the program asks for them, one per line. An unknown product has no
    recommendations, which is no error. Exit status: 0 answered; 2 there is no export to read.
    """
    from bought_together.export.basket_lookup import basket_text, look_up_basket
    from bought_together.export.lookup import answer_text, names_of, recommendations_of
    from bought_together.export.read import read_export

    if is_basket:
        if not product_ids:
            raise click.UsageError("--basket needs PRODUCT_IDS: the products of the basket")
        click.echo(basket_text(look_up_basket(lake_path, product_ids), as_json))
        return
    export = read_export(lake_path, product_ids)
    recommendations, names = recommendations_of(export), names_of(export)

    def reply(product_id: str) -> str:
        rows = recommendations.get(product_id, [])
        return answer_text(product_id, names.get(product_id), rows, as_json)

    if not product_ids:
        ask(reply)
    for product_id in product_ids:
        click.echo(reply(product_id))


if __name__ == "__main__":
    main()
