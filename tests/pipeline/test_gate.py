"""Data that would replace a good table by a wrong one are refused, and the old table stands."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.oracle import recommend
from tests.support.processes import assert_one_line
from tests.support.shop import Shop

LISTED = ["a", "b", "c", "d"]
BASKETS = [["a", "b"], ["a", "b", "c"], ["b", "c"], ["c", "d"]]
NEWEST = "2024.03.02 10:00:00"
NAMES = {product: ["C", f"Name of {product}"] for product in LISTED}


def records(baskets: Iterable[Iterable[str]], date: str | None = NEWEST) -> list[dict[str, Any]]:
    return [
        {"date": date, "itemList": [{"item": item, "quantity": 1.0} for item in basket]}
        for basket in baskets
    ]


@pytest.fixture(scope="module")
def first_build(tmp_path_factory: pytest.TempPathFactory, dbt_folder: Path) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("shop"), dbt_folder)
    shop.write(BASKETS, LISTED)
    shop.write_records(records(BASKETS))
    built = shop.run("build")
    assert built.returncode == 0, built.stdout + built.stderr
    assert "baskets    4, newest date 2024-03-02 10:00:00\n" in built.stdout
    assert "unlisted   0.0% of purchases" in built.stdout
    return shop


@pytest.fixture
def published(first_build: Shop, shop: Shop) -> Shop:
    """A shop of the test's own whose build is published."""
    shutil.copytree(first_build.folder, shop.folder, dirs_exist_ok=True)
    return shop


def in_warehouse(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.query("from product_recommendations order by all")


def assert_refused(shop: Shop, test: str, setting: str, **settings: object) -> None:
    """The build ends with 1 and names its setting; lake and warehouse keep the old table."""
    pointer = (shop.lake / "published.json").read_bytes()
    rows = in_warehouse(shop)
    refused = shop.run("build", **settings)
    assert_one_line(refused, 1, "nothing was published")
    assert f"{test} (fail)" in refused.stdout
    assert setting in refused.stdout
    assert (shop.lake / "published.json").read_bytes() == pointer
    assert in_warehouse(shop) == rows


def assert_published(shop: Shop, **settings: object) -> None:
    pointer = (shop.lake / "published.json").read_bytes()
    built = shop.run("build", **settings)
    assert built.returncode == 0, built.stdout + built.stderr
    assert (shop.lake / "published.json").read_bytes() != pointer


def test_ids_of_another_form_are_refused(published: Shop) -> None:
    """Numbers with a decimal point are other ids than those of the list: no product is named."""
    lines = ['{"itemList":[{"item":22420.0,"quantity":1},{"item":22421.0,"quantity":1}]}'] * 4
    published.write_records(lines)
    published.write_products(["22420\tC\tApple", "22421\tC\tPear"])
    assert_refused(published, "assert_most_purchases_listed", "MAX_UNLISTED_SHARE")


def test_ids_that_lost_their_zeros_are_refused_and_seen_before(shop: Shop) -> None:
    """A spreadsheet has taken the ids of the orders for numbers; one has no zero to lose."""
    orders, products = shop.folder / "orders.csv", shop.folder / "products.csv"
    lines = [(order, sku) for order in range(4) for sku in (110, 210, 3050)]
    orders.write_text("order_id,sku\n" + "".join(f"{order},{sku}\n" for order, sku in lines))
    products.write_text("sku,name\n0110,Tea\n0210,Milk\n3050,Salt\n")
    inspected = shop.run("inspect_input", "--output", shop.folder / "input.yml", orders, products)
    assert inspected.returncode == 0, inspected.stderr
    said = f"Of the lines seen, 66.7% are of products that {products} does not name, such as 110."
    assert f"# {said}\n# The list has 0110 where these have 110: a tool took" in inspected.stdout
    settings = {
        "TRANSACTIONS": orders,
        "PRODUCTS": products,
        "INPUT_MAPPING": shop.folder / "input.yml",
    }
    refused = shop.run("build", **settings)
    assert_one_line(refused, 1, "nothing was published")
    assert "assert_most_purchases_listed (fail)" in refused.stdout
    assert "66.7%" in refused.stdout
    assert not (shop.lake / "published.json").exists()
    orders.write_text("order_id,sku\n" + "".join(f"{order},{sku:04}\n" for order, sku in lines))
    mended = shop.run("inspect_input", products, orders).stdout
    assert "order_id: order_id" in mended
    assert "does not name" not in mended


def test_a_list_whose_lines_are_mostly_unreadable_is_refused(published: Shop) -> None:
    published.write_products(["a\tC\tName of a", *(f"{each} C Name" for each in LISTED[1:])])
    assert_refused(published, "assert_most_purchases_listed", "MAX_UNLISTED_SHARE")
    assert_published(published, MAX_UNLISTED_SHARE=0.9)


def test_half_of_the_purchases_may_be_unlisted(shop: Shop) -> None:
    shop.write([["a", "x"], ["a", "x"], ["a", "x", "x"]], "a")
    built = shop.run("build")
    assert built.returncode == 0, built.stdout
    assert "unlisted   50.0% of purchases, 1 product missing" in built.stdout
    shop.write([["a", "x"], ["a", "x"], ["a", "x", "y"]], "a")
    assert_refused(shop, "assert_most_purchases_listed", "MAX_UNLISTED_SHARE")


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_an_empty_table_is_refused(shop: Shop, engine: str) -> None:
    """Even as the first build of a lake, which compares with nothing."""
    shop.write([["a"], ["b"]], "ab")
    shop.engine = engine
    refused = shop.run("build")
    assert_one_line(refused, 1, "nothing was published")
    assert "Nothing published: assert_recommendations_exist (fail)" in refused.stdout
    assert not shop.export.exists()


def test_transactions_that_were_cut_are_refused(published: Shop) -> None:
    published.write_records(records(BASKETS[:1]))
    assert_refused(published, "assert_baskets_not_lost", "MIN_BASKETS_SHARE")
    published.write_records(records(BASKETS[:2]))
    assert_published(published)  # half as many are enough
    published.write_records(records(BASKETS[:1]))
    assert_refused(published, "assert_baskets_not_lost", "MIN_BASKETS_SHARE", MIN_BASKETS_SHARE=0.6)
    assert_published(published, MIN_BASKETS_SHARE=0.4)


def test_older_transactions_are_refused(published: Shop) -> None:
    published.write_records(records(BASKETS, "2024.03.02 09:59:59"))
    assert_refused(published, "assert_data_not_older", "ALLOW_OLDER_DATA")
    assert_published(published, ALLOW_OLDER_DATA=1)
    published.write_records(records(BASKETS, None))
    assert_refused(published, "assert_data_not_older", "ALLOW_OLDER_DATA")  # nobody can tell
    assert_published(published, ALLOW_OLDER_DATA=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_UNLISTED_SHARE", "half"),
        ("MAX_UNLISTED_SHARE", "1.1"),
        ("MIN_BASKETS_SHARE", "-0.1"),
        ("MIN_BASKETS_SHARE", "nan"),
        ("ALLOW_OLDER_DATA", "perhaps"),
        ("MAX_BASKET_PRODUCTS", "1.5"),
        ("MAX_BASKET_PRODUCTS", "0"),
        ("MIN_COPURCHASE_COUNT", "0"),
        ("FILL_SHORT_LISTS", "perhaps"),
        ("AS_OF", "24.12.2026"),
    ],
)
def test_a_threshold_that_is_none_is_one_line(shop: Shop, name: str, value: str) -> None:
    shop.write(BASKETS, LISTED)
    assert_one_line(shop.run("build", **{name: value}), 2, f"{name} must be ", value)


def test_lists_that_change_are_told_and_much_change_warns(published: Shop) -> None:
    built = published.run("build", "--skip-flatten")
    assert (
        "lists      4 unchanged, 0 reordered, 0 changed, 0 new, 0 gone; products 0 new, 0 gone\n"
        in built.stdout
    )
    assert "warn_lists_changed" not in built.stdout
    published.write_records(records([["a", "b"], ["a", "c"], ["a", "c"], ["b", "e"], ["b", "c"]]))
    built = published.run("build")
    assert (
        "lists      0 unchanged, 2 reordered, 1 changed, 1 new, 1 gone; products 1 new, 0 gone\n"
        in built.stdout
    ), built.stdout
    assert "(warn_lists_changed)" in built.stdout
    changes = dict(published.query("select product_id, list_change from recommendation_changes"))
    assert changes["d"] == "gone"
    assert changes["e"] == "new"
    assert published.query("select product_id, product_change from product_changes") == [
        ("e", "new")
    ]
    moves = published.query("select * exclude (copurchase_count) from recommendation_moves")
    assert set(moves) == {
        ("a", "b", 2, 1, 2, "fewer sales"),
        ("a", "c", 1, 2, 1, "new sales"),
        ("b", "a", 1, 2, 2, "fewer sales"),
        ("b", "c", 2, 1, 2, "fewer sales"),
        ("c", "a", 1, 2, 1, "new sales"),
        ("c", "b", 2, 1, 2, "fewer sales"),
        ("c", "d", None, 3, 1, "fewer sales"),
    }


@pytest.mark.parametrize("damage", ["folder", "file", "pointer"])
def test_a_damaged_published_build_stops_no_other(published: Shop, damage: str) -> None:
    if damage == "folder":
        published.export.unlink()
    elif damage == "file":
        published.export.write_bytes(published.export.read_bytes()[:-20])
    else:
        (published.lake / "published.json").write_text('{"build": "none"}')
    assert_published(published)


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_an_oversized_basket_is_set_aside(shop: Shop, engine: str) -> None:
    """By its distinct purchases: neither repeats nor returns make a basket too large."""
    shop.copy_project()
    (shop.project / "seeds/excluded_products.csv").write_text("product_id,reason\nbag,bag\n")
    shop.engine = engine
    kept = [["a", "b", "c", "c", "a", "bag"], ["a", "d"]]
    shop.write([], LISTED)
    written = [*records(kept), *records([LISTED])]
    written[1]["itemList"] += [{"item": each, "quantity": -1} for each in "abc"]
    shop.write_records(written)
    built = shop.run("build", MAX_BASKET_PRODUCTS=3)
    assert built.returncode == 0, built.stdout
    start = shop.transactions.read_bytes().rindex(b'{"date')
    assert (
        "set aside  1 basket of more than 3 products, the largest (4) at"
        f" {shop.transactions} byte {start}\n"
    ) in built.stdout
    assert "(warn_oversized_baskets)" in built.stdout
    expected = recommend(({*basket} for basket in kept), NAMES, excluded=["bag"])
    assert set(shop.recommendations()) == expected
    assert shop.query("select product_id, basket_count from products order by all") == [
        ("a", 2),
        ("b", 1),
        ("c", 1),
        ("d", 1),
    ]


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_a_basket_of_more_than_5000_products_is_oversized(shop: Shop, engine: str) -> None:
    """Its pairs would be most of the work."""
    shop.engine = engine
    shop.write([*BASKETS, [f"{number}" for number in range(5001)]], LISTED)
    built = shop.run("build")
    assert built.returncode == 0, built.stdout
    assert "set aside  1 basket of more than 5,000 products, the largest (5,001)" in built.stdout
    assert set(shop.recommendations()) == recommend(map(set, BASKETS), NAMES)
