"""Run dbt inside this process: parse the project, build it, and report in a few lines.

dbt takes more than a second to import, so only the functions that run it import it.
"""

import csv
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import duckdb
import yaml

from bought_together.errors import CannotRun, Refused, describe

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

# What a value in a column of a seed must be.
EXAMPLES = {"date": "a day like 2026-12-24", "integer": "a whole number"}


class DbtEvents:
    """Prints the messages of dbt's macros, and on a terminal dbt's current model or test."""

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()
        self.is_silent = False
        self.has_published = False

    def __call__(self, event: Any) -> None:
        if event.info.name == "PrintEvent" and not self.is_silent:
            self.clear()
            self.has_published |= event.info.msg.startswith("Published ")
            with suppress(BrokenPipeError):  # without a reader, the build still ends as it should
                click.echo(event.info.msg.replace("Published ", "published  ", 1))
        elif self.is_terminal and event.info.name == "LogStartLine":
            text = f"{event.data.index}/{event.data.total} {event.data.description}"
            click.echo(f"\r\033[K{text[:79]}", nl=False, err=True)

    def clear(self) -> None:
        if self.is_terminal:
            click.echo("\r\033[K", nl=False, err=True)


def check_seeds(project: Path) -> None:
    """Raise CannotRun, which names the file, when a seed cannot be read as it is declared.

    dbt would name no file, read a row of too many values differently than DuckDB, or keep the
    columns of a mistyped header in the warehouse.
    """
    folder = project / "seeds"
    for declared in yaml.safe_load((folder / "_seeds.yml").read_text())["seeds"]:
        path = folder / f"{declared['name']}.csv"
        columns = [column["name"] for column in declared["columns"]]
        types = declared.get("config", {}).get("column_types", {})
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = csv.reader(file, strict=True)
                header = next(rows, [])
                if header != columns:
                    raise CannotRun(f"the seed {path} must begin with the line {','.join(columns)}")
                for row in rows:
                    if row and len(row) != len(columns):
                        raise CannotRun(
                            f"the seed {path} has {len(row)} values in line {rows.line_num},"
                            f" not {len(columns)}"
                        )
                    if any("\0" in value for value in row):
                        raise CannotRun(f"the seed {path} has a NUL in line {rows.line_num}")
                    for column, value in zip(columns, row, strict=False):
                        if value and not is_of_type(value, types.get(column, "varchar")):
                            raise CannotRun(
                                f"the seed {path}, line {rows.line_num}: {column} must be"
                                f" {EXAMPLES[types[column]]}, not {value}"
                            )
        except UnicodeDecodeError as error:
            raise CannotRun(f"the seed {path} is not UTF-8: {error.reason}") from error
        except csv.Error as error:
            raise CannotRun(f"the seed {path}, line {rows.line_num}: {error}") from error
        except OSError as error:
            raise CannotRun(f"cannot read the seed {describe(error)}") from error


def is_of_type(value: str, kind: str) -> bool:
    """Return whether a seed's value is one that DuckDB reads as it is meant."""
    if kind == "date":
        try:
            return date.fromisoformat(value).isoformat() == value
        except ValueError:
            return False
    return kind != "integer" or (value.isascii() and value.isdigit() and len(value) < 10)


def remove_empty_warehouse(path: str) -> None:
    """Remove an empty file, which a full disk or a kill leaves and DuckDB cannot open."""
    warehouse = Path(path)
    if warehouse.is_file() and warehouse.stat().st_size == 0:
        warehouse.unlink()


def options(project: Path) -> list[str]:
    folders = ["--project-dir", str(project), "--profiles-dir", str(project)]
    return [*folders, "--log-level", "none", "--log-level-file", "debug"]


def parse_project(project: Path) -> "Manifest":
    """Return dbt's manifest of a project, which takes seconds; raises CannotRun."""
    from dbt.contracts.graph.nodes import SingularTestNode

    manifest = parse_once(project)
    tests = [node for node in manifest.nodes.values() if isinstance(node, SingularTestNode)]
    if not all(test.description for test in tests):
        # Where a setting has changed, dbt parses the test that reads it without its YAML.
        manifest = parse_once(project, "--no-partial-parse")
    return manifest


def parse_once(project: Path, *more: str) -> "Manifest":
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    # The build writes the manifest, too, and later.
    outcome = dbtRunner().invoke(["parse", "--no-write-json", *more, *options(project)])
    if outcome.exception:
        raise_interrupt(outcome.exception)
        raise CannotRun(f"dbt cannot read the project: {explain_dbt_error(outcome.exception)}")
    assert isinstance(outcome.result, Manifest)
    return outcome.result


def run_dbt_build(project: Path, manifest: "Manifest", full_refresh: bool = False) -> None:
    """Run `dbt build`, and print the results of tests that fail or warn.

    A full refresh counts everything again.

    Raises Refused when only tests fail, and CannotRun when a model or dbt itself fails or nothing
    was published.
    """
    began = time.monotonic()
    events = DbtEvents()
    results = build_nodes(project, manifest, events, *["--full-refresh"] * full_refresh)
    if not events.has_published:
        raise CannotRun("dbt build published nothing; the reason is above")
    passed = [result for result in results if result.status in ("pass", "warn")]
    click.echo(f"dbt build  {time.monotonic() - began:.1f} s, {len(passed)} tests passed")


def run_dbt_evaluation(project: Path, manifest: "Manifest") -> None:
    """Run `dbt build --selector evaluation`, which publishes nothing, and close the warehouse.

    Raises CannotRun when a model or dbt itself fails, and Refused when only tests fail.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    events = DbtEvents()
    events.is_silent = True  # what macros say of a build is of no use here
    build_nodes(project, manifest, events, "--selector", "evaluation")
    DuckDBConnectionManager.close_all_connections()


def build_nodes(
    project: Path, manifest: "Manifest", events: DbtEvents, *arguments: str
) -> Sequence[Any]:
    """Run `dbt build` with arguments, print tests that fail or warn, and return all results.

    Raises Refused when only tests fail, and CannotRun when a model or dbt itself fails.
    """
    from dbt.artifacts.schemas.run import RunExecutionResult
    from dbt.cli.main import dbtRunner

    runner = dbtRunner(manifest=manifest, callbacks=[events])
    # Unit tests prove the code, not the data, so they run in development and CI.
    left_out = ["--exclude-resource-type", "unit_test"]
    outcome = runner.invoke(["build", *left_out, *arguments, *options(project)])
    events.clear()
    if outcome.exception:
        raise_interrupt(outcome.exception)
        raise CannotRun(f"dbt build: {explain_dbt_error(outcome.exception)}")
    assert isinstance(outcome.result, RunExecutionResult)
    results = outcome.result.results
    for result in results:
        if result.status in ("warn", "fail"):
            label = "warning" if result.status == "warn" else "failed"
            found = f"{one_line(result.node.description)} Found: {result.failures or 0:,}"
            click.echo(f"{label:10} {found} ({result.node.name})")
        elif result.status == "error":
            click.echo(f"error      {result.node.name}: {one_line(result.message)}")
    if not outcome.success:
        log = Path(os.environ.get("DBT_LOG_PATH", "logs")) / "dbt.log"
        is_broken = any(result.status == "error" for result in results)
        kind = CannotRun if is_broken else Refused
        raise kind(f"dbt build failed, nothing was published; details in {log}")
    return results


def raise_interrupt(error: BaseException) -> None:
    """Raise an interrupt of this program, which dbt returns like its own errors."""
    if isinstance(error, KeyboardInterrupt):
        raise error


def one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def explain_dbt_error(error: BaseException) -> str:
    """Return the part that helps a user: the first error of DuckDB, or dbt's own message."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, duckdb.Error):
            error = cause
        cause = cause.__context__
    text = str(error).partition("\nLINE ")[0]  # without the place in our SQL
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if line and not line.startswith(">")]
    return told[1] if len(told) > 1 and told[0].startswith("Compilation Error") else " ".join(told)
