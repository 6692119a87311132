"""A Dask cluster: a scheduler and workers, each a program of its own."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60


@dataclass(frozen=True)
class Host:
    """Where a program runs: an address, and what to put before its command."""

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


@contextmanager
def dask(
    folder: Path,
    *arguments: object,
    host: Host = Host(),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of Dask's in the background; it says in `folder` what it does."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = [*host.prefix, Path(sys.executable).parent / "dask", *map(str, arguments)]
    program += ["--host", host.address, "--no-dashboard"]
    with (folder / f"{arguments[0]}.log").open("ab") as log:
        process = subprocess.Popen(program, cwd=folder, env=outside, stdout=log, stderr=log)
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
