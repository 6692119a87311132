"""podman, and a client of what listens where its containers are."""

import subprocess
from typing import Any


class Podman:
    """podman with a store of its own, in the network namespace `namespace` when that is given."""

    def __init__(self, environment: dict[str, str], namespace: str | None = None) -> None:
        self.environment = environment
        self.inside = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []

    def run(self, *command: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run any command there; raises CalledProcessError unless check=False."""
        return subprocess.run(
            [*self.inside, *map(str, command)],
            env=self.environment,
            **{"check": True, "text": True, "stdout": subprocess.PIPE, **options},
        )

    def __call__(self, *arguments: object, **options: Any) -> str:
        return self.run("podman", *arguments, **options).stdout.strip()

    def get(self, path: str, port: int = 8000) -> tuple[int, str]:
        """Return status and body of a GET, from where the containers are; status 0: no answer."""
        command = ["curl", "--silent", "--max-time", 5, "--write-out", r"\n%{http_code}"]
        answer = self.run(*command, f"http://127.0.0.1:{port}{path}", check=False).stdout
        body, _, status = answer.rpartition("\n")
        return int(status), body
