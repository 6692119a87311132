"""A Dask cluster flattens to the same lake as this machine's threads, or says in one line why not.

The cluster is one scheduler and one worker, processes of their own on 127.0.0.1, which cannot
import our package: what the tasks need has to travel with them.
"""

import gzip
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed
import pytest
from click.testing import CliRunner

from bought_together import dask_tasks
from bought_together.ingest.run import flatten as flatten_in_process
from bought_together.pairs.run import count_pairs
from scripts.flatten import main
from tests.support import ROOT
from tests.support.cluster import dask, scheduler, with_another_version, without_package
from tests.support.processes import PATIENCE
from tests.support.shop import Shop

# Small blocks, so that there are many tasks and a record lies across the end of most.
BLOCK_SIZE = 4096


@contextmanager
def cluster(folder: Path, packages: Path | None = None) -> Iterator[str]:
    """Run a scheduler that has one worker; yields its address."""
    options = ["--no-nanny", "--nthreads", 2]
    with (
        scheduler(folder) as address,
        dask(folder, "worker", address, *options, packages=packages),
    ):
        yield address


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster(tmp_path_factory.mktemp("cluster")) as address:
        yield address


def write_inputs(shop: Shop) -> None:
    """Write every kind of input file, with good records, bad ones, and bad lines in good ones."""
    chance = random.Random(4)
    records: list[Any] = [
        {
            "date": "2017.04.06 12:09:32",
            "store": f"{number % 7:04}",
            "itemList": [
                {"item": f"{chance.randrange(40):03}", "quantity": chance.randrange(-1, 5)}
                for _ in range(chance.randrange(6))
            ],
        }
        for number in range(900)
    ]
    bad = [
        '{"itemList": ',
        "null",
        '{"itemList": [{"item": true}, {"item": "001"}]}',
        b"\xff",
        "[1]",
    ]
    for place, record in zip(range(50, 900, 170), bad, strict=True):
        records[place] = record
    shop.write_records(records)
    shop.write_products([*(f"{item:03}\tC\tName {item}" for item in range(30)), "two\tcolumns"])
    text = shop.transactions.read_bytes()
    (shop.folder / "more.txt.gz").write_bytes(gzip.compress(text))
    array = [record for record in records if isinstance(record, dict)] + [None]
    (shop.folder / "array.txt").write_text(json.dumps(array))


def flatten(shop: Shop, **settings: object) -> Any:
    settings = {"MAX_REJECT_FRACTION": 1} | settings
    return shop.run("flatten", "--block-size", BLOCK_SIZE, **settings)


def lake_of(shop: Shop) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Return the counts and the tables of the current run."""
    tables = {name: shop.table(name).to_pylist() for name in ("line_items", "products", "rejects")}
    manifest = shop.manifest()
    return {key: manifest[key] for key in ("counts", "rejects")}, tables


def assert_cannot_run(status: int, stderr: str, *told: str) -> None:
    assert status == 2, stderr
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("error: ")
    for text in told:
        assert text in stderr


def test_a_cluster_gives_the_same_lake_as_threads(shop, address):
    write_inputs(shop)
    transactions = [shop.transactions, shop.folder / "more.txt.gz", shop.folder / "array.txt"]
    files = ",".join(map(str, transactions))
    alone = flatten(shop, TRANSACTIONS=files)
    assert alone.returncode == 0, alone.stderr
    manifest, tables = lake_of(shop)
    assert min(map(len, tables.values())) > 0
    shutil.rmtree(shop.lake)
    together = flatten(shop, TRANSACTIONS=files, DASK_SCHEDULER=address)
    assert (together.returncode, together.stderr) == (0, "")
    assert lake_of(shop) == (manifest, tables)


def test_order_lines_on_a_cluster_give_the_same_lake_as_threads(shop, address):
    rows = "".join(f"{number // 3},{number % 7},1\n" for number in range(3000))
    shop.write([], "0123456")
    shop.transactions.write_text(f"order,sku,units\n{rows}bad\n")
    mapping = shop.folder / "input.yml"
    mapping.write_text("transactions: {order_id: order, product_id: sku, quantity: units}\n")
    alone = flatten(shop, INPUT_MAPPING=mapping)
    assert alone.returncode == 0, alone.stderr
    manifest, tables = lake_of(shop)
    assert len(tables["line_items"]) == 3000
    assert len(tables["rejects"]) == 1
    shutil.rmtree(shop.lake)
    together = flatten(shop, INPUT_MAPPING=mapping, DASK_SCHEDULER=address)
    assert (together.returncode, together.stderr) == (0, "")
    assert lake_of(shop) == (manifest, tables)


@pytest.mark.parametrize("packages", [without_package, with_another_version])
def test_workers_run_this_package_whatever_they_have(shop, tmp_path, packages):
    """It travels with the tasks: the workers need none, and another version does no harm there."""
    write_inputs(shop)

    def flatten_and_count(scheduler: str | None = None) -> tuple[Any, Any]:
        shutil.rmtree(shop.lake, ignore_errors=True)
        inputs = map(str, (shop.transactions, shop.products, shop.lake))
        flatten_in_process(*inputs, scheduler, max_reject_fraction=1, block_size=BLOCK_SIZE)
        count_pairs(str(shop.lake), scheduler)
        return lake_of(shop), shop.counted_table("product_pairs")

    lake, pairs = flatten_and_count()
    assert len(pairs) > 100
    folder = tmp_path / "cluster"
    folder.mkdir()
    with cluster(folder, packages(folder)) as address:
        assert_package_fails(address)
        assert flatten_and_count(address) == (lake, pairs)


def assert_package_fails(address: str) -> None:
    """On the worker, our package cannot be imported, or not be used."""

    def use() -> str:
        try:
            from bought_together.errors import describe

            return describe(OSError())
        except (ImportError, RuntimeError) as error:
            return str(error)

    with distributed.Client(address, set_as_default=False) as client:
        said = client.submit(use, pure=False).result(PATIENCE)
    assert said in {
        "No module named 'bought_together'",
        "another version: bought_together.errors.describe",
    }


def test_paths_relative_to_here_mean_the_same_on_a_worker(shop, address):
    """The lake's default is one of them."""
    write_inputs(shop)
    finished = flatten(
        shop,
        TRANSACTIONS=os.path.relpath(shop.transactions, ROOT),
        PRODUCTS=os.path.relpath(shop.products, ROOT),
        LAKE_PATH=os.path.relpath(shop.lake, ROOT),
        DASK_SCHEDULER=address,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert len(shop.table("line_items")) > 0


def test_what_a_worker_cannot_read_is_one_line(shop, address):
    write_inputs(shop)
    noise = random.Random(5).randbytes(1 << 20).hex().encode()
    cut_short = shop.folder / "cut.gz"
    cut_short.write_bytes(gzip.compress(b'{"itemList": [], "note": "%s"}\n' % noise)[:-1000])
    finished = flatten(shop, TRANSACTIONS=cut_short, DASK_SCHEDULER=address)
    assert_cannot_run(finished.returncode, finished.stderr, str(cut_short))
    assert not (shop.lake / "current.json").exists()


def test_data_refused_by_a_cluster_are_refused_as_by_threads(shop, address):
    write_inputs(shop)
    finished = flatten(shop, MAX_REJECT_FRACTION=0, DASK_SCHEDULER=address)
    assert finished.returncode == 1, finished.stderr
    assert "5 of 900 records" in finished.stderr
    assert not (shop.lake / "current.json").exists()


def test_a_scheduler_without_a_worker_is_one_line(shop, tmp_path, monkeypatch):
    write_inputs(shop)
    monkeypatch.setattr(dask_tasks, "WORKER_SECONDS", 0.2)
    folder = tmp_path / "scheduler"
    folder.mkdir()
    with scheduler(folder) as address:
        finished = CliRunner().invoke(main, env=shop.environment(DASK_SCHEDULER=address))
    assert_cannot_run(finished.exit_code, finished.stderr, address, "no worker")


def test_fewer_workers_than_asked_for_is_one_line(shop, address, monkeypatch):
    write_inputs(shop)
    monkeypatch.setattr(dask_tasks, "WORKER_SECONDS", 0.2)
    settings = shop.environment(DASK_SCHEDULER=address, DASK_WORKERS=2)
    finished = CliRunner().invoke(main, env=settings)
    told = "has 1 worker of the 2 that DASK_WORKERS asks for"
    assert_cannot_run(finished.exit_code, finished.stderr, address, told)


@pytest.mark.parametrize("address", ["nonsense", "tls://127.0.0.1:1"])
def test_an_address_that_cannot_be_used_is_one_line(shop, address):
    """No port; and encryption, for which this test has no certificates."""
    write_inputs(shop)
    finished = flatten(shop, DASK_SCHEDULER=address)
    assert_cannot_run(finished.returncode, finished.stderr, address)
