"""Everything at once, as in production: object store, Dask cluster, Airflow, Redis, the service.

Every part is a program of its own on 127.0.0.1. The data are online_retail where REAL_DATA_DIR
names the folder with the real data sets, a generated shop otherwise. First one run of the DAG,
equal to a plain `make build` for every product; then one fault after the other, each of which must
end in one clear line, leave what is served alone, and be over with the next run.
"""

import gzip
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import distributed
import pytest

from bought_together.export.read import FIELDS
from tests.support.airflow import Airflow, Run, install
from tests.support.cluster import dask, scheduler
from tests.support.object_store import BUCKET, ObjectStore
from tests.support.processes import wait_until
from tests.support.service import Service, running
from tests.support.shop import Shop
from tests.support.valkey import Valkey

LAKE = "lake"
POINTER = f"{LAKE}/published.json"
FILES = 60  # of transactions
PRODUCTS_A_REQUEST = 50
PATIENCE = 180  # seconds that a run of the DAG may take, at most
Answers = dict[str, Any]


@dataclass
class Production:
    """All that runs, and what a plain build on a disk gives for every product."""

    store: ObjectStore
    redis: Valkey
    airflow: Airflow
    services: dict[str, Service]  # by where they answer from
    expected: Answers

    def run(self, **params: object) -> Run:
        return self.airflow.run(params)

    def run_until(self, condition: Callable[[], object], act: Callable[[], object]) -> Run:
        """Run the DAG, and act as soon as the condition is true."""
        process, date, log = self.airflow.start_run({})
        try:
            wait_until(lambda: condition() or process.poll() is not None, "the middle of the run")
            assert process.poll() is None, log.read_text()
            act()
            process.wait(PATIENCE)
        finally:
            process.kill()
        return self.airflow.finished(date, log.read_text())

    def served(self, source: str) -> tuple[str, Answers]:
        """Return the version that a service serves, and its answer for every product."""
        service = self.services[source]
        version, answers = service.version(), {}
        product_ids = sorted(self.expected)
        for start in range(0, len(product_ids), PRODUCTS_A_REQUEST):
            some = product_ids[start : start + PRODUCTS_A_REQUEST]
            query = urlencode([("product_id", product_id) for product_id in some])
            status, headers, content = service.get(f"/v1/recommendations?{query}")
            assert (status, headers["x-data-version"]) == (200, version)
            answers |= {answer["product_id"]: answer for answer in content["products"]}
        return version, answers

    def mend(self) -> None:
        """Start again what was stopped."""
        for server in (self.store, self.redis):
            if server.process.poll() is not None:
                server.start()
        self.services["redis"].wait_for(200)

    def dbt_models_begun(self) -> int:
        logs = self.airflow.folder.glob("disk/dbt/logs/dbt.log*")
        return sum(log.read_text().count("START sql table model") for log in logs)


def write_inputs(folder: Path) -> Shop:
    """Return a shop with the real data, or with generated ones, cut into many files."""
    shop = Shop(folder, folder / "dbt")
    if real := os.environ.get("REAL_DATA_DIR"):
        source = Path(real) / "online_retail"
        lines = gzip.decompress((source / "transactions.txt.gz").read_bytes()).splitlines(True)
        shutil.copyfile(source / "products.txt", shop.products)
    else:
        print("REAL_DATA_DIR is not set: a generated shop stands in for online_retail")
        made = shop.run("generate", folder, "--baskets", 30_000, "--products", 5_000)
        assert made.returncode == 0, made.stderr
        lines = shop.transactions.read_bytes().splitlines(True)
        shop.transactions.unlink()
    for number in range(FILES):
        part = b"".join(lines[number::FILES])
        (folder / f"transactions-{number:03}.txt").write_bytes(part)
    return shop


def plain_build(shop: Shop) -> Answers:
    """Run the build as `make build` does, on a disk; returns the answer for every product."""
    built = shop.run("build", TRANSACTIONS=shop.folder / "transactions-*.txt")
    assert built.returncode == 0, built.stderr
    named = shop.query("select product_id, product_name from stg_products")
    names = dict(named)
    rows = shop.query(
        "select made.product_id, made.recommendation_rank, made.recommended_product_id,"
        " made.recommended_product_name, made.recommended_category_code, made.copurchase_count,"
        " made.recommendation_source, measured.confidence, measured.lift, measured.evidence"
        " from product_recommendations as made"
        " inner join recommendation_evidence as measured using (product_id, recommendation_rank)"
        " order by product_id, recommendation_rank"
    )
    answers: Answers = {}
    for product_id, rank, *recommended in rows:
        answer = answers.setdefault(
            product_id,
            {
                "product_id": product_id,
                "product_name": names.get(product_id),
                "recommendations": [],
            },
        )
        fields = list(FIELDS)[1:]
        answer["recommendations"].append(
            {"rank": rank, **dict(zip(fields, recommended, strict=True))}
        )
    return answers


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("production")
    (folder / "shop").mkdir()
    shop = write_inputs(folder / "shop")
    expected = plain_build(shop)
    with ExitStack() as stack:
        store = ObjectStore(new(folder / "store"))
        stack.callback(store.stop)
        store.start()
        for path in shop.folder.glob("*.txt"):
            store.put(f"raw/{path.name}", path.read_bytes())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in store.settings.items():
            patch.setenv(name, value)  # for all that is started from here on
        redis = Valkey(new(folder / "redis"), "--requirepass", "secret of Redis")
        stack.callback(redis.stop)
        redis.start()
        address = stack.enter_context(scheduler(new(folder / "cluster")))
        options = [address, "--no-nanny", "--nthreads", 1, "--memory-limit", "4GB"]
        for _ in range(2):
            stack.enter_context(dask(folder / "cluster", "worker", *options))
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
        lake = f"s3://{BUCKET}/{LAKE}"
        remote = {"LAKE_PATH": lake, **store.settings}
        url = redis.url("secret%20of%20Redis")
        services = {
            "store": stack.enter_context(running(shop, **remote)),
            "redis": stack.enter_context(running(shop, REDIS_URL=url)),
        }
        airflow = install(new(folder / "airflow"))
        airflow.settings = {
            "AIRFLOW_CONN_SHOP_REDIS": json.dumps(
                {
                    "conn_type": "redis",
                    "host": "127.0.0.1",
                    "port": redis.port,
                    "password": "secret of Redis",
                }
            ),
            "BOUGHT_TOGETHER_TRANSACTIONS": f"s3://{BUCKET}/raw/transactions-*.txt",
            "BOUGHT_TOGETHER_PRODUCTS": f"s3://{BUCKET}/raw/products.txt",
            "BOUGHT_TOGETHER_LAKE_PATH": lake,
            "BOUGHT_TOGETHER_PAIR_ENGINE": "dask",
            "BOUGHT_TOGETHER_DASK_SCHEDULER": address,
            "BOUGHT_TOGETHER_DASK_WORKERS": "2",
            "BOUGHT_TOGETHER_REDIS_CONN_ID": "shop_redis",
            "BOUGHT_TOGETHER_SERVICE_URL": f"http://127.0.0.1:{services['redis'].port}",
        }
        yield Production(store, redis, airflow, services, expected)


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_the_whole_chain_gives_what_a_plain_build_gives(production):
    began = time.monotonic()
    run = production.run()
    assert set(run.states.values()) == {"success"}, tail(run)
    print(f"\none run of the DAG: {time.monotonic() - began:.0f} s")
    versions = set()
    for source in production.services:
        production.services[source].wait_for(200)
        version, answers = production.served(source)
        assert answers == production.expected
        versions.add(version)
    assert len(versions) == 1, "both services serve the same build"


def tail(run: Run) -> str:
    return f"{run.states}\n" + "\n".join(line[:300] for line in run.log.splitlines()[-40:])


def stop_store_in_flatten(production: Production) -> Run:
    before = set(production.store.names(f"{LAKE}/runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FULL_REFRESH", "1")  # otherwise flatten has nothing to do
        return production.run_until(
            lambda: set(production.store.names(f"{LAKE}/runs")) - before, production.store.stop
        )


def stop_store_in_dbt(production: Production) -> Run:
    begun = production.dbt_models_begun()
    return production.run_until(
        lambda: production.dbt_models_begun() > begun, production.store.stop
    )


def wrong_secret(production: Production) -> Run:
    return production.airflow.run({}, AWS_SECRET_ACCESS_KEY="wrong")


def missing_bucket(production: Production) -> Run:
    return production.run(lake_path="s3://mistyped/lake")


def redis_away_at_publish(production: Production) -> Run:
    begun = production.dbt_models_begun()
    return production.run_until(
        lambda: production.dbt_models_begun() > begun, production.redis.stop
    )


FAULTS = {
    "store stopped in flatten": (stop_store_in_flatten, "flatten", "Could not connect"),
    "store stopped in dbt build": (stop_store_in_dbt, "dbt_build", "nothing was published"),
    "wrong secret": (wrong_secret, "flatten", "signature"),
    "bucket missing": (missing_bucket, "flatten", "bucket does not exist"),
    "redis away at publish": (redis_away_at_publish, "publish", "cannot connect"),
}


@pytest.mark.parametrize("fault, task, told", FAULTS.values(), ids=FAULTS)
def test_a_fault_changes_nothing_and_the_next_run_succeeds(production, fault, task, told):
    production.mend()
    published = production.store.get(POINTER)
    version, answers = production.served("redis")
    run = fault(production)
    assert run.states[task] == "failed", tail(run)
    assert run.states["smoke_check"] == "upstream_failed"
    lines = [line for line in run.log.splitlines() if "] error: " in line]
    assert len(lines) == run.tries[task], "one line for each try"
    assert told in lines[0]
    assert all(told in line or "Could not connect" in line for line in lines), lines
    production.mend()
    if task != "publish":  # which comes after the lake's own
        assert production.store.get(POINTER) == published
    production.services["redis"].wait_for(200)
    assert production.served("redis") == (version, answers)
    again = production.run()
    assert set(again.states.values()) == {"success"}, tail(again)
    assert production.served("redis")[1] == production.expected
