"""The best pairs of each product, kept while they are counted: nobody then reads all pairs."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bought_together.pairs.baskets import read_columns
from bought_together.pairs.kernels import LOW_BITS, keep_best
from bought_together.storage.lake import write_part

SHORTLIST = pa.schema(
    [
        ("product_number", pa.int32()),
        ("recommended_product_key", pa.int32()),
        ("copurchase_count", pa.int32()),
    ]
)


class Shortlist(NamedTuple):
    """How many pairs of each product to keep, where they go, and the table of all products."""

    wanted: int
    folder: str
    products_path: str


class BestPairs:
    """The best pairs of each product among those that it was shown."""

    def __init__(self, shortlist: Shortlist) -> None:
        columns = ["product_number", "product_key", "is_in_catalogue"]
        products = read_columns(shortlist.products_path, columns)
        numbers = products["product_number"].to_numpy()
        self.keys = np.zeros(numbers.max(initial=0) + 1, np.int64)
        self.keys[numbers] = np.where(products["is_in_catalogue"], products["product_key"], 0)
        self.best = np.zeros((len(self.keys), shortlist.wanted), np.int64)

    def show(self, rows: tuple[np.ndarray, ...]) -> None:
        """Keep what is better; `rows` are left products, right products and counts (int32)."""
        keep_best(*rows, self.keys, self.best)

    def write(self, path: str) -> None:
        products, places = np.nonzero(self.best)
        ranks = self.best[products, places]
        columns = [products, LOW_BITS - (ranks & LOW_BITS), ranks >> 32]
        write_part(path, pa.table(columns, names=SHORTLIST.names).cast(SHORTLIST))
