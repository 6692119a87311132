"""A Dask cluster: a scheduler and workers, each a program of its own that has none of our files."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

START_SECONDS = 60
ANOTHER_VERSION = """\
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def fail(*arguments, **options):
        raise RuntimeError(f"another version: {__name__}.{name}")

    return fail
"""


@dataclass(frozen=True)
class Host:
    """Where a program runs: an address, and what to put before its command."""

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


def without_package(folder: Path) -> Path:
    """Return a folder for PYTHONPATH from which our package cannot be imported.

    It may be installed where the tests run; what comes first on the path hides that.
    """
    hiding = folder / "without"
    hiding.mkdir(exist_ok=True)
    (hiding / "bought_together.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'bought_together'\", name=__name__)\n"
    )
    return hiding


def with_another_version(folder: Path) -> Path:
    """Return a folder for PYTHONPATH with modules named as ours, in which nothing works."""
    other = folder / "other"
    for path in (ROOT / "bought_together").rglob("*.py"):
        module = other / path.relative_to(ROOT)
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(ANOTHER_VERSION)
    return other


@contextmanager
def dask(
    folder: Path,
    *arguments: object,
    host: Host = Host(),
    packages: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of Dask's in the background; it says in `folder` what it does.

    `packages` comes first on its path; without it our package cannot be imported there.
    """
    environment = os.environ | {"PYTHONPATH": str(packages or without_package(folder))}
    program = [*host.prefix, Path(sys.executable).parent / "dask", *map(str, arguments)]
    program += ["--host", host.address, "--no-dashboard"]
    with (folder / f"{arguments[0]}.log").open("ab") as log:
        process = subprocess.Popen(program, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def scheduler(
    folder: Path,
    *arguments: object,
    host: Host = Host(),
) -> Iterator[str]:
    """Run a scheduler and yield its address."""
    with scheduler_process(folder, *arguments, host=host) as (address, _):
        yield address


@contextmanager
def scheduler_process(
    folder: Path, *arguments: object, host: Host
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    contact = folder / "scheduler.json"
    os.mkfifo(contact)
    reader = os.open(contact, os.O_RDONLY | os.O_NONBLOCK)
    options = ["--port", 0, "--scheduler-file", contact, *arguments]
    with open(reader) as file, dask(folder, "scheduler", *options, host=host) as process:
        said, _, _ = select.select([file], [], [], START_SECONDS)
        assert said, (folder / "scheduler.log").read_text()
        yield json.load(file)["address"], process
