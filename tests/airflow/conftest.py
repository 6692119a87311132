"""One Airflow for all tests of the DAG, with a Redis, the service and a webhook.

The tests run in Airflow's environment, the programs in the project's.
"""

import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote

import pytest

from tests.support.airflow import PASSWORD, PYTHON, Airflow, GuardedRedis, install
from tests.support.processes import free_port, stop


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return install(tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    valkey = GuardedRedis(tmp_path_factory.mktemp("valkey"))
    valkey.start()
    yield valkey
    valkey.stop()


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
def airflow(installed: Airflow, valkey: GuardedRedis, alerts: tuple[str, list[str]]) -> Airflow:
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
    installed: Airflow, valkey: GuardedRedis, tmp_path_factory: pytest.TempPathFactory
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
        stop(service)
