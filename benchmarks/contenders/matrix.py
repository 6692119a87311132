"""Shared by contenders that take a matrix of baskets by products, 1 where a basket has a product.

The columns are the products of the product list, in its order: only they can be recommended.
"""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

WANTED = 5

LIST_PRODUCTS = """
create table products as
select
    product_id,
    (row_number() over () - 1)::integer as position
from read_csv(
    ?,
    header = false,
    delim = '\t',
    quote = '',
    columns = {product_id: 'varchar', category_code: 'varchar', product_name: 'varchar'}
)
"""

READ_BASKET_ITEMS = """
with line_items as (
    select
        order_id,
        unnest(itemList) as line
    from (
        select
            (row_number() over () - 1)::integer as order_id,
            itemList
        from read_json(
            ?,
            format = 'newline_delimited',
            columns = {itemList: 'struct(item varchar, quantity double)[]'}
        )
    )
)

select distinct
    line_items.order_id,
    products.position
from line_items
inner join products
    on line_items.line.item = products.product_id
where line_items.line.quantity > 0
"""


def read_products(path: str) -> list[str]:
    """Return the ids of the product list in its order."""
    with open(path, encoding="utf-8") as file:
        return [line.split("\t", 1)[0] for line in file]


def load_with_duckdb(transactions: str, products: str) -> csr_matrix:
    """Return the matrix (records, products of the list), float64, without repeated entries."""
    connection = duckdb.connect()
    connection.execute(LIST_PRODUCTS, [products])
    items = connection.execute(READ_BASKET_ITEMS, [transactions]).fetchnumpy()
    columns = connection.sql("select count(*) from products").fetchone()[0]
    return to_matrix(items["order_id"], items["position"], columns)


def to_matrix(order_ids: np.ndarray, positions: np.ndarray, products: int) -> csr_matrix:
    """Return the matrix (max order id + 1, `products`) of lines; repeated lines count once."""
    shape = (int(order_ids.max()) + 1, products)
    matrix = csr_matrix((np.ones(len(order_ids)), (order_ids, positions)), shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def write_top_five(counts: csr_matrix, products: list[str], output: str) -> None:
    """Write the largest five values of each row (a product) without its diagonal (itself)."""
    rows, columns, values = [], [], []
    for row in range(counts.shape[0]):
        cells = slice(counts.indptr[row], counts.indptr[row + 1])
        others, together = counts.indices[cells], counts.data[cells]
        is_pair = (others != row) & (together > 0)
        others, together = others[is_pair], together[is_pair]
        if len(together) > WANTED:
            best = np.argpartition(together, -WANTED)[-WANTED:]
            others, together = others[best], together[best]
        rows.append(np.full(len(others), row))
        columns.append(others)
        values.append(together)
    ids = pa.array(products)
    table = pa.table(
        {
            "product_id": ids.take(pa.array(np.concatenate(rows))),
            "recommended_product_id": ids.take(pa.array(np.concatenate(columns))),
            "copurchase_count": np.concatenate(values).astype(np.int64),
        }
    )
    pq.write_table(table, output)
