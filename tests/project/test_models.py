"""The dbt project: when its unit tests run, and that every model states its grain and key."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.shop import SETTINGS, Shop

QUOTES_BY_HAND = re.compile(r"""'\{\{|\}\}'|'" ~|~ "'""")
BASKETS = [["a", "b"], ["a", "b", "c"], ["a"]]
UNIT_TESTS = 17


@pytest.fixture(params=["duckdb", "dask"])
def own_shop(tmp_path: Path, request: pytest.FixtureRequest) -> Shop:
    """A shop whose dbt artifacts no other shop writes."""
    shop = Shop(tmp_path, tmp_path / "dbt", engine=request.param)
    shop.write(BASKETS, "abc")
    return shop


def artifact(shop: Shop, name: str) -> dict[str, Any]:
    return json.loads((shop.dbt_folder / "target" / f"{name}.json").read_text())


def unit_tests_run(shop: Shop) -> list[str]:
    """Return the statuses of the unit tests that dbt ran last."""
    results = artifact(shop, "run_results")["results"]
    return [each["status"] for each in results if each["unique_id"].startswith("unit_test.")]


def test_unit_tests_are_for_dbt_build_and_not_for_make_build(own_shop: Shop) -> None:
    no_choice = {"DBT_EXCLUDE_RESOURCE_TYPES": ""}
    built = own_shop.run("build", **no_choice)
    assert built.returncode == 0, built.stdout
    assert unit_tests_run(own_shop) == []
    assert own_shop.recommendations()
    own_shop.export.unlink()
    built = own_shop.dbt("--quiet", "build", **no_choice)
    assert built.returncode == 0, built.stdout
    assert unit_tests_run(own_shop) == ["pass"] * UNIT_TESTS
    assert own_shop.recommendations()


def test_every_model_says_its_grain_and_has_a_tested_key(own_shop: Shop) -> None:
    assert own_shop.dbt("parse").returncode == 0
    manifest = artifact(own_shop, "manifest")
    nodes = manifest["nodes"].values()
    keyed = {
        node["attached_node"]
        for node in nodes
        if "unique" in node.get("test_metadata", {}).get("name", "")
    }
    for node in nodes:
        if node["resource_type"] == "model":
            description = node["description"]
            assert description.startswith("One row per "), node["name"]
            has_key = node["unique_id"] in keyed
            assert has_key is ("It has no key" not in description), node["name"]
            kind = node["name"].partition("_")[0]
            access = {"stg": "protected", "int": "private"}.get(kind, "public")
            assert node["access"] == access, node["name"]
            assert node["contract"]["enforced"] is (access == "public"), node["name"]


def test_dbt_build_warns_of_nothing_on_the_sample(own_shop: Shop) -> None:
    """By hand, and where a warning is an error."""
    for name in ("transactions", "products"):
        shutil.copy(ROOT / f"data/{name}.txt", own_shop.folder)
    own_shop.build(DBT_WARN_ERROR="true")
    assert own_shop.recommendations()


def test_what_is_counted_from_one_state_is_run_together(own_shop: Shop) -> None:
    """A table of one state beside one of another would count twice what is in both."""
    own_shop.build()
    some = own_shop.dbt("run", "--select", "int_products_counted+")
    assert some.returncode == 2
    assert "select all of them or none" in some.stdout
    assert own_shop.dbt("run", "--select", "product_recommendations").returncode == 0
    assert own_shop.dbt("run", "--select", "+product_recommendations").returncode == 0
    assert own_shop.dbt("run").returncode == 0


def test_a_whole_job_without_any_setting_uses_the_defaults(shop: Shop) -> None:
    shop.copy_project()
    shutil.copytree(ROOT / "data", shop.project / "data", ignore=lambda *_: ["lake", "demo"])
    dbt = {"DBT_TARGET_PATH": shop.folder / "target", "DBT_LOG_PATH": shop.folder / "logs"}
    built = shop.run("build", **dict.fromkeys(SETTINGS, ""), **dbt)
    assert (built.returncode, built.stderr) == (0, ""), built.stdout
    assert "into data/lake\n" in built.stdout
    assert (shop.project / "data/lake/published.json").exists()
    assert (shop.project / "data/warehouse.duckdb").exists()


def test_text_becomes_sql_in_one_macro_alone() -> None:
    rooms = (ROOT / room for room in ("macros", "models", "tests/dbt"))
    files = [path for room in rooms for path in room.rglob("*.sql")]
    found = {path.name for path in files if QUOTES_BY_HAND.search(path.read_text())}
    assert found == {"literal.sql"}


@pytest.mark.parametrize("command", ["compile", "build"])
def test_an_engine_that_does_not_exist_is_refused_by_every_command(
    shop: Shop, command: str
) -> None:
    finished = shop.dbt(command, PAIR_ENGINE="spark")
    assert finished.returncode == 2
    assert "PAIR_ENGINE must be duckdb or dask, not spark" in finished.stdout


def test_dbt_shows_and_documents_a_lake_without_a_warehouse(own_shop: Shop) -> None:
    assert own_shop.run("flatten").returncode == 0
    if own_shop.engine == "dask":
        assert own_shop.run("count_pairs").returncode == 0
    shown = own_shop.dbt("--quiet", "show", "--select", "product_recommendations")
    assert shown.returncode == 0, shown.stdout
    assert "recommendation_rank" in shown.stdout
    own_shop.warehouse.unlink()
    documented = own_shop.dbt("--quiet", "docs", "generate")
    assert documented.returncode == 0, documented.stdout
    assert artifact(own_shop, "catalog")["sources"].keys() >= {
        f"source.bought_together.lake.{table}" for table in ("line_items", "products", "rejects")
    }
    assert not own_shop.export.exists()
