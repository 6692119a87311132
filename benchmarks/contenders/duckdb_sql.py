"""Plain SQL on DuckDB: the straightforward query."""

import sys

import duckdb

RECOMMEND = """
create table line_items as
select
    order_id,
    line.item as product_id
from (
    select
        row_number() over () as order_id,
        unnest(itemList) as line
    from read_json(
        $transactions,
        format = 'newline_delimited',
        columns = {itemList: 'struct(item varchar, quantity double)[]'}
    )
)
where line.quantity > 0;

create table products as
select product_id
from read_csv(
    $products,
    header = false,
    delim = '\t',
    quote = '',
    columns = {product_id: 'varchar', category_code: 'varchar', product_name: 'varchar'}
);

create table recommendations as
with basket_items as (
    select distinct
        order_id,
        product_id
    from line_items
),

pairs as (
    select
        product.product_id,
        other.product_id as recommended_product_id,
        count(*) as copurchase_count
    from basket_items as product
    inner join basket_items as other
        on product.order_id = other.order_id and product.product_id <> other.product_id
    group by all
)

select *
from pairs
semi join products
    on pairs.recommended_product_id = products.product_id
qualify row_number() over (
    partition by pairs.product_id
    order by copurchase_count desc, recommended_product_id
) <= 5;

copy recommendations to $output (format parquet);
"""


def main(transactions: str, products: str, output: str) -> None:
    connection = duckdb.connect()
    given = {"transactions": transactions, "products": products, "output": output}
    for statement in connection.extract_statements(RECOMMEND):
        wanted = {name: given[name] for name in statement.named_parameters}
        connection.execute(statement, wanted)


if __name__ == "__main__":
    main(*sys.argv[1:])
