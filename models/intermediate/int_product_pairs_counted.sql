-- A view with dask: the rows stay in the lake.
{{ config(materialized='view' if var('pair_engine') == 'dask' else 'table') }}

with

{% if var('pair_engine') == 'dask' %}

counted as (

    select
        left_product_number,
        right_product_number,
        copurchase_count
    from {{ ref('stg_product_pairs') }}

)

{% else %}

left_item as (

    select
        order_id,
        product_number
    from {{ ref('int_basket_items') }}

),

right_item as (

    select
        order_id,
        product_number
    from {{ ref('int_basket_items') }}

),

-- The comparison of keys gives each unordered pair once and no product with itself.
counted as (

    select
        left_item.product_number as left_product_number,
        right_item.product_number as right_product_number,
        count(*) as copurchase_count
    from left_item
    inner join right_item
        on
            left_item.order_id = right_item.order_id
            and left_item.product_number < right_item.product_number
    group by
        left_item.product_number,
        right_item.product_number

)

{% endif %}

select * from counted
