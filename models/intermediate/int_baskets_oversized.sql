with

line_items as (

    select
        order_id,
        product_id,
        change
    from {{ ref('int_line_items_purchased') }}
    where change <> 0

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

changed as (

    select
        line_items.order_id,
        count(distinct line_items.product_id) as product_count,
        line_items.change
    from line_items
    semi join long_baskets
        on line_items.order_id = long_baskets.order_id
    group by
        line_items.order_id,
        line_items.change
    having count(distinct line_items.product_id) > {{ var('max_basket_products') }}

),

removed as (

    select order_id from changed
    where change < 0

),

oversized as (

    select
        state.order_id,
        state.product_count,
        0 as change
    from state
    anti join removed
        on state.order_id = removed.order_id

    union all

    select
        order_id,
        product_count,
        change
    from changed

)

select * from oversized
