"""Look at files of another shop, and propose the mapping (input.yml) that reads them."""

import click

from bought_together.cli import program


@program
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def main(files: tuple[str, ...]) -> None:
    """Print a proposal for an input.yml: what the first records of FILEs hold, and three baskets.

    What it says about the files is in comments, so that the output is the mapping:
    `python scripts/inspect_input.py orders.csv products.csv > input.yml`. A FILE may be a pattern.

    Exit status: 0 done; 2 a file cannot be read.
    """
    from bought_together.ingest.patterns import find_files
    from bought_together.ingest.proposals import propose

    click.echo(propose(find_files(",".join(files), "FILE")), nl=False)


if __name__ == "__main__":
    main()
