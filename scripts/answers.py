"""What the service answers: one JSON object a product, encoded once a build and served as it is."""

from collections.abc import Iterator

import orjson
import pyarrow as pa

from published import Published, answer, recommendations_of

# The products of an answer set, in the order of the answers; largest_count is that of the first
# recommendation, 0 without one. Name and category are null where the list has no such product.
CATALOGUE = pa.schema(
    [
        ("product_id", pa.string()),
        ("product_name", pa.string()),
        ("category_code", pa.string()),
        ("largest_count", pa.int64()),
    ]
)
ANSWERS_AT_ONCE = 1_000


def encode_answers(published: Published) -> Iterator[tuple[pa.RecordBatch, list[bytes]]]:
    """Yield products (CATALOGUE) and the answer of each, by batches.

    There is an answer for every product that is in the list or was bought with another; the
    former without the latter has an empty list of recommendations.
    """
    rows, answers = [], []
    for product_id, name, category, recommendations in products_of(published):
        largest_count = recommendations[0]["copurchase_count"] if recommendations else 0
        rows.append((product_id, name, category, largest_count))
        answers.append(orjson.dumps(answer(product_id, name, recommendations)))
        if len(rows) == ANSWERS_AT_ONCE:
            yield as_batch(rows), answers
            rows, answers = [], []
    yield as_batch(rows), answers


def products_of(
    published: Published,
) -> Iterator[tuple[str, str | None, str | None, list[dict[str, object]]]]:
    """Yield product id, name, category and recommendations of each product."""
    columns = (published.products[name].to_pylist() for name in CATALOGUE.names[:3])
    listed = {product_id: texts for product_id, *texts in zip(*columns, strict=True)}
    for product_id, recommendations in recommendations_of(published):
        name, category = listed.pop(product_id, (None, None))
        yield product_id, name, category, recommendations
    for product_id, (name, category) in listed.items():
        yield product_id, name, category, []


def as_batch(rows: list[tuple[object, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [[]] * len(CATALOGUE)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, CATALOGUE.types, strict=True)]
    return pa.record_batch(arrays, schema=CATALOGUE)
