"""The products of a version, and the search over their ids and names."""

import unicodedata
from array import array
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_WORDS = 8


class Catalogue:
    """The products of one version; `table` has the columns of answers.CATALOGUE.

    `rows` maps a product id to its row of the table, and of the answers of a version in memory. An
    earlier release published tables without basket counts: `has_basket_counts` is then false.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table.combine_chunks()
        self.rows = {
            product_id: row for row, product_id in enumerate(table["product_id"].to_pylist())
        }
        counts = table["largest_count"].to_numpy()
        self.best_first = np.argsort(-counts, kind="stable")
        self.has_basket_counts = "basket_count" in table.column_names
        if self.has_basket_counts:
            self.basket_counts = array("q", table["basket_count"].to_numpy().tobytes())
        ids, names = (self.table[name].combine_chunks() for name in ("product_id", "product_name"))
        self.ids = folded(ids)
        self.names = folded(pc.fill_null(names, ""))

    def __len__(self) -> int:
        return self.table.num_rows

    def basket_count_of(self, product_id: str) -> int:
        """Return the number of baskets with a product of the catalogue."""
        return self.basket_counts[self.rows[product_id]]

    def search(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Return products with every word of the query in their id or name, best first.

        The order is: the id itself, the whole name, ids that begin with the query, names that begin
        with it, names with a word that does, all others; and within these, the higher count first.
        Case and accents do not matter, and combining marks alone find nothing. An empty query
        returns the products with the highest counts.
        """
        text = fold(query)
        if query.strip() and not has_letters(text):
            return []
        rows = self.best_first
        for word in text.split()[:MAX_WORDS]:
            found = pc.or_(pc.match_substring(self.ids, word), pc.match_substring(self.names, word))
            rows = rows[found.to_numpy(zero_copy_only=False)[rows]]
        if text and len(rows):
            ids, names = self.ids.take(rows), self.names.take(rows)
            tiers = pc.case_when(
                pc.make_struct(
                    pc.equal(ids, text),
                    pc.equal(names, text),
                    pc.starts_with(ids, text),
                    pc.starts_with(names, text),
                    pc.match_substring(names, f" {text}"),
                ),
                *range(5),
                5,
            )
            rows = rows[np.argsort(tiers.to_numpy(), kind="stable")]
        return self.products_at(rows[:limit])

    def products_at(self, rows: Any) -> list[dict[str, Any]]:
        """Return product_id, product_name and category_code of the products in some rows."""
        shown = self.table.select(["product_id", "product_name", "category_code"])
        return shown.take(pa.array(rows, pa.int64())).to_pylist()


def folded(texts: pa.Array) -> pa.Array:
    """Return texts in lower case, without accents, with single spaces."""
    decomposed = pc.utf8_normalize(pc.utf8_lower(texts), "NFKD")
    bare = pc.replace_substring_regex(decomposed, r"\p{Mn}", "")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(bare, r"\s+", " "))


def fold(text: str) -> str:
    """Return one text as `folded` does."""
    return folded(pa.array([text], pa.string()))[0].as_py()


def has_letters(text: str) -> bool:
    """Return whether a folded text has more than white space and combining marks."""
    return any(not unicodedata.category(one).startswith(("M", "Z")) for one in text)
