"""Run dbt inside this process: parse the project, build it, and say in a few lines how it went.

dbt takes more than a second to import, so only the functions that run it do so.
"""

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import duckdb

from bought_together.errors import CannotRun, Refused

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

# dbt-duckdb names the database after the file, unquoted, and ends its path at ? or #.
UNUSABLE = re.compile(r"[?#]|['\"][^/]*$")


class DbtEvents:
    """Prints what dbt's macros print, and on a terminal the model or test that dbt is at."""

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()
        self.has_published = False

    def __call__(self, event: Any) -> None:
        if event.info.name == "PrintEvent":
            self.clear()
            self.has_published |= event.info.msg.startswith("Published ")
            click.echo(event.info.msg.replace("Published ", "published  ", 1))
        elif self.is_terminal and event.info.name == "LogStartLine":
            text = f"{event.data.index}/{event.data.total} {event.data.description}"
            click.echo(f"\r\033[K{text[:79]}", nl=False, err=True)

    def clear(self) -> None:
        if self.is_terminal:
            click.echo("\r\033[K", nl=False, err=True)


def check_warehouse_path(path: str) -> None:
    """Raise CannotRun where dbt cannot name a database after the file."""
    if UNUSABLE.search(path):
        raise CannotRun(f"DUCKDB_PATH {path}: dbt takes no ? or #, and no quote in the name")


def remove_empty_warehouse(path: str) -> None:
    """Remove a warehouse of no bytes, which a full disk or a kill leaves and DuckDB refuses."""
    warehouse = Path(path)
    if warehouse.is_file() and warehouse.stat().st_size == 0:
        warehouse.unlink()


def options(project: Path) -> list[str]:
    folders = ["--project-dir", str(project), "--profiles-dir", str(project)]
    return [*folders, "--log-level", "none", "--log-level-file", "debug"]


def parse_project(project: Path) -> "Manifest":
    """Return what dbt reads in the folder of a project, which takes seconds; raises CannotRun."""
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    outcome = dbtRunner().invoke(["parse", *options(project)])
    if outcome.exception:
        raise CannotRun(f"dbt cannot read the project: {explain(outcome.exception)}")
    assert isinstance(outcome.result, Manifest)
    return outcome.result


def run_dbt_build(project: Path, manifest: "Manifest") -> None:
    """Run `dbt build`, and print what its tests found.

    Raises Refused when only tests fail, CannotRun when a model or dbt itself does, or when nothing
    was published.
    """
    from dbt.artifacts.schemas.run import RunExecutionResult
    from dbt.cli.main import dbtRunner

    began = time.monotonic()
    events = DbtEvents()
    runner = dbtRunner(manifest=manifest, callbacks=[events])
    # Unit tests prove code on rows of their own: they are for development and CI.
    left_out = ["--exclude-resource-type", "unit_test"]
    outcome = runner.invoke(["build", *left_out, *options(project)])
    events.clear()
    if outcome.exception:
        raise CannotRun(f"dbt build: {explain(outcome.exception)}")
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
    if not events.has_published:
        raise CannotRun("dbt build published nothing; the reason is above")
    passed = [result for result in results if result.status in ("pass", "warn")]
    click.echo(f"dbt build  {time.monotonic() - began:.1f} s, {len(passed)} tests passed")


def one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def explain(error: BaseException) -> str:
    """Return what a user can do something about: the first error of DuckDB, or dbt's own words."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, duckdb.Error):
            error = cause
        cause = cause.__context__
    text = str(error).partition("\nLINE ")[0]  # where in the SQL of ours DuckDB was
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if line and not line.startswith(">")]
    return told[1] if len(told) > 1 and told[0].startswith("Compilation Error") else " ".join(told)
