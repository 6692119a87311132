"""Look at files of another shop, and propose the mapping (input.yml) that reads them."""

import click

from bought_together.cli import program
from bought_together.errors import CannotRun


@program
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--output", help="A new file to write the proposal to, beside printing it.")
def main(files: tuple[str, ...], output: str | None) -> None:
    """Print a proposal for an input.yml: what the first records of FILEs hold, and three baskets.

    What it says about the files is in comments, so that the output is the mapping. A FILE may be a
    pattern.

    Exit status: 0 done; 2 a file cannot be read, or the output is there already.
    """
    from bought_together.ingest.patterns import find_files
    from bought_together.ingest.proposals import propose

    proposal = propose(find_files(",".join(files), "FILE"))
    click.echo(proposal, nl=False)
    if output:
        try:
            with open(output, "x", encoding="utf-8") as file:
                file.write(proposal)
        except FileExistsError as error:
            raise CannotRun(f"{output} is there already: move it away first") from error


if __name__ == "__main__":
    main()
