"""Count the pairs of products in the lake's current run, on this machine or on a cluster.

A run whose pairs have been counted holds, besides what flatten wrote:

    pairs.json                                points to the newest count, with its totals and the
                                              fingerprint of its rules; written last
    pairs-<id>/product_keys/*.parquet         product_id, product_key, basket_count
    pairs-<id>/basket_sizes/*.parquet         order_id, product_count
    pairs-<id>/product_pairs/*.parquet        left_product_key, right_product_key, copurchase_count

Four kinds of tasks run one after the other and pass files through the lake:

    read_baskets    per part of the line items: the distinct products of each basket, as codes
    key_baskets     per part: replace codes by product keys, ascending in each basket
    count_ranges    per chunk of baskets and some ranges of left products: count the pairs
    merge_range     per range of left products, with several chunks only: add up the counts
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bought_together.dask_tasks import connected, resources, run_tasks
from bought_together.dbt_build import check_seeds
from bought_together.errors import CannotRun
from bought_together.pairs.baskets import BASKET_SIZES, key_baskets, read_baskets
from bought_together.pairs.counting import PRODUCT_PAIRS, KeyRange, count_ranges, merge_range
from bought_together.pairs.counting_rules import COUNTED, PRODUCTS, CountingRules, counting_rules
from bought_together.pairs.model_sql import ModelQuery, run_model, sign_in_for
from bought_together.pairs.plan import chunk_items, key_edges, plan_chunks, plan_key_ranges
from bought_together.storage.filesystem import (
    flush_tree,
    full_path,
    only_warn,
    remove_tree,
    storage_errors,
)
from bought_together.storage.lake import (
    COUNT_POINTER,
    folders_in,
    make_folders,
    new_run,
    read_current,
    run_order,
    run_path,
    table_parts,
    write_part,
)
from bought_together.storage.mount import parquet_glob
from bought_together.storage.pointers import locked, move_pointer, read_json

COUNT_PREFIX = "pairs-"
COUNTS_KEPT = 2
# More ranges than threads, so that threads finish at about the same time.
RANGES_A_THREAD = 2
PRODUCT_KEYS = pa.schema(
    [("product_id", pa.string()), ("product_key", pa.int32()), ("basket_count", pa.int64())]
)
COUNT_SCHEMAS = {
    "product_keys": PRODUCT_KEYS,
    "basket_sizes": BASKET_SIZES,
    "product_pairs": PRODUCT_PAIRS,
}
# The ranking packs a count into 31 bits (macros/pack_rank.sql).
LARGEST_COUNT = (1 << 31) - 1


def count_pairs(
    lake_path: str,
    scheduler: str | None = None,
    largest_chunk: int | None = None,
    workers: int = 1,
    project: Path = Path(),
) -> dict[str, int]:
    """Count the pairs of the lake's current run, point readers to them, and return totals.

    `largest_chunk` is the number of items (products in baskets) to count at once, None for as
    many as the memory allows; `project` is the folder of the dbt project. Raises CannotRun when
    there is no run, too little memory, or a count might not fit. The pointer then stays at the
    count before, if any.
    """
    check_seeds(project)
    if (current := read_current(lake_path)) is None:
        raise CannotRun(f"no lake at {lake_path}: run `python scripts/flatten.py` first")
    lake = full_path(lake_path)
    run = run_path(lake, current["run"])
    rules = counting_rules(project)
    count = new_run(counts_of(run))
    folder = f"{run}/{COUNT_PREFIX}{count}"
    make_folders(folder, (*COUNT_SCHEMAS, "work"))
    try:
        with connected(scheduler, workers) as client:
            totals = count_run(lake, current, folder, largest_chunk, client, rules)
    except BaseException:
        with suppress(*storage_errors()):
            remove_tree(folder)
        raise
    with only_warn("work files could not be removed"):
        remove_tree(f"{folder}/work")
    flush_tree(folder)
    with locked(lake_path):
        newer = move_pointer(
            f"{run}/{COUNT_POINTER}",
            {
                "folder": f"{COUNT_PREFIX}{count}",
                "rules": rules.fingerprint(),
                "counts": totals,
            },
            lambda held: count_order(held) < run_order(count),
        )
        with only_warn("older counts could not be removed"):
            prune_counts(run)
    if newer:
        print(
            f"warning: {newer['folder']}, which started after this count {count}, stays current",
            file=sys.stderr,
        )
    return totals


def counts_of(run: str) -> list[str]:
    """Return the ids of all counts of a run, whether finished or not, in the order of their start.

    `run` is the folder of the run.
    """
    names = folders_in(run)
    counts = [name.removeprefix(COUNT_PREFIX) for name in names if name.startswith(COUNT_PREFIX)]
    return sorted(counts, key=run_order)


def count_order(pointer: Mapping[str, Any]) -> tuple[datetime, str]:
    return run_order(pointer["folder"].removeprefix(COUNT_PREFIX))


def prune_counts(run: str) -> None:
    """Remove the counts before the current one, but for the newest: a build may be reading it."""
    current = count_order(read_json(f"{run}/{COUNT_POINTER}"))
    older = [count for count in counts_of(run) if run_order(count) < current]
    for count in older[: 1 - COUNTS_KEPT]:
        with suppress(FileNotFoundError):
            remove_tree(f"{run}/{COUNT_PREFIX}{count}")


def count_run(
    lake: str,
    manifest: Mapping[str, Any],
    folder: str,
    largest_chunk: int | None,
    client: Any,
    rules: CountingRules,
) -> dict[str, int]:
    """Write the tables of a count of a run to `folder` and return its totals."""
    work = f"{folder}/work"
    [products] = table_parts(lake, manifest, "products")
    given = {PRODUCTS: products}
    parts = table_parts(lake, manifest, "line_items")
    read = partial(read_baskets, purchases=rules.purchases, given=given, work=work)
    run_tasks(read, list(enumerate(parts)), client)

    keys = key_products(work, given, rules.keys)
    keys_path = f"{folder}/product_keys/part-00000.parquet"
    write_part(keys_path, keys)
    edges = key_edges(len(keys))
    key = partial(
        key_baskets,
        work=work,
        keys_path=keys_path,
        sizes_folder=f"{folder}/basket_sizes",
        edges=edges[:-1],
    )
    keyed = run_tasks(key, range(len(parts)), client)

    threads, memory = resources(client)
    chunks = plan_chunks(
        [items for items, _ in keyed], largest_chunk or chunk_items(memory, len(keys))
    )
    ranges = plan_key_ranges(edges, sum(effort for _, effort in keyed), RANGES_A_THREAD * threads)
    counted = count_chunks(chunks, ranges, len(keys), folder, threads, memory, client)
    # An empty part makes sure that the table exists and has its schema.
    write_part(f"{folder}/product_pairs/part-empty.parquet", PRODUCT_PAIRS.empty_table())
    return {
        "products": len(keys),
        "items": sum(items for items, _ in keyed),
        "pairs": sum(pairs for pairs, _ in counted),
        "pair_occurrences": sum(occurrences for _, occurrences in counted),
        "chunks": len(chunks),
        "threads": threads,
    }


def key_products(work: str, given: Mapping[str, str], query: ModelQuery) -> pa.Table:
    """Return product_id, product_key and basket_count of all products, from the model KEYS."""
    keys = run_model(query, {COUNTED: sum_basket_counts(work), **given})
    keys = keys.select(PRODUCT_KEYS.names).cast(PRODUCT_KEYS).sort_by("product_key")
    if len(keys) > 1 and keys["basket_count"][1].as_py() > LARGEST_COUNT:
        raise CannotRun(
            f"products {keys['product_id'][0]} and {keys['product_id'][1]} are both in more than"
            f" {LARGEST_COUNT:,} baskets: their co-purchase count might not fit"
        )
    return keys


def sum_basket_counts(work: str) -> pa.Table:
    """Return product_id and basket_count, summed over parts, each of which holds whole baskets."""
    with duckdb.connect() as connection:
        sign_in_for(connection, work)
        counted = connection.read_parquet(f"{parquet_glob(work)}/counted-*.parquet")
        return counted.aggregate(
            "product_id, sum(basket_count)::bigint as basket_count"
        ).to_arrow_table()


def count_chunks(
    chunks: list[list[int]],
    ranges: list[KeyRange],
    product_count: int,
    folder: str,
    threads: int,
    memory: int,
    client: Any,
) -> list[tuple[int, int]]:
    """Write product_pairs, and return (pairs, pair occurrences) per task."""
    work, target = f"{folder}/work", f"{folder}/product_pairs"
    several = len(chunks) > 1
    # The fewest tasks per chunk that keep every thread busy, since each task loads the chunk.
    tasks = min(len(ranges), -(-RANGES_A_THREAD * threads // len(chunks)))
    jobs = [
        (number, parts, ranges[task::tasks])
        for number, parts in enumerate(chunks)
        for task in range(tasks)
    ]
    count = partial(
        count_ranges, product_count=product_count, work=work, target=work if several else target
    )
    totals = run_tasks(count, jobs, client)
    if not several:
        return totals
    merge = partial(merge_range, chunks=len(chunks), work=work, target=target, memory=memory)
    return run_tasks(merge, ranges, client)
