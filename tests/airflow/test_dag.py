"""The DAG's file is read without an error, and its parameters take what the programs can use."""

import json
import re
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest

from tests.support import ROOT
from tests.support.airflow import DAG_FILE, PASSWORD

PROGRAMS = ["flatten", "count_pairs", "dbt_build", "publish", "smoke_check"]
USED = {
    "transactions": "a.txt",
    "products": "b.txt",
    "input_mapping": "s3://bucket/input.yml",
    "lake_path": "s3://bucket/lake",
    "duckdb_path": "/disk/w.duckdb",
    "duckdb_threads": 2,
    "duckdb_memory_limit": "512MiB",
    "pair_engine": "dask",
    "dask_scheduler": "tls://host:8786",
    "dask_workers": 4,
    "max_reject_fraction": 0.5,
    "max_unlisted_share": 1.0,
    "min_baskets_share": 0.25,
    "allow_older_data": True,
    "max_basket_products": 100,
    "min_copurchase_count": 2,
    "fill_short_lists": True,
    "as_of": "2026-12-24",
    "redis_conn_id": "shop_redis",
    "service_url": "https://shop.example",
    "alert_conn_id": "shop_alerts",
}
REFUSED = [
    ("transactions", ""),
    ("transactions", None),
    ("products", 1),
    ("input_mapping", ""),
    ("lake_path", ["a"]),
    ("duckdb_path", ""),
    ("duckdb_threads", 0),
    ("duckdb_threads", "2"),
    ("duckdb_memory_limit", "much"),
    ("duckdb_memory_limit", "8"),
    ("pair_engine", "spark"),
    ("pair_engine", None),
    ("dask_scheduler", "host:8786"),
    ("dask_workers", 0),
    ("dask_workers", 1.5),
    ("max_reject_fraction", 1.1),
    ("max_reject_fraction", "0.1"),
    ("max_unlisted_share", 1.1),
    ("min_baskets_share", -0.1),
    ("allow_older_data", "perhaps"),
    ("max_basket_products", 0),
    ("min_copurchase_count", 0),
    ("fill_short_lists", 1),
    ("as_of", "24.12.2026"),
    ("redis_conn_id", "redis://:password@host:6379/0"),
    ("service_url", "shop.example"),
    ("alert_conn_id", "https://hooks.example/secret"),
]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that reads the file with settings in the environment."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path_factory.getbasetemp() / "read"))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    from airflow.dag_processing.dagbag import DagBag

    def read(**settings: str) -> Any:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        return DagBag(DAG_FILE)

    return read


@pytest.fixture
def dag(read: Any) -> Any:
    bag = read()
    assert bag.import_errors == {}
    assert list(bag.dags) == ["bought_together"]
    return bag.dags["bought_together"]


def test_order_of_the_tasks(dag):
    assert [task.task_id for task in dag.topological_sort()] == ["latest_only", *PROGRAMS]
    for before, after in pairwise(PROGRAMS):
        assert before in dag.get_task(after).upstream_task_ids


def test_one_run_at_a_time_and_none_of_the_past(dag):
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert dag.get_task("dbt_build").max_active_tis_per_dag == 1
    assert dag.get_task("latest_only").downstream_task_ids == set(PROGRAMS)


@pytest.mark.parametrize("task_id", PROGRAMS)
def test_every_program_has_an_end_and_is_tried_again(dag, task_id):
    task = dag.get_task(task_id)
    assert timedelta(0) < task.execution_timeout <= timedelta(hours=4)
    assert task.retries == 2


@pytest.mark.parametrize("name", USED)
def test_every_parameter_has_a_type_a_default_and_a_description(dag, name):
    param = dag.params.get_param(name)
    assert param.schema["type"]
    assert param.description.endswith(".")
    assert param.resolve() == param.value  # the default is a value that it takes
    assert param.resolve(USED[name]) == USED[name]


def test_no_parameter_is_without_use(dag):
    assert set(dag.params) == set(USED)
    readme = (DAG_FILE.parent / "README.md").read_text()
    assert [name for name in USED if f"| `{name}` |" not in readme] == []


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_the_programs_cannot_use_is_refused(dag, name, value):
    with pytest.raises(ValueError, match="Failed validating"):
        dag.params.get_param(name).resolve(value)


def test_defaults_come_from_the_environment(read):
    settings = {f"BOUGHT_TOGETHER_{name.upper()}": str(value) for name, value in USED.items()}
    dag = read(**settings, BOUGHT_TOGETHER_SCHEDULE="0 5 * * 1").dags["bought_together"]
    assert {name: dag.params[name] for name in USED} == USED
    assert dag.schedule == "0 5 * * 1"


def test_a_default_that_cannot_be_used_is_an_import_error(read):
    (error,) = read(BOUGHT_TOGETHER_PAIR_ENGINE="spark").import_errors.values()
    assert "spark" in error


@pytest.mark.parametrize(
    ("connection", "address"),
    [
        ({"password": None}, "redis://:@host:6379/0"),
        (
            {"login": "shop", "port": 7000, "extra": {"db": 3}},
            "redis://shop:p%40ss%2Fw%3Ard%20%2541%3F%23@host:7000/3",
        ),
        (
            {"extra": {"ssl": True, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}},
            "rediss://:p%40ss%2Fw%3Ard%20%2541%3F%23@host:6379/0"
            "?ssl_ca_certs=%2Fca.pem&ssl_check_hostname=False",
        ),
        (
            {"conn_type": "rediss", "schema": "2"},
            "rediss://:p%40ss%2Fw%3Ard%20%2541%3F%23@host:6379/2",
        ),
    ],
)
def test_a_connection_becomes_an_address(dag, monkeypatch, connection, address):
    told = {"conn_type": "redis", "host": "host", "password": PASSWORD} | connection
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_REDIS", json.dumps(told))
    settings = dag.get_task("publish").secrets({"redis_conn_id": "shop_redis"})
    assert settings == {"REDIS_URL": address}
    from airflow.sdk.log import redact

    assert quote(PASSWORD, safe="") not in redact(address)  # should a program ever print it


def test_programs_exist():
    programs = re.findall(r'"(scripts/\w+\.py)"', DAG_FILE.read_text())
    assert len(programs) == len(PROGRAMS)
    assert [program for program in programs if not (ROOT / program).exists()] == []
