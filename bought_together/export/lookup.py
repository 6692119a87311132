"""Look up what is bought together with a product, in the build that `dbt build` published last."""

from itertools import groupby
from operator import itemgetter

from bought_together.export.read import COLUMNS, Export, RecommendationRow, in_order


def recommendations_of(export: Export) -> dict[str, list[RecommendationRow]]:
    """Return product id -> its recommendations, best first.

    A recommendation has rank, product_id, product_name, category_code and copurchase_count (the
    number of baskets that held both).
    """
    # In this thread alone: a thread that starts while the program ends takes it down.
    frame = in_order(export.table).select(COLUMNS).to_pandas(use_threads=False)
    rows = frame.itertuples(index=False, name=None)
    return {
        product_id: [
            {
                "rank": rank,
                "product_id": recommended_id,
                "product_name": product_name,
                "category_code": category_code,
                "copurchase_count": copurchase_count,
            }
            for _, rank, recommended_id, product_name, category_code, copurchase_count in group
        ]
        for product_id, group in groupby(rows, key=itemgetter(0))
    }


def names_of(export: Export) -> dict[str, str | None]:
    """Return product id -> product name, None for a product that is not in the product list."""
    ids, names = (export.products[name].to_pylist() for name in ("product_id", "product_name"))
    return dict(zip(ids, names, strict=True))
