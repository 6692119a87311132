{{ config(materialized="view") }} -- a filter, not worth storing

with

line_items as (

    select
        order_id,
        product_id,
        change
    from {{ ref('int_line_items_purchased') }}

),

oversized_baskets as (

    select
        order_id,
        change
    from {{ ref('int_baskets_oversized') }}

),

kept as (

    select
        line_items.order_id,
        line_items.product_id,
        line_items.change
    from line_items
    anti join oversized_baskets
        on
            line_items.order_id = oversized_baskets.order_id
            and line_items.change = oversized_baskets.change

)

select * from kept
