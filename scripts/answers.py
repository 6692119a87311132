"""What the service answers: one JSON object a product, encoded once a build and served as it is."""

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import click
import orjson
import pyarrow as pa

from errors import CANNOT_RUN, CannotRun, stop
from published import Published, answer, read_published, recommendations_of

# largest_count is that of the first recommendation, 0 without one. Name and category are null
# where the product list has no such product.
CATALOGUE = pa.schema(
    [
        ("product_id", pa.string()),
        ("product_name", pa.string()),
        ("category_code", pa.string()),
        ("largest_count", pa.int64()),
    ]
)
ANSWERS = CATALOGUE.append(pa.field("answer", pa.binary()))
ANSWERS_AT_ONCE = 1_000


def encode_answers(published: Published) -> Iterator[pa.RecordBatch]:
    """Yield the catalogue with the answer of each product (ANSWERS), by batches, at least one.

    There is an answer for every product that is in the list or was bought with another; the
    former without the latter has an empty list of recommendations.
    """
    rows: list[tuple[Any, ...]] = []
    for product_id, name, category, recommendations in products_of(published):
        largest_count = recommendations[0]["copurchase_count"] if recommendations else 0
        encoded = orjson.dumps(answer(product_id, name, recommendations))
        rows.append((product_id, name, category, largest_count, encoded))
        if len(rows) == ANSWERS_AT_ONCE:
            yield as_batch(rows)
            rows.clear()
    yield as_batch(rows)


def products_of(
    published: Published,
) -> Iterator[tuple[str, str | None, str | None, list[dict[str, Any]]]]:
    """Yield product id, name, category and recommendations of each product."""
    columns = (published.products[name].to_pylist() for name in CATALOGUE.names[:3])
    listed = {product_id: texts for product_id, *texts in zip(*columns, strict=True)}
    for product_id, recommendations in recommendations_of(published):
        name, category = listed.pop(product_id, (None, None))
        yield product_id, name, category, recommendations
    for product_id, (name, category) in listed.items():
        yield product_id, name, category, []


def as_batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(ANSWERS)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, ANSWERS.types, strict=True)]
    return pa.record_batch(arrays, schema=ANSWERS)


@click.command()
@click.argument("lake_path")
def main(lake_path: str) -> None:
    """Write the answers of LAKE_PATH to standard output, as a stream of Arrow's IPC format.

    The service has this done by a process of its own, so that it goes on answering while it takes
    up a new build. The stream's metadata hold version and built_at. Exit status: 0 written; 2
    there is nothing to read.
    """
    os.nice(5)  # those who wait for an answer go first
    gc.disable()  # nothing here is cyclic
    try:
        published = read_published(lake_path)
    except CannotRun as error:
        stop(str(error), CANNOT_RUN)
    told = {"version": published.version, "built_at": published.built_at.isoformat()}
    with pa.ipc.new_stream(sys.stdout.buffer, ANSWERS.with_metadata(told)) as stream:
        for batch in encode_answers(published):
            stream.write_batch(batch)


if __name__ == "__main__":
    main()
