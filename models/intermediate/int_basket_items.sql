with

line_items as (

    select
        order_id,
        product_id,
        change
    from {{ ref('int_line_items_kept') }}
    where change <> 0

),

products as (

    select
        product_id,
        product_number
    from {{ ref('int_products_numbered') }}

),

basket_items as (

    select distinct
        line_items.order_id,
        products.product_number,
        line_items.change
    from line_items
    inner join products
        on line_items.product_id = products.product_id

)

-- Stored in the order of products: the pairs of one product then arrive together at the self-join's
-- aggregation, whose small hash table absorbs the repeats before they spread.
select * from basket_items
order by product_number, order_id
