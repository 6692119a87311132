-- A view with dask: the rows stay in the lake.
{{ config(materialized='view' if var('pair_engine') == 'dask' else 'table') }}

with

{% if var('pair_engine') == 'dask' %}

sized as (

    select
        order_id,
        product_count
    from {{ ref('stg_basket_sizes') }}

)

{% else %}

basket_items as (

    select order_id from {{ ref('int_basket_items') }}

),

sized as (

    select
        order_id,
        count(*)::integer as product_count
    from basket_items
    group by order_id

)

{% endif %}

select * from sized
