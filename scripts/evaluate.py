"""Say how good the recommendations are, against best sellers and other rules."""

import os
import time
from pathlib import Path

import click

from bought_together.cli import lake_path_option, program

PROJECT = Path(__file__).resolve().parent.parent
SETTINGS_OF_QUALITY = ("evaluation_test_share", "recommendations_per_product")


@program
@lake_path_option
def main(lake_path: str) -> None:
    """Run `dbt build --selector evaluation` on what the last build made, and keep the result.

    Publishes nothing, and changes no recommendation. Exit status: 0 evaluated; 1 a test of the
    evaluation failed; 2 it could not run.
    """
    from bought_together import dbt_build
    from bought_together.export.quality import (
        check_warehouse,
        keep_quality,
        quality_table,
        read_quality,
        verdict,
    )
    from bought_together.export.read import read_published
    from bought_together.pairs.model_sql import project_vars
    from bought_together.storage.warehouse import check_path, duckdb_limits

    duckdb_path = os.environ.get("DUCKDB_PATH") or "data/warehouse.duckdb"
    check_path(duckdb_path)
    duckdb_limits(os.environ)
    published = read_published(lake_path)
    check_warehouse(duckdb_path, published)
    began = time.monotonic()
    dbt_build.run_dbt_evaluation(PROJECT, dbt_build.parse_project(PROJECT))
    quality = read_quality(duckdb_path)
    variables = project_vars(PROJECT)
    settings = {name: variables[name] for name in SETTINGS_OF_QUALITY}
    path = keep_quality(lake_path, published, settings, quality)
    rows = quality["recommendation_quality"]
    click.echo(
        f"evaluated  {rows[0]['baskets']:,} baskets that were held out, with {rows[0]['seeds']:,}"
        f" products, in {time.monotonic() - began:.1f} s"
    )
    click.echo(f"kept       {path}")
    click.echo(f"\n{quality_table(rows)}\n\n{verdict(rows)}")


if __name__ == "__main__":
    main()
