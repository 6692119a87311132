"""Mapped orders as parts of whole baskets, for tasks that read a part each.

The lines of an order may be in any part of the lake. One DuckDB runs the model that resolves all
orders, and spills to disk where memory is short.
"""

import os
from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa

from bought_together.errors import CannotRun, describe
from bought_together.pairs.counting_rules import INPUT_FILES, LINE_ITEMS, CountingRules
from bought_together.pairs.model_sql import quoted, sign_in_for
from bought_together.pairs.state import ChangedPart, CountPlan
from bought_together.storage.duckdb_s3 import literal
from bought_together.storage.filesystem import make_folder
from bought_together.storage.mount import ORDER_LINES_COUNTED, order_columns, parquet_glob
from bought_together.storage.warehouse import duckdb_limits

LINES_A_PART = 1 << 20
KINDS = ("orders", "cancelled", "superseded")
NUMBERS = """
    select
        count(*),
        count(*) filter (where is_cancelled),
        (select count(distinct order_key) from int_orders_superseded)
    from int_orders_resolved
"""


def resolve_orders(
    plan: CountPlan,
    manifest: Mapping[str, Any],
    input_files: pa.Table,
    rules: CountingRules,
    folder: str,
) -> tuple[list[ChangedPart], dict[str, int]]:
    """Write the lines that the orders of a run come down to, in parts of whole baskets.

    Returns the parts, below the count's `folder`, and the numbers of orders: all, cancelled, and
    exported more than once. `plan` counts everything. Raises CannotRun when DuckDB cannot read,
    write or run the model.
    """
    make_folder(f"{folder}/{ORDER_LINES_COUNTED}")
    every = [*(part.path for part in plan.changed), *plan.unchanged]
    parts = ", ".join(literal(parquet_glob(path)) for path in every)
    try:
        with (
            TemporaryDirectory() as scratch,
            duckdb.connect(f"{scratch}/orders.duckdb", config={**duckdb_limits(os.environ)}) as db,
        ):
            sign_in_for(db, folder, *every)
            db.register(INPUT_FILES, input_files)
            db.execute(
                f"create temp view {LINE_ITEMS} as select order_id, product_id, quantity,"
                f" {order_columns(manifest['orders'])}, 1 as change from read_parquet([{parts}])"
            )
            *parents, (model, sql) = rules.orders.views.items()
            for name, parent in parents:
                kind = "table" if name.startswith("int_") else "view"
                db.execute(f"create temp {kind} {quoted(name)} as {parent}")
            db.execute(f"create temp table {quoted(model)} as {sql}")
            lines = db.table(model).count("*").fetchall()[0][0]
            buckets = -(-lines // LINES_A_PART) or 1
            resolved = [
                f"{folder}/{ORDER_LINES_COUNTED}/part-{bucket:05d}.parquet"
                for bucket in range(buckets)
            ]
            for bucket, path in enumerate(resolved):
                db.execute(
                    f"copy (select order_id, product_id, quantity from {quoted(model)}"
                    f" where hash(order_id) % {buckets} = {bucket} order by order_id)"
                    f" to {literal(path)} (format parquet)"
                )
            [numbers] = db.sql(NUMBERS).fetchall()
    except duckdb.Error as error:
        raise CannotRun(f"cannot resolve the mapped orders: {describe(error)}") from error
    return [ChangedPart(path, 1, None) for path in resolved], dict(zip(KINDS, numbers, strict=True))
