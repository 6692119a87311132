"""Look up what is bought together with a product, from the table that `dbt build` exported."""

import json
import sys
from typing import Any

import click
import pandas as pd
from fsspec.core import url_to_fs
from tabulate import tabulate

from errors import CANNOT_RUN, CannotRun, describe, stop

EXPORT = "product_recommendations.parquet"
COLUMNS = {
    "recommendation_rank": "rank",
    "recommended_product_id": "product_id",
    "recommended_product_name": "product_name",
    "recommended_category_code": "category_code",
    "copurchase_count": "copurchase_count",
}

Recommendation = dict[str, Any]


def load_recommendations(
    lake_path: str, product_ids: tuple[str, ...] = ()
) -> dict[str, list[Recommendation]]:
    """Return the exported table as a dictionary: product id -> recommendations, best first.

    A recommendation has rank, product_id, product_name, category_code and copurchase_count (the
    number of baskets that held both). With `product_ids`, only those products are read. Raises
    CannotRun when there is no table or it cannot be read.
    """
    wanted = [("product_id", "in", list(product_ids))] if product_ids else None
    table = read_export(lake_path, wanted)
    recommendations: dict[str, list[Recommendation]] = {}
    columns = [table[column].tolist() for column in COLUMNS]
    for product_id, *values in zip(table["product_id"], *columns, strict=True):
        row = dict(zip(COLUMNS.values(), values, strict=True))
        recommendations.setdefault(product_id, []).append(row)
    for rows in recommendations.values():
        rows.sort(key=lambda row: row["rank"])
    return recommendations


def read_export(lake_path: str, filters: list[tuple[str, str, Any]] | None) -> pd.DataFrame:
    """Return the rows of the exported table that pass the filters; raises CannotRun."""
    path = f"{lake_path.rstrip('/')}/{EXPORT}"
    try:
        fs, file_path = url_to_fs(path)
        with fs.open(file_path, "rb") as file:
            return pd.read_parquet(file, columns=["product_id", *COLUMNS], filters=filters)
    except FileNotFoundError:
        raise CannotRun(f"no recommendations at {path}: run `make build` first") from None
    except (OSError, ValueError) as error:
        raise CannotRun(f"cannot read {path}: {describe(error)}") from error


def load_best_seller(lake_path: str) -> dict[str, list[Recommendation]]:
    """Return the recommendations of the product with the highest count, as an example."""
    best = read_export(lake_path, [("recommendation_rank", "==", 1)])
    best = best.sort_values(["copurchase_count", "product_id"], ascending=[False, True])
    return load_recommendations(lake_path, tuple(best["product_id"].head(1)))


def as_table(rows: list[Recommendation]) -> str:
    """Return recommendations as a table for people."""
    return tabulate(
        [list(row.values()) for row in rows],
        headers=["", "product", "name", "category", "baskets with both"],
        disable_numparse=True,  # 011 is an id, not the number 11
        colalign=["right", "left", "left", "left", "right"],
    )


def answer(product_id: str, rows: list[Recommendation], as_json: bool) -> str:
    """Return what is printed for one product."""
    if as_json:
        return json.dumps({"product_id": product_id, "recommendations": rows}, ensure_ascii=False)
    if not rows:
        return f"No recommendations for {product_id}."
    return f"Bought together with {product_id}:\n\n{as_table(rows)}\n"


def ask(recommendations: dict[str, list[Recommendation]], as_json: bool) -> None:
    """Answer product ids from standard input until it ends."""
    prompt = "product id (Ctrl-D leaves): " if sys.stdin.isatty() else ""
    while True:
        try:
            product_id = input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        if product_id:
            click.echo(answer(product_id, recommendations.get(product_id, []), as_json))


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
        recommendations = load_recommendations(lake_path, product_ids)
    except CannotRun as error:
        stop(str(error), CANNOT_RUN)
    if not product_ids:
        ask(recommendations, as_json)
    for product_id in product_ids:
        click.echo(answer(product_id, recommendations.get(product_id, []), as_json))


if __name__ == "__main__":
    main()
