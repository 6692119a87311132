-- A view with dask: the rows stay in the lake.
{{ config(materialized='view' if var('pair_engine') == 'dask' else 'table') }}

with

state as (

    select
        left_product_number,
        right_product_number,
        copurchase_count
    from {{ ref('stg_state_product_pairs') }}

),

{% if var('pair_engine') == 'dask' %}

counted as (

    select * from state

)

{% else %}

left_item as (

    select
        order_id,
        product_number,
        change
    from {{ ref('int_basket_items') }}

),

right_item as (

    select
        order_id,
        product_number
    from {{ ref('int_basket_items') }}

),

-- The comparison of numbers gives each unordered pair once and no product with itself.
added_up as (

    select
        left_item.product_number as left_product_number,
        right_item.product_number as right_product_number,
        left_item.change as copurchase_count
    from left_item
    inner join right_item
        on
            left_item.order_id = right_item.order_id
            and left_item.product_number < right_item.product_number

    union all

    select
        left_product_number,
        right_product_number,
        copurchase_count
    from state

),

counted as (

    select
        left_product_number,
        right_product_number,
        sum(copurchase_count)::bigint as copurchase_count
    from added_up
    group by
        left_product_number,
        right_product_number
    having sum(copurchase_count) <> 0

)

{% endif %}

select * from counted
