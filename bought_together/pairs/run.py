"""Count the pairs of products in the lake's current run, on this machine or on a cluster.

A run whose pairs have been counted holds, besides what flatten wrote:

    pairs.json                                points to the newest count, with its totals and the
                                              fingerprint of its rules; written last
    pairs-<id>/products_counted/*.parquet     product_id, product_number, basket_count
    pairs-<id>/basket_sizes/*.parquet         file_number, product_count, basket_count
    pairs-<id>/product_pairs/*.parquet        left and right product_number, copurchase_count
    pairs-<id>/product_pairs_shortlisted/     product_number, recommended_product_key,
        *.parquet                             copurchase_count

Four kinds of tasks run one after the other and pass files through the lake:

    read_baskets    per part of the line items: the distinct products of each basket, as codes
    number_baskets  per part: replace codes by product numbers, ascending in each basket
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
import pyarrow.compute as pc

from bought_together.dask_tasks import connected, resources, run_tasks
from bought_together.dbt_build import check_seeds
from bought_together.errors import CannotRun
from bought_together.pairs.baskets import BASKET_SIZES, number_baskets, read_baskets
from bought_together.pairs.counting import PRODUCT_PAIRS, ProductRange, count_ranges, merge_range
from bought_together.pairs.counting_rules import COUNTED, PRODUCTS, CountingRules, counting_rules
from bought_together.pairs.model_sql import ModelQuery, run_model, sign_in_for
from bought_together.pairs.plan import chunk_items, plan_chunks, plan_ranges, range_edges
from bought_together.pairs.shortlist import SHORTLIST, Shortlist
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
PRODUCTS_COUNTED = pa.schema(
    [("product_id", pa.string()), ("product_number", pa.int32()), ("basket_count", pa.int64())]
)
COUNT_SCHEMAS = {
    "products_counted": PRODUCTS_COUNTED,
    "basket_sizes": BASKET_SIZES,
    "product_pairs": PRODUCT_PAIRS,
    "product_pairs_shortlisted": SHORTLIST,
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
                "shortlisted": rules.shortlisted,
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

    products = number_products(work, given, rules.keys)
    counted_products = products.select(PRODUCTS_COUNTED.names).cast(PRODUCTS_COUNTED)
    write_part(f"{folder}/products_counted/part-00000.parquet", counted_products)
    products_path = f"{work}/products.parquet"
    write_part(products_path, products)
    edges = range_edges(len(products))
    number = partial(number_baskets, work=work, products_path=products_path, edges=edges[:-1])
    numbered = run_tasks(number, range(len(parts)), client)
    sizes = pa.concat_tables([BASKET_SIZES.empty_table(), *(sizes for _, _, sizes in numbered)])
    summed = sizes.group_by(BASKET_SIZES.names[:2]).aggregate([("basket_count", "sum")])
    write_part(
        f"{folder}/basket_sizes/part-00000.parquet",
        summed.rename_columns(BASKET_SIZES.names).cast(BASKET_SIZES),
    )

    threads, memory = resources(client)
    most = largest_chunk or chunk_items(memory, len(products), rules.shortlisted)
    chunks = plan_chunks([items for items, _, _ in numbered], most)
    effort = sum(effort for _, effort, _ in numbered)
    ranges = plan_ranges(edges, effort, RANGES_A_THREAD * threads)
    shortlist = Shortlist(rules.shortlisted, f"{folder}/product_pairs_shortlisted", products_path)
    counted = count_chunks(
        chunks, ranges, len(products), folder, threads, memory, shortlist, client
    )
    # An empty part makes sure that a table exists and has its schema.
    for table in ("product_pairs", "product_pairs_shortlisted"):
        write_part(f"{folder}/{table}/part-empty.parquet", COUNT_SCHEMAS[table].empty_table())
    return {
        "products": len(products),
        "items": sum(items for items, _, _ in numbered),
        "pairs": sum(pairs for pairs, _ in counted),
        "pair_occurrences": sum(occurrences for _, occurrences in counted),
        "chunks": len(chunks),
        "threads": threads,
    }


def number_products(work: str, given: Mapping[str, str], query: ModelQuery) -> pa.Table:
    """Return all products as the model KEYS has them, by their numbers."""
    products = run_model(query, {COUNTED: sum_basket_counts(work), **given})
    products = products.sort_by("product_number")
    popular = products.take(pc.select_k_unstable(products, 2, [("product_key", "ascending")]))
    if len(popular) > 1 and popular["basket_count"][1].as_py() > LARGEST_COUNT:
        raise CannotRun(
            f"products {popular['product_id'][0]} and {popular['product_id'][1]} are both in more"
            f" than {LARGEST_COUNT:,} baskets: their co-purchase count might not fit"
        )
    return products


def sum_basket_counts(work: str) -> pa.Table:
    """Return PRODUCTS_COUNTED, summed over parts, each of which holds whole baskets."""
    with duckdb.connect() as connection:
        sign_in_for(connection, work)
        counted = connection.read_parquet(f"{parquet_glob(work)}/counted-*.parquet")
        summed = counted.aggregate("product_id, sum(basket_count)::bigint as basket_count")
        # Any numbers would do; with the best sellers first, the files of pairs are small.
        number = "row_number() over (order by basket_count desc, product_id)::integer"
        return summed.project(
            f"product_id, {number} as product_number, basket_count"
        ).to_arrow_table()


def count_chunks(
    chunks: list[list[int]],
    ranges: list[ProductRange],
    product_count: int,
    folder: str,
    threads: int,
    memory: int,
    shortlist: Shortlist,
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
        count_ranges,
        product_count=product_count,
        work=work,
        target=work if several else target,
        shortlist=None if several else shortlist,
    )
    totals = run_tasks(count, jobs, client)
    if not several:
        return totals
    merge = partial(
        merge_range,
        chunks=len(chunks),
        work=work,
        target=target,
        memory=memory,
        shortlist=shortlist,
    )
    return run_tasks(merge, ranges, client)
