"""Baskets as arrays: first the distinct products of each basket, then their product numbers.

Each step is one task per part of the line items, which holds whole baskets. A task reads and
writes files of the lake, so that any worker can run it, and run it again.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from bought_together.pairs.counting_rules import (
    LINE_ITEMS,
    ORDER_LINES_RESOLVED,
    OVERSIZED,
    STATE_OVERSIZED,
)
from bought_together.pairs.kernels import distinct_items, sort_baskets
from bought_together.pairs.model_sql import ModelQuery, Parquet, run_model
from bought_together.pairs.state import ChangedPart
from bought_together.storage.filesystem import locate, open_whole
from bought_together.storage.lake import ORDER_ID_OFFSET_BITS, write_part
from bought_together.storage.mount import order_columns

BASKET_SIZES = pa.schema(
    [("file_number", pa.int64()), ("product_count", pa.int32()), ("basket_count", pa.int64())]
)
OVERSIZED_BASKETS = pa.schema([("order_id", pa.int64()), ("product_count", pa.int64())])
RESOLVED_LINES = pa.schema(
    [
        ("order_id", pa.int64()),
        ("product_id", pa.string()),
        ("quantity", pa.float64()),
        ("change", pa.int32()),
    ]
)
BASKET_COUNT = pa.field("basket_count", pa.int64())


def read_baskets(
    job: tuple[int, ChangedPart],
    *,
    purchases: ModelQuery,
    given: Mapping[str, Parquet],
    work: str,
) -> pa.Table:
    """Write the baskets of one part of the line items, and the basket count of each product.

    Products are coded by the part's own dictionary here, and counted below zero when the part's
    files were removed. `purchases` selects order_id and product_id; `given` are the other tables
    that it reads. Returns the oversized baskets as OVERSIZED_BASKETS, counted likewise.
    """
    number, part = job
    ours = f"order_id >> {ORDER_ID_OFFSET_BITS} in ({', '.join(map(str, part.numbers or ()))})"
    columns = f"order_id, product_id, quantity, {order_columns(None)}, 1 as change"
    part_lines = Parquet(part.path, columns, ours if part.numbers else "true")
    # The lines of mapped orders come as parts that are resolved already.
    empty = {STATE_OVERSIZED: OVERSIZED_BASKETS, ORDER_LINES_RESOLVED: RESOLVED_LINES}
    tables = {name: schema.empty_table() for name, schema in empty.items()}
    tables |= {LINE_ITEMS: part_lines, **given}
    lines, oversized = run_model(purchases, tables, OVERSIZED)
    order_ids = lines["order_id"].to_numpy()
    products = lines["product_id"].combine_chunks().dictionary_encode()
    codes = products.indices.to_numpy()
    if np.any(order_ids[1:] < order_ids[:-1]):  # the model's SQL promises no order
        order = np.argsort(order_ids, kind="stable")
        order_ids, codes = order_ids[order], codes[order]
    basket_ids, ends, items, basket_counts = distinct_items(
        order_ids, codes, len(products.dictionary)
    )
    rows = {
        "order_id": basket_ids,
        "products": basket_lists(ends, pa.DictionaryArray.from_arrays(items, products.dictionary)),
    }
    write_arrow(baskets_path(work, number), pa.table(rows))
    counted = {"product_id": products.dictionary, "basket_count": part.change * basket_counts}
    write_part(f"{work}/counted-{number:05d}.parquet", pa.table(counted))
    oversized = oversized.select(OVERSIZED_BASKETS.names).cast(OVERSIZED_BASKETS)
    return oversized.append_column(BASKET_COUNT, [np.full(len(oversized), part.change)])


def number_baskets(
    job: tuple[int, ChangedPart], *, work: str, products_path: str, edges: np.ndarray
) -> tuple[int, np.ndarray, pa.Table]:
    """Write the baskets of one part with product numbers, ascending.

    Returns the number of items, the effort of counting their pairs (for each range of product
    numbers that begins at one of `edges`, a number roughly proportional to time), and the baskets'
    sizes as BASKET_SIZES, counted below zero when the part's files were removed.
    """
    number, part = job
    baskets = read_arrow(baskets_path(work, number))
    products = baskets["products"].combine_chunks()
    ends = products.offsets.to_numpy()[1:].astype(np.uint32)
    known = read_columns(products_path, ["product_id", "product_number"])
    places = pc.index_in(products.values.dictionary, value_set=known["product_id"])
    number_of_code = known["product_number"].to_numpy()[places.to_numpy()]
    largest = known["product_number"].to_numpy().max(initial=0)
    bins = np.searchsorted(edges, np.arange(largest + 1), side="right") - 1
    items, effort = sort_baskets(
        ends, products.values.indices.to_numpy(), number_of_code, bins, len(edges)
    )
    write_arrow(
        numbered_path(work, number), pa.table({"products": basket_lists(ends, pa.array(items))})
    )
    return len(items), effort, basket_sizes(baskets["order_id"].to_numpy(), ends, part.change)


def basket_sizes(order_ids: np.ndarray, ends: np.ndarray, change: int) -> pa.Table:
    """Return how many baskets of each file have each number of products, as BASKET_SIZES.

    Each basket counts as `change`.
    """
    sizes = pa.table(
        {
            "file_number": order_ids >> ORDER_ID_OFFSET_BITS,
            "product_count": np.diff(ends, prepend=0),
        }
    )
    counted = sizes.group_by(["file_number", "product_count"]).aggregate([([], "count_all")])
    counted = counted.rename_columns(BASKET_SIZES.names).cast(BASKET_SIZES)
    return counted.set_column(2, BASKET_COUNT, pc.multiply(counted["basket_count"], change))


def load_chunk(work: str, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends (uint32) and product numbers (int32) of all baskets of some parts."""
    parts = [
        read_arrow(numbered_path(work, number))["products"].combine_chunks() for number in numbers
    ]
    items = np.concatenate([part.values.to_numpy() for part in parts])
    ends = np.concatenate([part.offsets.to_numpy()[1:] for part in parts]).view(np.uint32)
    basket = item = 0
    for part in parts:
        ends[basket : basket + len(part)] += np.uint32(item)
        basket += len(part)
        item += len(part.values)
    return ends, items


def basket_lists(ends: np.ndarray, values: pa.Array) -> pa.ListArray:
    """Return one list per basket; `ends` holds where each basket ends in `values`."""
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values)


def baskets_path(work: str, number: int) -> str:
    return f"{work}/baskets-{number:05d}.arrow"


def numbered_path(work: str, number: int) -> str:
    return f"{work}/numbered-{number:05d}.arrow"


def write_arrow(path: str, table: pa.Table) -> None:
    with open_whole(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_arrow(path: str) -> pa.Table:
    fs, path = locate(path)
    if isinstance(fs, LocalFileSystem):
        return pa.ipc.open_file(pa.memory_map(path)).read_all()
    return pa.ipc.open_file(pa.py_buffer(fs.cat_file(path))).read_all()


def read_columns(path: str, columns: list[str]) -> pa.Table:
    fs, path = locate(path)
    with fs.open(path, "rb") as file:
        return pq.read_table(file, columns=columns)
