"""The service: as a program on a port of its own, and inside the test's process."""

import importlib
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio.from_thread import start_blocking_portal
from click.testing import CliRunner
from starlette.testclient import TestClient

from bought_together.cli import DEFAULT_REDIS_PREFIX
from bought_together.export.redis_versions import Keys
from bought_together.service.app import create_app
from bought_together.service.refreshing import refresh
from tests.support.processes import PATIENCE, free_port, program, wait_until
from tests.support.shop import SETTINGS, Shop
from tests.support.valkey import Valkey

KEYS = Keys(DEFAULT_REDIS_PREFIX)


def path_of(product_id: str) -> str:
    return f"/v1/products/{quote(product_id, safe='')}/recommendations"


class Service:
    """scripts/serve.py on a port of its own, and a client of it."""

    def __init__(self, shop: Shop, log: Path, **settings: object) -> None:
        self.port, self.log = free_port(), log
        self.process = subprocess.Popen(
            program("serve"),
            env=shop.environment(PORT=self.port, **settings),
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], Any]:
        """Ask for a path exactly as it is written; returns status, headers and content."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.putrequest("GET", path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        told = {name.lower(): value for name, value in response.getheaders()}
        is_json = told.get("content-type") == "application/json"
        return response.status, told, json.loads(body) if is_json else body

    def status(self, path: str = "/readyz") -> int | None:
        """Return the status, None where nobody listens."""
        try:
            return self.get(path)[0]
        except OSError:
            return None

    def wait_for(self, status: int, path: str = "/readyz") -> None:
        wait_until(lambda: self.status(path) == status, f"{status} from {path}: {self.lines()}")

    def wait_for_version(self, start: str) -> None:
        wait_until(lambda: str(self.version()).startswith(start), f"version {start}")

    def version(self) -> str | None:
        status, _, ready = self.get("/readyz")
        return ready["version"] if status == 200 else None

    def recommendations(self, product_id: str, options: str = "") -> Any:
        path = f"/v1/products/{quote(product_id, safe='')}/recommendations{options}"
        return self.get(path)[2]

    def lines(self, level: str = "") -> list[str]:
        return [line for line in self.log.read_text().splitlines() if f" {level}" in line]


@contextmanager
def running(shop: Shop, **settings: object) -> Iterator[Service]:
    """A service; at the end it must stop by itself when asked to, with nothing left to tell."""
    log = shop.folder / f"serve-{free_port()}.log"
    service = Service(shop, log, **settings)
    try:
        service.wait_for(200, "/healthz")
        yield service
        assert service.process.poll() is None, log.read_text()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) in (0, -signal.SIGTERM)
        assert "Traceback" not in log.read_text()
    finally:
        service.process.kill()
        service.process.wait()


def call(shop: Shop, script: str, *arguments: object, **settings: object) -> Any:
    """Run scripts/<script>.py as Shop.run does, but in this process, which saves its imports."""
    main = importlib.import_module(f"scripts.{script}").main
    unset = dict.fromkeys(SETTINGS)
    finished = CliRunner().invoke(
        main, list(map(str, arguments)), env=unset | shop.environment(**settings)
    )
    return subprocess.CompletedProcess(script, finished.exit_code, finished.stdout, finished.stderr)


def publish(shop: Shop, valkey: Valkey, *options: str, **settings: object) -> str:
    """Publish the current build to Redis; returns what the program says."""
    finished = call(shop, "publish", *options, **{"REDIS_URL": valkey.url()} | settings)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@contextmanager
def serving(backend: Any) -> Iterator[TestClient]:
    """A client of the application; the backend was asked for its newest version once.

    All requests share an event loop, as the connections to Redis do.
    """
    with start_blocking_portal() as portal:
        portal.call(refresh, backend, None)
        client = TestClient(create_app(backend), raise_server_exceptions=False)
        client.portal = portal
        yield client
        portal.call(backend.close)
