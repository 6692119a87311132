"""With a scheduler, as in production: the night's run publishes, and a backfill of the past does
not.
"""

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.airflow import Airflow, GuardedRedis
from tests.support.processes import PATIENCE, free_port, stop, wait_until

PAST = ("2025-02-01", "2025-03-01")


@pytest.fixture(scope="module")
def scheduled(airflow: Airflow) -> Iterator[Airflow]:
    """Airflow with its scheduler, DAG processor and API server."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    own = {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the test's own, and long enough to be one",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "BOUGHT_TOGETHER_SCHEDULE": "0 0 1 * *",
    }
    before = airflow.settings
    airflow.settings = before | own
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name in ("api-server", "scheduler", "dag-processor"):
            processes.append(airflow.start(name, log=airflow.folder / f"{name}.log"))
        yield airflow
    finally:
        airflow.settings = before
        for process in processes:
            stop(process)


def states(airflow: Airflow, run_type: str) -> dict[str, dict[str, str]]:
    """Return the states of the tasks of each finished run of a type, by the run's month."""
    tasks = airflow.query(
        "select logical_date, task_id, task_instance.state from task_instance"
        " join dag_run using (dag_id, run_id)"
        " where run_type = ? and dag_run.state in ('success', 'failed')",
        run_type,
    )
    runs: dict[str, dict[str, str]] = {}
    for date, task, state in tasks:
        runs.setdefault(date[:7], {})[task] = state
    return runs


@pytest.fixture(scope="module")
def night(scheduled: Airflow, valkey: GuardedRedis) -> dict[str, dict[str, str]]:
    """The run that is due as soon as the DAG is awake."""
    valkey.client().flushall()
    wait_until(lambda: scheduled.query("select 1 from serialized_dag"), "the DAG")
    scheduled.command("dags", "unpause", "--yes", "bought_together")
    return wait_until(lambda: states(scheduled, "scheduled"), "the night's run")


def test_the_night_publishes(night, valkey):
    ((month, tasks),) = night.items()
    assert month > PAST[1]
    skipped = {"count_pairs", "smoke_check"}
    assert tasks == dict.fromkeys(tasks, "success") | dict.fromkeys(skipped, "skipped")
    assert valkey.answers()


def test_a_backfill_publishes_nothing(night, scheduled, valkey):
    published = valkey.content()
    dates = [f"--from-date={PAST[0]}", f"--to-date={PAST[1]}"]
    scheduled.command("backfill", "create", "--dag-id=bought_together", *dates)
    wait_until(lambda: len(states(scheduled, "backfill")) == len(PAST), "the runs of the past")
    for tasks in states(scheduled, "backfill").values():
        assert tasks.pop("latest_only") == "success"
        assert set(tasks.values()) == {"skipped"}
    assert valkey.content() == published


def test_parameters_that_cannot_be_used_start_no_run(night, scheduled):
    log = scheduled.folder / "refused.log"
    conf = '--conf={"pair_engine": "spark"}'
    process = scheduled.start("dags", "trigger", "bought_together", conf, log=log)
    assert process.wait(PATIENCE) != 0
    assert "'spark' is not one of ['duckdb', 'dask']" in log.read_text()
    assert scheduled.query("select * from dag_run where conf like '%spark%'") == []
