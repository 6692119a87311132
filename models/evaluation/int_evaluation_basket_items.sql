with

line_items as (

    select
        order_id,
        product_id
    from {{ ref('int_line_items_kept') }}
    where change >= 0

),

baskets as (

    select
        order_id,
        is_test
    from {{ ref('int_evaluation_baskets_split') }}

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
        baskets.is_test
    from line_items
    inner join baskets
        on line_items.order_id = baskets.order_id
    inner join products
        on line_items.product_id = products.product_id

)

-- In the order of products for the self-join, as in int_basket_items.
select * from basket_items
order by product_number, order_id
