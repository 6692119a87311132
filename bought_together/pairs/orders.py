"""Mapped orders as parts of whole baskets, for tasks that read a part each.

The lines of an order may be in any part of the lake. One DuckDB runs the model that resolves all
orders, and spills to disk where memory is short.
"""

import os
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

from bought_together.errors import CannotRun, describe
from bought_together.pairs.counting_rules import INPUT_FILES, LINE_ITEMS, CountingRules
from bought_together.pairs.model_sql import quoted, sign_in_for
from bought_together.pairs.state import ChangedPart, CountPlan
from bought_together.storage.duckdb_s3 import literal
from bought_together.storage.filesystem import make_folder
from bought_together.storage.mount import ORDER_LINES_COUNTED, select_changes
from bought_together.storage.warehouse import duckdb_limits

LINES_A_PART = 1 << 20
KINDS = ("orders", "cancelled", "superseded")
NUMBERS = """
    select
        count(*),
        count(*) filter (where is_cancelled),
        (select count(distinct order_key) from int_orders_superseded where change >= 0)
    from int_orders_resolved
    where change >= 0
"""


def resolve_orders(
    plan: CountPlan,
    orders: str,
    input_files: pa.Table,
    rules: CountingRules,
    folder: str,
) -> tuple[list[ChangedPart], dict[str, int]]:
    """Write the lines that the orders of a run come down to, in parts of whole baskets.

    `orders` is what the run's manifest says of them. Returns the parts that have changed since the
    state, and the numbers of orders: all, cancelled, and exported more than once. What has not
    changed is below the count's `folder` as well, for dbt to read. Raises CannotRun when DuckDB
    cannot read, write or run the model.
    """
    make_folder(f"{folder}/{ORDER_LINES_COUNTED}")
    paths = [*(part.path for part in plan.changed), *plan.unchanged]
    try:
        with (
            TemporaryDirectory() as scratch,
            duckdb.connect(f"{scratch}/orders.duckdb", config={**duckdb_limits(os.environ)}) as db,
        ):
            sign_in_for(db, folder, *paths)
            db.register(INPUT_FILES, input_files)
            lines = select_changes(plan.unchanged, plan.changed, orders)
            db.execute(f"create temp view {LINE_ITEMS} as {lines}")
            *parents, (model, sql) = rules.orders.views.items()
            for name, parent in parents:
                kind = "table" if name.startswith("int_orders_") else "view"
                db.execute(f"create temp {kind} {quoted(name)} as {parent}")
            db.execute(f"create temp table {quoted(model)} as {sql}")
            written = {
                change: write_lines(db, model, change, target)
                for change, target in (
                    (0, f"{folder}/{ORDER_LINES_COUNTED}/unchanged"),
                    (1, f"{folder}/{ORDER_LINES_COUNTED}/added"),
                    (-1, f"{folder}/work/removed"),
                )
            }
            [numbers] = db.sql(NUMBERS).fetchall()
    except duckdb.Error as error:
        raise CannotRun(f"cannot resolve the mapped orders: {describe(error)}") from error
    changed = [ChangedPart(path, change, None) for change in (1, -1) for path in written[change]]
    return changed, dict(zip(KINDS, numbers, strict=True))


def write_lines(db: duckdb.DuckDBPyConnection, model: str, change: int, target: str) -> list[str]:
    """Write a model's lines of this change; returns the paths of the parts, which hold some each.

    Unchanged lines are at least one part, so that their table exists.
    """
    lines = db.table(model).filter(f"change = {change}").count("*").fetchall()[0][0]
    buckets = -(-lines // LINES_A_PART) or (1 if change == 0 else 0)
    paths = [f"{target}-{bucket:05d}.parquet" for bucket in range(buckets)]
    for bucket, path in enumerate(paths):
        db.execute(
            f"copy (select order_id, product_id, quantity from {quoted(model)}"
            f" where change = {change} and hash(order_id) % {buckets} = {bucket} order by order_id)"
            f" to {literal(path)} (format parquet)"
        )
    return paths
