"""PAIR_ENGINE=dask around the counting: its settings, the rules it takes from dbt, its failures."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bought_together.dask_tasks import PROGRAM_BYTES, Resources, resources
from bought_together.errors import CannotRun
from bought_together.pairs.counting_rules import counting_rules
from bought_together.pairs.model_sql import compile_model, read_seed, run_model
from scripts import count_pairs
from tests.support import ROOT
from tests.support.oracle import recommend
from tests.support.processes import assert_one_line, kill_when, program, start
from tests.support.shop import Shop

COUNT = program("count_pairs")
RULES = "models/intermediate/int_line_items_purchased.sql"
SEED = "seeds/excluded_products.csv"


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_an_engine_that_does_not_exist_is_one_line(shop: Shop) -> None:
    shop.write_random(seed=1)
    finished = shop.run("build", PAIR_ENGINE="spark")
    assert_one_line(finished, 2, "PAIR_ENGINE must be duckdb or dask, not spark")
    assert not shop.export.exists()


def test_no_lake_is_one_line(shop: Shop) -> None:
    assert_one_line(shop.run("count_pairs"), 2, shop.lake, "scripts/flatten.py")


def test_dbt_build_before_any_count_says_so(shop: Shop) -> None:
    shop.write_random(seed=1)
    assert shop.run("flatten").returncode == 0
    built = shop.dbt("build", PAIR_ENGINE="dask")
    assert built.returncode == 2
    assert "no pairs counted" in built.stdout
    assert "scripts/count_pairs.py" in built.stdout
    assert not shop.export.exists()


def test_make_build_counts_and_shows_progress_only_on_a_terminal(shop: Shop) -> None:
    shop.write([["a", "b"], ["a", "b", "c"]], "abc")
    finished = shop.run("build", PAIR_ENGINE="dask")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "pairs      3 of 3 products, 4 occurrences" in finished.stdout
    assert set(shop.recommendations()) == recommend([{"a", "b"}, {"a", "b", "c"}], NAMES)


NAMES = {product: ["C", f"Name of {product}"] for product in "abc"}


def test_engines_take_turns_on_one_warehouse(shop: Shop) -> None:
    """A table of one engine is a view of the other's."""
    shop.write([["a", "b"], ["a", "b", "c"], ["a"]], "abc")
    assert shop.run("flatten").returncode == 0
    assert shop.run("count_pairs").returncode == 0
    seen = []
    for engine in ("duckdb", "dask", "duckdb"):
        built = shop.dbt("--quiet", "build", PAIR_ENGINE=engine)
        assert built.returncode == 0, built.stdout
        seen.append((shop.recommendations(), shop.query("from product_pairs order by all")))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0]


def test_a_rule_of_the_model_is_a_rule_of_the_engine(shop: Shop) -> None:
    """What is a purchase is said once, in SQL, and both engines do what it says."""
    shop.copy_project()
    change(
        shop.project / RULES,
        "where coalesce(line_items.quantity, 1) > 0",
        "where coalesce(line_items.quantity, 1) > 0 and line_items.product_id <> 'b'",
    )
    baskets = [["a", "b", "c"], ["b", "c"], ["a", "c"]]
    shop.write(baskets, "abc")
    shop.engine = "dask"
    shop.build()
    expected = recommend(({*basket} - {"b"} for basket in baskets), NAMES)
    assert set(shop.recommendations()) == expected


def test_the_order_of_lines_is_the_models_affair(shop: Shop) -> None:
    """A rule may bring the lines of a basket apart; they are still one basket."""
    shop.copy_project()
    rule = "where coalesce(line_items.quantity, 1) > 0"
    change(shop.project / RULES, rule, f"{rule} order by line_items.product_id")
    baskets = [["a", "b", "c"], ["b", "c"], ["a", "c", "c"]]
    shop.write(baskets, "abc")
    shop.engine = "dask"
    shop.build()
    assert set(shop.recommendations()) == recommend(map(set, baskets), NAMES)


def test_a_var_that_only_dbt_knows_is_found_out(shop: Shop) -> None:
    """The workers know the vars of dbt_project.yml and the environment."""
    shop.write([["a", "b", "c"], ["b", "c"]], "abc")
    shop.engine = "dask"
    shop.build(MAX_BASKET_PRODUCTS=2)
    assert {row[0] for row in shop.recommendations()} == {"b", "c"}
    by_vars = ("--vars", "{max_basket_products: 3}")
    for built in (shop.dbt("build"), shop.dbt("build", *by_vars, MAX_BASKET_PRODUCTS=2)):
        assert built.returncode == 2
        assert "were counted under other rules" in built.stdout
    more = shop.dbt("build", "--vars", "recommendations_per_product: 6", MAX_BASKET_PRODUCTS=2)
    assert more.returncode == 2
    assert "has kept 5 pairs of each product" in more.stdout


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_both_engines_exclude_what_the_seed_says(shop: Shop, engine: str) -> None:
    """An id may begin as a comment does elsewhere."""
    shop.copy_project()
    seed = shop.project / SEED
    seed.write_text('product_id,reason\n12,"a bag, empty"\n#a,"say ""no"""\n')
    baskets = [["#a", "b", "12"], ["#a", "b", "c"], ["b", "12", "c"]]
    shop.write(baskets, ["#a", "b", "12", "c"])
    shop.engine = engine
    shop.build()
    names = {each: ["C", f"Name of {each}"] for each in ("#a", "b", "12", "c")}
    expected = recommend(map(set, baskets), names, excluded=["#a", "12"])
    assert set(shop.recommendations()) == expected


SEED_ROWS = {
    "#a,comment\n12,bag\n": [("#a", "comment"), ("12", "bag")],
    "#a,comment\n": [("#a", "comment")],
    '12,"a bag, empty"\n#a,"say ""no"""\n': [("12", "a bag, empty"), ("#a", 'say "no"')],
    "#a,\n012,another product\n": [("#a", None), ("012", "another product")],
    "#a,x\n" + "".join(f"{number},none\n" for number in range(100, 140)): [
        ("#a", "x"),
        *((f"{number}", "none") for number in range(100, 140)),
    ],
}


@pytest.mark.parametrize(("text", "rows"), SEED_ROWS.items())
def test_both_engines_read_the_same_seed(
    shop: Shop, text: str, rows: list[tuple[str, str | None]]
) -> None:
    shop.copy_project()
    shop.write([["a"]], "a")
    seed = shop.project / SEED
    seed.write_text(f"product_id,reason\n{text}")
    assert shop.run("flatten").returncode == 0
    seeded = shop.dbt("--quiet", "seed", "--select", "excluded_products")
    assert seeded.returncode == 0, seeded.stdout
    assert shop.query("from excluded_products") == rows
    assert [tuple(row.values()) for row in read_seed(seed).to_pylist()] == rows


def test_counts_older_than_a_rule_are_found_out(shop: Shop) -> None:
    shop.copy_project()
    shop.write([["a", "b", "c"], ["b", "c"], ["a", "c"]] * 3, "abc")
    shop.engine = "dask"
    shop.build()
    published = shop.export.read_bytes()
    rule, seed = shop.project / RULES, shop.project / SEED
    for changed, text in (
        (rule, rule.read_text().replace("> 0", "> 0 and line_items.product_id <> 'b'")),
        (seed, "product_id,reason\nb,bag\n"),
    ):
        before = changed.read_text()
        changed.write_text(text)
        built = shop.dbt("build")
        assert built.returncode == 2, changed
        assert "were counted under other rules" in built.stdout
        assert "scripts/count_pairs.py" in built.stdout
        assert shop.export.read_bytes() == published
        changed.write_text(before)
    changed.write_text(text)
    assert shop.run("count_pairs").returncode == 0
    assert shop.dbt("--quiet", "build").returncode == 0
    assert shop.export.read_bytes() != published


def test_a_model_that_needs_more_of_dbt_is_one_line(shop: Shop) -> None:
    shop.write_random(seed=1)
    shop.copy_project()
    change(shop.project / RULES, "1) > 0", "1) > {{ var('least_quantity') }}")
    assert shop.run("flatten").returncode == 0
    finished = shop.run("count_pairs")
    assert_one_line(finished, 2, "int_line_items_purchased.sql", "least_quantity")
    assert not (shop.run_folder / "pairs.json").exists()


def test_sql_that_duckdb_refuses_is_one_line(shop: Shop) -> None:
    shop.write_random(seed=1)
    shop.copy_project()
    change(shop.project / RULES, "1) > 0", "1) > quantities")
    assert shop.run("flatten").returncode == 0
    finished = shop.run("count_pairs")
    assert_one_line(finished, 2, "model int_line_items_kept", "quantities")
    assert not list(shop.run_folder.glob("pairs-*"))


def test_a_model_is_run_with_all_that_it_reads(tmp_path: Path) -> None:
    """Models, seeds with quotes and leading zeros, vars, environment variables; nothing else."""
    (tmp_path / "models").mkdir()
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds/codes.csv").write_text('code,name\n007,"a, ""b"""\n8,\n')
    (tmp_path / "models/stg_x.sql").write_text(
        "{{ config(materialized='view') }} select number from {{ source('lake', 'x') }}"
    )
    (tmp_path / "models/wanted.sql").write_text(
        "select codes.code, codes.name, stg_x.number from {{ ref('stg_x') }} "
        "cross join {{ ref('codes') }} where number > {{ var('least') }} "
        "and number < {{ env_var('MOST', '3') }} order by all"
    )
    import pyarrow as pa

    query = compile_model("wanted", ["lake_x"], tmp_path, {"least": 1})
    [rows] = run_model(query, {"lake_x": pa.table({"number": [1, 2]})})
    assert rows.to_pylist() == [
        {"code": "007", "name": 'a, "b"', "number": 2},
        {"code": "8", "name": None, "number": 2},
    ]
    with pytest.raises(CannotRun, match="lake_x is not available outside dbt"):
        compile_model("wanted", [], tmp_path, {"least": 1})
    with pytest.raises(CannotRun, match="has no model or seed unheard_of"):
        compile_model("unheard_of", [], tmp_path, {})


def test_a_count_killed_half_way_leaves_the_last_one(shop: Shop) -> None:
    shop.write_random(seed=1)
    assert shop.run("flatten", "--block-size", 8000).returncode == 0
    assert shop.run("count_pairs").returncode == 0
    before = (shop.run_folder / "pairs.json").read_text()
    counting = start(shop, COUNT)
    kill_when(counting, lambda: list(shop.run_folder.glob("pairs-*/work/numbered-*")))
    assert (shop.run_folder / "pairs.json").read_text() == before
    built = shop.dbt("--quiet", "build", PAIR_ENGINE="dask")
    assert built.returncode == 0, built.stdout
    assert shop.run("count_pairs").returncode == 0
    assert (shop.run_folder / "pairs.json").read_text() != before


def test_a_damaged_part_is_one_line(shop: Shop) -> None:
    shop.write_random(seed=1)
    assert shop.run("flatten").returncode == 0
    part = shop.parts("line_items")[0]
    part.write_bytes(part.read_bytes()[:-100])
    finished = shop.run("count_pairs")
    assert_one_line(finished, 2, part.name)
    assert not list(shop.run_folder.glob("pairs-*"))


def test_too_little_memory_is_one_line(shop: Shop) -> None:
    shop.write_random(seed=1)
    assert shop.run("flatten").returncode == 0
    finished = shop.run("count_pairs", DUCKDB_MEMORY_LIMIT="200MB")
    assert_one_line(finished, 2, "300 products", "MB per thread")


def test_help_names_every_setting() -> None:
    shown = CliRunner().invoke(count_pairs.main, ["--help"]).output
    for setting in ("LAKE_PATH", "DASK_SCHEDULER", "--largest-chunk"):
        assert setting in shown


FINGERPRINTED = {
    "seed": (SEED, "product_id,reason", "product_id,reason\nbag,bag"),
    "rule": (RULES, "> 0", ">= 0"),
    "rule-before": ("models/staging/lake/stg_line_item_changes.sql", "select", "select distinct"),
    "keys": ("models/intermediate/int_products_keyed.sql", "product_id", "lower(product_id)"),
    "var": ("dbt_project.yml", "5000", "4999"),
}


@pytest.mark.parametrize(("file", "before", "after"), FINGERPRINTED.values(), ids=FINGERPRINTED)
def test_the_fingerprint_follows_all_that_is_counted_by(
    shop: Shop, file: str, before: str, after: str
) -> None:
    shop.copy_project()
    first = counting_rules(shop.project).fingerprint()
    assert counting_rules(shop.project).fingerprint() == first
    change(shop.project / file, before, after)
    assert counting_rules(shop.project).fingerprint() != first


def test_the_fingerprint_follows_settings_that_matter_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = counting_rules(ROOT).fingerprint()
    assert counting_rules(ROOT, {"max_basket_products": 3}).fingerprint() != first
    assert counting_rules(ROOT, {"recommendations_per_product": 3}).fingerprint() == first
    monkeypatch.setenv("MAX_UNLISTED_SHARE", "0.9")
    assert counting_rules(ROOT).fingerprint() == first
    monkeypatch.setenv("MAX_BASKET_PRODUCTS", "3")
    assert counting_rules(ROOT).fingerprint() != first


def test_tasks_use_the_memory_of_the_smallest_worker() -> None:
    """A task may land on any worker: its share of memory is that of the least, per thread."""
    limits = [(16_000_000_000, 2), (8_000_000_000, 4), (2_000_000_000, 1)]
    workers = {
        f"tcp://{number}": {"memory_limit": limit, "nthreads": threads}
        for number, (limit, threads) in enumerate(limits)
    }
    client = SimpleNamespace(scheduler_info=lambda: {"workers": workers})
    shares = [int(limit * 0.7 - PROGRAM_BYTES) // threads for limit, threads in limits]
    assert resources(client) == Resources(threads=7, memory=min(shares))
    workers["tcp://9"] = {"memory_limit": 0, "nthreads": 4}  # it has no limit of its own
    assert resources(client) == Resources(11, int(4e9 * 0.7 - PROGRAM_BYTES) // 4)


def test_a_cluster_without_a_worker_is_one_line() -> None:
    scheduler = SimpleNamespace(address="tcp://127.0.0.1:8786")
    client = SimpleNamespace(scheduler_info=lambda: {"workers": {}}, scheduler=scheduler)
    with pytest.raises(CannotRun, match=r"tcp://127.0.0.1:8786 has lost all its workers"):
        resources(client)
