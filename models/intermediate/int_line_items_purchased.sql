{{ config(materialized="view") }} -- a filter, not worth storing

with

line_items as (

    select
        order_id,
        product_id,
        quantity,
        change
    from {{ ref('stg_line_item_changes') }}
    where order_key is null

    union all

    select
        order_id,
        product_id,
        quantity,
        change
    from {{ ref('int_order_lines_resolved') }}

),

excluded_products as (

    select product_id from {{ ref('excluded_products') }}

),

-- A quantity of zero or less is a return; none at all counts as bought.
purchased as (

    select
        line_items.order_id,
        line_items.product_id,
        line_items.change
    from line_items
    anti join excluded_products
        on line_items.product_id = excluded_products.product_id
    where coalesce(line_items.quantity, 1) > 0

)

select * from purchased
