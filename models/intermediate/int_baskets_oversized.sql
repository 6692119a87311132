with

line_items as (

    select
        order_id,
        product_id
    from {{ ref('int_line_items_purchased') }}
    where change > 0

),

state as (

    select
        order_id,
        product_count
    from {{ ref('stg_state_oversized_baskets') }}

),

-- Counting lines is cheap, and leaves few baskets whose distinct products are worth counting.
long_baskets as (

    select order_id
    from line_items
    group by order_id
    having count(*) > {{ var('max_basket_products') }}

),

added as (

    select
        line_items.order_id,
        count(distinct line_items.product_id) as product_count
    from line_items
    semi join long_baskets
        on line_items.order_id = long_baskets.order_id
    group by line_items.order_id
    having count(distinct line_items.product_id) > {{ var('max_basket_products') }}

),

oversized as (

    select
        order_id,
        product_count
    from state

    union all

    select
        order_id,
        product_count
    from added

)

select * from oversized
