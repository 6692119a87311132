-- A view with dask: the rows stay in the lake.
{{ config(materialized='view' if var('pair_engine') == 'dask' else 'table') }}

with

{% if var('pair_engine') == 'dask' %}

sized as (

    select
        file_number,
        product_count,
        basket_count
    from {{ ref('stg_basket_sizes') }}

)

{% else %}

basket_items as (

    select order_id
    from {{ ref('int_basket_items') }}

),

baskets as (

    select
        order_id,
        count(*)::integer as product_count
    from basket_items
    group by order_id

),

sized as (

    select
        order_id >> 40 as file_number,
        product_count,
        count(*) as basket_count
    from baskets
    group by
        file_number,
        product_count

)

{% endif %}

select * from sized
