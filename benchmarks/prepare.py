"""Make the data of one size once: a synthetic shop, and its basket items as integers."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parent.parent
PROJECT_PYTHON = ROOT / ".venv" / "bin" / "python"
BASKETS = {"1m": 100_000, "8m": 800_000, "32m": 3_200_000}  # named after their lines
PRODUCTS = 50_000

WRITE_BASKET_ITEMS = """
copy (
    with line_items as (
        select
            order_id,
            unnest(itemList) as line
        from (
            select
                row_number() over () - 1 as order_id,
                itemList
            from read_json(
                $transactions,
                format = 'newline_delimited',
                columns = {itemList: 'struct(item varchar, quantity double)[]'}
            )
        )
    ),

    basket_items as (
        select distinct
            order_id,
            line.item as product_id
        from line_items
        where line.quantity > 0
    ),

    products as (
        select
            product_id,
            (row_number() over (order by count(*) desc, product_id))::integer as product_key
        from basket_items
        group by product_id
    )

    select
        order_id,
        product_key
    from basket_items
    inner join products using (product_id)
    order by
        order_id,
        product_key
) to $output (format parquet)
"""


@dataclass(frozen=True)
class Data:
    """The files of one size, in their own folder."""

    folder: Path

    @property
    def transactions(self) -> Path:
        return self.folder / "transactions.txt"

    @property
    def products(self) -> Path:
        return self.folder / "products.txt"

    @property
    def basket_items(self) -> Path:
        """Return the path of order_id (int64) and product_key (int32, dense from 1), sorted."""
        return self.folder / "basket_items.parquet"


def prepare(data: Data, baskets: int, products: int) -> None:
    """Make the missing files; raises CalledProcessError when the generator fails."""
    generate = [PROJECT_PYTHON, ROOT / "scripts" / "generate.py", data.folder]
    if not data.transactions.exists():
        subprocess.run(
            [*generate, "--baskets", str(baskets), "--products", str(products)], check=True
        )
    if not data.basket_items.exists():
        unfinished = data.basket_items.with_suffix(".unfinished")
        given = {"transactions": str(data.transactions), "output": str(unfinished)}
        duckdb.connect().execute(WRITE_BASKET_ITEMS, given)
        unfinished.replace(data.basket_items)
