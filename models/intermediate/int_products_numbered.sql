-- A view with dask: the rows stay in the lake.
{{ config(materialized='view' if var('pair_engine') == 'dask' else 'table') }}

with

{% if var('pair_engine') == 'dask' %}

numbered as (

    select
        product_id,
        product_number
    from {{ ref('stg_products_counted') }}

)

{% else %}

line_items as (

    select product_id
    from {{ ref('int_line_items_kept') }}

),

-- Any order would do; products that sell alike then stand near each other in the self-join.
numbered as (

    select
        product_id,
        (row_number() over (order by count(*) desc, product_id asc))::integer as product_number
    from line_items
    group by product_id

)

{% endif %}

select * from numbered
