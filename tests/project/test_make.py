"""make hands settings to the programs exactly as they were written, and lists its targets.

The settings here hold every character that make, a shell, a glob, SQL or YAML could take for its
own, first given on make's command line and then in the environment.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.exports import write_build
from tests.support.shop import Shop

# No slash, which parts folders, and no comma, which parts input files.
ODD = (
    r"""it's "7" $x ${HOME} $(echo hi) `echo hi` [a-z] {b} * ? # & ; | < > ~ ! % ^ = @ \ \\ \t é"""
)
# DuckDB and dbt-duckdb leave these alone in the path of a database.
ODD_WAREHOUSE = (
    r"""it's "7" $x ${HOME} $(echo hi) `echo hi` [a-z] {b} * & ; | < > ~ ! % ^ = @ \ \t é"""
)


def make(shop: Shop, *arguments: str, text: str = "", **settings: object) -> Any:
    """Run make at the root, as in a fresh terminal: not as a part of another make."""
    of_make = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PRODUCT")
    environment = shop.environment(**settings)
    environment = {name: environment[name] for name in environment if name not in of_make}
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=environment | {name: str(settings[name]) for name in of_make if name in settings},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def odd_lake(shop: Shop) -> Path:
    """A lake in a folder with an odd name; its table has a recommendation for an odd product."""
    lake = shop.folder / ODD / ODD
    rows = [
        (ODD, 1, "answer to odd", "Odd", "", 2),
        ("-x", 1, "answer to dash", "Dash", "", 1),
    ]
    write_build(lake, rows, [])
    return lake


def test_settings_on_the_command_line_are_passed_untouched(shop, odd_lake):
    finished = make(shop, "lookup", f"LAKE_PATH={odd_lake}", f"PRODUCT={ODD}", LAKE_PATH="nowhere")
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stderr
    assert finished.stdout.startswith(f"Bought together with {ODD}:\n")
    assert "answer to odd" in finished.stdout


def test_settings_in_the_environment_are_passed_untouched(shop, odd_lake):
    finished = make(shop, "lookup", LAKE_PATH=odd_lake, PRODUCT=ODD)
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stderr
    assert finished.stdout.startswith(f"Bought together with {ODD}:\n")
    assert "answer to odd" in finished.stdout


def test_product_that_looks_like_an_option(shop, odd_lake):
    finished = make(shop, "lookup", "PRODUCT=-x", LAKE_PATH=odd_lake)
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stderr
    assert "answer to dash" in finished.stdout


def test_lookup_without_a_product_asks_for_it(shop, odd_lake):
    finished = make(shop, "lookup", text=f"{ODD}\n-x\n", LAKE_PATH=odd_lake)
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stderr
    assert finished.stdout.index("answer to odd") < finished.stdout.index("answer to dash")


def test_odd_paths_from_the_input_files_to_the_lookup(shop):
    """Half of the settings on make's command line, half in the environment."""
    shop.write([["a", "b"], ["a", "b", "c"]], ["a", "b", "c"])
    folder = shop.folder / ODD
    folder.mkdir()
    transactions, products = folder / f"transactions {ODD}.txt", folder / f"products {ODD}.txt"
    shutil.copy(shop.transactions, transactions)
    shutil.copy(shop.products, products)
    warehouse = shop.folder / ODD_WAREHOUSE / "warehouse.duckdb"
    warehouse.parent.mkdir()
    finished = make(
        shop,
        "build",
        f"TRANSACTIONS={transactions}",
        f"DUCKDB_PATH={warehouse}",
        PRODUCTS=products,
        LAKE_PATH=folder / "lake",
    )
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stderr
    shop.folder = folder
    assert shop.recommendations()[0] == ("a", 1, "b", "Name of b", "C", 2)
    assert warehouse.exists()
    assert {path.name for path in warehouse.parents[1].iterdir()} == {
        "products.txt",
        "transactions.txt",
        ODD,
        ODD_WAREHOUSE,
    }


def test_warehouse_called_lake(shop):
    """Like the schema that dbt reads the lake through."""
    shop.write([["a", "b"]], ["a", "b"])
    assert shop.run("flatten").returncode == 0
    settings = {"DUCKDB_PATH": shop.folder / "lake.duckdb"}
    finished = shop.dbt("--quiet", "run", "--select", "stg_products", **settings)
    assert finished.returncode == 0, finished.stdout


def test_warehouse_that_dbt_has_no_name_for_is_refused_in_one_line(shop):
    """dbt-duckdb names the database after the path up to # or ?, and does not quote the name."""
    shop.write([["a", "b"]], ["a", "b"])
    warehouse = shop.folder / "it's #1?.duckdb"
    finished = shop.run("build", DUCKDB_PATH=warehouse)
    if finished.returncode != 0:  # that it works would be as good
        assert finished.returncode == 2
        assert finished.stderr.startswith("error: ")
        assert finished.stderr.count("\n") == 1
        assert "DUCKDB_PATH" in finished.stderr
        assert str(warehouse) in finished.stderr


def test_help_lists_every_target(shop):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE)
    phony = " ".join(re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)).split()
    assert sorted(targets) == sorted(phony)
    help_lines = make(shop, "help").stdout.splitlines()
    told = [re.fullmatch(r"make (\S+) +\S.*", line) for line in help_lines]
    assert [line[1] for line in told] == targets
    assert make(shop).stdout.splitlines() == help_lines


def test_build_of_the_lake_as_it_is_flattens_nothing(shop):
    shop.write([["1", "2"]], ["1", "2"])
    before_any = shop.run("build", "--skip-flatten")
    assert before_any.returncode == 2
    assert "run `python scripts/flatten.py`" in before_any.stderr
    assert shop.run("flatten").returncode == 0
    run = shop.manifest()["run"]
    shop.transactions.unlink()
    built = shop.run("build", "--skip-flatten")
    assert built.returncode == 0, built.stderr
    assert "flatten " not in built.stdout
    assert shop.manifest()["run"] == run
    assert len(shop.recommendations()) == 2
