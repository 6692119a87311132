"""The compiled engine counts what a Counter over the combinations of each basket counts."""

import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from itertools import combinations, pairwise
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bought_together.errors import CannotRun
from bought_together.ingest.run import flatten
from bought_together.pairs import counting, kernels, run
from bought_together.pairs.counting_rules import counting_rules
from bought_together.pairs.kernels import (
    LOW_BITS,
    SMALL,
    distinct_items,
    keep_best,
    sort_baskets,
)
from bought_together.pairs.model_sql import Parquet
from bought_together.pairs.plan import chunk_items, plan_chunks, plan_ranges, range_edges
from bought_together.pairs.run import count_pairs
from bought_together.storage.lake import table_parts
from tests.support import ROOT
from tests.support.oracle import count
from tests.support.shop import Shop

BLOCK_SIZE = 2000  # so that a few hundred baskets make a dozen parts


def count_world(
    shop: Shop, baskets: Iterable[Iterable[str]], largest_chunk: int | None = None
) -> tuple[dict[str, tuple[int, int]], dict[tuple[str, str], int]]:
    """Return product -> (number, baskets), and pairs -> baskets, as the lake holds them."""
    shop.write(baskets, ["a"])
    flatten(str(shop.transactions), str(shop.products), str(shop.lake), block_size=BLOCK_SIZE)
    count_pairs(str(shop.lake), largest_chunk=largest_chunk)
    return read_counted(shop)


def read_counted(shop: Shop) -> tuple[dict[str, tuple[int, int]], dict[tuple[str, str], int]]:
    keys = shop.counted_table("products").to_pylist()
    products = {row["product_id"]: (row["product_number"], row["basket_count"]) for row in keys}
    assert len(products) == len(keys)
    ids = {key: product for product, (key, _) in products.items()}
    rows = shop.counted_table("product_pairs").to_pylist()
    assert all(row["left_product_number"] < row["right_product_number"] for row in rows)
    found = {
        tuple(sorted((ids[row["left_product_number"]], ids[row["right_product_number"]]))): row[
            "copurchase_count"
        ]
        for row in rows
    }
    assert len(found) == len(rows)
    return products, found


def expected_of(
    baskets: Iterable[Iterable[str]],
) -> tuple[dict[str, tuple[int, int]], dict[tuple[str, str], int]]:
    together, singles = count(map(set, baskets))
    order = sorted(singles, key=lambda product: (-singles[product], product))
    keyed = {product: (key, singles[product]) for key, product in enumerate(order, start=1)}
    return keyed, dict(together)


def random_baskets(seed: int, products: int = 60, baskets: int = 300) -> list[list[str]]:
    """Return baskets with repeated lines, popular and rare products, and empty baskets."""
    chance = random.Random(seed)
    return [
        [f"p{int(products * chance.random() ** 3)}" for _ in range(chance.randrange(12))]
        for _ in range(baskets)
    ]


WORLDS = {
    "one product": [["a"]] * 3,
    "one basket": [["a", "b", "c"]],
    "one product, many times in one basket": [["a"] * 50],
    "only empty baskets": [[], []],
    "no two together": [["a"], ["b"], ["c"]],
    "a product in every basket": [["x", f"p{number % 70}"] for number in range(200)],
    "64 products, a word of the bitmap": [[f"p{number:02}" for number in range(64)]] * 2,
    "65 products, one more": [[f"p{number:02}" for number in range(65)]] * 2,
    "ids of every kind": [["é", "😀", "'", '"', "0", "00", "z z", "Z"], ["00", "0", "é"]] * 3,
    "random": random_baskets(1),
    "random, few products": random_baskets(2, products=4),
    "random, many products": random_baskets(3, products=3000),
}


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("largest_chunk", [None, 40])
def test_counts_are_those_of_the_oracle(shop: Shop, name: str, largest_chunk: int | None) -> None:
    assert count_world(shop, WORLDS[name], largest_chunk) == expected_of(WORLDS[name])


def test_a_basket_of_5000_products(shop: Shop) -> None:
    """It is sorted another way, fills a row group, and each of its pairs counts one more."""
    wholesale = [f"p{number:04}" for number in range(5000)]
    shop.write([wholesale, wholesale[::7]], ["a"])
    flatten(str(shop.transactions), str(shop.products), str(shop.lake))
    totals = count_pairs(str(shop.lake))
    assert totals["pairs"] == 5000 * 4999 // 2
    assert totals["pair_occurrences"] == 5000 * 4999 // 2 + 715 * 714 // 2
    counted = shop.counted_table("product_pairs")
    twice = counted.filter(pa.compute.equal(counted["copurchase_count"], 2))
    assert len(twice) == 715 * 714 // 2
    # Products in both baskets have the first 715 numbers.
    assert max(twice["right_product_number"].to_pylist()) == 715
    keys = counted.select(["left_product_number", "right_product_number"])
    assert len(keys.group_by(keys.column_names).aggregate([])) == len(counted)


def test_chunks_and_ranges_change_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    baskets = random_baskets(4)
    expected = count_world(shop, baskets)
    for largest_chunk, ranges in ((1, 1), (200, 40), (10_000, 40)):
        monkeypatch.setattr(run, "RANGES_A_THREAD", ranges)
        totals = count_pairs(str(shop.lake), largest_chunk=largest_chunk)
        assert read_counted(shop) == expected
        assert totals["pair_occurrences"] == sum(expected[1].values())
        assert (totals["chunks"] > 1) == (largest_chunk < 10_000)


def test_buffer_of_rows_is_handed_on_when_full(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one product at a time, and files of many row groups."""
    baskets = random_baskets(5)
    expected = count_world(shop, baskets)
    monkeypatch.setattr(counting, "ROWS", 1)
    count_pairs(str(shop.lake))
    assert read_counted(shop) == expected


def test_pairs_come_in_the_order_of_their_keys(shop: Shop) -> None:
    """Each file is sorted by both keys, from one chunk and from many."""
    for largest_chunk in (None, 50):
        count_world(shop, random_baskets(6), largest_chunk)
        rows = [
            (row["left_product_number"], row["right_product_number"])
            for row in shop.counted_table("product_pairs").to_pylist()
        ]
        assert rows == sorted(rows)


baskets_of_codes = st.lists(
    st.one_of(
        st.lists(st.integers(0, 30), min_size=1, max_size=8),
        st.lists(st.integers(0, 99), min_size=SMALL - 2, max_size=SMALL + 40),
    ),
    max_size=12,
)


@given(baskets_of_codes, st.randoms(use_true_random=False))
@settings(deadline=None, derandomize=True)
def test_kernels_against_sets(baskets: list[list[int]], chance: random.Random) -> None:
    order_ids = np.repeat(np.arange(len(baskets)) * 3, [len(basket) for basket in baskets])
    codes = np.array([code for basket in baskets for code in basket], np.int32)
    basket_ids, ends, items, basket_counts = distinct_items(order_ids, codes, 100)
    assert basket_ids.tolist() == [3 * number for number in range(len(baskets))]
    starts = [0, *ends.tolist()]
    found = [items[low:high].tolist() for low, high in zip(starts, ends, strict=False)]
    assert found == [list(dict.fromkeys(basket)) for basket in baskets]
    assert basket_counts.tolist() == [
        sum(code in basket for basket in baskets) for code in range(100)
    ]
    keys = np.array(chance.sample(range(1, 101), 100), np.int32)
    edges = range_edges(100)
    bins = np.searchsorted(edges, np.arange(101), side="right") - 1
    keyed, effort = sort_baskets(ends, items, keys, bins, len(edges) - 1)
    assert [keyed[low:high].tolist() for low, high in zip(starts, ends, strict=False)] == [
        sorted(keys[code] for code in set(basket)) for basket in baskets
    ]
    assert effort.sum() >= sum(len(list(combinations(set(basket), 2))) for basket in baskets)
    together: dict[tuple[int, int], int] = {}
    for _, low, high in plan_ranges(edges, effort, 5):
        for rows in counting.counted_rows(ends, keyed, low, high, 100):
            for left, right, number in zip(*(column.tolist() for column in rows), strict=True):
                assert low <= left < high
                assert (left, right) not in together
                together[left, right] = number
    named = [{int(keys[code]) for code in basket} for basket in baskets]
    assert together == dict(count(named)[0])


@given(
    st.dictionaries(
        st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda pair: pair[0] < pair[1]),
        st.one_of(st.integers(1, 3), st.just((1 << 31) - 1)),
    ),
    st.permutations(range(1, 13)),
    st.sets(st.integers(1, 12)),
    st.integers(1, 4),
    st.integers(1, 20),
)
@settings(deadline=None, derandomize=True)
def test_best_pairs_are_those_of_a_sort(
    pairs: dict[tuple[int, int], int],
    places: list[int],
    unlisted: set[int],
    wanted: int,
    rows_at_once: int,
) -> None:
    """By count, then by popularity; what is not in the product list is never recommended."""
    keys = np.array([0, *places], np.int64)
    keys[list(unlisted)] = 0
    best = np.zeros((13, wanted), np.int64)
    rows = np.array([(*pair, number) for pair, number in pairs.items()], np.int32).reshape(-1, 3)
    for start in range(0, len(rows), rows_at_once):
        keep_best(*rows[start : start + rows_at_once].T, keys, best)
    for product in range(1, 13):
        others = [
            (-number, int(keys[other]))
            for pair, number in pairs.items()
            for one, other in (pair, pair[::-1])
            if one == product and keys[other]
        ]
        found = [(-(rank >> 32), LOW_BITS - (rank & LOW_BITS)) for rank in best[product].tolist()]
        assert found[: len(others)] == sorted(others)[:wanted]
        assert not best[product][len(others) :].any()


@given(
    st.integers(1, 3_000_000),
    st.integers(1, 50),
    st.lists(st.integers(0, 1_000_000), min_size=1, max_size=40),
)
@settings(deadline=None, derandomize=True)
def test_ranges_cover_every_key_once(products: int, wanted: int, effort: list[int]) -> None:
    edges = range_edges(products)
    ranges = plan_ranges(edges, np.resize(effort, len(edges) - 1), wanted)
    assert 1 <= len(ranges) <= wanted
    assert [number for number, _, _ in ranges] == list(range(len(ranges)))
    assert ranges[0][1] == 1
    assert ranges[-1][2] == products + 1
    assert all(before[2] == after[1] for before, after in pairwise(ranges))
    assert all(low < high for _, low, high in ranges)


def test_ranges_share_the_effort() -> None:
    """However steep the effort falls, no range has much more than its share."""
    edges = range_edges(50_000)
    effort = (1e9 / np.arange(1, len(edges)) ** 0.5).astype(np.int64)
    shares = [
        effort[(edges[:-1] >= low) & (edges[:-1] < high)].sum() / effort.sum()
        for _, low, high in plan_ranges(edges, effort, 6)
    ]
    assert len(shares) == 6
    assert max(shares) < 1.1 / 6


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 120))
def test_chunks_hold_every_part_once(items: list[int], largest: int) -> None:
    chunks = plan_chunks(enumerate(items), largest)
    assert [number for chunk in chunks for number in chunk] == list(range(len(items)))
    for chunk in chunks:
        assert len(chunk) == 1 or sum(items[number] for number in chunk) <= largest


def test_chunks_follow_from_the_memory() -> None:
    assert chunk_items(2_000_000_000, 50_000, 5) > 32_000_000
    assert chunk_items(1 << 40, 50_000, 5) < 1 << 31  # positions have 32 bits
    assert chunk_items(100_000_000, 50_000, 5) < 5_000_000
    with pytest.raises(CannotRun, match=r"1,000,000 products .* 20 MB"):
        chunk_items(20_000_000, 1_000_000, 5)


@pytest.mark.parametrize(("baskets", "fits"), [((1 << 31) - 1, True), (1 << 31, False)])
def test_counts_beyond_31_bits_are_refused(
    baskets: int, fits: bool, monkeypatch: pytest.MonkeyPatch, shop: Shop
) -> None:
    """No pair is in more baskets than the second product."""
    shop.write([["a", "b"]], ["a", "b"])
    manifest = flatten(str(shop.transactions), str(shop.products), str(shop.lake))
    given = {"lake_products": Parquet(table_parts(str(shop.lake), manifest, "products")[0])}
    counted = pa.table(
        {"product_id": ["a", "b"], "product_number": [1, 2], "basket_count": [1 << 40, baskets]}
    )
    monkeypatch.setattr(run, "sum_basket_counts", lambda work, parts, state: counted)
    query = counting_rules(ROOT).keys
    if fits:
        assert run.number_products("", 0, given, query, None)["product_key"].to_pylist() == [1, 2]
    else:
        with pytest.raises(CannotRun, match="products a and b are both in more than 2,147,483,647"):
            run.number_products("", 0, given, query, None)


def test_counted_again_only_the_newest_counts_are_kept(shop: Shop) -> None:
    expected = count_world(shop, WORLDS["random"])
    folders = set()
    for _ in range(3):
        count_pairs(str(shop.lake))
        folders.add((shop.run_folder / "pairs.json").read_text())
        assert read_counted(shop) == expected
    assert len(folders) == 3
    assert len(list(shop.run_folder.glob("pairs-*"))) == run.COUNTS_KEPT
    assert not list(shop.run_folder.glob("pairs-*/work"))


def test_lake_paths_of_every_kind(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets, braces, stars, blanks, quotes and backslashes in a folder's name are no glob."""
    home = shop.folder / "a [b]*? 'c' \"d\" \\e {f} {} ü"
    home.mkdir()
    odd = Shop(home, shop.dbt_folder)
    assert count_world(odd, WORLDS["random"]) == expected_of(WORLDS["random"])
    monkeypatch.chdir(home)
    assert count_pairs("lake", project=ROOT)["products"] == 60


# Compiles and calls one kernel: a product and its one neighbour in one basket.
CALL_A_KERNEL = """if True:
    import numpy as np
    from bought_together.pairs import kernels
    ends, items = np.array([2], np.uint32), np.array([1, 2], np.int32)
    starts, behind, behind_ends = kernels.invert(ends, items, 1, 2)
    print(kernels.__file__, starts.tolist(), behind.tolist(), behind_ends.tolist())
"""


def test_kernels_run_where_no_cache_can_be_written(tmp_path: Path) -> None:
    """As in a read-only checkout of a user without a home."""
    package = tmp_path / "bought_together"
    shutil.copytree(
        ROOT / "bought_together", package, ignore=shutil.ignore_patterns("__pycache__", "service")
    )
    (package / "pairs/__pycache__").write_text("in the way, even of root")
    finished = subprocess.run(
        [sys.executable, "-B", "-c", CALL_A_KERNEL],
        env={"PYTHONPATH": str(tmp_path), "HOME": "/dev/null"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    expected = f"{package}/pairs/kernels.py [0, 1] [1] [2]\n"
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, expected, "")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "folder"])
def test_a_damaged_cache_costs_only_another_compilation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def add_one(number):
        return number + 1

    assert kernels.compiled(add_one)(1) == 2
    written = [path for path in tmp_path.rglob("*.nb?") if path.is_file()]
    assert len(written) == 2
    for path in written:
        content = path.read_bytes()
        path.unlink()
        if damage == "folder":
            path.mkdir()
        else:
            path.write_bytes({"cut": content[:-9], "empty": b"", "text": b"rubbish"}[damage])
    assert kernels.compiled(add_one)(2) == 3


def test_kernels_are_cached_where_a_folder_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def double(number):
        return 2 * number

    assert kernels.compiled(double)(1) == 2
    again = kernels.compiled(double)
    assert again(3) == 6
    assert sum(again.stats.cache_hits.values()) == 1
