"""Encode the service's answers once per build: one JSON object per product, served unchanged."""

from collections.abc import Iterator

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bought_together.export.read import PRODUCT_COLUMNS, Export

# largest_count is that of the recommendations, 0 without one. Name and category are null
# for a product that is not in the product list.
CATALOGUE = pa.schema(
    [
        ("product_id", pa.string()),
        ("product_name", pa.string()),
        ("category_code", pa.string()),
        ("largest_count", pa.int64()),
        ("basket_count", pa.int64()),
    ]
)
ANSWERS = CATALOGUE.append(pa.field("answer", pa.binary()))
PRODUCTS_AT_ONCE = 5_000


def encode_answers(export: Export) -> Iterator[pa.RecordBatch]:
    """Yield the catalogue with the answer of each product (ANSWERS), in at least one batch.

    Every product that is listed or was bought has an answer, with an empty list if it has no
    recommendations. Each answer is the result of `answer` as JSON without spaces. Whole columns are
    joined rather than single objects, because the service does this while it answers requests.
    """
    table = export.table.combine_chunks()
    products = export.products.sort_by("product_id").combine_chunks()
    rows = pc.index_in(table["product_id"], value_set=products["product_id"].combine_chunks())
    sizes = np.bincount(rows.to_numpy(), minlength=len(products))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    fragments = recommended_as_json(table)
    for first in range(0, max(len(products), 1), PRODUCTS_AT_ONCE):
        some = products.slice(first, PRODUCTS_AT_ONCE)
        bounds = starts[first : first + len(some) + 1]
        yield encode_some(some, table, fragments, bounds)


def encode_some(
    products: pa.Table, table: pa.Table, fragments: pa.DictionaryArray, bounds: np.ndarray
) -> pa.RecordBatch:
    """Return ANSWERS of some products; their rows of the table are between the bounds."""
    product_ids, names, categories, basket_counts = (
        products[name].combine_chunks() for name in PRODUCT_COLUMNS
    )
    rows = table.slice(bounds[0], bounds[-1] - bounds[0])
    counts = rows["copurchase_count"].combine_chunks()
    recommendations = pc.binary_join_element_wise(
        '{"rank":',
        rows["recommendation_rank"].combine_chunks().cast(pa.string()),
        ",",
        fragments[bounds[0] : bounds[-1]].dictionary_decode(),
        ',"copurchase_count":',
        counts.cast(pa.string()),
        ',"recommendation_source":',
        json_words(rows["recommendation_source"]),
        ',"confidence":',
        json_numbers(rows["confidence"]),
        ',"lift":',
        json_numbers(rows["lift"]),
        ',"evidence":',
        json_words(rows["evidence"]),
        "}",
        "",
    )
    offsets = pa.array(bounds - bounds[0], pa.int32())
    answers = pc.binary_join_element_wise(
        '{"product_id":',
        json_strings(product_ids),
        ',"product_name":',
        json_strings(names),
        ',"recommendations":[',
        pc.binary_join(pa.ListArray.from_arrays(offsets, recommendations), ","),
        "]}",
        "",
    )
    has_some = np.diff(bounds) > 0
    largest = np.zeros(len(products), np.int64)
    starts = bounds[:-1][has_some] - bounds[0]
    largest[has_some] = np.maximum.reduceat(counts.to_numpy(), starts) if len(starts) else []
    return pa.record_batch(
        [
            product_ids,
            names,
            categories,
            pa.array(largest),
            basket_counts,
            answers.cast(pa.binary()),
        ],
        schema=ANSWERS,
    )


def recommended_as_json(table: pa.Table) -> pa.DictionaryArray:
    """Return the recommended product of each row as the fields of a JSON object.

    Each product is encoded only once.
    """
    recommended = table["recommended_product_id"].combine_chunks().dictionary_encode()
    codes = recommended.indices.to_numpy()
    rows = np.empty(len(recommended.dictionary), np.int64)
    rows[codes[::-1]] = np.arange(len(codes))[::-1]  # the first row of each
    columns = ("recommended_product_name", "recommended_category_code")
    names, categories = (table[column].combine_chunks().take(rows) for column in columns)
    encoded = pc.binary_join_element_wise(
        '"product_id":',
        json_strings(recommended.dictionary),
        ',"product_name":',
        json_strings(names),
        ',"category_code":',
        json_strings(categories),
        "",
    )
    return pa.DictionaryArray.from_arrays(recommended.indices, encoded)


def json_strings(texts: pa.Array) -> pa.Array:
    """Return each text as a JSON string, null as null."""
    quoted = pc.coalesce(pc.binary_join_element_wise('"', texts, '"', ""), "null")
    is_special = pc.fill_null(pc.match_substring_regex(texts, r'["\\\x00-\x1f]'), False)
    escaped = [orjson.dumps(text).decode() for text in texts.filter(is_special).to_pylist()]
    return pc.replace_with_mask(quoted, is_special, pa.array(escaped, pa.string()))


def json_words(words: pa.ChunkedArray) -> pa.Array:
    """Return words that need no escape as JSON strings, null as null."""
    quoted = pc.binary_join_element_wise('"', words.combine_chunks(), '"', "")
    return pc.coalesce(quoted, "null")


def json_numbers(numbers: pa.ChunkedArray) -> pa.Array:
    """Return numbers as JSON, null as null."""
    return pc.coalesce(numbers.combine_chunks().cast(pa.string()), "null")
