"""Exit statuses tell data that were refused from a program that broke."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest
from click.testing import CliRunner

from bought_together.cli import Terminated, program
from bought_together.errors import CannotRun, Refused
from tests.support.exports import LISTED, ROWS, write_export
from tests.support.processes import assert_one_line
from tests.support.shop import ROOT, Shop

ENDS = [
    (Refused("too many\nbad records"), 1, "error: too many bad records\n"),
    (CannotRun("no lake"), 2, "error: no lake\n"),
    (FileNotFoundError(2, "No such file or directory", "a.txt"), 2, "error: a.txt: No such file"),
    (click.UsageError("no such option"), 2, "error: no such option\n"),
    (click.FileError("a.txt", "is full"), 2, "error: Could not open file 'a.txt': is full\n"),
    (click.exceptions.Exit(3), 3, ""),
    (KeyboardInterrupt(), 130, "error: interrupted\n"),
    (Terminated(), 143, "error: terminated\n"),
    (MemoryError(), 2, "error: not enough memory\n"),
    (ZeroDivisionError("a defect"), 70, "Traceback "),
]


@pytest.mark.parametrize(
    ("error", "status", "told"), ENDS, ids=[type(error).__name__ for error, _, _ in ENDS]
)
def test_each_error_has_its_exit_status(error: BaseException, status: int, told: str) -> None:
    @program
    def main() -> NoReturn:
        raise error

    finished = CliRunner().invoke(main, [])
    assert finished.exit_code == status
    assert finished.stderr.startswith(told)
    assert finished.stdout == ""


PROGRAMS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
NEVER_REFUSES = {"demo", "generate"}
ARGUMENTS = {"inspect_input": [ROOT / "data/transactions.txt"]}


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - NEVER_REFUSES))
def test_a_library_that_cannot_be_imported_is_a_defect(name: str, tmp_path: Path) -> None:
    """Python itself would end with status 1, which says that the data was refused."""
    for library in ("duckdb", "numba", "pyarrow"):
        (tmp_path / f"{library}.py").write_text("raise RuntimeError('broken here')\n")
    finished = subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{name}.py", *ARGUMENTS.get(name, ())],
        env={
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
            "LAKE_PATH": "lake",
            "REDIS_URL": "redis://127.0.0.1:1/0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 70, finished.stderr
    assert finished.stderr.endswith("RuntimeError: broken here\n")


@pytest.fixture
def no_reader() -> Iterator[int]:
    """A pipe whose reader has gone away."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def run_here(shop: Shop, *command: object, **options: Any) -> Any:
    """Run a script with streams of the test's own, and return the finished process."""
    script, *arguments = command
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(
        [sys.executable, ROOT / f"scripts/{script}.py", *map(str, arguments)],
        env=shop.environment(),
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        **streams,
    )


@pytest.mark.parametrize("command", [["recommend", "011"], ["flatten", "--help"]])
def test_a_reader_that_goes_away_ends_the_program_as_in_shells(
    shop: Shop, no_reader: int, command: list[str]
) -> None:
    write_export(shop, ROWS, LISTED)
    finished = run_here(shop, *command, stdout=no_reader)
    assert (finished.returncode, finished.stderr) == (141, "")


@pytest.mark.parametrize("command", [["recommend", "011"], ["flatten", "--no-such-option"]])
def test_an_error_that_nobody_reads_keeps_its_status(
    shop: Shop, no_reader: int, command: list[str]
) -> None:
    finished = run_here(shop, *command, stdout=no_reader, stderr=no_reader)
    assert finished.returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("command", [["recommend", "011"], ["flatten", "--help"]])
def test_output_to_a_full_disk_is_one_line(shop: Shop, command: list[str]) -> None:
    write_export(shop, ROWS, LISTED)
    with open("/dev/full", "w") as full:
        finished = run_here(shop, *command, stdout=full)
    finished.stdout = ""
    assert_one_line(finished, 2, "No space left on device")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_closed_streams_take_no_file_of_the_lake(shop: Shop, closed: str) -> None:
    """The next file that a program opens would have the number of the closed stream."""
    shop.write([["a", "b"]], "ab")
    program = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, ROOT / "scripts/flatten.py"]
    finished = subprocess.run(program, env=shop.environment(), capture_output=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert shop.table("line_items").num_rows == 2
    assert shop.table("products")["product_name"].to_pylist() == ["Name of a", "Name of b"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
def test_names_that_the_terminal_does_not_know_are_escaped(shop: Shop, encoding: str) -> None:
    write_export(shop, [("011", 1, "12", "Crème 🍮", "", 7)], LISTED)
    environment = shop.environment(PYTHONIOENCODING=encoding, LAKE_PATH=shop.lake)
    finished = subprocess.run(
        [sys.executable, ROOT / "scripts/recommend.py", "011", "é"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert b"Cr" in finished.stdout
    missing = shop.folder / "päth 🍮"
    finished = subprocess.run(
        [sys.executable, ROOT / "scripts/recommend.py", "011"],
        env=environment | {"LAKE_PATH": str(missing)},
        capture_output=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith(b"error: ")
    assert finished.stderr.count(b"\n") == 1


def test_sigterm_ends_a_program_in_one_line_after_it_has_tidied_up() -> None:
    tidied = []

    @program
    def main() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # as where both a scheduler and its parent send it
            tidied.append(True)

    before = signal.getsignal(signal.SIGTERM)
    finished = CliRunner().invoke(main, [])
    assert (finished.exit_code, finished.stderr) == (143, "error: terminated\n")
    assert tidied
    assert signal.getsignal(signal.SIGTERM) is before
