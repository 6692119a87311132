"""The measured programs, each in its own process on 127.0.0.1, and their memory."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bought_together.cli import CANNOT_RUN, stop
from bought_together.errors import CannotRun

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SETTINGS = ("HOST", "PORT", "LAKE_PATH", "REDIS_URL")
SECONDS_TO_START = 60.0
SECONDS_TO_STOP = 15.0
SECONDS_TO_ANSWER = 10.0
SECONDS_TO_PUBLISH = 120.0
SECONDS_BETWEEN_LOOKS = 0.02


@dataclass
class Server:
    """A process that answers at `url`; its child processes count as part of it."""

    url: str
    pid: int
    start_seconds: float = 0.0  # until it was ready
    peak_bytes: int = 0  # resident, the highest measured

    def look(self) -> int:
        """Return the resident memory in bytes, and remember the peak."""
        resident = sum(resident_bytes(pid) for pid in (self.pid, *children(self.pid)))
        self.peak_bytes = max(self.peak_bytes, resident, resident_bytes(self.pid, "VmHWM"))
        return resident


def resident_bytes(pid: int, name: str = "VmRSS") -> int:
    """Return the resident memory of a process, or its peak (VmHWM); 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    sizes = dict(line.split(":", 1) for line in lines)
    return int(sizes.get(name, "0").split()[0]) * 1024


def children(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def serve(lake: Path, redis_url: str | None = None) -> AbstractContextManager[Server]:
    """Run scripts/serve.py from a lake or, with an address, from Redis."""
    settings = {"REDIS_URL": redis_url} if redis_url else {"LAKE_PATH": str(lake)}
    return running(ROOT / "scripts/serve.py", settings, "/readyz", lake.parent)


@contextmanager
def running(program: Path, settings: dict[str, str], probe: str, folder: Path) -> Iterator[Server]:
    """Run a Python program that listens on PORT until `probe` says 200; ends it afterwards.

    Its messages are added to the file `log` of the folder. Raises CannotRun.
    """
    port = free_port()
    with (folder / "log").open("ab") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(program)],
            env=environment(PORT=str(port), **settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C stops this program, which then stops that one
        )
    server = Server(f"http://127.0.0.1:{port}", process.pid)
    try:
        while not is_ready(server.url + probe):
            server.look()
            if process.poll() is not None or time.monotonic() - began > SECONDS_TO_START:
                raise CannotRun(f"{program.name} did not start: {last_line(folder)}")
            time.sleep(SECONDS_BETWEEN_LOOKS)
        server.start_seconds = time.monotonic() - began
        yield server
        if process.poll() is not None:
            raise CannotRun(f"{program.name} ended by itself: {last_line(folder)}")
    finally:
        process.terminate()
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with only these settings of the project."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return kept | settings


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_ready(url: str) -> bool:
    try:
        fetch(url)
    except OSError:
        return False
    return True


def fetch(url: str) -> bytes:
    """Return the body of an answer; raises OSError, also for a status other than 200."""
    with urllib.request.urlopen(url, timeout=SECONDS_TO_ANSWER) as response:
        return response.read()


def last_line(folder: Path) -> str:
    lines = (folder / "log").read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def publish(lake: Path, redis_url: str, *options: str) -> None:
    """Publish the lake's export with scripts/publish.py; raises CannotRun."""
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts/publish.py"), *options],
            env=environment(LAKE_PATH=str(lake), REDIS_URL=redis_url),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_PUBLISH,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotRun(f"publish.py did not end in {SECONDS_TO_PUBLISH:.0f} s") from None
    if done.returncode:
        raise CannotRun(f"publish.py failed: {done.stderr.strip()}")


@contextmanager
def orderly() -> Iterator[Path]:
    """Yield a temporary folder; SIGTERM and CannotRun stop everything that was started."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-service-") as folder:
            yield Path(folder)
    except CannotRun as error:
        stop(str(error), CANNOT_RUN)
