"""The generator: same options, same files; the input format; what each option changes."""

import json
import re
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from bought_together.samples import simulated
from bought_together.samples.simulated import BASKETS_IN_BLOCK, Shop, generate
from scripts.generate import main

SMALL = {"products": 500, "themes": 20}
DATE = re.compile(r"\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d")


def transactions_of(folder: Path, baskets: int, **figures: float) -> list[dict]:
    generate(Shop(**SMALL | figures), baskets, folder)
    return read_transactions(folder)


def read_transactions(folder: Path) -> list[dict]:
    text = (folder / "transactions.txt").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def lines_of(transactions: list[dict]) -> list[dict]:
    return [line for record in transactions for line in record["itemList"]]


def categories_of(folder: Path) -> dict[str, str]:
    rows = (folder / "products.txt").read_text(encoding="utf-8").splitlines()
    return {product: category for product, category, _name in (row.split("\t") for row in rows)}


def test_same_options_give_the_same_bytes_and_another_seed_others(tmp_path):
    for folder, seed in (("first", 7), ("again", 7), ("other", 8)):
        generate(Shop(**SMALL, seed=seed), 300, tmp_path / folder)
    for name in ("transactions.txt", "products.txt"):
        first, again, other = (
            (tmp_path / folder / name).read_bytes() for folder in ("first", "again", "other")
        )
        assert first == again
        assert first != other


def test_a_shorter_file_is_the_beginning_of_a_longer_one(tmp_path):
    for count in (100, BASKETS_IN_BLOCK, BASKETS_IN_BLOCK + 100):
        generate(Shop(**SMALL), count, tmp_path / str(count))
    short, block, long = (
        (folder / "transactions.txt").read_bytes()
        for folder in sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name))
    )
    assert block.startswith(short)
    assert long.startswith(block)
    assert long.count(b"\n") == BASKETS_IN_BLOCK + 100


def test_no_two_blocks_hold_the_same_baskets(tmp_path):
    transactions = transactions_of(tmp_path, 2 * BASKETS_IN_BLOCK)
    baskets = [[line["item"] for line in record["itemList"]] for record in transactions]
    assert baskets[:100] != baskets[BASKETS_IN_BLOCK:][:100]


def test_memory_does_not_grow_with_the_number_of_baskets(tmp_path):
    def peak(blocks: int) -> int:
        tracemalloc.start()
        generate(Shop(**SMALL), blocks * BASKETS_IN_BLOCK, tmp_path)
        _now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    peak(1)
    assert peak(8) < 1.3 * peak(2)


def test_files_are_in_the_input_format(tmp_path):
    transactions = transactions_of(tmp_path, 2000)
    assert len(transactions) == 2000
    for record in transactions:
        assert list(record) == ["customer", "date", "itemList", "store"]
        assert isinstance(record["customer"], int)
        assert DATE.fullmatch(record["date"])
        assert re.fullmatch(r"\d{4}", record["store"])
        assert 1 <= len(record["itemList"]) <= 100
    assert all(left["date"] < right["date"] for left, right in pairwise(transactions))
    categories = categories_of(tmp_path)
    assert len(categories) == SMALL["products"]
    assert len(set(categories.values())) == SMALL["themes"]
    for line in lines_of(transactions):
        assert list(line) == ["item", "price", "quantity"]
        assert line["item"] in categories
        assert line["price"] > 0
        assert isinstance(line["quantity"], float)
        assert line["quantity"] != 0


def test_some_baskets_hold_a_product_on_two_lines(tmp_path):
    baskets = [
        [line["item"] for line in record["itemList"]] for record in transactions_of(tmp_path, 500)
    ]
    assert any(len(items) > len(set(items)) for items in baskets)


def test_skew_makes_the_most_sold_product_sell_more(tmp_path):
    def top_share(skew: float) -> float:
        lines = lines_of(transactions_of(tmp_path, 3000, skew=skew))
        return max(Counter(line["item"] for line in lines).values()) / len(lines)

    even, steep = top_share(0), top_share(1.5)
    assert even < 2 / SMALL["products"]
    assert steep > 20 * even


@pytest.mark.parametrize(("share", "themed"), [(0, False), (1, True)])
def test_theme_share_decides_whether_a_basket_keeps_to_one_category(tmp_path, share, themed):
    transactions = transactions_of(tmp_path, 200, theme_share=share)
    categories = categories_of(tmp_path)
    kinds = [{categories[line["item"]] for line in record["itemList"]} for record in transactions]
    assert all(len(kind) == 1 for kind in kinds) is themed
    assert len(set.union(*kinds)) == SMALL["themes"]


@pytest.mark.parametrize("share", [0, 0.2, 1])
def test_returns_are_the_asked_share_of_lines(tmp_path, share):
    lines = lines_of(transactions_of(tmp_path, 2000, returns=share))
    returned = sum(line["quantity"] < 0 for line in lines)
    assert returned / len(lines) == pytest.approx(share, abs=0.02)


def test_basket_size_is_the_median_number_of_lines(tmp_path):
    sizes = sorted(
        len(record["itemList"]) for record in transactions_of(tmp_path, 4000, basket_size=20)
    )
    assert sizes[2000] == pytest.approx(20, abs=2)
    assert sizes[-1] <= 100


def test_fewer_products_than_themes_still_sells(tmp_path):
    lines = lines_of(transactions_of(tmp_path, 200, products=3, themes=400))
    assert {line["item"] for line in lines} == {"P000001", "P000002", "P000003"}


@pytest.mark.parametrize(
    "options",
    [
        ["--products", "0"],
        ["--baskets", "-1"],
        ["--themes", "0"],
        ["--theme-share", "1.5"],
        ["--returns", "-0.1"],
        ["--skew", "-1"],
        ["--skew", "nan"],
        ["--basket-size", "0"],
        ["--seed", "-3"],
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options):
    folder = tmp_path / "out"
    result = CliRunner().invoke(main, [str(folder), *options])
    assert result.exit_code == 2
    assert options[0] in result.stderr
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(main, [str(tmp_path / "file" / "out"), "--baskets", "1"])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in result.stderr


def test_a_run_cut_short_leaves_the_old_file(tmp_path, monkeypatch):
    before = transactions_of(tmp_path, 10)

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(simulated, "to_json_lines", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(Shop(**SMALL), 20, tmp_path)
    assert read_transactions(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["products.txt", "transactions.txt"]


def test_progress_stays_out_of_a_pipe(tmp_path):
    result = CliRunner().invoke(main, [str(tmp_path), "--baskets", "10", "--products", "20"])
    assert result.exit_code == 0
    assert result.output == ""
