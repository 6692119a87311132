"""Exit statuses tell data that were refused from a program that broke."""

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner

from bought_together.cli import program
from bought_together.errors import CannotRun, Refused
from tests.support.shop import ROOT

ENDS = [
    (Refused("too many\nbad records"), 1, "error: too many bad records\n"),
    (CannotRun("no lake"), 2, "error: no lake\n"),
    (FileNotFoundError(2, "No such file or directory", "a.txt"), 2, "error: a.txt: No such file"),
    (click.UsageError("no such option"), 2, "error: no such option\n"),
    (click.FileError("a.txt", "is full"), 2, "error: Could not open file 'a.txt': is full\n"),
    (click.exceptions.Exit(3), 3, ""),
    (KeyboardInterrupt(), 130, "error: interrupted\n"),
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


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - NEVER_REFUSES))
def test_a_library_that_cannot_be_imported_is_a_defect(name: str, tmp_path: Path) -> None:
    """Python itself would end with status 1, which says that the data was refused."""
    for library in ("duckdb", "numba", "pyarrow"):
        (tmp_path / f"{library}.py").write_text("raise RuntimeError('broken here')\n")
    finished = subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{name}.py"],
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
