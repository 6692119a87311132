"""`airflow dags test` runs the DAG whole, with the project's own programs on the sample data."""

import json
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from tests.support.airflow import PASSWORD, Airflow, GuardedRedis, Run

TASKS = ("latest_only", "flatten", "count_pairs", "dbt_build", "publish", "smoke_check")
WHOLE = dict.fromkeys(TASKS, "success") | {"count_pairs": "skipped"}


@pytest.fixture(scope="module")
def nightly(airflow: Airflow, valkey: GuardedRedis, service_url: str) -> Run:
    """The run as it is every night; with its own copy of the answers, made by hand, beside it."""
    valkey.client().flushall()
    by_hand = {
        "LAKE_PATH": airflow.folder / "by-hand",
        "DUCKDB_PATH": airflow.folder / "by-hand.duckdb",
        "DBT_TARGET_PATH": airflow.folder / "by-hand-dbt",
        "DBT_LOG_PATH": airflow.folder / "by-hand-dbt",
    }
    airflow.program("build", **by_hand)
    url = f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{valkey.port}/1"
    airflow.program("publish", REDIS_URL=url, **by_hand)
    return airflow.run({"service_url": service_url})


def test_the_sample_is_published_and_served(nightly, valkey, service_url):
    assert nightly.states == WHOLE, nightly.log
    assert set(nightly.tries.values()) == {1}
    answers = valkey.answers()
    assert len(answers) > 30
    assert answers == valkey.answers(database=1)
    with urlopen(f"{service_url}/v1/products/2010/recommendations") as response:
        assert json.load(response) == json.loads(answers[b"2010"])


def test_what_the_programs_say_is_in_the_log(nightly):
    for said in ("read       300 records", "dbt build  ", "published  20", "served     20"):
        assert said in nightly.log


def test_the_password_is_nowhere(nightly, airflow):
    """Neither in a log nor in anything else that Airflow keeps."""
    assert nightly.states["publish"] == "success"
    kept = [path for path in airflow.home.rglob("*") if path.is_file()]
    assert any(path.name == "airflow.db" for path in kept)
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in nightly.log
        assert [path for path in kept if secret.encode() in path.read_bytes()] == []


def test_nothing_is_written_into_the_project(nightly, airflow):
    for name in ("target/run_results.json", "logs/dbt.log"):
        assert (airflow.folder / "disk/dbt" / name).exists()
    assert airflow.files() == airflow.source


def test_dask_counts_the_same(nightly, airflow, valkey, service_url):
    before = valkey.client().get("bought-together:current")
    run = airflow.run({"pair_engine": "dask", "service_url": service_url})
    assert run.states == WHOLE | {"count_pairs": "success"}, run.log
    assert valkey.client().get("bought-together:current") != before
    assert valkey.answers() == valkey.answers(database=1)


def state_of(airflow: Airflow, valkey: GuardedRedis) -> object:
    """All that readers can see: Redis, the current build and the current run of the lake."""
    files = ("published.json", "current.json")
    return valkey.content(), [(airflow.lake / name).read_bytes() for name in files]


def test_refused_data_fails_at_flatten_for_good(nightly, airflow, valkey, texts, service_url):
    before = state_of(airflow, valkey)
    bad = airflow.folder / "bad.txt"
    bad.write_text('{"itemList": [{"item": "1"}]}\n{"itemList":\n')
    run = airflow.run({"transactions": str(bad), "service_url": service_url})
    later = dict.fromkeys(TASKS[2:], "upstream_failed")
    assert run.states == {"latest_only": "success", "flatten": "failed", **later}, run.log
    assert run.tries["flatten"] == 1
    (line,) = (line for line in run.log.splitlines() if "] error: " in line)
    assert "nothing was published" in line
    assert state_of(airflow, valkey) == before
    (text,) = texts
    assert text.startswith("bought_together: flatten failed in manual__")
    assert "nothing was published" in text


def test_a_file_that_is_missing_is_looked_for_again(nightly, airflow, valkey, texts):
    """And nobody is told where no webhook is set."""
    before = state_of(airflow, valkey)
    missing = str(airflow.folder / "missing.txt")
    run = airflow.run({"transactions": missing, "alert_conn_id": None})
    assert (run.states["flatten"], run.tries["flatten"]) == ("failed", 3), run.log
    assert run.states["publish"] == "upstream_failed"
    assert state_of(airflow, valkey) == before
    assert missing in run.log
    assert texts == []
