with

line_items as (

    select
        order_id,
        product_id
    from {{ ref('int_line_items_purchased') }}

),

-- Counting lines is cheap, and leaves few baskets whose distinct products are worth counting.
long_baskets as (

    select order_id
    from line_items
    group by order_id
    having count(*) > {{ var('max_basket_products') }}

),

oversized as (

    select
        line_items.order_id,
        count(distinct line_items.product_id) as product_count
    from line_items
    semi join long_baskets
        on line_items.order_id = long_baskets.order_id
    group by line_items.order_id
    having count(distinct line_items.product_id) > {{ var('max_basket_products') }}

)

select * from oversized
