"""Look up what is bought together with a product, from the table that `dbt build` exported."""

import sys
from collections.abc import Callable
from io import TextIOWrapper

import click

from bought_together.errors import CANNOT_RUN, CannotRun, run, stop
from bought_together.export.lookup import names_of, recommendations_of
from bought_together.export.read import RecommendationRow, answer, read_export


def best_seller(lake_path: str) -> str | None:
    """Return the product with the highest count, as an example; None in an empty table."""
    table = read_export(lake_path).table
    order = [("copurchase_count", "descending"), ("product_id", "ascending")]
    best = table.take(pc.select_k_unstable(table, k=1, sort_keys=order))
    return best["product_id"][0].as_py() if best.num_rows else None


def as_table(rows: list[RecommendationRow]) -> str:
    """Return recommendations as a table for people."""
    return tabulate(
        [list(row.values()) for row in rows],
        headers=["", "product", "name", "category", "baskets with both"],
        disable_numparse=True,  # 011 is an id, not the number 11
        colalign=["right", "left", "left", "left", "right"],
    )


def answer_text(
    product_id: str, product_name: str | None, rows: list[RecommendationRow], as_json: bool
) -> str:
    """Return what is printed for one product; its name is None when it is not in the list."""
    if as_json:
        return json.dumps(answer(product_id, product_name, rows), ensure_ascii=False)
    product = f"{product_name} ({product_id})" if product_name else product_id
    if not rows:
        return f"No recommendations for {product}."
    return f"Bought together with {product}:\n\n{as_table(rows)}\n"


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
@lake_path_option
def main(product_ids: tuple[str, ...], as_json: bool, lake_path: str) -> None:
    """Print the products most often bought together with PRODUCT_IDS.

    Without PRODUCT_IDS the program asks for them, one per line. An unknown product has no
    recommendations, which is no error. Exit status: 0 answered; 2 there is no export to read.
    """
    from bought_together.export.lookup import answer_text, names_of, recommendations_of
    from bought_together.export.read import read_export

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
