"""Look up what is bought together with a product, from the table that `dbt build` exported."""

import json
import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any

import click
import pandas as pd
import pyarrow as pa
from fsspec.core import url_to_fs
from tabulate import tabulate

from errors import CANNOT_RUN, CannotRun, describe, stop
from lake import read_current, run_path

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
    table = read_export(lake_path, only(product_ids))
    recommendations: dict[str, list[Recommendation]] = {}
    columns = [table[column].tolist() for column in COLUMNS]
    for product_id, *values in zip(table["product_id"], *columns, strict=True):
        row = dict(zip(COLUMNS.values(), values, strict=True))
        recommendations.setdefault(product_id, []).append(row)
    for rows in recommendations.values():
        rows.sort(key=lambda row: row["rank"])
    return recommendations


def load_product_names(lake_path: str, product_ids: tuple[str, ...] = ()) -> dict[str, str]:
    """Return product id -> name from the product list of the lake's current run.

    Names are a courtesy of the lookup: where they cannot be read there are none.
    """
    try:
        if (current := read_current(lake_path)) is None:
            return {}
        fs, folder = url_to_fs(f"{run_path(lake_path, current['run'])}/products")
        data = fs.cat_file(f"{folder}/part-00000.parquet")
        table = read_parquet(data, ["product_id", "product_name"], only(product_ids))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return {}
    return dict(zip(table["product_id"], table["product_name"], strict=True))


def only(product_ids: tuple[str, ...]) -> list[tuple[str, str, Any]] | None:
    """Return the Parquet filter for some products; none at all means every product."""
    return [("product_id", "in", list(product_ids))] if product_ids else None


def read_export(lake_path: str, filters: list[tuple[str, str, Any]] | None) -> pd.DataFrame:
    """Return the rows of the exported table that pass the filters; raises CannotRun."""
    path = f"{lake_path.rstrip('/')}/{EXPORT}"
    try:
        fs, file_path = url_to_fs(path)
        table = read_parquet(fs.cat_file(file_path), ["product_id", *COLUMNS], filters)
        return table.astype(object)  # every value is looked at here, also damaged text
    except FileNotFoundError:
        raise CannotRun(f"no recommendations at {path}: run `make build` first") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CannotRun(f"cannot read {path}: {describe(error)}") from error


def read_parquet(
    data: bytes, columns: list[str], filters: list[tuple[str, str, Any]] | None
) -> pd.DataFrame:
    """Return the rows of a Parquet file in memory, read in this thread alone.

    With threads of its own, pyarrow waits for ever on some damaged files, and now and then ends
    a program that ends at once by abort.
    """
    return pd.read_parquet(
        BytesIO(data), columns=columns, filters=filters, use_threads=False, pre_buffer=False
    )


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


def answer(
    product_id: str, product_name: str | None, rows: list[Recommendation], as_json: bool
) -> str:
    """Return what is printed for one product; its name is None when it is not in the list."""
    if as_json:
        content = {"product_id": product_id, "product_name": product_name, "recommendations": rows}
        return json.dumps(content, ensure_ascii=False)
    product = f"{product_name} ({product_id})" if product_name else product_id
    if not rows:
        return f"No recommendations for {product}."
    return f"Bought together with {product}:\n\n{as_table(rows)}\n"


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
        recommendations = load_recommendations(lake_path, product_ids)
    except CannotRun as error:
        stop(str(error), CANNOT_RUN)
    names = load_product_names(lake_path, product_ids)

    def reply(product_id: str) -> str:
        rows = recommendations.get(product_id, [])
        return answer(product_id, names.get(product_id), rows, as_json)

    if not product_ids:
        ask(reply)
    for product_id in product_ids:
        click.echo(reply(product_id))


if __name__ == "__main__":
    main()
