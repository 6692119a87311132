"""compose.yaml by podman-compose, service by service in its order, with its networks and volumes.

That one service waits for another's health is not tested: it takes a newer podman, or Docker.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.podman import Podman
from tests.support.processes import wait_until
from tests.support.readme import EXAMPLE_PATH, example_answer

COMPOSE = ROOT / "deploy" / "image" / "compose.yaml"
PASSWORD = "correcthorsebatterystaple"


class Compose:
    """podman-compose with deploy/image/compose.yaml."""

    def __init__(self, podman: Podman, **settings: str) -> None:
        self.podman = podman
        self.settings = [f"{name}={value}" for name, value in settings.items()]

    def __call__(self, *arguments: str) -> str:
        command = (sys.executable, "-m", "podman_compose", "--file", COMPOSE, *arguments)
        return self.podman.run("env", *self.settings, *command).stdout

    def container(self, service: str) -> str:
        label = f"label=com.docker.compose.service={service}"
        return self.podman("ps", "--all", "--quiet", "--filter", label)

    def is_healthy(self, service: str) -> bool:
        check = ("podman", "healthcheck", "run", self.container(service))
        return self.podman.run(*check, check=False).returncode == 0

    def redis(self, command: str, password: str = PASSWORD) -> str:
        environment = f"REDISCLI_AUTH={password}"
        inside = ("exec", "--env", environment, self.container("redis"), "valkey-cli")
        return self.podman(*inside, *command.split(), stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def compose(podman: Podman, images: dict[str, str], redis_image: str) -> Iterator[Compose]:
    pytest.importorskip("podman_compose", reason="podman-compose is not installed")
    compose = Compose(podman, REDIS_PASSWORD=PASSWORD, REDIS_IMAGE=redis_image)
    compose("up", "--detach", "--no-build", "--no-deps", "redis")
    wait_until(lambda: compose.is_healthy("redis"), "Redis is healthy")
    built = compose("run", "--rm", "--no-deps", "build")
    assert "41 products" in built
    compose("up", "--detach", "--no-build", "--no-deps", "service")
    wait_until(lambda: podman.get("/readyz")[0] == 200, "the service is ready")
    yield compose
    compose("down", "--volumes")


def test_service_answers_from_redis(compose: Compose, podman: Podman) -> None:
    assert podman.get(EXAMPLE_PATH) == (200, example_answer())
    assert int(compose.redis("dbsize")) > 0


def test_redis_asks_for_the_password_and_never_evicts(compose: Compose, podman: Podman) -> None:
    assert "NOAUTH" in compose.redis("get bought-together:current", password="")
    assert compose.redis("config get maxmemory-policy").split() == [
        "maxmemory-policy",
        "noeviction",
    ]
    processes = podman("top", compose.container("redis"), "args")
    assert "valkey-server" in processes
    assert PASSWORD not in processes


@pytest.mark.parametrize("service", ["redis", "service"])
def test_services_are_shut_in(compose: Compose, podman: Podman, service: str) -> None:
    (container,) = json.loads(podman("inspect", compose.container(service)))
    assert container["HostConfig"]["ReadonlyRootfs"]
    assert container["EffectiveCaps"] in (None, [])
    assert "no-new-privileges" in " ".join(container["HostConfig"]["SecurityOpt"])
    assert container["Config"]["User"].split(":")[0] not in ("", "0", "root")
    ports = container["HostConfig"]["PortBindings"].values()
    assert all(bound["HostIp"] == "127.0.0.1" for port in ports for bound in port)


def test_service_ends_when_told_to(compose: Compose, podman: Podman) -> None:
    compose("stop", "service")
    container = compose.container("service")
    assert podman("inspect", "--format", "{{.State.ExitCode}}", container) == "0"
    compose("start", "service")
    wait_until(lambda: podman.get("/readyz")[0] == 200, "the service is ready")


def test_redis_keeps_what_was_published(compose: Compose, podman: Podman) -> None:
    podman("restart", compose.container("redis"))
    wait_until(lambda: compose.is_healthy("redis"), "Redis is healthy")
    wait_until(lambda: podman.get("/readyz")[0] == 200, "the service is ready")
    assert podman.get(EXAMPLE_PATH) == (200, example_answer())


def test_without_a_password_nothing_starts(tmp_path: Path) -> None:
    pytest.importorskip("podman_compose", reason="podman-compose is not installed")
    copy = shutil.copy(COMPOSE, tmp_path)  # where no .env is
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_PASSWORD"}
    command = [sys.executable, "-m", "podman_compose", "--file", copy, "config"]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert outcome.returncode != 0
    assert "REDIS_PASSWORD" in outcome.stdout + outcome.stderr
