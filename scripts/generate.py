"""Write synthetic transactions and products of any size in the input format."""

from pathlib import Path
from typing import Any

import click

from bought_together.cli import program, refuse_nan
from bought_together.samples.simulated import SIZE_LIMIT, Shop, generate
from bought_together.storage.filesystem import cannot

SHARE = click.FloatRange(0, 1)
AT_LEAST_ONE = click.IntRange(min=1)


@program
@click.argument("output_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--baskets", type=AT_LEAST_ONE, default=10_000, help="Transaction records to write.")
@click.option(
    "--products",
    type=click.IntRange(1, 10_000_000),
    default=Shop.products,
    help="Products in the product list.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=Shop.seed,
    help="Another seed gives another shop.",
)
@click.option(
    "--skew",
    type=click.FloatRange(0, 10),
    default=Shop.skew,
    callback=refuse_nan,
    help="Exponent of the popularity law: 0 sells all products alike, 1 is Zipf's law.",
)
@click.option(
    "--themes",
    type=AT_LEAST_ONE,
    default=Shop.themes,
    help="Groups of products that are bought together; at most one a product.",
)
@click.option(
    "--theme-share",
    type=SHARE,
    default=Shop.theme_share,
    callback=refuse_nan,
    help="Share of a basket's lines drawn from its own theme.",
)
@click.option(
    "--basket-size",
    type=click.FloatRange(1, SIZE_LIMIT),
    default=Shop.basket_size,
    callback=refuse_nan,
    help="Median number of lines in a basket.",
)
@click.option(
    "--returns",
    type=SHARE,
    default=Shop.returns,
    callback=refuse_nan,
    help="Share of lines that are returns, with a negative quantity.",
)
def main(output_dir: Path, baskets: int, **figures: Any) -> None:
    """Write synthetic transactions.txt and products.txt of any size into OUTPUT_DIR.

    They imitate a shop with a long tail of products (a Zipf-like law), themed baskets (a share of
    each basket's lines comes from one group of products, which is also their category code), and
    log-normal basket sizes of 1 to 100 lines. Some lines repeat a product of their basket and some
    are returns. The same options always write the same files.
    """
    with cannot(f"write to {output_dir}"):
        generate(Shop(**figures), baskets, output_dir)


if __name__ == "__main__":
    main()
