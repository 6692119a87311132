"""A shop whose counts continue from what was published; dbt itself does not run.

The models of the SQL engine run on the views that dbt reads. What should be counted follows from
the input files alone.
"""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from bought_together.ingest.run import flatten
from bought_together.pairs.counting_rules import counting_rules
from bought_together.pairs.model_sql import compile_model, project_vars
from bought_together.pairs.run import count_pairs
from bought_together.pairs.state import (
    KEPT_TABLES,
    CountPlan,
    counted_by,
    finish_state,
    plan_count,
)
from bought_together.storage.builds import build_path, make_published
from bought_together.storage.lake import make_folders, read_current
from bought_together.storage.mount import (
    STATE_TABLES,
    mount_changes,
    mount_count,
    mount_files,
    mount_lake,
    mount_state,
)
from tests.support import ROOT
from tests.support.oracle import count

PRODUCTS = "abcdefgh"
LARGEST_BASKET = 5
# How a night can end.
PUBLISHED, REFUSED, KILLED = "published", "refused", "killed"
MODELS = {
    "products": "int_products_counted",
    "basket_sizes": "int_baskets_sized",
    "oversized_baskets": "int_baskets_oversized",
    "product_pairs": "int_product_pairs_counted",
}
VIEWED_MODELS = ("int_order_lines_versioned", "int_line_items_purchased", "int_line_items_kept")
VIEWS = {
    "lake_line_item_changes": "line_item_changes",
    "lake_input_files": "input_files",
    "lake_products": "products",
    **{f"state_{table}": f"state_{table}" for table in STATE_TABLES},
}
Baskets = list[list[str]]


class Counts(NamedTuple):
    """What a count comes down to, by names that no run changes."""

    products: dict[str, int]
    pairs: dict[tuple[str, str], int]
    sizes: dict[tuple[str, int], int]  # the file's path and the basket's number of products
    oversized: dict[tuple[str, int], int]


class CountedShop:
    """Input files in a folder, and a lake; an order id is mapped in OrderShop alone."""

    suffix = ".txt"
    mapping: str | None = None

    def __init__(self, folder: Path) -> None:
        self.folder, self.lake = folder, folder / "lake"
        (folder / "in").mkdir()
        (folder / "products.txt").write_text("".join(f"{each}\tC\t{each}\n" for each in PRODUCTS))
        self.builds = 0
        self.excluded, self.largest = "", LARGEST_BASKET

    def path(self, name: str) -> Path:
        return self.folder / "in" / f"{name}{self.suffix}"

    def write(self, name: str, baskets: Baskets) -> None:
        lines = [
            json.dumps({"itemList": [{"item": item, "quantity": 1} for item in basket]}) + "\n"
            for basket in baskets
        ]
        # Of a file's own, so that no two files have the same content.
        lines.append(json.dumps({"itemList": [{"item": f"only {name}", "quantity": 1}]}) + "\n")
        self.path(name).write_text("".join(lines))

    def rename(self, name: str, other: str) -> None:
        self.path(name).rename(self.path(other))

    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def change(self, kind: str, name: str, more: Any) -> None:
        """Do what a test has drawn, if it can be done."""
        if kind == "write":
            self.write(name, more)
        elif kind == "remove":
            self.remove(name)
        elif self.path(name).exists() and not self.path(more).exists():
            self.rename(name, more)

    def baskets(self) -> Iterator[tuple[str, set[str]]]:
        """Yield the products of each basket, and the path of its file."""
        for path in (self.folder / "in").iterdir():
            for line in path.read_text().splitlines():
                yield str(path), {item["item"] for item in json.loads(line)["itemList"]}

    def expected(self) -> Counts:
        bought = [(path, basket - {*self.excluded}) for path, basket in self.baskets()]
        kept = [(path, basket) for path, basket in bought if 0 < len(basket) <= self.largest]
        pairs, singles = count([basket for _, basket in kept])
        return Counts(
            dict(singles),
            dict(pairs),
            Counter((path, len(basket)) for path, basket in kept),
            Counter((path, len(basket)) for path, basket in bought if len(basket) > self.largest),
        )

    def flatten(self) -> dict[str, Any]:
        mapping = None
        if self.mapping:
            mapping = str(self.folder / "input.yml")
            Path(mapping).write_text(self.mapping)
        return flatten(
            str(self.folder / f"in/*{self.suffix}"),
            str(self.folder / "products.txt"),
            str(self.lake),
            input_mapping=mapping,
        )

    @contextmanager
    def counted(
        self, engine: str, full_refresh: bool = False
    ) -> Iterator[tuple[CountPlan, duckdb.DuckDBPyConnection]]:
        """Count the current run, and yield a connection with the models' rows as tables."""
        lake, run = str(self.lake), read_current(str(self.lake))
        assert run
        rules = counting_rules(ROOT)
        plan = plan_count(lake, run, counted_by(rules, ROOT), full_refresh)
        if engine == "dask":
            count_pairs(lake, project=ROOT, full_refresh=full_refresh)
        with duckdb.connect() as connection:
            mount_lake(connection, lake)
            if engine == "dask":
                mount_count(connection, lake, run)
            else:
                mount_state(connection, plan.state or "", KEPT_TABLES if plan.state else ())
                mount_files(connection, plan.files)
                mount_changes(connection, plan.unchanged, plan.changed, run["orders"])
            for name, view in VIEWS.items():
                connection.execute(f"create view {name} as from lake.{view}")
            variables = project_vars(ROOT) | {"pair_engine": engine}
            for model in MODELS.values():
                query = compile_model(model, list(VIEWS), ROOT, variables)
                for name, seed in query.seeds.items():
                    connection.register(name, seed)
                for name, sql in query.views.items():
                    is_view = name.startswith("stg_") or name in VIEWED_MODELS
                    kind = "view" if is_view else "table"
                    connection.execute(f"create temp {kind} if not exists {name} as {sql}")
            yield plan, connection

    def publish(
        self, connection: duckdb.DuckDBPyConnection, engine: str, is_killed: bool = False
    ) -> None:
        """Publish a state as dbt does: of the baskets that are still there.

        A build that is killed has written all its tables, but not moved the pointer.
        """
        lake, run = str(self.lake), read_current(str(self.lake))
        assert run
        self.builds += 1
        build = {"build": f"20240101T{self.builds:06}Z-x", "run": run["run"], "built_at": "2024"}
        folder = build_path(lake, build["build"])
        make_folders(f"{folder}/state", KEPT_TABLES)
        rows = {
            "oversized_baskets": "select order_id, product_count from {} where change >= 0",
            "product_pairs": "from {} order by hash(right_product_number)",  # in no useful order
        }
        for table in KEPT_TABLES:
            if (engine, table) != ("dask", "product_pairs"):
                connection.execute(
                    f"copy ({rows.get(table, 'from {}').format(MODELS[table])})"
                    f" to '{folder}/state/{table}/part-00000.parquet'"
                )
        counted = None
        if engine == "dask":
            counted = connection.sql("select folder from lake.mounted_count").fetchall()[0][0]
        fingerprint = counted_by(counting_rules(ROOT), ROOT)
        state = finish_state(lake, build, {"counted_by": fingerprint, "folder": counted})
        if is_killed:
            return
        assert make_published(lake, build | {"state": state}, {}) is None

    def night(self, engine: str, full_refresh: bool = False, end: str = PUBLISHED) -> CountPlan:
        """Flatten, count and publish; the counts are those of the files as they are."""
        self.flatten()
        with self.counted(engine, full_refresh) as (plan, connection):
            assert found(connection) == self.expected()
            if end != REFUSED:
                self.publish(connection, engine, is_killed=end == KILLED)
        return plan


def found(connection: duckdb.DuckDBPyConnection) -> Counts:
    """Return what was counted; it holds nothing twice and no zero."""
    products = connection.sql("from int_products_counted").fetchall()
    ids = {number: product for product, number, _ in products}
    assert len(ids) == len(products)
    rows = connection.sql("from int_product_pairs_counted").fetchall()
    assert all(left < right for left, right, _ in rows)
    pairs = {tuple(sorted((ids[left], ids[right]))): number for left, right, number in rows}
    assert len(pairs) == len(rows)
    paths = dict(connection.sql("select number, path from lake.input_files").fetchall())
    rows = connection.sql("from int_baskets_sized").fetchall()
    sizes = {(paths[file], size): number for file, size, number in rows}
    assert len(sizes) == len(rows)
    kept = connection.sql(
        "select count(distinct order_id) from int_line_items_kept where change >= 0"
    ).fetchall()
    assert kept == [(sum(sizes.values()),)]
    oversized = connection.sql(
        "select order_id >> 40, product_count from int_baskets_oversized where change >= 0"
    ).fetchall()
    return Counts(
        {product: number for product, _, number in products},
        pairs,
        sizes,
        Counter((paths[file], size) for file, size in oversized),
    )


class Export(NamedTuple):
    """What a file holds of an order; a line is a product and its units."""

    order: str
    lines: list[tuple[str, int | None]]
    is_cancelled: bool = False


class OrderShop(CountedShop):
    """A shop that maps order ids; the lines of an order stand in any of its files."""

    def __init__(self, folder: Path, are_records: bool = False) -> None:
        super().__init__(folder)
        self.exports: dict[str, list[Export]] = {}
        self.are_records = are_records
        self.suffix = ".json" if are_records else ".csv"
        items = "items: lines, " if are_records else ""
        self.mapping = (
            f"transactions: {{{items}order_id: order, product_id: sku, quantity: units,"
            " cancelled: {field: state, values: [cancelled]}}\n"
        )

    def write(self, name: str, exports: list[Export]) -> None:  # type: ignore[override]
        # Of a file's own, so that no two files have the same content.
        self.exports[name] = [*exports, Export(f"only {name}", [(f"only {name}", 1)])]
        if self.are_records:
            text = "".join(
                json.dumps(
                    {
                        "order": export.order,
                        "state": "cancelled" if export.is_cancelled else "paid",
                        "lines": [{"sku": sku, "units": units} for sku, units in export.lines],
                    }
                )
                + "\n"
                for export in self.exports[name]
            )
        else:
            file = io.StringIO()
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["order", "sku", "units", "state"])
            for order, lines, is_cancelled in self.exports[name]:
                state = "cancelled" if is_cancelled else "paid"
                rows.writerows([order, sku, units, state] for sku, units in lines)
            text = file.getvalue()
        self.path(name).write_text(text)

    def rename(self, name: str, other: str) -> None:
        super().rename(name, other)
        self.exports[other] = self.exports.pop(name)

    def remove(self, name: str) -> None:
        super().remove(name)
        self.exports.pop(name, None)

    def baskets(self) -> Iterator[tuple[str, set[str]]]:
        """Yield what each order comes down to, by the rules of docs/input.md.

        Its file is the one that was read first of those that count.
        """
        run = read_current(str(self.lake))
        assert run
        numbers = {file["path"]: file["number"] for file in run["files"]}
        orders: dict[str, list[tuple[str, Export]]] = defaultdict(list)
        for name in sorted(self.exports):
            exports = [export for export in self.exports[name] if export.lines]
            if not self.are_records:
                exports = merged(exports)
            for export in exports:
                orders[export.order].append((name, export))
        for exports in orders.values():
            kept = [
                (name, export)
                for place, (name, export) in enumerate(exports)
                if not any(self.repeats(newer, export) for _, newer in exports[place + 1 :])
            ]
            if any(export.is_cancelled for _, export in kept):
                continue
            units: Counter[str] = Counter()
            for _, export in kept:
                for product, bought in export.lines:
                    units[product] += 1 if bought is None else bought
            first = min((str(self.path(name)) for name, _ in kept), key=numbers.__getitem__)
            yield first, {product for product, left in units.items() if left > 0}

    def repeats(self, newer: Export, older: Export) -> bool:
        if not self.are_records:
            return bool({*newer.lines} & {*older.lines})
        products = {product for product, _ in older.lines}
        return any(product in products and (units or 0) >= 0 for product, units in newer.lines)


def merged(exports: list[Export]) -> list[Export]:
    """Return an export per order."""
    orders: dict[str, list[Export]] = defaultdict(list)
    for export in exports:
        orders[export.order].append(export)
    return [
        Export(
            order,
            [line for export in parts for line in export.lines],
            any(export.is_cancelled for export in parts),
        )
        for order, parts in orders.items()
    ]
