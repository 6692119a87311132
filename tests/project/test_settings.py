"""Settings mean the same to every program, and one that cannot be used is one line."""

import importlib
import os
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from dask.utils import parse_bytes

from bought_together import dask_tasks
from bought_together.cli import Program
from bought_together.dbt_build import check_seeds
from bought_together.dbt_plugin import Plugin
from bought_together.errors import CannotRun
from bought_together.storage.lake import lake_path_setting
from bought_together.storage.warehouse import check_path, current_memory_limit, duckdb_limits
from scripts import build, count_pairs, flatten
from tests.support import ROOT
from tests.support.exports import LISTED, ROWS, write_export
from tests.support.shop import SETTINGS, Shop

PROGRAMS = ("build", "count_pairs", "flatten", "publish", "recommend", "rollback", "serve", "smoke")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


def sql_memory() -> int:
    """Return the bytes that DuckDB may use when dbt has connected."""
    plugin = Plugin("lake", {})
    plugin.is_mounted = True  # without a lake
    with duckdb.connect() as connection:
        plugin.configure_connection(connection)
        [(text,)] = connection.sql("select current_setting('memory_limit')").fetchall()
    return parse_bytes(text)


def dask_memory() -> int:
    """Return the bytes that the threads of this machine share."""
    threads, memory = dask_tasks.resources(None)
    return threads * memory + dask_tasks.PROGRAM_BYTES


WHOLE = current_memory_limit() / 0.8
MEMORY = {
    "": 0.8 * WHOLE,
    "80%": 0.8 * WHOLE,
    "50%": 0.5 * WHOLE,
    " 12.5 % ": 0.125 * WHOLE,
    "100%": WHOLE,
    "8GB": 8e9,
    "8 gb": 8e9,
    "1.5GiB": 1.5 * (1 << 30),
    "900M": 900e6,
}


@pytest.mark.parametrize(("limit", "size"), MEMORY.items())
def test_a_memory_limit_means_the_same_to_both_engines(
    limit: str, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUCKDB_MEMORY_LIMIT", limit)
    assert sql_memory() == pytest.approx(size, rel=0.02)
    assert dask_memory() == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("DUCKDB_MEMORY_LIMIT", value)
            for value in ("0%", "150%", "100.1%", "-5%", "%", "half", "8", "0GB", "-8GB", "1e9")
        ),
        ("DUCKDB_MEMORY_LIMIT", "8GB'; select 1"),
        ("DUCKDB_MEMORY_LIMIT", "9" * 20 + "TB"),
        *(("DUCKDB_THREADS", value) for value in ("0", "x", "-1", "1.5", "1025", "9" * 30)),
    ],
)
def test_a_limit_that_is_none_is_one_line_for_both_engines(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CannotRun, match=f"^{name} .*") as local:
        dask_tasks.resources(None)
    with pytest.raises(Exception, match=f"{name} ") as in_dbt:
        sql_memory()
    assert value in str(local.value)
    assert "\n" not in str(local.value)
    assert str(local.value) in str(in_dbt.value)


@pytest.mark.parametrize("threads", ["1", "3", " 2 "])
def test_threads_are_those_of_duckdb(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCKDB_THREADS", threads)
    plugin = Plugin("lake", {})
    plugin.is_mounted = True
    with duckdb.connect() as connection:
        plugin.configure_connection(connection)
        assert connection.sql("select current_setting('threads')").fetchall() == [(int(threads),)]


USABLE = ["shop.duckdb", "Main.db", "my main.duckdb", "main-2.duckdb", "temps.duckdb", "a b/c.db"]
USABLE += ["information_schema.duckdb", "select.duckdb", "memory.duckdb", "it's/x.duckdb", "1.db"]
UNUSABLE = ["main.duckdb", "main", "main.x.duckdb", "temp.duckdb", "TEMP.db", "system.duckdb"]
UNUSABLE += ["System", "why?.duckdb", "shop#1.duckdb", "a?b/shop.duckdb", "it's.duckdb", 'a"b.db']
UNUSABLE += ["a;b.duckdb", "a\nb.duckdb"]


@pytest.mark.parametrize("name", USABLE)
def test_duckdb_can_use_a_warehouse_that_is_not_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    check_path(str(path))
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema lake; create table made as select 1")
        # dbt names the database after the file.
        assert connection.sql("select current_database()").fetchall() == [(path.stem,)]
    check_path(str(path))


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("folder", ["", "data/"])
def test_a_warehouse_that_cannot_be_used_is_one_line(name: str, folder: str) -> None:
    with pytest.raises(CannotRun, match=r"^DUCKDB_PATH ") as error:
        check_path(folder + name)
    assert folder + name in str(error.value)


def test_a_folder_is_no_warehouse(shop: Shop) -> None:
    with pytest.raises(CannotRun, match=f"^DUCKDB_PATH {shop.folder} is no file$"):
        check_path(str(shop.folder))
    check_path(str(shop.folder / "no such folder" / "shop.duckdb"))


WRONG_FOR_BUILD = {
    "DUCKDB_PATH": "main.duckdb",
    "DUCKDB_MEMORY_LIMIT": "150%",
    "DUCKDB_THREADS": "x",
}


@pytest.mark.parametrize(("name", "value"), WRONG_FOR_BUILD.items())
def test_the_whole_job_says_so_before_it_begins(shop: Shop, name: str, value: str) -> None:
    finished = CliRunner().invoke(build.main, [], env=shop.environment(**{name: value}))
    assert (finished.exit_code, finished.stdout) == (2, "")
    assert finished.stderr.startswith(f"error: {name} ")
    assert finished.stderr.count("\n") == 1
    assert not shop.lake.exists()


@pytest.mark.parametrize("value", ["x", "1%", "2", "-0.1", "nan", "0,5"])
def test_a_reject_fraction_that_is_none_is_one_line(shop: Shop, value: str) -> None:
    shop.write([["a", "b"]], "ab")
    finished = CliRunner().invoke(flatten.main, [], env=shop.environment(MAX_REJECT_FRACTION=value))
    assert finished.exit_code == 2
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1
    assert "MAX_REJECT_FRACTION" in finished.stderr or "max-reject-fraction" in finished.stderr
    assert not shop.lake.exists()


def options_of(name: str) -> dict[str, object]:
    main = importlib.import_module(f"scripts.{name}").main
    assert isinstance(main, Program)
    return main.make_context(name, []).params


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_empty_setting_is_one_that_is_not_set(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = options_of(name)
    for setting in SETTINGS:
        monkeypatch.setenv(setting, "")
    assert options_of(name) == expected


def test_settings_of_dbt_that_are_empty_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lake_path_setting({"LAKE_PATH": ""}) == lake_path_setting({}) == "data/lake"
    assert lake_path_setting({"LAKE_PATH": "s3://shop/lake/"}) == "s3://shop/lake"
    assert duckdb_limits(dict.fromkeys(("DUCKDB_THREADS", "DUCKDB_MEMORY_LIMIT"), "")) == {}


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """The seed of a project of the test's own."""
    folder = tmp_path / "seeds"
    folder.mkdir()
    (folder / "_seeds.yml").write_text(
        "seeds:\n- name: excluded\n  columns: [{name: product_id}, {name: reason}]\n"
    )
    return folder / "excluded.csv"


SEEDS = {
    "empty": (b"", "must begin with the line product_id,reason"),
    "column-missing": (b"product_id\nbag\n", "must begin with the line product_id,reason"),
    "column-mistyped": (b"product,reason\nbag,bag\n", "must begin with the line"),
    "column-more": (b"product_id,reason,who\nbag,bag,me\n", "must begin with the line"),
    "semicolons": (b"product_id;reason\nbag;bag\n", "must begin with the line"),
    "value-missing": (b"product_id,reason\nbag\n", "1 values in line 2, not 2"),
    "value-more": (b"product_id,reason\na,b\nbag,a bag, paper\n", "3 values in line 3, not 2"),
    "latin-1": ("product_id,reason\nthé,thé\n".encode("latin-1"), "is not UTF-8"),
    "utf-16": ("product_id,reason\nbag,bag\n".encode("utf-16"), "is not UTF-8"),
    "nul": (b"product_id,reason\nb\0g,bag\n", "has a NUL in line 2"),
    "quote-open": (b'product_id,reason\n"bag,bag\n', ", line 2: "),
}


@pytest.mark.parametrize(("content", "told"), SEEDS.values(), ids=SEEDS)
def test_a_seed_that_cannot_be_read_is_named(seeds: Path, content: bytes, told: str) -> None:
    seeds.write_bytes(content)
    with pytest.raises(CannotRun) as error:
        check_seeds(seeds.parents[1])
    assert f"the seed {seeds}" in str(error.value)
    assert told in str(error.value)


def test_a_seed_that_is_missing_or_no_file_is_named(seeds: Path) -> None:
    with pytest.raises(CannotRun, match=f"^cannot read the seed {seeds}: No such file"):
        check_seeds(seeds.parents[1])
    seeds.mkdir()
    with pytest.raises(CannotRun, match=f"^cannot read the seed {seeds}: Is a directory"):
        check_seeds(seeds.parents[1])


@pytest.mark.parametrize(
    "content",
    ["", "\n", "012,a bag\n\n", '#1,"a bag, ""paper"""\r\n', "né,thé\n"],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_seed_as_editors_write_it_is_read(seeds: Path, content: str, mark: str) -> None:
    seeds.write_bytes(f"{mark}product_id,reason\n{content}".encode())
    check_seeds(seeds.parents[1])


def test_a_count_names_a_seed_that_it_cannot_read(
    seeds: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count_pairs, "PROJECT", seeds.parents[1])
    finished = CliRunner().invoke(count_pairs.main, [], env=shop.environment())
    assert finished.exit_code == 2
    assert finished.stderr.startswith(f"error: cannot read the seed {seeds}: ")
    assert finished.stderr.count("\n") == 1


def test_a_lookup_reads_the_default_lake_where_its_setting_is_empty(shop: Shop) -> None:
    write_export(shop, ROWS, LISTED)
    (shop.folder / "data").mkdir()
    shop.lake.rename(shop.folder / "data/lake")
    shop.project = shop.folder
    (shop.folder / "scripts").symlink_to(os.path.abspath("scripts"))
    finished = shop.run("recommend", "011", LAKE_PATH="")
    assert finished.returncode == 0, finished.stderr
    assert "Tea, black" in finished.stdout


# What decides what is read, refused and recommended, every night or in one run.
EVERY_NIGHT = (
    "TRANSACTIONS",
    "PRODUCTS",
    "INPUT_MAPPING",
    "MAX_REJECT_FRACTION",
    "MAX_UNLISTED_SHARE",
    "MIN_BASKETS_SHARE",
    "MAX_BASKET_PRODUCTS",
    "MIN_COPURCHASE_COUNT",
    "FILL_SHORT_LISTS",
)
IN_ONE_RUN = ("ALLOW_OLDER_DATA", "AS_OF")
DEPLOYED = {
    "deploy/image/compose.yaml": ("\n      {0}: ${{{0}:-", EVERY_NIGHT + IN_ONE_RUN),
    "deploy/airflow/recommendations_dag.py": ('\n    "{1}": Param(', EVERY_NIGHT + IN_ONE_RUN),
    "deploy/cloudformation/batch.yaml": ("Name: {0}", EVERY_NIGHT),
}


@pytest.mark.parametrize("path", DEPLOYED)
def test_every_deployment_passes_what_a_shop_decides(path: str) -> None:
    form, names = DEPLOYED[path]
    text = (ROOT / path).read_text()
    assert [name for name in names if form.format(name, name.lower()) not in text] == []
