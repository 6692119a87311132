"""Write a report on the published build: one HTML file with charts, beside the build."""

import os
import time

import click

from bought_together.cli import lake_path_option, program
from bought_together.errors import CannotRun


@program
@lake_path_option
def main(lake_path: str) -> None:
    """Write published/<build>/report.html, for the service's /report and to open offline.

    Reads the warehouse that the build was made in, DUCKDB_PATH. Exit status: 0 written; 2 it could
    not run, for example since the warehouse holds another build.
    """
    from bought_together.export.read import read_published
    from bought_together.report.figures import read_figures
    from bought_together.storage.builds import add_report
    from bought_together.storage.warehouse import check_path, duckdb_limits

    try:
        from bought_together.report.page import render_report
    except ModuleNotFoundError as error:
        raise CannotRun(
            f"the report needs {error.name}: run `make report`, or install requirements-report.txt"
        ) from error

    duckdb_path = os.environ.get("DUCKDB_PATH") or "data/warehouse.duckdb"
    check_path(duckdb_path)
    limits = duckdb_limits(os.environ)
    began = time.monotonic()
    published = read_published(lake_path)
    page = render_report(read_figures(duckdb_path, lake_path, published, limits)).encode()
    path = add_report(lake_path, published["build"], page)
    click.echo(f"report     {path}")
    click.echo(f"           {len(page) / 1000:,.0f} kB in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
