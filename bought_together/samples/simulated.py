"""A simulated shop: transactions and products of any size in the input format.

What it imitates, with every draw made from the seed:

- a long tail: of P products the one of rank r is drawn with weight 1 / r**skew, a Zipf-like law
  (skew 0 draws all alike). Ids say nothing of rank;
- themed baskets: every product belongs to one theme, themes are dealt in order of rank, and each
  basket has one theme. A line is drawn from that theme with the probability `theme_share`, by the
  same law over the theme's own products, and else from the whole shop. The theme is the
  category code, so recommendations for a product should mostly share its code;
- basket sizes: log-normal with the median asked for and sigma 0.75, rounded, clipped to 1..100
  lines. Lines are drawn independently, so a basket can hold a product on two lines;
- units: geometric from 1 (85% are single), at most 9, and negative for the share of returns;
- time: one basket in every ten seconds from 2017-01-01 on, so dates ascend; stores and customers
  are drawn uniformly.

Baskets are drawn and written a block at a time, each block from a random stream of its own: memory
does not grow with the number of baskets, and a shorter file is the beginning of a longer one. The
same options give the same bytes with the same NumPy; NumPy does not promise its streams for ever.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BASKETS_IN_BLOCK = 8192  # part of what the data are: another number draws other baskets
SIZE_SIGMA = 0.75
SIZE_LIMIT = 100
SINGLE_UNIT_SHARE = 0.85
UNITS_LIMIT = 9
MEDIAN_PRICE, PRICE_SIGMA = 2.5, 0.7
FIRST_DATE = np.datetime64("2017-01-01T00:00:00", "s")
SECONDS_BETWEEN_BASKETS = 10
STORES = 50
CUSTOMERS = 100_000


@dataclass(frozen=True)
class Shop:
    """The shop to imitate; the module's docstring says what each figure does."""

    products: int = 20_000
    themes: int = 400
    theme_share: float = 0.5
    skew: float = 0.85
    basket_size: float = 8.0
    returns: float = 0.01
    seed: int = 1

    @property
    def themes_in_use(self) -> int:
        """The number of themes that have a product: no more than there are products."""
        return min(self.themes, self.products)


@dataclass(frozen=True)
class Assortment:
    """What the shop sells, by popularity rank; all arrays have one element a product."""

    numbers: np.ndarray  # the number in the product's id, 1..P
    line_starts: pa.Array  # the JSON of a line item up to its quantity
    cumulative_weights: np.ndarray  # of ranks 1..r, not normalised


@dataclass(frozen=True)
class Baskets:
    """Baskets as columns: `sizes` and the three after it have one element a basket."""

    sizes: np.ndarray  # lines in the basket
    customers: np.ndarray
    stores: np.ndarray
    dates: np.ndarray  # datetime64[s], ascending
    ranks: np.ndarray  # one element a line: the product's rank, from 0
    quantities: np.ndarray  # one element a line: units, negative for a return


def product_id(number: int) -> str:
    return f"P{number:06d}"


def make_assortment(shop: Shop) -> Assortment:
    """Return the products in order of rank, with ids and prices drawn from the seed."""
    rng = np.random.default_rng([shop.seed, 0])
    numbers = rng.permutation(shop.products) + 1
    prices = MEDIAN_PRICE * np.exp(PRICE_SIGMA * rng.standard_normal(shop.products))
    line_starts = (
        f'{{"item": "{product_id(number)}", "price": {price:.2f}, "quantity": '
        for number, price in zip(numbers, prices, strict=True)
    )
    weights = np.arange(1, shop.products + 1, dtype=float) ** -shop.skew
    return Assortment(numbers, pa.array(line_starts), np.cumsum(weights))


def write_products(shop: Shop, assortment: Assortment, file: TextIO) -> None:
    """Write the product list in order of id: product id, category code, product name."""
    themes = np.empty(shop.products, dtype=np.int64)
    themes[assortment.numbers - 1] = np.arange(shop.products) % shop.themes_in_use
    file.writelines(
        f"{product_id(number)}\tT{theme:04d}\tProduct {number} of theme {theme}\n"
        for number, theme in enumerate(themes, start=1)
    )


def draw_positions(
    rng: np.random.Generator, assortment: Assortment, counts: np.ndarray | int, draws: int
) -> np.ndarray:
    """Return positions below `counts`, position i drawn with weight 1 / (i + 1)**skew.

    Inverse transform sampling: a uniform number is looked up in the cumulative weights.
    """
    cumulative = assortment.cumulative_weights
    return np.searchsorted(cumulative, rng.random(draws) * cumulative[counts - 1], side="right")


def draw_block(shop: Shop, assortment: Assortment, block: int) -> Baskets:
    """Return the baskets of one block, always BASKETS_IN_BLOCK of them."""
    rng = np.random.default_rng([shop.seed, block + 1])
    shape = BASKETS_IN_BLOCK
    raw_sizes = shop.basket_size * np.exp(SIZE_SIGMA * rng.standard_normal(shape))
    sizes = np.clip(np.rint(raw_sizes), 1, SIZE_LIMIT).astype(np.int64)
    seconds = np.arange(block * shape, (block + 1) * shape) * SECONDS_BETWEEN_BASKETS
    seconds += rng.integers(0, SECONDS_BETWEEN_BASKETS, shape)
    lines = int(sizes.sum())

    # Themes are dealt by rank, so theme t owns the ranks t, t + themes, t + 2 * themes, ...
    themes = shop.themes_in_use
    theme = np.repeat(rng.integers(0, themes, shape), sizes)
    products_in_theme = (shop.products - theme + themes - 1) // themes
    themed_ranks = theme + themes * draw_positions(rng, assortment, products_in_theme, lines)
    any_ranks = draw_positions(rng, assortment, shop.products, lines)

    units = np.minimum(rng.geometric(SINGLE_UNIT_SHARE, lines), UNITS_LIMIT)
    return Baskets(
        sizes=sizes,
        customers=rng.integers(1, CUSTOMERS + 1, shape),
        stores=rng.integers(1, STORES + 1, shape),
        dates=FIRST_DATE + seconds.astype("timedelta64[s]"),
        ranks=np.where(rng.random(lines) < shop.theme_share, themed_ranks, any_ranks),
        quantities=np.where(rng.random(lines) < shop.returns, -units, units),
    )


def to_json_lines(assortment: Assortment, baskets: Baskets, count: int) -> str:
    """Return the first `count` baskets as JSON lines, joined in Arrow rather than one by one."""
    offsets = np.concatenate([[0], np.cumsum(baskets.sizes[:count])])
    lines = slice(0, offsets[-1])
    all_quantities = range(-UNITS_LIMIT, UNITS_LIMIT + 1)
    line_ends = pa.array([f"{units}.0}}" for units in all_quantities])
    items = pc.binary_join_element_wise(
        assortment.line_starts.take(pa.array(baskets.ranks[lines])),
        line_ends.take(pa.array(baskets.quantities[lines] + UNITS_LIMIT)),
        "",
    )
    item_lists = pc.binary_join(pa.ListArray.from_arrays(offsets.astype("int32"), items), ", ")
    stores = pa.array([f"{store:04d}" for store in range(STORES + 1)])
    records = pc.binary_join_element_wise(
        '{"customer": ',
        pa.array(baskets.customers[:count]).cast(pa.string()),
        ', "date": "',
        pc.strftime(pa.array(baskets.dates[:count]), "%Y.%m.%d %H:%M:%S"),
        '", "itemList": [',
        item_lists,
        '], "store": "',
        stores.take(pa.array(baskets.stores[:count])),
        '"}\n',
        "",
    )
    return "".join(records.to_pylist())


def blocks_of(baskets: int) -> Iterator[tuple[int, int]]:
    """Yield (block number, baskets wanted of it); only the last block is not wanted whole."""
    for block, first in enumerate(range(0, baskets, BASKETS_IN_BLOCK)):
        yield block, min(BASKETS_IN_BLOCK, baskets - first)


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a text file that appears under its name when it is whole, or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def generate(shop: Shop, baskets: int, output_dir: Path) -> None:
    """Write products.txt and transactions.txt with `baskets` baskets into a folder.

    The folder is made when missing; a file of the same name is replaced once the new one is whole.
    Raises OSError when the folder or a file cannot be written.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    assortment = make_assortment(shop)
    with whole_file(output_dir / "products.txt") as file:
        write_products(shop, assortment, file)
    with (
        whole_file(output_dir / "transactions.txt") as file,
        click.progressbar(
            length=baskets, label="baskets", file=sys.stderr, hidden=not sys.stderr.isatty()
        ) as progress,
    ):
        for block, count in blocks_of(baskets):
            file.write(to_json_lines(assortment, draw_block(shop, assortment, block), count))
            progress.update(count)
