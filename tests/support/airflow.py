"""Airflow with a home and a database of its own, and the project deployed apart from its DAG file.

Everything listens on 127.0.0.1. Airflow runs in an environment of its own, the programs in the
project's: .venv at the project's root.
"""

import json
import os
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import redis

from tests.support import ROOT
from tests.support.processes import PATIENCE
from tests.support.valkey import Valkey

PYTHON = ROOT / ".venv/bin/python"
AIRFLOW_PYTHON = ROOT / ".venv-airflow/bin/python"
DAG_FILE = ROOT / "deploy/airflow/recommendations_dag.py"
# What the programs need; its folder may be read-only where it is deployed.
DEPLOYED = (
    "data",
    "dbt_project.yml",
    "macros",
    "models",
    "profiles.yml",
    "scripts",
    "seeds",
    "selectors.yml",
    "tests",
)
PASSWORD = "p@ss/w:rd %41?#"  # with everything that has a meaning in an address
FIRST_RUN = date(2026, 2, 1)


@dataclass
class Run:
    """What a run of the DAG came to; `log` is all that it logged."""

    log: str
    states: dict[str, str]
    tries: dict[str, int]


@dataclass
class Airflow:
    """An installation of Airflow, the DAG in its folder of DAGs, and the project elsewhere."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    source: set[Path] = field(default_factory=set)
    runs: int = 0

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self, **settings: object) -> dict[str, str]:
        """Without the variables of Airflow, Python and the project that this process may have."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW_", "BOUGHT_TOGETHER_", "DBT_", "PYTEST_", "PYTHON"))
        }
        own = {
            "AIRFLOW_HOME": self.home,
            "AIRFLOW__CORE__DAGS_FOLDER": self.folder / "dags",
            "AIRFLOW__CORE__LOAD_EXAMPLES": False,
            "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": 0,
            "BOUGHT_TOGETHER_HOME": self.project,
            "BOUGHT_TOGETHER_PYTHON": PYTHON,
            "BOUGHT_TOGETHER_LAKE_PATH": self.lake,
            "BOUGHT_TOGETHER_DUCKDB_PATH": self.folder / "disk/warehouse.duckdb",
        }
        told = {name: str(value) for name, value in (own | self.settings | settings).items()}
        return inherited | told

    def start(self, *arguments: str, log: Path, **settings: object) -> subprocess.Popen[bytes]:
        """Start Airflow's command line; what it says is appended to `log`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [AIRFLOW_PYTHON, "-m", "airflow", *arguments],
                env=self.environment(**settings),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def command(self, *arguments: str, **settings: object) -> str:
        """Run Airflow's command line to its end; returns what it said."""
        log = self.folder / "command.log"
        log.unlink(missing_ok=True)
        process = self.start(*arguments, log=log, **settings)
        status = process.wait(PATIENCE)
        assert status == 0, log.read_text()
        return log.read_text()

    def start_run(
        self, params: dict[str, Any] | None = None, **settings: object
    ) -> tuple[subprocess.Popen[bytes], str, Path]:
        """Start `airflow dags test`; returns the process, the run's date and its log."""
        self.runs += 1
        date = (FIRST_RUN + timedelta(days=self.runs)).isoformat()
        log = self.folder / f"run-{date}.log"
        arguments = ["dags", "test", "bought_together", date, "-c", json.dumps(params or {})]
        return self.start(*arguments, log=log, **settings), date, log

    def run(self, params: dict[str, Any] | None = None, **settings: object) -> Run:
        """Run `airflow dags test` with these parameters, to its end."""
        process, date, log = self.start_run(params, **settings)
        process.wait(PATIENCE)
        return self.finished(date, log.read_text())

    def finished(self, date: str, log: str = "") -> Run:
        """Return what the tasks of the run of that date came to, or have come to so far."""
        tasks = self.query(
            "select task_id, task_instance.state, try_number from task_instance"
            " join dag_run using (dag_id, run_id) where logical_date like ?",
            f"{date}%",
        )
        states = {task: state for task, state, _ in tasks}
        return Run(log, states, {task: tries for task, _, tries in tasks})

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.home / "airflow.db", timeout=PATIENCE)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def files(self) -> set[Path]:
        """Return the project's files but what Python and Numba keep of their own."""
        return {
            path
            for path in self.project.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    def program(self, script: str, *arguments: str, **settings: object) -> None:
        """Run a program of the project by hand."""
        told = {name: str(value) for name, value in settings.items()}
        finished = subprocess.run(
            [PYTHON, f"scripts/{script}.py", *arguments],
            env=self.environment() | told,
            cwd=self.project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr


def install(folder: Path) -> Airflow:
    """Return Airflow with an empty database, the project and the DAG, in an empty folder."""
    for name in ("project", "dags", "disk", "home"):
        (folder / name).mkdir()
    airflow = Airflow(folder)
    for name in DEPLOYED:
        if (ROOT / name).is_dir():
            # Other tests compile modules there in the meantime.
            left_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, airflow.project / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, airflow.project / name)
    shutil.rmtree(airflow.project / "data/lake", ignore_errors=True)
    shutil.copy(DAG_FILE, folder / "dags")
    airflow.source = airflow.files()
    airflow.command("db", "migrate")
    return airflow


class GuardedRedis(Valkey):
    """A Redis with a password."""

    def __init__(self, folder: Path) -> None:
        # From a file, as an operator would: on the command line others could read the password.
        config = folder / "valkey.conf"
        config.write_text(f'requirepass "{PASSWORD}"\n')
        super().__init__(folder, config)

    def client(self, database: int = 0) -> redis.Redis:
        return super().client(password=PASSWORD, db=database, decode_responses=False)

    def content(self) -> dict[bytes, bytes]:
        """Return everything in it, byte for byte."""
        return {key: self.client().dump(key) for key in self.client().scan_iter()}

    def answers(self, database: int = 0) -> dict[bytes, bytes]:
        client = self.client(database)
        current = client.get("bought-together:current").decode()
        return client.hgetall(f"bought-together:{current}:answers")
