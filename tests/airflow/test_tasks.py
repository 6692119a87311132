"""Each task starts its program with the run's settings, and does what its exit status asks for.

A stand-in takes the place of the project's Python: it writes down how it was started, and ends as
the test tells it to.
"""

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.airflow import PASSWORD, Airflow, Run
from tests.support.processes import PATIENCE, wait_until

# Every character that a shell, a template, YAML or SQL could take for its own.
ODD = (
    r"""it's "7" $x ${HOME} $(echo hi) `echo hi` {{ 1 + 1 }} {% raw %} [a-z] * ? # & ; | < > \t é"""
)
PROGRAMS = {
    "flatten": ["scripts/flatten.py"],
    "count_pairs": ["scripts/count_pairs.py"],
    "build": ["scripts/build.py", "--skip-flatten"],
    "publish": ["scripts/publish.py"],
    "smoke": ["scripts/smoke.py"],
}
STAND_IN = """\
#!{python}
import json, os, sys, time
from pathlib import Path

folder = Path({folder!r})
name = Path(sys.argv[1]).stem
started = folder / (name + ".started")
before = started.read_text() if started.exists() else ""
told = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "pid": os.getpid(), "env": dict(os.environ)}}
part = folder / (name + ".part")
part.write_text(before + json.dumps(told) + "\\n")
part.rename(started)
ends = folder / (name + ".ends")
planned = json.loads(ends.read_text()) if ends.exists() else []
end = (planned + [0] * 9)[before.count("\\n")]
if end == "sleep":
    time.sleep(300)
print("said by", name)
if end:
    print("error:", name, "says why: {{{{ 7 * 7 }}}}", file=sys.stderr)
sys.exit(end)
"""


@dataclass
class StandIn:
    airflow: Airflow
    folder: Path

    def ends(self, name: str, *ends: int | str) -> None:
        """What one start of the program after the other ends with; "sleep" for not at all."""
        (self.folder / f"{name}.ends").write_text(json.dumps(ends))

    def started(self, name: str) -> list[dict[str, Any]]:
        """Return how the program was started, each time."""
        path = self.folder / f"{name}.started"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def settings(self, **settings: object) -> dict[str, object]:
        return {"BOUGHT_TOGETHER_PYTHON": self.folder / "python"} | settings

    def run(self, params: dict[str, Any] | None = None, **settings: object) -> Run:
        return self.airflow.run(params, **self.settings(**settings))


@pytest.fixture
def stand_in(airflow: Airflow, tmp_path: Path) -> StandIn:
    program = tmp_path / "python"
    program.write_text(STAND_IN.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    return StandIn(airflow, tmp_path)


def test_settings_reach_the_programs_as_written(airflow, stand_in, valkey):
    params = {
        "transactions": f"{ODD}*.txt,s3://bucket/{ODD}",
        "products": f"s3://bucket/{ODD}",
        "lake_path": ODD,
        "duckdb_path": str(airflow.folder / "disk" / ODD / "warehouse.duckdb"),
        "duckdb_threads": 3,
        "duckdb_memory_limit": "1.5 GB",
        "pair_engine": "dask",
        "dask_scheduler": "tls://host:8786",
        "dask_workers": 16,
        "max_reject_fraction": 0.25,
        "max_unlisted_share": 1,
        "min_baskets_share": 0.125,
        "allow_older_data": True,
        "max_basket_products": 100,
        "service_url": "https://shop.example",
    }
    # Of the worker, for other programs: none of them is for these.
    stray = {"REDIS_URL": "redis://elsewhere", "AIRFLOW_CONN_OTHER": "x://:secret@y"}
    run = stand_in.run(params, **stray, AWS_PROFILE="shop")
    assert set(run.states.values()) == {"success"}, run.log
    disk = airflow.folder / "disk" / ODD
    expected = {name.upper(): str(value) for name, value in params.items()}
    expected |= {"AWS_PROFILE": "shop", "DBT_TARGET_PATH": f"{disk}/dbt/target"}
    expected |= {"DBT_LOG_PATH": f"{disk}/dbt/logs"}
    for name, arguments in PROGRAMS.items():
        (started,) = stand_in.started(name)
        assert (started["argv"], started["cwd"]) == (arguments, str(airflow.project))
        told = started["env"]
        assert {setting: told.get(setting) for setting in expected} == expected
        assert not [setting for setting in told if setting.startswith("AIRFLOW_")]
        assert ("REDIS_URL" in told) == (name == "publish")
    (published,) = stand_in.started("publish")
    address = urlsplit(published["env"]["REDIS_URL"])
    assert (unquote(address.password), address.port) == (PASSWORD, valkey.port)


def test_empty_parameters_are_no_settings(stand_in):
    """And what follows a task that is skipped runs."""
    stray = dict.fromkeys(("DUCKDB_THREADS", "DASK_SCHEDULER", "REDIS_URL"), "of another program")
    run = stand_in.run({"redis_conn_id": None, "service_url": "http://shop.example"}, **stray)
    skipped = {task for task, state in run.states.items() if state == "skipped"}
    assert skipped == {"count_pairs", "publish"}, run.log
    assert run.states["smoke_check"] == "success"
    (started,) = stand_in.started("build")
    empty = {"DUCKDB_THREADS", "DUCKDB_MEMORY_LIMIT", "DASK_SCHEDULER", "REDIS_URL"}
    assert not empty & set(started["env"])
    assert started["env"]["PAIR_ENGINE"] == "duckdb"


def test_what_could_not_run_is_tried_again_and_what_refused_is_not(stand_in, texts):
    stand_in.ends("flatten", 2, 2, 0)
    stand_in.ends("build", 1)
    run = stand_in.run()
    assert (run.states["flatten"], run.tries["flatten"]) == ("success", 3), run.log
    assert (run.states["dbt_build"], run.tries["dbt_build"]) == ("failed", 1)
    assert (run.states["publish"], run.states["smoke_check"]) == ("upstream_failed",) * 2
    assert stand_in.started("publish") == []
    assert "error: flatten says why: {{ 7 * 7 }}" in run.log
    (text,) = texts  # of flatten, which came round, nobody is told
    assert "dbt_build failed" in text
    assert "error: build says why: {{ 7 * 7 }}" in text


def test_a_task_that_is_ended_ends_its_program(stand_in):
    stand_in.ends("flatten", "sleep")
    process, date, log = stand_in.airflow.start_run(**stand_in.settings())
    (first,) = wait_until(lambda: stand_in.started("flatten"), "the start of flatten")
    try:
        process.send_signal(signal.SIGTERM)  # as Airflow does to the task
        process.wait(PATIENCE)
    finally:
        process.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(first["pid"], 0)
    run = stand_in.airflow.finished(date, log.read_text())
    assert (run.states["flatten"], run.tries["flatten"]) == ("success", 2), run.log
