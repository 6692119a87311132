"""With an order id mapped, a count that continues takes each changed order out and in as a whole.

Files with lines of the same orders come, go, change and are renamed. dbt itself does not run here.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
def small_baskets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BASKET_PRODUCTS", str(LARGEST_BASKET))


def filler(base: str) -> list[Export]:
    """Orders that stay as they are, so that a change is a small part of the data."""
    return [Export(f"{base}-{number}", [("a", 1), ("c", 2)]) for number in range(40)]


def write_bases(shop: OrderShop, **exports: list[Export]) -> None:
    for base in BASES:
        shop.write(base, [*filler(base), *exports.get(base, [])])


lines = st.lists(
    st.tuples(st.sampled_from(PRODUCTS), st.sampled_from([1, 1, 1, 2, 0, -1, None])), max_size=5
)
exports = st.lists(
    st.builds(
        Export,
        st.sampled_from(["o1", "o2", "o3", "o4"]),
        lines,
        st.sampled_from([False] * 7 + [True]),
    ),
    max_size=4,
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
