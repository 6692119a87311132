"""Run one program and measure it: wall time, CPU time and memory of all its processes."""

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SECONDS_BETWEEN_LOOKS = 0.1
LONGEST_REASON = 80


@dataclass(frozen=True)
class Measurement:
    seconds: float  # wall
    cpu_seconds: float  # user and system, of the process and those that it waited for
    peak_bytes: int  # the highest sum of resident memory over the process and its descendants
    failure: str | None = None


def measure(
    command: list[str],
    environment: dict[str, str],
    folder: Path,
    timeout: float,
    memory_limit: float,
) -> Measurement:
    """Run `command` in `folder`, where its output stays in the files `stdout` and `stderr`.

    Kills it and its descendants after `timeout` seconds or above `memory_limit` bytes.
    Raises OSError when the command cannot be started.
    """
    with (folder / "stdout").open("wb") as output, (folder / "stderr").open("wb") as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
    peak_bytes, failure = 0, None
    try:
        peak_bytes, failure = watch(process.pid, began + timeout, memory_limit)
        seconds = time.monotonic() - began
    finally:
        # Nobody has waited for the process yet, so the group's number is still its own.
        os.killpg(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if failure is None and process.returncode:
        failure = f"failed: {last_words(folder / 'stderr', process.returncode)}"
    return Measurement(seconds, usage.ru_utime + usage.ru_stime, peak_bytes, failure)


def watch(pid: int, deadline: float, memory_limit: float) -> tuple[int, str | None]:
    """Wait for a child to end; return its peak memory and, if it must be killed, the reason."""
    peak_bytes = 0
    descriptor = os.pidfd_open(pid)  # readable when the process ends
    try:
        while True:
            peak_bytes = max(peak_bytes, resident_bytes(pid))
            if peak_bytes > memory_limit:
                return peak_bytes, "out of memory"
            left = deadline - time.monotonic()
            if left <= 0:
                return peak_bytes, "out of time"
            if select.select([descriptor], [], [], min(SECONDS_BETWEEN_LOOKS, left))[0]:
                return peak_bytes, None
    finally:
        os.close(descriptor)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants.

    Several processes share pages, which must count once: each is charged its share (PSS). That
    takes a walk over all its pages, which a single process, all of whose pages count, is spared.
    """
    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
        for member in tree:
            with suppress(psutil.NoSuchProcess):
                alone = len(tree) == 1
                total += member.memory_info().rss if alone else member.memory_full_info().pss
    return total


def last_words(errors: Path, status: int) -> str:
    """Return the last line of a failed program's output, or its exit status without output."""
    lines = errors.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:LONGEST_REASON] if said else f"exit status {status}"
