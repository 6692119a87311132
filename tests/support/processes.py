"""Programs: started, waited for, killed in the middle, and judged by their one line of error."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.support import ROOT

if TYPE_CHECKING:
    from tests.support.shop import Shop

PATIENCE = 240  # seconds after which a condition that never comes true fails the test
POLL = 0.05  # seconds between two looks at a condition
QUICK_POLL = 0.0003  # seconds; for what is true only for an instant


def program(name: str) -> list[Any]:
    """Return the command of scripts/<name>.py."""
    return [sys.executable, ROOT / "scripts" / f"{name}.py"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_until(happened: Callable[[], Any], what: str, poll: float = POLL) -> Any:
    """Return what `happened` returns, once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (result := happened()):
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(poll)
    return result


def start(shop: Shop, command: list[Any], **settings: object) -> subprocess.Popen[str]:
    """Start a program on the shop; its output goes nowhere."""
    return subprocess.Popen(
        list(map(str, command)),
        cwd=shop.project,
        env=shop.environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_when(process: subprocess.Popen[str], condition: Callable[[], object]) -> None:
    """Kill a process as soon as the condition is true; fails where it ends before."""
    deadline = time.monotonic() + PATIENCE
    try:
        while not condition():
            assert time.monotonic() < deadline, "the condition never came true"
            assert not ended_within(process, QUICK_POLL), "it ended before it could be killed"
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before the signal arrived"


def ended_within(process: subprocess.Popen[str], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def stop(process: subprocess.Popen[Any]) -> None:
    """Ask a process to end, and see that it does."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    finally:
        process.kill()


def assert_one_line(finished: Any, status: int, *told: object) -> None:
    """One line on standard error says what and where; standard output holds no call stack."""
    assert finished.returncode == status, finished.stdout + finished.stderr
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert finished.stderr.startswith("error: ")
    assert "Traceback" not in finished.stdout
    for text in told:
        assert str(text) in finished.stderr
