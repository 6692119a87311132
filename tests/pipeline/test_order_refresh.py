"""With an order id mapped, a count that continues takes each changed order out and in as a whole.

Files with lines of the same orders come, go, change and are renamed. dbt itself does not run here.
"""

import shutil
import tempfile
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bought_together.storage.builds import build_path, read_pointer
from tests.support.counted_shop import (
    KILLED,
    LARGEST_BASKET,
    PRODUCTS,
    PUBLISHED,
    REFUSED,
    Export,
    OrderShop,
)

BASES = [f"b{number:02}" for number in range(10)]
ENGINES = ["duckdb", "dask"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def small_baskets_and_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BASKET_PRODUCTS", str(LARGEST_BASKET))
    monkeypatch.setattr("bought_together.pairs.orders.LINES_A_PART", 9)


def filler(base: str) -> list[Export]:
    """Orders that stay as they are, so that a change is a small part of the data."""
    lines: list[tuple[str, int | None]] = [("filler a", 1), ("filler c", 2)]
    return [Export(f"{base}-{number}", lines) for number in range(40)]


def write_bases(shop: OrderShop, **exports: list[Export]) -> None:
    for base in BASES:
        shop.write(base, [*filler(base), *exports.get(base, [])])


lines = st.lists(
    st.tuples(st.sampled_from(PRODUCTS[:7]), st.sampled_from([1, 1, 1, 2, 0, -1, None])),
    min_size=1,
    max_size=6,
)
exports = st.lists(
    st.builds(
        Export,
        st.sampled_from(["o1", "o2", "o3"]),
        lines,
        st.sampled_from([False] * 7 + [True]),
    ),
    min_size=1,
    max_size=5,
)
names = st.sampled_from(["a", "b02", "b07", "z"])
changes = st.one_of(
    st.tuples(st.just("write"), names, exports),
    st.tuples(st.just("write"), names, exports),
    st.tuples(st.just("remove"), names, st.none()),
    st.tuples(st.just("rename"), names, names),
)
nights = st.lists(
    st.tuples(
        st.lists(changes, max_size=2),
        st.sampled_from(ENGINES),
        st.sampled_from([PUBLISHED, PUBLISHED, PUBLISHED, REFUSED, KILLED]),
    ),
    min_size=2,
    max_size=4,
)


@given(first=st.lists(exports, min_size=3, max_size=3), nights=nights, are_records=st.booleans())
@settings(
    deadline=None,
    derandomize=True,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_sequence_of_nights(
    first: list[list[Export]], nights: list[Any], are_records: bool
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        shop = OrderShop(folder, are_records)
        write_bases(shop, **dict(zip(("b00", "b02", "b05"), first, strict=True)))
        shop.night("duckdb")
        for changed, engine, end in nights:
            for change in changed:
                shop.change(*change)
            assert shop.night(engine, end=end).state
    finally:
        shutil.rmtree(folder)


def published_pairs(shop: OrderShop) -> dict[str, set[str]]:
    """Return which pairs are published of each order that has products of its own."""
    state = f"{build_path(str(shop.lake), read_pointer(str(shop.lake))['build'])}/state"
    rows = duckdb.sql(
        f"""
        from '{state}/product_pairs/*.parquet' as pairs
        join '{state}/products/*.parquet' as one on left_product_number = one.product_number
        join '{state}/products/*.parquet' as two on right_product_number = two.product_number
        select one.product_id, two.product_id
        """
    ).fetchall()
    held: dict[str, set[str]] = defaultdict(set)
    for products in map(sorted, rows):
        order = {product.partition(" ")[0] for product in products}
        held[order.pop()].add("".join(product[-1] for product in products))
        assert not order
    return held


def export(order: str, products: str, units: int = 1, is_cancelled: bool = False) -> Export:
    return Export(order, [(f"{order} {each}", units) for each in products], is_cancelled)


def test_what_happens_to_an_order(tmp_path: Path, engine: str) -> None:
    """Each order has products of its own, so that its pairs show what it comes down to."""
    shop = OrderShop(tmp_path)
    write_bases(
        shop,
        b00=[
            export("gains-a-line", "x"),
            export("loses-its-newer-export", "xy"),
            export("newest-by-a-new-name", "xy"),
            export("cancelled", "xy"),
            export("returned", "xy"),
            export("grows-too-large", "12345"),
            export("stays-too-large", "12345"),
            export("shrinks", "12345"),
        ],
    )
    shop.write(
        "c1",
        [
            export("loses-its-newer-export", "xz"),
            export("stays-too-large", "678"),
            export("shrinks", "6"),
        ],
    )
    shop.write("c2", [export("newest-by-a-new-name", "xz")])
    shop.night(engine)
    five = {f"{one}{two}" for one, two in combinations("12345", 2)}
    held = {
        "loses-its-newer-export": {"xz"},
        "newest-by-a-new-name": {"xz"},
        "cancelled": {"xy"},
        "returned": {"xy"},
        "grows-too-large": five,
    }
    assert published_pairs(shop) == {"filler": {"ac"}, **held}

    shop.remove("c1")
    shop.rename("c2", "a")
    shop.write(
        "z",
        [
            export("gains-a-line", "y"),
            export("cancelled", "x", 3, is_cancelled=True),
            export("returned", "y", -1),
            export("grows-too-large", "6"),
            export("stays-too-large", "6"),
        ],
    )
    plan = shop.night(engine)
    assert "2 files added, 2 removed since build" in plan.summary
    held = {
        "gains-a-line": {"xy"},
        "loses-its-newer-export": {"xy"},
        "newest-by-a-new-name": {"xy"},
        "shrinks": five,
    }
    assert published_pairs(shop) == {"filler": {"ac"}, **held}
    plan = shop.night(engine)
    assert (plan.changed, plan.summary[:30]) == ([], "0 files added, 0 removed since")
