"""Run the whole job: flatten the inputs, `dbt build`, publish, and show one recommendation."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import duckdb

from bought_together.errors import CANNOT_RUN, REFUSED, run, stop

ROOT = Path(__file__).resolve().parent.parent
# dbt-duckdb names the database after the file, unquoted, and ends its path at ? or #.
UNUSABLE = re.compile(r"[?#]|['\"][^/]*$")
DBT_OPTIONS = ["--project-dir", str(ROOT), "--profiles-dir", str(ROOT)]
DBT_OPTIONS += ["--log-level", "none", "--log-level-file", "debug"]


class DbtEvents:
    """Prints what dbt's macros print, and on a terminal the model or test that dbt is at."""

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()

    def __call__(self, event: Any) -> None:
        if event.info.name == "PrintEvent":
            self.clear()
            click.echo(event.info.msg.replace("Published ", "published  ", 1))
        elif self.is_terminal and event.info.name == "LogStartLine":
            text = f"{event.data.index}/{event.data.total} {event.data.description}"
            click.echo(f"\r\033[K{text[:79]}", nl=False, err=True)

    def clear(self) -> None:
        if self.is_terminal:
            click.echo("\r\033[K", nl=False, err=True)


def run_flatten() -> Any:
    """Run flatten.py, and let dbt read the project in the meantime; returns dbt's manifest.

    Stops the program with flatten's exit status when that is not 0.
    """
    with script("flatten") as flatten:
        parsed = parse_project()
    stop_unless_done(flatten)
    return manifest_of(parsed)


def parse_project() -> Any:
    """Let dbt read the project, which takes seconds."""
    from dbt.cli.main import dbtRunner

    return dbtRunner().invoke(["parse", *DBT_OPTIONS])


def manifest_of(parsed: Any) -> Any:
    """Return what dbt read; stops the program when it could not."""
    if not parsed.success:
        stop(f"dbt cannot read the project: {explain(parsed.exception)}", CANNOT_RUN)
    return parsed.result


def run_count_pairs() -> None:
    with script("count_pairs") as counting:
        counting.wait()
    stop_unless_done(counting)


def script(name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, ROOT / "scripts" / f"{name}.py"])


def stop_unless_done(process: subprocess.Popen[bytes]) -> None:
    """Stop this program with the process's exit status when that is not 0."""
    if process.returncode:
        sys.exit(process.returncode if process.returncode > 0 else CANNOT_RUN)


def remove_empty_warehouse(path: str) -> None:
    """Remove a warehouse of no bytes, which a full disk or a kill leaves and DuckDB refuses."""
    warehouse = Path(path)
    if warehouse.is_file() and warehouse.stat().st_size == 0:
        warehouse.unlink()


def run_dbt_build(manifest: Any) -> None:
    """Run `dbt build`; stops the program when a model, a test or dbt itself fails."""
    from dbt.cli.main import dbtRunner

    began = time.monotonic()
    events = DbtEvents()
    # Unit tests prove the code, on rows of their own: they are for development and CI.
    command = ["build", "--exclude-resource-type", "unit_test", *DBT_OPTIONS]
    outcome = dbtRunner(manifest=manifest, callbacks=[events]).invoke(command)
    events.clear()
    if outcome.exception:
        stop(f"dbt build: {explain(outcome.exception)}", CANNOT_RUN)
    for result in outcome.result:
        if result.status in ("warn", "fail"):
            label = "warning" if result.status == "warn" else "failed"
            found = f"{one_line(result.node.description)} Found: {result.failures or 0:,}"
            click.echo(f"{label:10} {found} ({result.node.name})")
        elif result.status == "error":
            click.echo(f"error      {result.node.name}: {one_line(result.message)}")
    if not outcome.success:
        broken = any(result.status == "error" for result in outcome.result)
        details = Path(os.environ.get("DBT_LOG_PATH", "logs")) / "dbt.log"
        stop(
            f"dbt build failed, nothing was published; details in {details}",
            CANNOT_RUN if broken else REFUSED,
        )
    passed = [result for result in outcome.result if result.status in ("pass", "warn")]
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


def show_result(lake_path: str, duckdb_path: str) -> None:
    """Print where the result is, and the recommendations of one product that sells well."""
    from bought_together.export.read import names_of, read_published, recommendations_of
    from scripts.recommend import answer_text, best_seller

    click.echo(f"warehouse  {duckdb_path}: product_recommendations, product_pairs")
    if (product_id := best_seller(lake_path)) is not None:
        published = read_published(lake_path, (product_id,))
        rows = dict(recommendations_of(published))[product_id]
        click.echo()
        click.echo(
            answer_text(product_id, names_of(published).get(product_id), rows, as_json=False)
        )


@click.command()
@click.option(
    "--skip-flatten",
    is_flag=True,
    help="Build from the lake as it is; where PAIR_ENGINE is dask its pairs must be counted.",
)
def main(skip_flatten: bool) -> None:
    """Flatten, run `dbt build`, publish; settings come from the environment (see README.md).

    Exit status: 0 published; 1 the data was refused; 2 it could not run.
    """
    began = time.monotonic()
    lake_path = os.environ.get("LAKE_PATH") or "data/lake"
    duckdb_path = os.environ.get("DUCKDB_PATH") or "data/warehouse.duckdb"
    if UNUSABLE.search(duckdb_path):
        stop(
            f"DUCKDB_PATH {duckdb_path}: dbt takes no ? or #, and no quote in the name",
            CANNOT_RUN,
        )
    if skip_flatten:
        manifest = manifest_of(parse_project())
    else:
        manifest = run_flatten()
        if os.environ.get("PAIR_ENGINE") == "dask":
            run_count_pairs()
    remove_empty_warehouse(duckdb_path)
    run_dbt_build(manifest)
    click.echo(f"whole job  {time.monotonic() - began:.1f} s")
    show_result(lake_path, duckdb_path)


if __name__ == "__main__":
    run(main)
