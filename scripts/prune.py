"""Remove at once what old runs and builds hold; otherwise it goes as new ones come."""

import click

from bought_together.cli import lake_path_option, program


@program
@lake_path_option
def main(lake_path: str) -> None:
    """Keep only the current run and the published build, to which nobody can then go back.

    Of input files that are gone, nothing is left in the lake then. Exit status: 0 removed; 2 it
    could not run.
    """
    from bought_together.storage.builds import remove_all_older
    from bought_together.storage.filesystem import cannot

    with cannot(f"prune the lake {lake_path}"):
        remove_all_older(lake_path)
    click.echo(f"pruned     {lake_path} holds the current run and the published build alone")


if __name__ == "__main__":
    main()
