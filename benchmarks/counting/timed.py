"""Shared by the programs whose counting alone is timed.

Each is called with a Parquet file of basket items and prints one line of JSON: `seconds`, and,
where it counts every pair, the number of distinct `pairs` and of `occurrences`, their sum.
"""

import json
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq

Counted = TypeVar("Counted")


def read_basket_items(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return order ids (int64, from 0, ascending) and product keys (int32, dense from 1).

    One element a basket and distinct product, in the order of both; key 1 is in most baskets.
    """
    table = pq.read_table(path)
    return table["order_id"].to_numpy(), table["product_key"].to_numpy()


def timed(count: Callable[[], Counted]) -> tuple[float, Counted]:
    """Return the wall seconds of `count`, and its result."""
    began = time.perf_counter()
    counted = count()
    return time.perf_counter() - began, counted


def report(seconds: float, pairs: int | None = None, occurrences: int | None = None) -> None:
    print(json.dumps({"seconds": seconds, "pairs": pairs, "occurrences": occurrences}))
