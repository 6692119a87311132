"""Count the pairs of products in the lake's current run, on this machine or on a cluster.

A run whose pairs have been counted holds, besides what flatten wrote:

    pairs.json                                points to the newest count, with its totals and the
                                              fingerprint of its rules; written last
    pairs-<id>/products/*.parquet             product_id, product_number, basket_count
    pairs-<id>/basket_sizes/*.parquet         file_number, product_count, basket_count
    pairs-<id>/product_pairs/*.parquet        left and right product_number, copurchase_count
    pairs-<id>/oversized_baskets/*.parquet    order_id, product_count
    pairs-<id>/shortlist/*.parquet            product_number, recommended_product_key,
                                              copurchase_count
    pairs-<id>/order_lines/*.parquet          order_id, product_id, quantity; of mapped orders only

Four kinds of tasks run one after the other and pass files through the lake:

    read_baskets    per part of the line items: the distinct products of each basket, as codes
    number_baskets  per part: replace codes by product numbers, ascending in each basket
    count_ranges    per chunk of baskets and some ranges of left products: count the pairs
    merge_range     per range of left products, with a state or several chunks: add up the counts
"""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bought_together.dask_tasks import connected, resources, run_tasks
from bought_together.dbt_build import check_seeds
from bought_together.errors import CannotRun, describe
from bought_together.pairs.baskets import (
    BASKET_COUNT,
    BASKET_SIZES,
    OVERSIZED_BASKETS,
    number_baskets,
    read_baskets,
    read_columns,
)
from bought_together.pairs.counting import PRODUCT_PAIRS, ProductRange, count_ranges, merge_range
from bought_together.pairs.counting_rules import (
    COUNTED,
    INPUT_FILES,
    PRODUCTS,
    CountingRules,
    counting_rules,
)
from bought_together.pairs.merging import state_effort
from bought_together.pairs.model_sql import ModelQuery, Parquet, run_model, sign_in_for
from bought_together.pairs.orders import resolve_orders
from bought_together.pairs.plan import chunk_items, plan_chunks, plan_ranges, range_edges
from bought_together.pairs.shortlist import SHORTLIST, Shortlist
from bought_together.pairs.state import CountPlan, counted_by, plan_count
from bought_together.storage.filesystem import (
    file_sizes,
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
from bought_together.storage.warehouse import duckdb_limits

COUNT_PREFIX = "pairs-"
COUNTS_KEPT = 2
# More ranges than threads, so that threads finish at about the same time.
RANGES_A_THREAD = 2
PRODUCTS_COUNTED = pa.schema(
    [("product_id", pa.string()), ("product_number", pa.int32()), ("basket_count", pa.int64())]
)
COUNT_SCHEMAS = {
    "products": PRODUCTS_COUNTED,
    "basket_sizes": BASKET_SIZES,
    "oversized_baskets": OVERSIZED_BASKETS,
    "product_pairs": PRODUCT_PAIRS,
    "shortlist": SHORTLIST,
}
# The ranking packs a count into 31 bits (macros/pack_rank.sql).
LARGEST_COUNT = (1 << 31) - 1


def count_pairs(
    lake_path: str,
    scheduler: str | None = None,
    largest_chunk: int | None = None,
    workers: int = 1,
    project: Path = Path(),
    full_refresh: bool = False,
) -> dict[str, Any]:
    """Count the pairs of the lake's current run, point readers to them, and return totals.

    Continues from the published build where that is possible; the `summary` among the totals says
    in one line whether it did, or why not.

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
    fingerprint = counted_by(rules, project)
    plan = plan_count(lake, current, fingerprint, full_refresh)
    count = new_run(counts_of(run))
    folder = f"{run}/{COUNT_PREFIX}{count}"
    make_folders(folder, (*COUNT_SCHEMAS, "work"))
    try:
        with connected(scheduler, workers) as client:
            totals = count_run(lake, current, folder, largest_chunk, client, rules, plan)
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
                "counted_by": fingerprint,
                "summary": plan.summary,
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
    return totals | {"summary": plan.summary}


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
    plan: CountPlan,
) -> dict[str, int]:
    """Write the tables of a count of a run to `folder` and return its totals."""
    work = f"{folder}/work"
    [products_path] = table_parts(lake, manifest, "products")
    numbered_files = pa.Table.from_pylist(
        [{"number": file["number"], "path": file["path"]} for file in plan.files]
    )
    given = {PRODUCTS: Parquet(products_path), INPUT_FILES: numbered_files}
    orders: dict[str, int] = {}
    if manifest.get("orders"):
        changed, orders = resolve_orders(plan, manifest["orders"], numbered_files, rules, folder)
        plan = plan._replace(changed=changed)
    read = partial(read_baskets, purchases=rules.purchases, given=given, work=work)
    oversized = run_tasks(read, list(enumerate(plan.changed)), client)
    write_table(
        folder, "oversized_baskets", add_to_state(plan.state, "oversized_baskets", oversized)
    )

    products = number_products(work, len(plan.changed), given, rules.keys, plan.state)
    bought = products.filter(pc.not_equal(products["basket_count"], 0))
    write_table(folder, "products", bought)
    products_path = f"{work}/products.parquet"
    write_part(products_path, products)
    largest = pc.max(products["product_number"]).as_py() or 0
    edges = range_edges(largest)
    number = partial(number_baskets, work=work, products_path=products_path, edges=edges[:-1])
    numbered = run_tasks(number, list(enumerate(plan.changed)), client)
    sizes = [sizes for _, _, sizes in numbered]
    write_table(folder, "basket_sizes", add_to_state(plan.state, "basket_sizes", sizes))

    threads, memory = resources(client)
    most = largest_chunk or chunk_items(memory, largest, rules.shortlisted)
    chunks = [
        (change, chunk)
        for change in (1, -1)
        for chunk in plan_chunks(
            [
                (number, items)
                for number, (items, _, _) in enumerate(numbered)
                if plan.changed[number].change == change
            ],
            most,
        )
    ]
    state_pairs = sorted_pairs(plan, work)
    effort = sum((effort for _, effort, _ in numbered), state_effort(state_pairs, edges[:-1]))
    ranges = plan_ranges(edges, effort, RANGES_A_THREAD * threads)
    shortlist = Shortlist(rules.shortlisted, f"{folder}/shortlist", products_path)
    counted = count_chunks(chunks, ranges, largest, folder, threads, state_pairs, shortlist, client)
    # An empty part makes sure that a table exists and has its schema.
    for table in ("product_pairs", "shortlist"):
        write_part(f"{folder}/{table}/part-empty.parquet", COUNT_SCHEMAS[table].empty_table())
    return {
        "products": len(bought),
        "items": sum(items for items, _, _ in numbered),
        "pairs": sum(pairs for pairs, _ in counted),
        "pair_occurrences": sum(occurrences for _, occurrences in counted),
        "chunks": len(chunks),
        "threads": threads,
        **orders,
    }


def add_to_state(state: str | None, table: str, counted: list[pa.Table]) -> pa.Table:
    """Return the rows of a state's table with what was counted, and no row that comes to 0.

    Without a `basket_count`, a row of the state is one basket.
    """
    schema = COUNT_SCHEMAS[table]
    rows = list(counted)
    if state is not None:
        held = read_columns(f"{state}/{table}/part-00000.parquet", schema.names).cast(schema)
        if BASKET_COUNT.name not in schema.names:
            held = held.append_column(BASKET_COUNT, [np.ones(len(held), np.int64)])
        rows.append(held)
    if not rows:
        return schema.empty_table()
    keys = [name for name in schema.names if name != BASKET_COUNT.name]
    summed = pa.concat_tables(rows).group_by(keys).aggregate([(BASKET_COUNT.name, "sum")])
    summed = summed.rename_columns([*keys, BASKET_COUNT.name])
    return summed.filter(pc.not_equal(summed[BASKET_COUNT.name], 0))


def sorted_pairs(plan: CountPlan, work: str) -> list[str]:
    """Return the files of a state's pairs, sorted by both numbers; none without a state.

    Pairs that SQL counted are sorted first, into `work`: once, when the engines change.
    """
    if plan.state is None:
        return []
    folder = f"{plan.state}/product_pairs"
    if plan.are_sorted:
        return [f"{folder}/{name}" for name in sorted(file_sizes(folder))]
    target = f"{work}/state-pairs.parquet"
    limits = duckdb_limits(os.environ)
    try:
        with (
            TemporaryDirectory() as spilled,
            duckdb.connect(config={**limits, "temp_directory": spilled}) as connection,
        ):
            sign_in_for(connection, work)
            pairs = connection.read_parquet(f"{parquet_glob(folder)}/*.parquet")
            pairs.order("left_product_number, right_product_number").write_parquet(target)
    except duckdb.Error as error:
        raise CannotRun(f"cannot sort the pairs in {folder}: {describe(error)}") from error
    return [target]


def write_table(folder: str, table: str, rows: pa.Table) -> None:
    schema = COUNT_SCHEMAS[table]
    write_part(f"{folder}/{table}/part-00000.parquet", rows.select(schema.names).cast(schema))


def number_products(
    work: str, parts: int, given: Mapping[str, Parquet], query: ModelQuery, state: str | None
) -> pa.Table:
    """Return all products as the model KEYS has them, by their numbers.

    A product that is in no basket any more is among them: its baskets are still to be removed.
    """
    [products] = run_model(query, {COUNTED: sum_basket_counts(work, parts, state), **given})
    products = products.sort_by("product_number")
    popular = products.take(pc.select_k_unstable(products, 2, [("product_key", "ascending")]))
    if len(popular) > 1 and popular["basket_count"][1].as_py() > LARGEST_COUNT:
        raise CannotRun(
            f"products {popular['product_id'][0]} and {popular['product_id'][1]} are both in more"
            f" than {LARGEST_COUNT:,} baskets: their co-purchase count might not fit"
        )
    return products


# Any numbers would do; with the best sellers first, the files of pairs are small.
ADD_UP = """
    select
        product_id,
        coalesce(
            max(product_number),
            (select coalesce(max(product_number), 0) from state)
            + row_number() over (
                partition by max(product_number) is null
                order by sum(basket_count) desc, product_id
            )
        )::integer as product_number,
        sum(basket_count)::bigint as basket_count
    from (from state union all by name from counted)
    group by product_id
"""


def sum_basket_counts(work: str, parts: int, state: str | None) -> pa.Table:
    """Return PRODUCTS_COUNTED, summed over the state and so many parts of whole baskets."""
    with duckdb.connect() as connection:
        sign_in_for(connection, work)
        if parts:
            counted = [f"{work}/counted-{part:05d}.parquet" for part in range(parts)]
            connection.read_parquet(list(map(parquet_glob, counted))).create_view("counted")
        else:
            connection.register("counted", PRODUCTS_COUNTED.empty_table())
        if state is None:
            connection.register("state", PRODUCTS_COUNTED.empty_table())
        else:
            counted_before = f"{parquet_glob(state)}/products/*.parquet"
            connection.read_parquet(counted_before).create_view("state")
        return connection.sql(ADD_UP).to_arrow_table()


def count_chunks(
    chunks: list[tuple[int, list[int]]],
    ranges: list[ProductRange],
    largest: int,
    folder: str,
    threads: int,
    state: list[str],
    shortlist: Shortlist,
    client: Any,
) -> list[tuple[int, int]]:
    """Write product_pairs, and return (pairs, pair occurrences) per task.

    `chunks` holds the sign and the part numbers of each chunk, `state` the files of the pairs to
    which they are added.
    """
    work, target = f"{folder}/work", f"{folder}/product_pairs"
    merges = len(chunks) > 1 or bool(state)
    # The fewest tasks per chunk that keep every thread busy, since each task loads the chunk.
    tasks = min(len(ranges), -(-RANGES_A_THREAD * threads // max(len(chunks), 1)))
    jobs = [
        (number, parts, ranges[task::tasks])
        for number, (_, parts) in enumerate(chunks)
        for task in range(tasks)
    ]
    count = partial(
        count_ranges,
        product_count=largest,
        work=work,
        target=work if merges else target,
        shortlist=None if merges else shortlist,
    )
    totals = run_tasks(count, jobs, client)
    if not merges:
        return totals
    merge = partial(
        merge_range,
        signs=[sign for sign, _ in chunks],
        state=state,
        product_count=largest,
        work=work,
        target=target,
        shortlist=shortlist,
    )
    return run_tasks(merge, ranges, client)
