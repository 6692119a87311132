"""The published table against an independent computation: sample, real data, small worlds."""

import gzip
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from dbt.cli.main import dbtRunner

from tests.support import ROOT
from tests.support.oracle import Row, count, read_baskets, read_catalogue, recommend
from tests.support.real_data import real
from tests.support.shop import Shop
from tests.support.worlds import Lines, small_world

WORLDS = 200
ENGINES = ["duckdb", "dask"]


@pytest.fixture(params=ENGINES)
def shop(shop: Shop, request: pytest.FixtureRequest) -> Shop:
    """A shop of every engine: the table is the same."""
    return replace(shop, engine=request.param)


def assert_same(shop: Shop, expected: set[tuple[object, ...]]) -> None:
    """Compare both ways: nothing missing, nothing extra, nothing twice."""
    rows = shop.recommendations()
    assert len(rows) == len(set(rows))
    assert expected - set(rows) == set()
    assert set(rows) - expected == set()
    sources = "select distinct recommendation_source from product_recommendations"
    assert shop.query(sources) == [("copurchase",)]


def test_sample(shop: Shop) -> None:
    transactions, products = ROOT / "data/transactions.txt", ROOT / "data/products.txt"
    shop.build(TRANSACTIONS=transactions, PRODUCTS=products)
    assert_same(shop, recommend(read_baskets(transactions), read_catalogue(products)))


def test_groceries(shop: Shop) -> None:
    transactions = real("groceries", "transactions.txt")
    products = real("groceries", "products.txt")
    shop.build(TRANSACTIONS=transactions, PRODUCTS=products)
    assert_same(shop, recommend(read_baskets(transactions), read_catalogue(products)))
    top = next(row for row in shop.recommendations() if row[0] == "211")
    assert top == ("211", 1, "124", "other vegetables", "12", 736)


@pytest.fixture(scope="module")
def online_retail() -> tuple[Path, Path, set[Row]]:
    """The files, and the rows that every engine must find in them."""
    transactions = real("online_retail", "transactions.txt.gz")
    products = real("online_retail", "products.txt")
    return transactions, products, recommend(read_baskets(transactions), read_catalogue(products))


def test_online_retail_however_it_is_read(
    shop: Shop, online_retail: tuple[Path, Path, set[Row]], tmp_path: Path
) -> None:
    """Threads, block sizes, split files and a memory limit change nothing."""
    transactions, products, expected = online_retail
    joined, split = tmp_path / "joined.txt", tmp_path / "split"
    split.mkdir()
    lines = read_lines(transactions)
    joined.write_bytes(b"".join(lines))
    for part in range(10):
        # The numbers of the files turn the order of records around.
        (split / f"{9 - part}.txt").write_bytes(b"".join(lines[part::10]))
    for settings in (
        {"TRANSACTIONS": transactions, "DUCKDB_THREADS": 2},
        {"TRANSACTIONS": joined, "block_size": 64 << 20, "DUCKDB_THREADS": 1},
        {"TRANSACTIONS": split / "*.txt", "block_size": 256 << 10, "DUCKDB_MEMORY_LIMIT": "1GB"},
    ):
        shop.build(PRODUCTS=products, **settings)
        assert_same(shop, expected)


def test_small_worlds(worlds: Shop) -> None:
    assert_same(
        worlds, recommend(read_baskets(worlds.transactions), read_catalogue(worlds.products))
    )


@pytest.mark.parametrize(
    ("variant", "factor"), [("lines and baskets shuffled", 1), ("lines repeated", 1), ("twice", 2)]
)
def test_variants_of_small_worlds(worlds: Shop, variant: str, factor: int) -> None:
    """Order and repeated lines change nothing; every basket twice doubles counts, keeps ranks."""
    rows = worlds.recommendations()

    def of(wanted: str) -> list[tuple[object, ...]]:
        number = f"{list(VARIANTS).index(wanted)}:"
        return [
            (product.removeprefix(number), rank, other.removeprefix(number), together)
            for product, rank, other, _, _, together in rows
            if product.startswith(number)
        ]

    plain = of("plain")
    assert plain
    assert of(variant) == [(*row[:3], row[3] * factor) for row in plain]


def test_pairs_of_small_worlds(worlds: Shop) -> None:
    """Every pair in both directions, with the counts of both sides."""
    pairs, singles = count(read_baskets(worlds.transactions))
    catalogue = read_catalogue(worlds.products)
    names = {product: catalogue.get(product, ["", None])[1] for product in singles}
    expected = {
        (product, names[product], other, names[other], together, singles[product], singles[other])
        for (left, right), together in pairs.items()
        for product, other in ((left, right), (right, left))
    }
    rows = worlds.query(
        "select product_id, product_name, other_product_id, other_product_name, copurchase_count,"
        " basket_count, other_basket_count from product_pairs"
    )
    assert len(rows) == len(expected)
    assert set(rows) == expected


def test_fewer_recommendations_are_the_first_of_more(worlds: Shop) -> None:
    five = worlds.recommendations()
    settings = {"LAKE_PATH": worlds.lake, "DUCKDB_PATH": worlds.folder / "three.duckdb"}
    built = worlds.dbt("--quiet", "build", "--vars", "recommendations_per_product: 3", **settings)
    assert built.returncode == 0, built.stdout
    assert worlds.recommendations() == [row for row in five if row[1] <= 3]
    assert any(row[1] > 3 for row in five)


@pytest.mark.parametrize("wanted", ["0", "1001", "five", "2.5", "true"])
def test_number_of_recommendations_is_checked_when_compiling(tmp_path: Path, wanted: str) -> None:
    folders = ["--target-path", f"{tmp_path}/target", "--log-path", f"{tmp_path}/logs"]
    project = ["--project-dir", str(ROOT), "--profiles-dir", str(ROOT), "--log-level", "none"]
    parsed = dbtRunner().invoke(
        ["parse", "--vars", f"recommendations_per_product: {wanted}", *project, *folders]
    )
    assert "must be a whole number from 1 to 1000" in str(parsed.exception)


def test_excluded_products_never_were(shop: Shop) -> None:
    """An excluded product is no row, no recommendation, and no weight in any count."""
    shop.copy_project()
    (shop.project / "seeds/excluded_products.csv").write_text(
        "product_id,reason\n011,leading zero\nb,\nnever sold,typing mistake\n"
    )
    shop.write([["a", "b", "c"], ["b", "c"], ["b", "c", "011"], ["a", "c"], ["11", "a"]], "abc")
    shop.build()
    baskets, catalogue = read_baskets(shop.transactions), read_catalogue(shop.products)
    assert_same(shop, recommend(baskets, catalogue, excluded=["011", "b"]))
    tested = shop.dbt("test", "--select", "warn_excluded_products_never_sold")
    assert "WARN 1 warn_excluded_products_never_sold" in tested.stdout


def read_lines(path: Path) -> list[bytes]:
    with gzip.open(path) as file:
        return file.readlines()


def shuffled(records: list[Lines], chance: random.Random) -> list[Lines]:
    return [chance.sample(lines, len(lines)) for lines in chance.sample(records, len(records))]


VARIANTS: dict[str, Callable[[list[Lines], random.Random], list[Lines]]] = {
    "plain": lambda records, chance: records,
    "lines and baskets shuffled": shuffled,
    "lines repeated": lambda records, chance: [lines * chance.randint(1, 3) for lines in records],
    "twice": lambda records, chance: records * 2,
}


@pytest.fixture(scope="module", params=ENGINES)
def worlds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, dbt_folder: Path
) -> Shop:
    """Two hundred small shops, each in four variants, side by side in one build."""
    shop = Shop(tmp_path_factory.mktemp("worlds"), dbt_folder, engine=request.param)
    records: list[object] = []
    products: list[str] = []
    for seed in range(WORLDS):
        plain, listed = small_world(seed)
        for number, vary in enumerate(VARIANTS.values()):
            for lines in vary(plain, random.Random(seed)):
                own = [{**line, "item": f"{number}:{line['item']}"} for line in lines]
                records.append({"itemList": own})
            products += [f"{number}:{product}\tC{product[-1]}\tN {product}" for product in listed]
    shop.write_records(records)
    shop.write_products(products)
    shop.build()
    return shop
